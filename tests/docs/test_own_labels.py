"""Labels in other formats: what they say is asked, what they do not say is not."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from as_a_user import ROOT
from datasets import load_dataset
from traffic_vlm.processing.bdd100k.labels import BadLabels
from traffic_vlm.processing.bdd100k.release import read_scenes
from traffic_vlm.processing.own_labels import (
    build_own,
    labelled_categories,
    read_coco,
    read_yolo,
    split_frames,
)
from traffic_vlm.training.recipe import load_recipe
from traffic_vlm.training.setup import build_model, read_model_config
from transformers import GemmaConfig, GemmaModel, SiglipVisionConfig, SiglipVisionModel

torch.set_num_threads(1)
NAMES = ("rider", "car", "truck", "bus", "motorcycle", "bicycle", "traffic light")


def boxes(scenes):
    """Frame -> its category names and its corners, in label order."""
    named = {
        scene.image_id: [t for t in scene.objects if t.category in (*NAMES, "pedestrian")] for scene in scenes
    }
    return {
        name: ([t.category for t in things], np.array([t.box for t in things]).reshape(-1, 4))
        for name, things in named.items()
    }


@pytest.fixture(scope="module")
def coco(own):
    return read_coco(own / "annotations.json", own / "frames")


def test_both_formats_say_what_the_scene_says(own, coco):
    truth = boxes(scene for split in ("train", "val") for scene in read_scenes(own / "release", split))
    assert sum(len(categories) for categories, _ in truth.values()) > 20
    for found in (boxes(coco.scenes), boxes(read_yolo(own / "my_yolo_folder").scenes)):
        assert found.keys() == truth.keys()
        for name, (categories, corners) in truth.items():
            assert found[name][0] == categories
            np.testing.assert_allclose(found[name][1], corners, atol=1e-6)


def test_what_the_labels_do_not_mark_is_not_asked(coco, tmp_path):
    build_own(coco, tmp_path / "own")
    rows = load_dataset(str(tmp_path / "own"), split="train")
    assert rows["weather"] == [None] * len(rows)
    families = {question["family"] for row in rows for question in row["questions"]}
    assert {"presence_car", "count_car", "light_for_me", "presence_pedestrian"} <= families
    # No signs and no trains were marked, so that nothing can be said about "nothing in the way".
    unknown = {"presence_train", "presence_traffic_sign", "move_forward", "vehicle_near_left", "weather"}
    assert not families & (unknown | {"lane_clear_left", "describe", "time_of_day", "light_state"})
    assert rows["forerunner"] == [None] * len(rows)
    assert rows["objects"] == [None] * len(rows), "training would take what is not marked for absent"


def test_absent_categories_open_the_questions_that_need_them(own, tmp_path):
    labels = read_coco(own / "annotations.json", own / "frames", absent=("train", "traffic sign"))
    build_own(labels, tmp_path / "own")
    rows = load_dataset(str(tmp_path / "own"), split="train")
    families = {question["family"] for row in rows for question in row["questions"]}
    assert {"move_forward", "vehicle_near_left", "presence_train"} <= families
    # Without lanes a turn could only be refused, and a model would learn to refuse every one.
    assert not families & {"turn_left", "turn_right", "command_turn_left", "command_turn_right"}
    assert rows[0]["objects"] is not None


def test_persons_without_riders_are_of_unknown_kind(tmp_path):
    labels = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(labels), encoding="utf-8")
    [scene] = read_coco(path, tmp_path).scenes
    assert [thing.category for thing in scene.objects] == ["other person"]
    assert scene.objects[0].box == (0.1, 0.2, 0.3, 0.6)
    [scene] = read_coco(path, tmp_path, rename={"person": "pedestrian"}).scenes
    assert [thing.category for thing in scene.objects] == ["pedestrian"]
    labels["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(labels), encoding="utf-8")
    found = read_coco(path, tmp_path)
    assert (found.scenes, found.problems.counts["skipped frame: crowd box"]) == ([], 1)


def test_yolo_tells_an_empty_frame_from_an_unlabelled_one(own, tmp_path):
    folder = tmp_path / "yolo"
    shutil.copytree(own / "my_yolo_folder", folder)
    first, second, third = sorted((folder / "labels").glob("*.txt"))[:3]
    first.unlink()
    second.write_text("", encoding="utf-8")
    third.write_text("2 0.1 0.1 0.5 0.1 0.5 0.4 0.1 0.4\n", encoding="utf-8-sig")  # as some editors save
    found = read_yolo(folder)
    scenes = {scene.image_id: scene for scene in found.scenes}
    assert first.stem not in scenes
    assert found.problems.counts["skipped frame: no label file"] == 1
    assert scenes[second.stem].objects == ()
    [car] = scenes[third.stem].objects
    assert (car.category, car.box) == ("car", pytest.approx((0.1, 0.1, 0.5, 0.4)))


@pytest.mark.parametrize(
    "line",
    ["nonsense", "2 0.1 0.1 0.2 0.2 0.9", "99 0.1 0.1 0.2 0.2", "nan 0.1 0.1 0.2 0.2", "2 nan 0.1 0.2 0.2"],
)
def test_a_frame_with_an_unreadable_label_is_no_frame_without_the_thing(own, tmp_path, line):
    folder = tmp_path / "yolo"
    shutil.copytree(own / "my_yolo_folder", folder)
    first = min((folder / "labels").glob("*.txt"))
    first.write_text(f"2 0.5 0.5 0.2 0.2\n{line}\n", encoding="utf-8")
    found = read_yolo(folder)
    assert first.stem not in {scene.image_id for scene in found.scenes}
    assert found.problems.counts["skipped frame: unreadable label"] == 1


def test_coco_frames_with_unreadable_labels_are_left_out(tmp_path):
    labels = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 50} for n in (1, 2, 3)],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, None]},
            {"image_id": 2, "category_id": 8, "bbox": [10, 10, 20, 20]},
            {"image_id": 3, "category_id": 1, "bbox": [200, 10, 20, 20]},  # outside, so not in the frame
        ],
        "categories": [{"id": 1, "name": "car"}],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(labels), encoding="utf-8")
    found = read_coco(path, tmp_path)
    assert [(scene.image_id, scene.objects) for scene in found.scenes] == [("3", ())]
    assert found.problems.counts["skipped frame: unreadable label"] == 2
    del labels["images"][2]["file_name"]
    path.write_text(json.dumps(labels), encoding="utf-8")
    assert read_coco(path, tmp_path).problems.counts["skipped frame: no file name"] == 1
    for annotation in labels["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    path.write_text(json.dumps(labels), encoding="utf-8")
    with pytest.raises(BadLabels, match="no annotation belongs to one of its images, whose id is 1"):
        read_coco(path, tmp_path)


def test_what_is_left_over_says_nothing_of_the_kinds_beside_it():
    assert labelled_categories(["other vehicle"]) >= {"car", "bus", "truck"}
    assert labelled_categories(["car", "other vehicle"]) == {"car"}
    assert labelled_categories(["car", "other person"]) == {"car", "pedestrian", "rider"}
    assert labelled_categories(["car"], absent=["other vehicle"]) == {"car"}


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "not COCO's format"), ("{", "not COCO's format"), (None, "cannot read")]
)
def test_bad_coco_files_are_named(text, message, tmp_path):
    path = tmp_path / "coco.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(BadLabels, match=message) as error:
        read_coco(path, tmp_path)
    assert "coco.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_every_split_gets_a_frame():
    assert sorted(split_frames("abc").values()) == ["train", "tune", "val"]
    many = list(split_frames(map(str, range(100))).values())
    assert (many.count("val"), many.count("tune"), many.count("train")) == (10, 10, 80)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lora_names_a_missing_data_set(tmp_path, capsys):
    """tests/docs/test_commands.py trains it and asks the result."""
    example = load(ROOT / "examples" / "fine_tune_lora.py")
    assert example.main(["--dataset", str(tmp_path / "nothing"), "--output", str(tmp_path / "lora")]) == 2
    assert "no such data set" in capsys.readouterr().err


def test_siglip_and_gemma_weights_start_a_run(tmp_path, capsys):
    """With random weights in place of the published ones: the command line is the same."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    siglip = SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=64, patch_size=16))
    siglip.save_pretrained(tmp_path / "siglip")
    gemma = GemmaConfig(**sizes, vocab_size=128, num_key_value_heads=1, head_dim=16)
    GemmaModel(gemma).save_pretrained(tmp_path / "gemma")
    command = ["--vision", str(tmp_path / "siglip"), "--text", str(tmp_path / "gemma")]
    command += ["--image-size", "48", "96", "--output", str(tmp_path / "start")]
    assert load(ROOT / "scripts" / "convert_siglip_gemma.py").main(command) == 0
    assert "images of 48 x 96 pixels" in capsys.readouterr().out

    recipe = load_recipe(
        ROOT / "configs" / "train" / "fine_tune.yaml",
        [
            f"model.init_from={(tmp_path / 'start').as_posix()}",
            f"model.config={(tmp_path / 'start' / 'config.json').as_posix()}",
            "model.tokenizer=null",
        ],
    )
    config = read_model_config(recipe)
    config.text_config.vocab_size = 192
    model = build_model(config, recipe)
    wanted = "layers.1.mlp.fc1.weight"
    [theirs] = [tensor for name, tensor in siglip.named_parameters() if name.endswith(wanted)]
    [ours] = [t for name, t in model.model.vision_tower.named_parameters() if name.endswith(wanted)]
    assert torch.equal(ours, theirs)
    assert model.get_input_embeddings().weight.shape == (192, 32)
