"""Scenes laid out by hand, where it is known what the labels must say."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from traffic_vlm.processing.bdd100k.release import read_scenes
from traffic_vlm.processing.synthetic import render_dataset, render_layout, render_scene
from traffic_vlm.processing.synthetic.camera import Camera
from traffic_vlm.processing.synthetic.layout import sample_layout
from traffic_vlm.processing.synthetic.plan import Actor, Junction, Layout, Road

ROAD = Road(
    scene="city street",
    lane_width=3.5,
    lanes=3,
    ego_lane=1,
    opposite=0,
    parking_left=0.0,
    parking_right=0.0,
    shoulder=0.3,
    sidewalk=3.0,
    divider="none",
    marked=True,
    curvature=0.0,
    ego_offset=0.0,
)
DIRECT, ALTERNATIVE, BACKGROUND = 0, 1, 2


def render(*actors: Actor, weather: str = "clear", timeofday: str = "daytime", lead: float | None = None):
    layout = Layout(1, weather, timeofday, ROAD, Camera(), actors, lead)
    return render_layout(layout, (512, 288))


def car(s: float, d: float = 0.0, model: str = "sedan") -> Actor:
    return Actor("vehicle", s, d, 0.0, seed=5, model=model, state="driving")


def boxes(scene, category: str) -> list[dict]:
    return [label for label in scene.record["labels"] if label["category"] == category]


def test_a_car_in_plain_view_is_neither_occluded_nor_truncated():
    (label,) = boxes(render(car(15.0)), "car")
    assert label["attributes"] == {"occluded": False, "truncated": False, "trafficLightColor": "NA"}


def test_a_box_is_where_the_pinhole_puts_it():
    (label,) = boxes(render(car(20.0)), "car")
    box, camera = label["box2d"], Camera()
    rear = 20.0 - 4.75 / 2
    assert (box["x1"] + box["x2"]) / 2 == pytest.approx(640, abs=2)
    assert box["x2"] - box["x1"] == pytest.approx(1.84 * camera.focal / rear, rel=0.25)  # and its mirrors
    assert box["y2"] == pytest.approx(360 + camera.height * camera.focal / (rear + 1), abs=6)


def test_a_car_half_behind_another_is_occluded_but_keeps_its_whole_box():
    alone = boxes(render(car(24.0, 1.2)), "car")[0]["box2d"]
    hidden, shown = sorted(
        boxes(render(car(24.0, 1.2), car(14.0)), "car"), key=lambda label: label["box2d"]["y2"]
    )
    assert hidden["attributes"]["occluded"]
    assert not shown["attributes"]["occluded"]
    assert hidden["box2d"] == alone


def test_a_car_wholly_behind_a_truck_is_not_labelled():
    scene = render(car(40.0), car(14.0, model="box_truck"))
    assert Counter(label["category"] for label in scene.record["labels"]) == {"truck": 1}


def test_a_car_that_leaves_the_frame_is_truncated_and_cut_at_its_edge():
    (label,) = boxes(render(car(4.5, 3.4)), "car")
    assert label["attributes"]["truncated"]
    assert label["box2d"]["x2"] == 1280


@pytest.mark.parametrize(
    ("model", "category"),
    [("bus", "bus"), ("tram", "train"), ("semi", "truck"), ("pickup", "truck"), ("suv", "car")],
)
def test_kinds_of_vehicles_have_the_release_categories(model, category):
    assert len(boxes(render(car(30.0, 1.0, model)), category)) == 1


@pytest.mark.parametrize("kind", ["bicycle", "motorcycle"])
def test_a_rider_and_what_is_ridden_are_two_labels_one_above_the_other(kind):
    scene = render(Actor(kind, 14.0, 1.0, 0.0, seed=3, state="ridden"))
    (rider,), (ridden,) = boxes(scene, "rider"), boxes(scene, kind)
    assert rider["box2d"]["y1"] < ridden["box2d"]["y1"] < rider["box2d"]["y2"]
    assert not boxes(render(Actor(kind, 14.0, 1.0, 0.0, seed=3, state="parked")), "rider")


@pytest.mark.parametrize("timeofday", ["daytime", "night"])
@pytest.mark.parametrize(("state", "code"), [("red", "R"), ("yellow", "Y"), ("green", "G")])
def test_a_traffic_light_shows_the_colour_of_its_label(state, code, timeofday):
    signal = Actor("signal", 18.0, 2.0, math.pi, seed=2, state=state, size=(4.0,))
    scene = render(signal, timeofday=timeofday)
    (label,) = boxes(scene, "traffic light")
    assert label["attributes"]["trafficLightColor"] == code
    box = {key: int(value * 0.4) for key, value in label["box2d"].items()}
    pixels = np.asarray(scene.image, float)[box["y1"] : box["y2"], box["x1"] : box["x2"]].reshape(-1, 3)
    red, green, blue = pixels[pixels.max(1).argsort()[-6:]].mean(0)
    if code == "R":
        assert red > 1.4 * green
    elif code == "G":
        assert green > 1.15 * red
    else:
        assert red > 1.2 * blue
        assert green > 1.2 * blue


def test_a_light_for_the_crossing_road_shows_no_colour():
    scene = render(Actor("signal", 20.0, 3.0, math.pi / 2, seed=2, state="cross", size=(3.3,)))
    assert boxes(scene, "traffic light")[0]["attributes"]["trafficLightColor"] == "NA"


def test_ego_lane_is_direct_and_the_lanes_beside_it_alternative():
    row = render().drivable[520]
    assert row[640] == DIRECT
    assert row[640 - 420] == ALTERNATIVE
    assert row[640 + 420] == ALTERNATIVE
    direct = np.flatnonzero(row == DIRECT)
    depth = Camera().height * Camera().focal / (520 - 360)
    assert len(direct) == pytest.approx(3.5 * Camera().focal / depth, rel=0.02)


def test_the_direct_area_ends_at_the_lead_vehicle():
    free, blocked = render(), render(car(14.4), lead=12.0)
    (label,) = boxes(blocked, "car")
    top_free = np.flatnonzero((free.drivable == DIRECT).any(1)).min()
    top_blocked = np.flatnonzero((blocked.drivable == DIRECT).any(1)).min()
    assert top_free < top_blocked
    assert top_blocked > label["box2d"]["y1"]
    assert (blocked.drivable == ALTERNATIVE).sum() > 0.5 * (free.drivable == ALTERNATIVE).sum()


def test_vehicles_are_cut_out_of_the_drivable_area():
    scene = render(car(12.0, 3.5))
    box = boxes(scene, "car")[0]["box2d"]
    middle = scene.drivable[int(box["y2"]) - 40, int((box["x1"] + box["x2"]) / 2)]
    assert middle == BACKGROUND


def test_night_is_darker_than_day_and_snow_whiter_than_rain():
    def brightness(**kwargs):
        return float(np.asarray(render(car(20.0), **kwargs).image).mean())

    assert brightness(timeofday="night") < 0.5 * brightness()
    assert brightness(weather="snowy") > brightness(weather="rainy")


def test_nobody_walks_in_front_of_us_while_our_light_is_green():
    seen = 0
    for seed in range(400):
        layout = sample_layout(seed)
        road = layout.road
        for junction in road.junctions:
            for actor in layout.actors:
                inside = (
                    junction.start - 3.5 < actor.s < junction.start
                    or junction.end < actor.s < junction.end + 3.5
                )
                if actor.kind == "person" and junction.signal == "green" and inside:
                    seen += 1
                    assert not road.left_d < actor.d < road.right_d
    assert seen > 0


def test_nobody_stands_inside_a_vehicle():
    for seed in range(40):
        layout = sample_layout(seed)
        solid = [
            actor for actor in layout.actors if actor.kind in ("vehicle", "person", "bicycle", "motorcycle")
        ]
        for i, one in enumerate(solid):
            for other in solid[:i]:
                gap = np.array([abs(one.s - other.s), abs(one.d - other.d)])
                assert gap.max() > 0.6, (seed, one, other)
                if one.kind == other.kind == "vehicle":
                    crosswise = abs(math.sin(one.heading)) > 0.7 and abs(math.sin(other.heading)) > 0.7
                    along, across = gap[::-1] if crosswise else gap
                    assert along > 3.5 or across > 1.6 or gap.min() > 1.6, (seed, one, other)


def test_junction_ends_behind_its_start():
    assert Junction(10.0, 12.0, None, True, False, False).end == 22.0


def test_how_often_things_occur_is_near_the_real_label_files():
    counts, scenes = Counter(), 80
    present = Counter()
    for seed in range(1000, 1000 + scenes):
        record = render_scene(seed, (128, 72)).record
        found = Counter(label["category"] for label in record["labels"])
        counts.update(found)
        present.update(found.keys())
        present[record["attributes"]["timeofday"]] += 1
    assert 7.5 < counts["car"] / scenes < 14  # real: 10.5
    assert present["car"] / scenes > 0.85  # real: 0.99
    assert 0.15 < present["pedestrian"] / scenes < 0.6  # real: 0.34
    assert 1.5 < counts["traffic light"] / scenes < 5  # real: 2.9
    assert 2.0 < counts["traffic sign"] / scenes < 6  # real: 3.7
    assert 0.2 < present["night"] / scenes < 0.55  # real: 0.36


def test_the_2020_reader_reads_what_is_written(tmp_path):
    render_dataset(tmp_path, 4, seed=30, splits={"val": 1.0}, size=(256, 144))
    scenes = list(read_scenes(tmp_path, "val"))
    assert len(scenes) == 4
    for scene, seed in zip(scenes, range(30, 34), strict=True):
        truth = render_scene(seed, (256, 144)).record
        assert scene.timeofday == truth["attributes"]["timeofday"]
        assert scene.weather == truth["attributes"]["weather"]
        assert Counter(thing.category for thing in scene.objects) == Counter(
            label["category"] for label in truth["labels"]
        )
        assert all(thing.occluded is not None for thing in scene.objects)
        assert scene.drivable.shape == (90, 160)
        assert Image.open(scene.image_path).size == (256, 144)
