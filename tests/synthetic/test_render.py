import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from traffic_vlm.processing.synthetic import render_dataset, render_scene
from traffic_vlm.processing.synthetic.contact_sheet import choose_seeds
from traffic_vlm.processing.synthetic.layout import sample_layout

CATEGORIES = {
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    "traffic light", "traffic sign",
}  # fmt: skip
SEEDS = range(24)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, (256, 144)) for seed in SEEDS]


def test_same_seed_same_frame_and_labels():
    first, second = render_scene(11), render_scene(11)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.record == second.record
    assert (first.drivable == second.drivable).all()


def test_different_seeds_differ(scenes):
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


def test_size_of_the_picture_does_not_move_the_labels():
    assert render_scene(3, (256, 144)).record == render_scene(3, (512, 288)).record


def test_boxes_lie_inside_the_frame_and_are_named_as_in_the_release(scenes):
    for scene in scenes:
        for label in scene.record["labels"]:
            box = label["box2d"]
            assert 0 <= box["x1"] < box["x2"] <= 1280
            assert 0 <= box["y1"] < box["y2"] <= 720
            assert label["category"] in CATEGORIES
            assert label["attributes"]["trafficLightColor"] in {"R", "Y", "G", "NA"}


def test_only_traffic_lights_have_a_colour(scenes):
    coloured = {
        label["category"]
        for scene in scenes
        for label in scene.record["labels"]
        if label["attributes"]["trafficLightColor"] != "NA"
    }
    assert coloured == {"traffic light"}


def test_a_box_that_touches_no_edge_is_not_truncated(scenes):
    for scene in scenes:
        for label in scene.record["labels"]:
            box = label["box2d"]
            touches = box["x1"] < 1 or box["y1"] < 1 or box["x2"] > 1279 or box["y2"] > 719
            assert touches or not label["attributes"]["truncated"]


def test_drivable_mask_has_the_release_values(scenes):
    for scene in scenes:
        assert scene.drivable.shape == (720, 1280)
        assert scene.drivable.dtype == np.uint8
        assert set(np.unique(scene.drivable)) <= {0, 1, 2}
        assert (scene.drivable[: 720 // 3] == 2).all()


@pytest.mark.parametrize(("seed", "size"), [(-1, (512, 288)), (0, (300, 300)), (0, (32, 18))])
def test_bad_arguments_are_refused(seed, size):
    with pytest.raises(ValueError):
        render_scene(seed, size)


def _digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_dataset_has_the_release_layout_and_equal_bytes_with_more_workers(tmp_path):
    counts = render_dataset(tmp_path / "one", 5, seed=7, size=(256, 144))
    render_dataset(tmp_path / "two", 5, seed=7, size=(256, 144), workers=2)
    assert counts == {"train": 4, "val": 1}
    assert _digest(tmp_path / "one") == _digest(tmp_path / "two")
    records = json.loads((tmp_path / "one/labels/det_20/det_train.json").read_text(encoding="utf-8"))
    assert [record["name"] for record in records] == [f"synthetic-{seed:06d}.jpg" for seed in range(7, 11)]
    for record in records:
        assert Image.open(tmp_path / "one/images/100k/train" / record["name"]).size == (256, 144)
        mask = tmp_path / "one/labels/drivable/masks/train" / record["name"].replace(".jpg", ".png")
        assert Image.open(mask).size == (1280, 720)


def run_script(*arguments) -> subprocess.CompletedProcess:
    script = Path(__file__).parents[2] / "scripts" / "render.py"
    command = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("wrong", [("--num", 0), ("--num", 2, "--width", 20), ("--num", 2, "--seed", -3)])
def test_command_line_refuses_bad_input_in_one_line_and_writes_nothing(tmp_path, wrong):
    run = run_script(*wrong, "--output", tmp_path / "d")
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_command_line_writes_a_data_set(tmp_path):
    run = run_script("--num", 2, "--output", tmp_path / "d", "--width", 128, "--workers", 1)
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "d").rglob("*.jpg"))) == 2


def test_the_contact_sheet_shows_every_weather_and_time_of_day():
    layouts = [sample_layout(seed) for seed in choose_seeds(0)]
    assert len({layout.seed for layout in layouts}) == len(layouts)
    assert {layout.weather for layout in layouts} == {
        "clear", "partly cloudy", "overcast", "rainy", "snowy", "foggy",
    }  # fmt: skip
    assert {layout.timeofday for layout in layouts} == {"daytime", "dawn/dusk", "night"}
