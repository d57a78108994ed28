"""What is pasted into a frame is labelled, hides nothing that is labelled, and leaves no false answer."""

import datasets
import numpy as np
import pytest
from drawn_frames import BLUE, GREY, corners, row, thing
from traffic_vlm.processing.bdd100k.families import FAMILIES
from traffic_vlm.processing.bdd100k.geometry import HORIZON
from traffic_vlm.training.moving import moved_copy
from traffic_vlm.training.packing import DataError, open_packed, pack_split
from traffic_vlm.training.pasting import (
    HIGHEST,
    SMALLEST,
    cuttings_of,
    pasted,
    place_around,
    recoloured,
    share_area,
)

BUS = thing("bus", 0.4, 0.4, 0.6, 0.7)


def cut(*rows):
    names = ("image", "objects", "timeofday")
    return cuttings_of(
        datasets.Dataset.from_dict({name: [one[name] for one in rows] for name in names}), seed=0
    )


@pytest.fixture
def cuttings():
    return cut(row(BUS), row(thing("car", 0.1, 0.5, 0.2, 0.6)))


def test_every_other_cutting_holds_nothing(cuttings):
    kept = cuttings.kept["daytime"]
    assert len(kept["bus"]) == len(kept["no bus"]) == 1
    assert kept["bus"][0].objects[0]["box"] == BUS["box"]
    assert kept["no bus"][0].objects == []
    assert (np.asarray(kept["no bus"][0].picture) == GREY).all()
    rng = np.random.default_rng(0)
    drawn = [bool(cuttings.draw("daytime", rng).objects) for _ in range(400)]
    assert 0.4 < np.mean(drawn) < 0.6
    assert cuttings.draw("night", rng) is None
    assert cuttings.draw(None, rng) is None


def test_the_rarest_are_not_shown_as_often_as_the_others():
    """Nine buses and one train: by the square roots three times as many buses."""
    trains = row({**BUS, "category": "train"})
    found, rng = cut(*[row(BUS)] * 9, trains, *[row()] * 9), np.random.default_rng(0)
    drawn = [found.draw("daytime", rng).objects for _ in range(2000)]
    kinds = [things[0]["category"] for things in drawn if things]
    assert 0.2 < kinds.count("train") / len(kinds) < 0.3


def test_where_time_or_things_are_unknown_nothing_is_cut():
    unknown = {**row(BUS), "objects": None}
    assert not cut(row(BUS, timeofday=None), row(timeofday=None)).kept
    assert cut(unknown, row(BUS), row()).kept["daytime"]["bus"][0].objects[0]["box"] == BUS["box"]


def test_what_touches_a_thing_comes_along_whole_or_nothing_does():
    rider = thing("rider", 0.5, 0.3, 0.6, 0.5)
    bicycle = thing("bicycle", 0.55, 0.45, 0.65, 0.6)
    beside = thing("car", 0.655, 0.5, 0.75, 0.6)  # touches the bicycle's margin only
    place = place_around(rider, [rider, bicycle, beside, thing("car", 0.1, 0.5, 0.2, 0.6)])
    assert place[0] < 0.5 < 0.75 < place[2] < 0.8
    assert place_around(rider, [rider, bicycle, thing("other vehicle", 0.6, 0.5, 0.7, 0.6)]) is None
    assert place_around(rider, [rider, thing("car", 0.55, 0.45, 1.0, 0.8)]) is None, (
        "reaches the frame's edge"
    )
    assert place_around(thing("bus", 0.2, 0.2, 0.7, 0.6), []) is None, "too wide"
    assert place_around(thing("bus", 0.4, 0.1, 0.6, 0.1 + HIGHEST), []) is None, "too high"
    side = SMALLEST**0.5
    assert place_around(thing("bus", 0.4, 0.4, 0.4 + side * 0.98, 0.4 + side), []) is None, "too small"
    assert place_around(thing("bus", 0.4, 0.4, 0.4 + side * 1.02, 0.4 + side), [])
    assert place_around(thing("bus", 0.4, 0.4, 0.6, 0.7, truncated=True), []) is None


def test_a_pasted_thing_is_labelled_where_it_is_seen_and_hides_nothing(cuttings):
    here = row(thing("car", 0.3, 0.45, 0.45, 0.6), thing("pedestrian", 0.7, 0.4, 0.75, 0.6))
    found = 0
    for seed in range(30):
        picture, changed = pasted(here["image"], here, cuttings, np.random.default_rng(seed))
        assert changed["objects"][:2] == here["objects"]
        pixels = np.asarray(picture).astype(int)
        for old in here["objects"]:
            x1, y1, x2, y2 = corners(old["box"])
            assert (pixels[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] == 255).all()
        buses = [one["box"] for one in changed["objects"][2:]]
        blue = (pixels.max(-1) - pixels.min(-1)) > 64  # in any colour: everything else is grey or white
        assert bool(buses) == blue.any()
        for box in buses:
            found += 1
            x1, y1, x2, y2 = corners(box)
            assert blue[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all()
            blue[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
            above, below = HORIZON - box[1], box[3] - HORIZON
            assert above / below == pytest.approx((HORIZON - 0.4) / (0.7 - HORIZON)), "as high as it was"
            assert not any(share_area(box, old["box"]) for old in here["objects"])
        assert not blue.any(), "every bus that is seen is labelled"
    assert found > 10


def test_a_cutting_has_other_colours_each_time_but_a_light_its_own():
    lamp = {**thing("traffic light", 0.605, 0.41, 0.615, 0.44), "light": "red"}
    hues = {}
    for name, objects in {"bus": [BUS], "bus and light": [BUS, lamp]}.items():
        cutting = cut(row(*objects), row()).kept["daytime"]["bus"][0]
        pictures = [np.asarray(recoloured(cutting, np.random.default_rng(seed))) for seed in range(20)]
        assert all(np.ptp(picture[0, 0]) <= 2 for picture in pictures), "grey stays grey"
        assert len({int(picture[0, 0, 0]) for picture in pictures}) > 5, "brighter or darker"
        middle = [picture[picture.shape[0] // 2, picture.shape[1] // 2] for picture in pictures]
        hues[name] = [int(colour[0]) - int(colour[1]) for colour in middle]  # of blue: towards red or green
    assert min(hues["bus"]) < -20 < 20 < max(hues["bus"])
    assert set(hues["bus and light"]) == {0}


def test_what_is_small_and_at_the_edge_of_a_cutting_does_not_fade(monkeypatch):
    monkeypatch.setattr("traffic_vlm.training.pasting.recoloured", lambda cutting, rng: cutting.picture)
    lamp = {**thing("traffic light", 0.605, 0.41, 0.615, 0.44), "light": "red"}  # touches the bus's margin
    found = cut(row(BUS, lamp), row())
    here, seen = row(), 0
    for seed in range(20):
        picture, changed = pasted(here["image"], here, found, np.random.default_rng(seed))
        for one in changed["objects"]:
            x1, y1, x2, y2 = corners(one["box"])
            inside = np.asarray(picture)[y1 : max(y1 + 1, y2 - 1), x1 : max(x1 + 1, x2 - 1)].astype(int)
            assert abs(inside - (BLUE if one["category"] == "bus" else 255)).mean() < 60
            seen += one["category"] == "traffic light"
    assert seen > 5


def test_questions_about_the_street_are_left_out_and_the_others_asked_anew(cuttings):
    here = {**row(thing("car", 0.3, 0.45, 0.45, 0.6)), "forerunner": "vehicle"}
    assert any(FAMILIES[question["family"]].group == "vehicle_near" for question in here["questions"])
    answers = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        picture, changed = pasted(here["image"], here, cuttings, rng)
        _, moved = moved_copy(picture, changed, 0.0, rng)
        if picture is here["image"]:
            continue
        assert moved["drivable"] is None
        assert moved["pasted"]
        assert "forerunner" not in moved
        for question in moved["questions"]:
            family = FAMILIES[question["family"]]
            assert family.category or family.group in (
                "time_of_day",
                "time_is",
                "place",
            )
            if question["family"] == "presence_bus":
                is_there = any(one["category"] == "bus" for one in moved["objects"])
                assert question["answer"].startswith("Yes" if is_there else "No")
                answers.add(is_there)
    assert answers == {True, False}


def test_packing_pastes_into_its_share_of_the_copies(questions, tmp_path):
    pack_split(questions, "train", tmp_path, (48, 80), variants=4, max_zoom=0.2, paste=0.5)
    copies = {row["copy"] for row in open_packed(tmp_path, "train").rows if row.get("pasted")}
    assert copies == {3, 4}


def test_where_there_is_nothing_to_paste_packing_says_so(questions, tmp_path, monkeypatch):
    monkeypatch.setattr("traffic_vlm.training.pasting.RARE", ("unicorn",))
    with pytest.raises(DataError, match=r"nothing can be pasted: .* Set data.paste=0"):
        pack_split(questions, "train", tmp_path, (48, 80), variants=1, paste=1.0)
    assert not list(tmp_path.iterdir())
