"""The three label formats give the same scene; bad records are repaired, dropped or skipped, and counted."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import comb

sys.path.insert(0, str(Path(__file__).parent))
import release_files as files
from traffic_vlm.processing.bdd100k import polygons, release_2018, release_2020, release_per_image
from traffic_vlm.processing.bdd100k.dataset import read_picture
from traffic_vlm.processing.bdd100k.json_stream import WINDOW, stream
from traffic_vlm.processing.bdd100k.labels import BadLabels, Problems, repair_box, scene_objects
from traffic_vlm.processing.bdd100k.release import read_scenes, records, scene
from traffic_vlm.processing.bdd100k.release_2020 import read_mask
from traffic_vlm.processing.bdd100k.scene import ALTERNATIVE, BACKGROUND, DIRECT, Scene


def as_2020(root: Path) -> None:
    files.write_2020(root, "train", [files.frame_2020("a.jpg")])
    mask = np.full((720, 1280), BACKGROUND, np.uint8)
    mask[400:, 300:900] = DIRECT
    folder = root / "labels" / "drivable" / "masks" / "train"
    folder.mkdir(parents=True)
    Image.fromarray(mask).save(folder / "a.png")


def as_2018(root: Path) -> None:
    (root / "labels").mkdir()
    text = json.dumps([files.frame_2018("a.jpg")])
    (root / "labels" / "bdd100k_labels_images_train.json").write_text(text, encoding="utf-8")


def as_2018_under_the_name_of_2020(root: Path) -> None:
    files.write_2020(root, "train", [files.frame_2018("a.jpg")])


def as_per_image(root: Path) -> None:
    folder = root / "labels" / "100k" / "train"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text(json.dumps(files.frame_per_image("a.jpg")), encoding="utf-8")


@pytest.mark.parametrize("write", [as_2020, as_2018, as_2018_under_the_name_of_2020, as_per_image])
def test_one_vocabulary_comes_out_of_every_format(tmp_path, write):
    write(tmp_path)
    files.write_pictures(tmp_path, "train", ["a.jpg"])
    problems = Problems()
    (found,) = read_scenes(tmp_path, "train", problems)
    assert not problems.counts
    assert [thing.category for thing in found.objects] == ["pedestrian", "motorcycle", "traffic light"]
    assert found.objects[0].box == (100 / 1280, 300 / 720, 140 / 1280, 420 / 720)
    assert found.objects[2].light == "red"
    assert (found.weather, found.timeofday, found.scene) == ("rainy", "night", "highway")
    assert found.image_path == tmp_path / "images" / "100k" / "train" / "a.jpg"
    assert found.drivable[80, 80] == DIRECT
    assert found.drivable[10, 80] == BACKGROUND
    if write is as_2020:
        assert found.objects[0].occluded is None
        assert found.lanes is None
    else:
        assert found.objects[2].occluded is False
        assert found.drivable[60, 140] == ALTERNATIVE
        (lane,) = found.lanes
        assert (lane.category, lane.direction, lane.style) == ("single white", "parallel", "dashed")
        assert lane.points == ((560 / 1280, 0.5), (0.0, 1.0))


def test_polygons_of_2020_are_joined_by_name(tmp_path):
    files.write_2020(tmp_path, "val", [files.frame_2020("a.jpg"), files.frame_2020("b.jpg")])
    poly = [{"vertices": files.MINE, "types": "LLLL", "closed": True}]
    drivable = [{"name": "b.jpg", "labels": [{"category": "direct", "poly2d": poly}]}]
    curb = {
        "category": "road curb",
        "attributes": {"direction": "parallel", "style": "solid"},
        "poly2d": poly,
    }
    for folder, name, entries in (
        ("drivable", "drivable_val", drivable),
        ("lane", "lane_val", [{"name": "a.jpg", "labels": [curb]}]),
    ):
        (tmp_path / "labels" / folder / "polygons").mkdir(parents=True)
        path = tmp_path / "labels" / folder / "polygons" / f"{name}.json"
        path.write_text(json.dumps({"frames": entries}), encoding="utf-8")
    first, second = read_scenes(tmp_path, "val")
    assert first.drivable is None
    assert first.lanes[0].category == "road curb"
    assert second.drivable[80, 80] == DIRECT
    assert second.lanes is None


def test_missing_and_undefined_values_are_unknown(tmp_path):
    frames = [
        {"name": "a.jpg", "attributes": {"weather": "undefined", "timeofday": "teatime"}},
        {"name": "b.jpg", "labels": []},
        {"name": "c.jpg", "labels": [files.box("traffic light", 0, 0, 9, 9, trafficLightColor="NA")]},
        {"name": "d.jpg", "labels": None, "attributes": None},
        {"name": "e.jpg", "labels": {"category": "car"}, "attributes": ["clear"]},
    ]
    files.write_2020(tmp_path, "train", frames)
    problems = Problems()
    a, b, c, d, e = read_scenes(tmp_path, "train", problems)
    assert (a.weather, a.timeofday, a.scene, a.objects) == (None, None, None, None)
    assert b.objects == ()
    assert c.objects[0].light is None
    assert d.objects is None
    assert (e.objects, e.weather) == (None, None)
    assert problems.counts == {"dropped label: labels are not a list": 1}


@pytest.mark.parametrize(
    ("given", "expected", "kind"),
    [
        ((100, 72, 200, 144), (100, 72, 200, 144), None),
        ((200, 144, 100, 72), (100, 72, 200, 144), "repaired: swapped corners"),
        ((-50, 72, 200, 144), (0, 72, 200, 144), "repaired: box over the frame's edge"),
        ((-1, 72, 1281, 144), (0, 72, 1280, 144), None),
        ((1300, 72, 1400, 144), None, "dropped label: box outside the frame"),
        ((100, 72, 100, 144), None, "dropped label: empty box"),
        ((float("nan"), 72, 200, 144), None, "dropped label: box not finite"),
        ((None, 72, 200, 144), None, "dropped label: box without four numbers"),
    ],
)
def test_boxes_are_repaired_or_dropped_and_counted(given, expected, kind):
    problems = Problems()
    box = repair_box(dict(zip(("x1", "y1", "x2", "y2"), given, strict=True)), 1280, 720, "a.jpg", problems)
    if expected is None:
        assert box is None
        assert problems.rejected[0]["name"] == "a.jpg"
    else:
        assert np.allclose(np.multiply(box, (1280, 720, 1280, 720)), expected)
    assert list(problems.counts) == ([] if kind is None else [kind])


def test_a_box_without_a_place_leaves_the_frame_s_things_unknown(tmp_path):
    unreadable, outside = files.box("car", float("nan"), 1, 9, 9), files.box("car", 1300, 1, 1400, 9)
    frames = [
        {"name": "a.jpg", "labels": [unreadable, files.box("bus", 1, 1, 90, 90)]},
        {"name": "b.jpg", "labels": [outside, files.box("bus", 1, 1, 90, 90)]},
    ]
    files.write_2020(tmp_path, "train", frames)
    problems = Problems()
    a, b = read_scenes(tmp_path, "train", problems)
    assert a.objects is None
    assert [thing.category for thing in b.objects] == ["bus"]
    assert problems.counts.total() == 2


def test_bad_records_never_end_the_reading(tmp_path):
    good = files.frame_2020("good.jpg")
    strange = {**files.frame_2020("strange.jpg"), "labels": [files.box("dragon", 1, 1, 9, 9), 7]}
    frames = [good, strange, good, {"name": 3}, "text", None, {"name": "../up.jpg"}, {"labels": []}]
    frames.append({"name": "odd.jpg", "size": {"width": "wide"}, "labels": []})
    files.write_2020(tmp_path, "train", frames)
    files.write_pictures(tmp_path, "train", ["good.jpg", "strange.jpg", "odd.jpg", "nobody.jpg"])
    problems = Problems()
    scenes = list(read_scenes(tmp_path, "train", problems))
    assert [found.image_id for found in scenes] == ["good", "strange"]
    assert scenes[1].objects == ()
    assert problems.counts == {
        "skipped frame: duplicate name": 1,
        "skipped frame: record without a usable name": 5,
        "skipped frame: unusable record": 1,
        "skipped frame: picture without labels": 1,
        "dropped label: unknown category": 1,
        "dropped label: not an object": 1,
    }
    assert len(problems.rejected) == 10


def test_broken_utf8_loses_one_frame_only(tmp_path):
    files.write_2020(tmp_path, "train", [files.frame_2020("a.jpg"), files.frame_2020("bXd.jpg")])
    path = tmp_path / "labels" / "det_20" / "det_train.json"
    path.write_bytes(path.read_bytes().replace(b"bXd", b"b\xffd"))
    problems = Problems()
    assert [found.image_id for found in read_scenes(tmp_path, "train", problems)] == ["a"]
    assert problems.counts == {"skipped frame: name is not UTF-8": 1}


def test_bad_per_image_files_are_skipped(tmp_path):
    as_per_image(tmp_path)
    folder = tmp_path / "labels" / "100k" / "train"
    (folder / "b.json").write_bytes(b"")
    (folder / "c.json").write_bytes(b'{"name": "\xff"}')
    (folder / "d.json").write_text("[]", encoding="utf-8")
    (folder / "e.json").write_text("[" * 5000, encoding="utf-8")
    problems = Problems()
    assert [found.image_id for found in read_scenes(tmp_path, "train", problems)] == ["a"]
    assert sorted(problems.counts) == [
        "skipped frame: label file is not JSON",
        "skipped frame: label file is not UTF-8",
        "skipped frame: label file of another format",
    ]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[{", '[{"name": "a.jpg"}, {"na', '{"config": {}}', "[" * 5000 + "]" * 5000]
)
def test_a_file_that_is_not_a_list_of_frames_says_so_with_its_name(tmp_path, text):
    path = tmp_path / "labels.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadLabels, match=r"labels\.json"):
        list(stream(path))


def test_missing_labels_say_where_they_were_looked_for(tmp_path):
    with pytest.raises(BadLabels, match=r"det_20/det_train\.json"):
        list(records(tmp_path, "train", Problems()))
    with pytest.raises(BadLabels, match="cannot read"):
        list(stream(tmp_path / "none.json"))


def test_streaming_reads_entries_larger_than_its_window_and_nan(tmp_path):
    entries = [{"name": str(i), "text": "é" * (WINDOW // 3 + i), "number": float(i)} for i in range(8)]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"config": {}, "frames": entries}, ensure_ascii=False), encoding="utf-8")
    assert list(stream(path)) == entries
    path.write_text('[{"x": NaN}]', encoding="utf-8")
    assert np.isnan(next(iter(stream(path)))["x"])


@pytest.mark.parametrize("data", [b"", b"not a picture", files.picture()[:-400], None])
def test_pictures_that_do_not_decode_to_their_end_are_skipped(tmp_path, data):
    path = tmp_path / "a.jpg"
    if data is not None:
        path.write_bytes(data)
    problems = Problems()
    assert read_picture(path, problems) is None
    assert len(problems.rejected) == sum(problems.counts.values()) == 1


def test_bezier_outline_follows_the_curve():
    points = [[0, 0, "L"], [10, 30, "C"], [50, 30, "C"], [60, 0, "C"], [0, 0, "L"]]
    outline = np.array(polygons.outline(points))
    controls = np.array([[0, 0], [10, 30], [50, 30], [60, 0]])
    t = np.linspace(0, 1, polygons.CURVE_STEPS + 1)
    expected = sum(comb(3, k) * (t**k * (1 - t) ** (3 - k))[:, None] * controls[k] for k in range(4))
    assert np.allclose(outline[:-1], expected)
    spelled = {"vertices": [point[:2] for point in points], "types": "LCCCL", "closed": True}
    assert np.allclose(polygons.outline(spelled), outline)


def test_what_has_no_place_or_no_name_is_not_taken_for_absent():
    box = {"x1": 10, "y1": 10, "x2": 100, "y2": 100}
    bus = {"category": "bus", "box2d": box}
    outlined = {"category": "bus", "poly2d": [[0, 0, "L"]]}  # of a drawing, beside the boxes
    for label, known in (
        (outlined, True),
        ({"category": "banner", "box2d": box}, True),
        ({"category": "lane/road curb"}, True),
        ({"category": "car", "box2d": None}, False),
        ({"box2d": box}, False),
    ):
        problems = Problems()
        assert (scene_objects([bus, label], 1280, 720, "a", problems) is not None) is known, label
        assert known or sum(problems.counts.values()) == 1


@pytest.mark.parametrize("release", ["2018", "2020", "per image"])
def test_a_drivable_area_without_a_polygon_is_unknown(release):
    square = [[x, y, "L"] for x, y in ((640, 360), (1280, 360), (1280, 720), (640, 720))]
    for polygon, known in ((square, True), (None, False), ([], False)):
        if release == "per image":
            area = {"category": "area/drivable", "poly2d": polygon}
            record = {"name": "a", "frames": [{"objects": [area]}]}
            found = release_per_image.scene(record, Problems())
        elif release == "2018":
            area = {"category": "drivable area", "attributes": {"areaType": "direct"}}
            polygons_given = [{"vertices": [p[:2] for p in polygon], "types": "LLLL"}] if polygon else polygon
            found = release_2018.scene(
                {"name": "a", "labels": [area | {"poly2d": polygons_given}]}, Problems()
            )
        else:
            area = {"category": "direct", "poly2d": polygon}
            found = release_2020.scene({"name": "a", "labels": [], "drivable": [area]}, Problems())
        assert (found.drivable is not None) is known, polygon


def test_polygon_covers_the_cells_that_it_covers():
    problems = Problems()
    square = [[x, y, "L"] for x, y in ((640, 360), (1280, 360), (1280, 720), (640, 720))]
    grid = polygons.rasterise([(DIRECT, square)], 1280, 720, "a", problems)
    expected = np.full((90, 160), BACKGROUND)
    expected[45:, 80:] = DIRECT
    assert (grid == expected).mean() > 0.99
    assert not problems.counts
    assert polygons.rasterise([(DIRECT, square), (1, [[0, 0, "L"]])], 1280, 720, "a", problems) is None
    assert problems.counts == {"dropped label: polygon with fewer than three points": 1}
    assert polygons.rasterise([(DIRECT, square), (1, [["x", 0, "L"]])], 1280, 720, "a", problems) is None
    assert problems.counts["dropped label: polygon cannot be read"] == 1


@pytest.fixture
def per_image_scenes(bdd100k_root) -> list[Scene]:
    folder = bdd100k_root / "labels" / "100k" / "train"
    found = list(records(bdd100k_root, "train", Problems(), labels=folder))
    return [scene(record, Problems()) for record in found]


@pytest.mark.real
def test_polygons_agree_with_the_release_s_own_masks(bdd100k_root, per_image_scenes):
    agreement = []
    for found in per_image_scenes:
        mask = bdd100k_root / "labels" / "drivable" / "masks" / "train" / f"{found.image_id}.png"
        if found.drivable is not None and mask.exists():
            agreement.append(float((read_mask(mask, Problems()) == found.drivable).mean()))
    assert len(agreement) >= 5
    assert min(agreement) > 0.99


@pytest.mark.real
def test_formats_agree_on_the_real_frames(bdd100k_root, per_image_scenes):
    names = {found.image_id for found in per_image_scenes}
    chosen = [
        record for record in records(bdd100k_root, "train", Problems()) if Path(record.name).stem in names
    ]
    listed = {Path(record.name).stem: scene(record, Problems()) for record in chosen}
    assert len(listed) == 40
    for single in per_image_scenes:
        other = listed[single.image_id]
        assert [thing.category for thing in single.objects] == [thing.category for thing in other.objects]
        mine, theirs = ([thing.box for thing in found.objects] for found in (single, other))
        assert np.allclose(mine, theirs, atol=2e-3)
