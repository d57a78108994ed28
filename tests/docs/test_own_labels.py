"""Labels in other formats: what they say is asked, what they do not say is not."""

import importlib.util
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from as_a_user import ROOT
from datasets import load_dataset
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration
from traffic_vlm.processing.bdd100k.labels import BadLabels
from traffic_vlm.processing.bdd100k.release import read_scenes
from traffic_vlm.processing.image_processing_traffic_vlm import TrafficVLMImageProcessor
from traffic_vlm.processing.own_labels import (
    build_own,
    labelled_categories,
    read_coco,
    read_yolo,
    split_frames,
)
from traffic_vlm.processing.pipeline_traffic_vlm import save_checkpoint
from traffic_vlm.processing.processing_traffic_vlm import TrafficVLMProcessor
from traffic_vlm.processing.tokenization_traffic_vlm import train_tokenizer
from traffic_vlm.training.recipe import load_recipe
from traffic_vlm.training.trainer import Trainer
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


def test_of_two_frames_with_one_name_the_first_stays(own, tmp_path):
    names = ["a/1.jpg", "a_1.jpg", "x.jpg", "x.png", "x.jpg", "y.jpg"]
    labels = {
        "images": [{"id": n, "file_name": name, "width": 9, "height": 5} for n, name in enumerate(names)],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(labels), encoding="utf-8")
    found = read_coco(path, tmp_path)
    assert [(scene.image_id, len(scene.objects)) for scene in found.scenes] == [
        ("a_1", 1),
        ("x", 0),
        ("y", 0),
    ]
    assert found.problems.counts["skipped frame: same name twice"] == 3
    assert [entry["name"] for entry in found.problems.rejected] == ["a_1.jpg", "x.png", "x.jpg"]
    # Nor does the later one stand in for a first whose label cannot be read: that marks something.
    labels["annotations"][0]["bbox"] = None
    path.write_text(json.dumps(labels), encoding="utf-8")
    assert [scene.image_id for scene in read_coco(path, tmp_path).scenes] == ["x", "y"]

    shutil.copytree(own / "my_yolo_folder", tmp_path / "yolo")
    frames = sorted((tmp_path / "yolo" / "images").iterdir())
    shutil.copy(frames[0], frames[0].with_suffix(".png"))
    found = read_yolo(tmp_path / "yolo")
    assert len(found.scenes) == len(frames)
    assert found.problems.counts["skipped frame: same name twice"] == 1


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


@pytest.fixture(scope="module")
def example():
    """examples/fine_tune_lora.py; tests/docs/test_commands.py trains it and asks the result."""
    return load(ROOT / "examples" / "fine_tune_lora.py")


def test_lora_names_a_missing_data_set(example, tmp_path, capsys):
    assert example.main(["--dataset", str(tmp_path / "nothing"), "--output", str(tmp_path / "lora")]) == 2
    assert "no such data set" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--steps=0", "--batch-size=0", "--rank=0"])
def test_lora_refuses_numbers_that_teach_nothing(example, capsys, wrong):
    with pytest.raises(SystemExit, match="2"):
        example.main(["--dataset", "nothing", "--output", "nowhere", wrong])
    assert f"{wrong.partition('=')[0]} must be at least 1" in capsys.readouterr().err


def tiny_checkpoint(folder, **fields):
    """Writes a small network that answers nothing yet, with its processor."""
    tokenizer = train_tokenizer(["Is there a car?", "No."])
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = TrafficVLMConfig(
        vision_config={**sizes, "image_size": [32, 64]},
        text_config={**sizes, "vocab_size": len(tokenizer)},
        **fields,
    )
    model = TrafficVLMForConditionalGeneration(config)
    pictures = TrafficVLMImageProcessor(size={"height": 32, "width": 64})
    placeholders = config.vision_config.num_patches if config.uses_prefix else 0
    processor = TrafficVLMProcessor(pictures, tokenizer, image_seq_length=placeholders)
    save_checkpoint(folder, model, processor)


@pytest.fixture(scope="module")
def question_set(coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "own"
    build_own(coco, folder)
    return folder


@pytest.mark.parametrize("fusion", ["cross_attention", "prefix"])
def test_lora_trains_a_checkpoint_of_either_fusion_where_the_accelerator_is(
    example, question_set, tmp_path, monkeypatch, fusion
):
    tiny_checkpoint(tmp_path / "tiny", fusion=fusion)
    device, moved = torch.device("cpu", 0), []  # which nothing else names so
    monkeypatch.setattr(example, "PartialState", lambda: SimpleNamespace(device=device))

    def watch(kind):
        to = kind.to
        monkeypatch.setattr(
            kind, "to", lambda self, *where, **more: moved.append((self, where)) or to(self, *where, **more)
        )

    watch(torch.nn.Module)
    watch(example.Batch)
    arguments = ["--dataset", str(question_set), "--output", str(tmp_path / "lora"), "--steps", "1"]
    arguments += ["--checkpoint", str(tmp_path / "tiny"), "--batch-size", "2"]
    assert example.main(arguments) == 0
    there = [type(thing).__name__ for thing, where in moved if where[:1] == (device,)]
    assert there == ["PeftModel", "Batch"]
    assert (tmp_path / "lora" / "merged" / "model.safetensors").is_file()


def test_lora_weighs_rows_as_training_does(example):
    class Sure(torch.nn.Module):
        """Sure of token 1 at every position that is asked for."""

        def forward(self, input_ids, pixel_values, logits_to_keep, use_cache):
            return SimpleNamespace(logits=torch.tensor([[0.0, 2.0]]).repeat(int(logits_to_keep.sum()), 1))

    labels = torch.tensor([[-100, 1, -100], [-100, 0, 0]])
    batch = SimpleNamespace(labels=labels, input_ids=labels.clamp(min=0))
    batch.pixel_values = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    right, wrong = (torch.log1p(torch.tensor(sign * 2.0).exp()) for sign in (-1, 1))
    for weights, expected in (([3.0, 0.0], right), ([0.0, 3.0], wrong), ([2.0, 1.0], (right + wrong) / 2)):
        batch.row_weights = torch.tensor(weights)
        torch.testing.assert_close(example.loss_of(Sure(), batch), expected)
    batch.row_weights = torch.zeros(2)
    assert example.loss_of(Sure(), batch) == 0


@pytest.mark.parametrize(
    ("file", "content"), [("model.safetensors", b"no tensors"), ("config.json", b'{"model_type": "tapir"}')]
)
def test_lora_names_a_broken_checkpoint(example, question_set, tmp_path, capsys, file, content):
    tiny_checkpoint(tmp_path / "tiny")
    (tmp_path / "tiny" / file).write_bytes(content)
    arguments = ["--dataset", str(question_set), "--output", str(tmp_path / "lora")]
    assert example.main([*arguments, "--checkpoint", str(tmp_path / "tiny")]) == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 'tiny'}: the checkpoint cannot be loaded (" in error
    assert "Traceback" not in error


def test_siglip_and_gemma_weights_start_a_run(coco, tmp_path, capsys):
    """With random weights in place of the published ones: the command line is the same."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    siglip = SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=64, patch_size=16))
    siglip.save_pretrained(tmp_path / "siglip")
    gemma = GemmaConfig(**sizes, vocab_size=128, num_key_value_heads=1, head_dim=16)
    GemmaModel(gemma).save_pretrained(tmp_path / "gemma")
    command = ["--vision", str(tmp_path / "siglip"), "--text", str(tmp_path / "gemma")]
    command += ["--image-size", "48", "96", "--image-token-id", "9", "--output", str(tmp_path / "start")]
    assert load(ROOT / "scripts" / "convert_siglip_gemma.py").main(command) == 0
    assert "images of 48 x 96 pixels" in capsys.readouterr().out

    recipe = load_recipe(
        ROOT / "configs" / "train" / "fine_tune.yaml",
        [
            f"model.init_from={(tmp_path / 'start').as_posix()}",
            f"model.config={(tmp_path / 'start' / 'config.json').as_posix()}",
            "model.tokenizer=null",
            f"data.dataset={(tmp_path / 'own').as_posix()}",
            f"run.output={(tmp_path / 'run').as_posix()}",
        ],
    )
    build_own(coco, tmp_path / "own")
    trainer = Trainer(recipe)
    model, tokenizer = trainer.network, trainer.tokenizer
    assert "do not fit model.config (lm_head.weight, model.language_model.embed" in capsys.readouterr().out
    wanted = "layers.1.mlp.fc1.weight"
    [theirs] = [tensor for name, tensor in siglip.named_parameters() if name.endswith(wanted)]
    [ours] = [t for name, t in model.model.vision_tower.named_parameters() if name.endswith(wanted)]
    assert torch.equal(ours, theirs)
    assert model.get_input_embeddings().weight.shape == (-(-len(tokenizer) // 64) * 64, 32)
    # Answers end with the new tokenizer's word, not with Gemma's id, which is that of <bos> here.
    assert gemma.eos_token_id == tokenizer.bos_token_id
    for ids in (model.config.text_config, model.generation_config):
        assert ids.eos_token_id == tokenizer.eos_token_id
        assert ids.bos_token_id == tokenizer.bos_token_id
        assert ids.pad_token_id == tokenizer.pad_token_id
    assert model.config.image_token_id == tokenizer.image_token_id
