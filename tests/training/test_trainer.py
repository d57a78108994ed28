import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from launching import ON_CPU, processes
from PIL import Image
from safetensors.torch import load_file
from traffic_vlm.processing.bdd100k.families import FAMILIES, ask_all
from traffic_vlm.processing.bdd100k.scene import CATEGORIES
from traffic_vlm.processing.bdd100k.wordings import PRESENCE
from traffic_vlm.processing.tokenization_traffic_vlm import TrafficVLMTokenizer
from traffic_vlm.training import trainer as engine
from traffic_vlm.training.checkpoints import StateError, load_state, refuse_other_recipe
from traffic_vlm.training.collator import (
    IGNORED,
    PATCH_LABELS,
    Collator,
    box_patches,
    patch_targets,
    smoothed_count,
)
from traffic_vlm.training.moving import (
    LEAST_INSIDE,
    STREET,
    draw_window,
    moved_copy,
    scene_of,
    share_inside,
)
from traffic_vlm.training.packing import DataError, _with_copies, open_packed, pack_split
from traffic_vlm.training.precision import began_with
from traffic_vlm.training.recipe import RecipeError, dump_recipe, load_recipe
from traffic_vlm.training.setup import pack_recipe, packed_frames, spell_out
from traffic_vlm.training.trainer import Trainer, TrainingError
from traffic_vlm.training.validation import predict

ROOT = Path(__file__).resolve().parents[2]


def steps(recipe, count):
    """Runs some steps of a new trainer and returns it with its loss parts."""
    trainer = Trainer(recipe)
    loader = iter(trainer._loader(0))
    values = []
    for _ in range(count):
        values.append(trainer._step(next(loader)))
        trainer.position["step"] += 1
    return trainer, values


def test_training_frames_are_known_by_heart(make_recipe):
    made = make_recipe()
    where = [f"data.dataset={made.data.dataset}", f"run.output={made.run.output}", "run.validate_split=val"]
    recipe = load_recipe("configs/train/overfit.yaml", [*where, "run.precision=no"])
    trainer, values = steps(recipe, 240)
    assert values[-1]["answers"] < 0.1 * values[0]["answers"]
    split = open_packed(trainer.packed, "train")
    trainer.network.eval()
    answers = predict(
        trainer.network, trainer.tokenizer, split, list(range(12)), families={"move_forward", "count_car"}
    )
    right = np.mean([row["answer"] == row["prediction"] for row in answers])
    swapped = predict(
        trainer.network,
        trainer.tokenizer,
        split,
        list(range(12)),
        shift=1,
        families={"move_forward", "count_car"},
    )
    right_swapped = np.mean([row["answer"] == row["prediction"] for row in swapped])
    assert right >= 0.9
    assert right_swapped <= right - 0.2  # the answers come from the pictures, not from the questions


def test_a_description_is_heard_to_its_end():
    tokenizer = TrafficVLMTokenizer.from_pretrained(ROOT / "checkpoints" / "traffic-vlm")
    answer = "A partly cloudy day, many vehicles, no people, green light."

    def generate(input_ids, max_new_tokens, **_):
        told = tokenizer([answer], add_special_tokens=False, return_tensors="pt")["input_ids"]
        return torch.cat([input_ids, told[:, :max_new_tokens]], dim=1)

    config = SimpleNamespace(vision_config=SimpleNamespace(num_patches=1), uses_prefix=False)
    model = SimpleNamespace(config=config, dtype=torch.float32, device="cpu", generate=generate)
    question = {"question": "Describe the scene.", "family": "describe", "answer": answer}
    rows = [{"image_id": "a", "questions": [question]}]
    split = SimpleNamespace(frames=np.zeros((1, 4, 4, 3), np.uint8), rows=rows)
    assert predict(model, tokenizer, split, [0])[0]["prediction"] == answer


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_ends_with_the_same_bits(make_recipe, optimizer):
    options = (
        f"optim.optimizer={optimizer}",
        "optim.epochs=1.5",
        "data.photometric=1",
        "data.mirror=0.5",
        "data.erase=0.3",
        "data.changes={jpeg: 0.5, rain: 0.5, fog: 0.5, dusk: 0.5}",
    )
    whole = Trainer(make_recipe(*options, output="whole"))
    last = whole.train()
    recipe = make_recipe(*options, "run.save_every=2", output="stopped")
    stopped = Trainer(recipe)
    step = stopped._step

    def step_and_stop(batches):
        if stopped.position["step"] == 2:
            stopped.stop_requested = True  # what SIGTERM sets
        return step(batches)

    stopped._step = step_and_stop
    stopped.train()
    assert 0 < stopped.position["step"] < whole.position["step"]
    assert not (Path(recipe.run.output) / "last").exists()
    again = Trainer(recipe)
    resumed = again.train()
    assert again.position["step"] == whole.position["step"]
    first, second = (load_file(folder / "model.safetensors") for folder in (last, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, weight in whole.average.state_dict()["average"].items():
        assert torch.equal(weight, again.average.state_dict()["average"][name])


def test_a_run_does_not_go_on_with_another_recipe(make_recipe):
    Trainer(make_recipe("optim.epochs=0.25", "run.save_every=1", output="changed")).train()
    other = Trainer(make_recipe("optim.epochs=0.25", "optim.learning_rate=1e-4", output="changed"))
    with pytest.raises(StateError, match=r"begun with optim\.learning_rate=0\.002, not 0\.0001"):
        other.train()
    longer = Trainer(make_recipe("optim.epochs=0.5", output="changed"))
    longer.train()
    assert longer.position["step"] > other.total, "more epochs are no other recipe"


@pytest.mark.parametrize("text", ["run: [", "", "- 1", "run: {}", "run: 2026-13-01"])
def test_a_runs_damaged_recipe_is_named(make_recipe, tmp_path, text):
    recipe = make_recipe(output="begun")
    (tmp_path / "begun" / "states" / "step-0000001").mkdir(parents=True)
    (tmp_path / "begun" / "states" / "step-0000001" / "position.json").write_text("{}", encoding="utf-8")
    (tmp_path / "begun" / "recipe.yaml").write_text(text, encoding="utf-8")
    for use in (lambda folder: refuse_other_recipe(folder, recipe), began_with):
        with pytest.raises(StateError, match=r"begun.recipe\.yaml: damaged \(.+\)\. Put the recipe there"):
            use(tmp_path / "begun")


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_damaged_state_is_named(tmp_path, text):
    (tmp_path / "step-0000001").mkdir()
    (tmp_path / "step-0000001" / "position.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        StateError, match=r"step-0000001: damaged, or does not fit .* Delete it to go on from"
    ):
        load_state(SimpleNamespace(load_state=lambda _: None), tmp_path)


@pytest.mark.parametrize(("minutes", "far"), [("null", "of 32"), ("95", "after 2 of 95 minutes")])
def test_how_far_a_run_is_is_said_in_what_ends_it(make_recipe, monkeypatch, capsys, minutes, far):
    trainer = Trainer(make_recipe(f"optim.max_minutes={minutes}", output="length"))
    trainer.total, totals = 32, []
    saved = {"step": 7, "seconds": 120.0}
    monkeypatch.setattr(engine, "load_state", lambda *_: saved)
    monkeypatch.setattr(engine, "save_state", lambda *_: None)
    monkeypatch.setattr(
        engine, "tqdm", lambda total, **_: totals.append(total) or SimpleNamespace(close=list)
    )
    monkeypatch.setattr(trainer, "_is_over", lambda: True)
    monkeypatch.setattr(trainer, "_finish", lambda: trainer.output)
    trainer.train()
    assert f"resuming at step 7 {far}\n" in capsys.readouterr().out
    assert totals == [None if minutes == "95" else 32]


@pytest.mark.parametrize(
    "other", ["seed=1", "precision=bf16", "validate_split=tune", "metric=gain", "save_every=7", "overlays=0"]
)
def test_what_decides_which_checkpoint_is_best_stays(make_recipe, tmp_path, other):
    (tmp_path / "begun" / "states" / "step-0000001").mkdir(parents=True)
    (tmp_path / "begun" / "states" / "step-0000001" / "position.json").write_text("{}", encoding="utf-8")
    begun = dump_recipe(make_recipe(output="elsewhere"))  # a folder may be moved
    (tmp_path / "begun" / "recipe.yaml").write_text(begun, encoding="utf-8")
    now = make_recipe(f"run.{other}", output="begun")
    if other in ("save_every=7", "overlays=0"):
        refuse_other_recipe(tmp_path / "begun", now)
    else:
        name, _, value = other.partition("=")
        with pytest.raises(StateError, match=rf"begun with run\.{name}=\w+, not {value}\. Give another"):
            refuse_other_recipe(tmp_path / "begun", now)


def test_a_state_that_does_not_fit_is_refused(make_recipe):
    Trainer(make_recipe("optim.epochs=0.25", "run.save_every=1", output="changed")).train()
    again = Trainer(make_recipe("optim.epochs=0.25", "optim.optimizer=muon", output="changed"))
    (again.output / "recipe.yaml").unlink()  # so that the recipe is not what stops it
    with pytest.raises(StateError, match="does not fit this recipe"):
        again.train()


def test_a_half_written_state_is_never_read(make_recipe):
    recipe = make_recipe("optim.epochs=0.5", output="half")
    Trainer(recipe).train()
    states = Path(recipe.run.output) / "states"
    newest = max(states.iterdir())
    (states / "step-9999999").mkdir()  # a state without position.json: the machine died while it was written
    (states / "step-9999998.part").mkdir()
    trainer = Trainer(recipe)
    trainer.train()
    assert (
        trainer.position["step"] == json.loads((newest / "position.json").read_text(encoding="utf-8"))["step"]
    )


def launch(make_recipe, tmp_path, count, *options):
    """Trains in `count` processes and returns what the run logged."""
    output = f"in_{count}"
    recipe = make_recipe(*options, output=output)
    pack_recipe(recipe)
    command = [*processes(count), "scripts/train.py"]
    command += ["--config", str(tmp_path / "recipe.yaml"), "run.validate_split=val", *options]
    command += [f"data.dataset={recipe.data.dataset}", f"run.output={recipe.run.output}"]
    result = subprocess.run(command, cwd=ROOT, env=ON_CPU, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    return list(map(json.loads, (Path(recipe.run.output) / "log.jsonl").read_text("utf-8").splitlines()))


def test_two_processes_are_two(tmp_path):
    (tmp_path / "count.py").write_text(
        "from accelerate import Accelerator\nprint(Accelerator().num_processes)\n"
    )
    command = [*processes(2), str(tmp_path / "count.py")]
    counted = subprocess.run(command, env=ON_CPU, capture_output=True, text=True, timeout=400)
    assert counted.stdout.count("2") == 2, counted.stderr[-2000:]


@pytest.mark.parametrize(("objective", "metric"), [("answers", "gain"), ("captions", "retrieval")])
def test_two_processes_follow_the_curve_of_one(make_recipe, tmp_path, objective, metric):
    options = ("optim.epochs=1", "optim.ema=0", "run.overlays=0")
    options += (f"loss.objective={objective}", f"run.metric={metric}")
    one, two = (launch(make_recipe, tmp_path, count, *options) for count in (1, 2))
    curves = [[entry[objective] for entry in log if entry["kind"] == "step"] for log in (one, two)]
    assert len(curves[0]) >= 4
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-3)
    tables = [{row["family"]: row["n"] for row in log[-1]["families"]} for log in (one, two)]
    assert tables[0] == tables[1]  # each question once, however many processes ask
    if objective == "answers":
        assert sum(tables[0].values()) > 50


def test_bfloat16_copies_follow_float32(make_recipe):
    options = ("optim.batch_size=2", "data.questions_per_image=2")
    _, exact = steps(make_recipe(*options, output="exact"), 3)
    trainer, rounded = steps(make_recipe(*options, "run.precision=bf16_masters", output="rounded"), 3)
    rotary = trainer.network.model.language_model.rotary_emb
    assert torch.equal(rotary.inv_freq, rotary.frequencies()[0]), "RoPE as in the checkpoint when loaded"
    np.testing.assert_allclose([v["answers"] for v in rounded], [v["answers"] for v in exact], rtol=0.05)


def test_what_was_trained_in_bfloat16_is_loaded_in_float32(make_recipe):
    folder = Trainer(make_recipe("optim.epochs=0.25", "run.precision=bf16_masters", output="half")).train()
    assert load_file(folder / "model.safetensors")["model.projector.linear.weight"].dtype == torch.bfloat16
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"


def test_moved_copies_keep_boxes_on_their_things(questions):
    from datasets import load_dataset

    row = load_dataset(str(questions), split="train")[0]
    image = row.pop("image")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        window = draw_window(0.3, np.random.default_rng(seed))
        picture, moved = moved_copy(image, row, 0.3, rng)
        less = {**row, "questions": [q for q in row["questions"] if not q["family"].startswith("presence")]}
        families = {
            q["family"] for q in moved_copy(image, less, 0.3, np.random.default_rng(seed))[1]["questions"]
        }
        assert families <= {q["family"] for q in less["questions"]}  # not asked of the frame, nor of its copy
        assert any(q["family"].startswith("presence") for q in moved["questions"])
        assert abs(picture.width / image.width - (window[2] - window[0])) < 0.01
        original = {tuple(thing["box"]): thing for thing in row["objects"]}
        for thing in moved["objects"]:
            x1, y1, x2, y2 = thing["box"]
            assert 0 <= x1 < x2 <= 1
            assert 0 <= y1 < y2 <= 1
            width, height = window[2] - window[0], window[3] - window[1]
            back = (
                window[0] + x1 * width,
                window[1] + y1 * height,
                window[0] + x2 * width,
                window[1] + y2 * height,
            )
            inside = [
                box
                for box, other in original.items()
                if other["category"] == thing["category"]
                and all(
                    abs(max(lo, min(hi, b)) - v) < 1e-6
                    for b, v, lo, hi in zip(box, back, window[:2] * 2, window[2:] * 2, strict=True)
                )
            ]
            assert inside
        assert scene_of(moved).image_id == row["image_id"]


def test_unknown_labels_stay_unknown_in_patches():
    row = {"objects": None, "drivable": None}
    assert (patch_targets(row, (3, 4), False) == IGNORED).all()
    light = {"category": "traffic light", "box": [0.0, 0.0, 0.2, 0.3], "light": None}
    targets = patch_targets({"objects": [light], "drivable": None}, (3, 4), False)
    assert targets[0, CATEGORIES.index("traffic light")] == 1
    assert targets[0, PATCH_LABELS.index("red light")] == IGNORED
    assert targets[1, PATCH_LABELS.index("red light")] == 0
    assert (targets[:, PATCH_LABELS.index("direct lane") :] == IGNORED).all()


def test_mirrored_targets_are_the_targets_mirrored():
    thing = {"category": "car", "box": [0.05, 0.4, 0.3, 0.9], "light": None}
    row = {"objects": [thing], "drivable": None}
    grid = (5, 8)
    straight, mirrored = (patch_targets(row, grid, flipped).reshape(*grid, -1) for flipped in (False, True))
    assert (straight[:, ::-1] == mirrored).all()
    assert box_patches((0.0, 0.0, 1.0, 1.0), grid) == (slice(0, 5), slice(0, 8))


def test_mirrored_questions_change_sides(make_recipe):
    trainer = Trainer(make_recipe("data.mirror=1", output="mirror"))
    loader = trainer._loader(0)
    collator: Collator = loader.dataset.collator
    prompt, _ = collator._sequence("Is the left lane clear?", "Yes, it is clear.", flipped=True)
    assert trainer.tokenizer.decode(prompt[1:]) == "Is the right lane clear?\n"


def test_rephrased_questions_keep_their_meaning_and_never_use_held_out_words(make_recipe):
    collator: Collator = (
        Trainer(make_recipe("data.rephrase=1", output="rephrase"))._loader(0).dataset.collator
    )
    question = {"question": "Any buses here?", "family": "presence_bus", "answer": "No."}
    drawn = {collator._words(question, np.random.default_rng(i), allow_long=True).lower() for i in range(300)}
    assert len(drawn) > 8
    held_out = {
        text.format_map({"a x": "a bus", "x": "bus", "xs": "buses"}).lower().rstrip("?.")
        for text in PRESENCE.heldout
    }
    assert not {text.rstrip("?.") for text in drawn} & held_out
    assert sum("bus" in text for text in drawn) > 0.8 * len(drawn)  # the rest have a typing slip in that word


def test_a_smoothed_count_is_at_most_one_off_and_never_nothing():
    def taught(answer, family="count_car", probability=0.5):
        question = {"family": family, "answer": answer}
        return Counter(smoothed_count(question, probability, np.random.default_rng(i)) for i in range(600))

    three = taught("Three.")
    assert set(three) == {"Two.", "Three.", "Four."}
    assert abs(three["Three."] - 300) < 60
    assert set(taught("One.")) == {"One.", "Two."}
    assert set(taught("Five.")) == {"Four.", "Five.", "More than five."}
    for kept in (taught("None."), taught("More than five."), taught("One.", family="detect_car")):
        assert len(kept) == 1
    assert set(taught("Three.", probability=0.0)) == {"Three."}


def test_the_recipe_smooths_the_counts(make_recipe):
    collator = Trainer(make_recipe("data.count_smoothing=0.25", output="counts"))._loader(0).dataset.collator
    assert collator.count_smoothing == 0.25


def test_copies_say_nothing_else_about_the_street_than_their_frames(questions):
    from datasets import load_dataset

    assert share_inside({"box": (0.0, 0.0, 1.0, 1.0)}, (0.25, 0.25, 0.75, 0.75)) == 0.25

    def slivers(row, window, category=None):
        things = [t for t in row["objects"] if category in (None, t["category"])]
        return [t for t in things if 0 < share_inside(t, window) < LEAST_INSIDE]

    asked, cut_lights, near_edges = Counter(), 0, 0
    for row in load_dataset(str(questions), split="train").select(range(12)):
        image, own = row.pop("image"), {q["family"]: q["answer"] for q in row["questions"]}
        for seed in range(4):
            window = draw_window(0.35, np.random.default_rng(seed))
            _, moved = moved_copy(image, row, 0.35, np.random.default_rng(seed))
            for question in moved["questions"]:
                family = FAMILIES[question["family"]]
                if family.group in STREET:
                    assert question["answer"] == own[question["family"]]
                    asked[family.group] += 1
                if family.category:
                    assert not slivers(row, window, family.category)
                elif family.group == "compare_sides" and slivers(row, window):
                    assert question["answer"] == own[question["family"]]
                    near_edges += 1
            for thing in moved["objects"]:
                if thing["category"] == "traffic light" and thing["truncated"]:
                    assert thing["light"] is None
                    cut_lights += 1
    assert min(asked["lane_clear"], asked["move_forward"]) > 10
    assert cut_lights
    assert near_edges


def test_a_lane_that_the_window_cuts_away_is_not_denied():
    grid = np.full((90, 160), 2, np.uint8)
    grid[45:, 60:100], grid[45:, 110:] = 0, 1  # my lane and one on the right
    things: list = []
    row = {"objects": things, "drivable": grid, "weather": None, "timeofday": None, "scene": None}
    row |= {"image_id": "a", "split": "train", "source": "own", "questions": []}
    row["questions"] = [asdict(q) for q in ask_all(scene_of(row), seed=0).rows]
    own = {q["family"]: q["answer"] for q in row["questions"]}
    assert own["lane_exists_right"] == "Yes."
    without = 0
    for seed in range(40):
        _, moved = moved_copy(Image.new("RGB", (160, 90)), row, 0.5, np.random.default_rng(seed))
        said = {q["family"]: q["answer"] for q in moved["questions"]}
        assert said.get("lane_exists_right", "Yes.") == "Yes."
        assert said.get("turn_right", own["turn_right"]) == own["turn_right"]
        without += "lane_exists_right" not in said
    assert without


def test_the_next_lanes_car_is_not_ahead_because_the_window_slides():
    car = {"category": "car", "box": (0.7, 0.45, 0.85, 0.7), "occluded": False, "truncated": False}
    row = {"objects": [car | {"light": None}], "drivable": None, "weather": None, "timeofday": None}
    row |= {"scene": None, "image_id": "a", "split": "train", "source": "own"}
    row["questions"] = [asdict(q) for q in ask_all(scene_of(row | {"questions": []}), seed=0).rows]
    own = {q["family"]: q["answer"] for q in row["questions"]}
    expected = {
        "vehicle_near_ahead": "No.",
        "vehicle_near_right": "Yes.",
        "directly_ahead": "Nothing close.",
        "nearest_car": "On the right, close.",
    }
    assert expected.items() <= own.items()
    places = Counter()
    for seed in range(40):
        _, moved = moved_copy(Image.new("RGB", (160, 90)), row, 0.5, np.random.default_rng(seed))
        said = {q["family"]: q["answer"] for q in moved["questions"]}
        places[said.get("nearest_car")] += 1  # a place in the picture, which does change
        for family in ("vehicle_near_ahead", "vehicle_near_right", "directly_ahead"):
            assert said.get(family, own[family]) == own[family]
    assert places["Ahead, close."]


def test_frames_without_things_are_copied_as_they_are():
    image = Image.new("RGB", (32, 18))
    row = {
        "image": image,
        "objects": None,
        "drivable": None,
        "questions": [{"family": "weather"}],
        "image_id": "a",
    }
    pairs = list(_with_copies([row], ["moved", "joined"], 0.3, 0))
    assert [copy["copy"] for _, copy in pairs] == [0, 1, 2]
    assert all(
        picture.size == image.size and copy["questions"] == [{"family": "weather"}] for picture, copy in pairs
    )


def test_packing_writes_all_or_nothing(questions, tmp_path):
    assert pack_split(questions, "val", tmp_path, (48, 80), variants=1) == 2 * len(
        open_source(questions, "val")
    )
    packed = open_packed(tmp_path, "val")
    assert packed.frames.shape[1:] == (48, 80, 3)
    assert [row["copy"] for row in packed.rows][:4] == [0, 1, 0, 1]
    with pytest.raises(DataError, match="no packed split here"):
        open_packed(tmp_path, "train")
    with pytest.raises(DataError, match="no such data set"):
        pack_split(tmp_path / "nowhere", "train", tmp_path, (48, 80))


def test_packed_frames_of_another_recipe_are_refused(make_recipe, questions, tmp_path):
    def pack(*options):
        return pack_recipe(make_recipe(f"data.packed={(tmp_path / 'packed').as_posix()}", *options))

    zoomed = ("data.variants=1", "data.max_zoom=0.2")
    assert pack(*zoomed) == pack(*zoomed, "run.seed=1") == tmp_path / "packed"
    with pytest.raises(DataError, match=r"packed.train: was packed with max_zoom 0\.2, not 0\.3\. Delete it"):
        pack("data.variants=1", "data.max_zoom=0.3")
    with pytest.raises(DataError, match="with variants 1, not 0"):
        pack()
    with pytest.raises(DataError, match=r"with paste 0\.0, not 1\.0"):
        pack(*zoomed, "data.paste=1")
    with pytest.raises(DataError, match=r"with join 0\.0, not 1\.0"):
        pack(*zoomed, "data.join=1")
    with pytest.raises(DataError, match=r"with image_size \["):
        pack(*zoomed, "model.config=configs/models/small.json")
    other = ("data.dataset=" + (tmp_path / "other").as_posix(), *zoomed)
    assert pack(*other)  # the data set is not on this machine any more
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "train-00000-of-00001.parquet").write_bytes(b"built anew")
    with pytest.raises(DataError, match=r"from other data than .*other\."):
        pack(*other)
    itself = "data.dataset=" + (tmp_path / "packed").as_posix()
    assert pack(itself, *zoomed) == tmp_path / "packed"
    with pytest.raises(DataError, match="with variants 1, not 0"):
        pack(itself)
    for facts in tmp_path.glob("packed/*/packed.json"):  # as folders that were packed earlier
        kept = json.loads(facts.read_text(encoding="utf-8"))
        del kept["max_zoom"], kept["source"], kept["join"]
        facts.write_text(json.dumps(kept), encoding="utf-8")
    assert pack(*other, "data.max_zoom=0.3")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"frames": null}'])
def test_a_damaged_packed_folder_is_named(make_recipe, tmp_path, text):
    recipe = make_recipe(f"data.packed={tmp_path.as_posix()}")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "packed.json").write_text(text, encoding="utf-8")
    for use in (pack_recipe, packed_frames):
        with pytest.raises(DataError, match=r"train.packed\.json: damaged\. Delete it and pack again"):
            use(recipe)


def open_source(questions, split):
    from datasets import load_dataset

    return load_dataset(str(questions), split=split)


def test_unknown_family_in_a_recipe_is_refused():
    with pytest.raises(RecipeError, match="'presense' is neither a family nor a group"):
        spell_out({"presense": 1.0})
    shares = spell_out({"lane_clear": 3.0, "lane_clear_mine": 5.0}, divide=True)
    assert shares == {"lane_clear_left": 1.0, "lane_clear_mine": 5.0, "lane_clear_right": 1.0}


@pytest.mark.parametrize(
    ("name", "hint"), [("move_foward", "did you mean move_forward"), ("quux", r"docs/questions\.md lists")]
)
def test_frames_are_not_drawn_by_a_family_that_no_question_has(make_recipe, tmp_path, name, hint):
    recipe = make_recipe(f"data.frame_balance={{{name}: 0.3}}", f"data.packed={tmp_path.as_posix()}/packed")
    with pytest.raises(
        RecipeError, match=rf"data\.frame_balance: '{name}' is no family of questions: {hint}"
    ):
        Trainer(recipe)
    assert not (tmp_path / "packed").exists(), "said before the frames are packed"


def test_exported_checkpoint_answers_in_a_process_without_the_source(make_recipe, tmp_path):
    recipe = make_recipe("optim.epochs=0.5", output="export")
    folder = Trainer(recipe).train()
    Image.new("RGB", (64, 36), "gray").save(tmp_path / "frame.png")
    code = f"""
import sys
import time
sys.modules["traffic_vlm"] = None
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, frame = {str(folder)!r}, {str(tmp_path / "frame.png")!r}
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(images=[frame], text=["Is the left lane clear?"], return_tensors="pt").to(model.dtype)
output = model.generate(**inputs, max_new_tokens=4)
print(processor.post_process_image_text_to_text(output, skip_prompt=True))
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip().startswith("[")
    record = json.loads((folder / "training" / "record.json").read_text(encoding="utf-8"))
    assert record["parameters"] > 0
    assert record["training_frames"] == len(open_packed(pack_recipe(recipe), "train"))
    assert record["versions"]["torch"]


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_sigterm_to_the_whole_group_saves_first(make_recipe, tmp_path):
    recipe = make_recipe("optim.epochs=500", output="term")
    overrides = [
        f"data.dataset={recipe.data.dataset}",
        f"run.output={recipe.run.output}",
        "run.validate_split=val",
    ]
    command = [sys.executable, "scripts/train.py", "--config", str(tmp_path / "recipe.yaml"), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "optim.epochs=500", "data.workers=1", "run.save_every=1000000"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = Path(recipe.run.output) / "log.jsonl"

    def has_stepped():  # from then on the loader's process leaves the signal to the main one
        return log.is_file() and '"kind": "step"' in log.read_text(encoding="utf-8")

    try:
        deadline = time.monotonic() + 400
        while not has_stepped() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert has_stepped()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0
    states = list((Path(recipe.run.output) / "states").iterdir())
    assert len(states) == 1
    assert (states[0] / "position.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_program_ends_though_a_loader_process_is_left():
    code = """
from torch.utils.data import DataLoader
from traffic_vlm.training import trainer

trainer.LOADER_PATIENCE = 1
left = iter(DataLoader(range(1000), num_workers=1, worker_init_fn=trainer._leave_sigterm_to_main))
print(next(left))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ON_CPU, capture_output=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"tensor")


def test_broken_losses_stop_the_run_and_say_where_the_last_state_is(make_recipe):
    trainer = Trainer(make_recipe(output="broken"))
    batches = next(iter(trainer._loader(0)))
    with torch.no_grad():
        next(iter(trainer.network.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"is not a finite number\. The last good state is in .*states"):
        trainer._step(batches)
    for _ in range(200):
        trainer._refuse_divergence({"answers": 1.0})
    trainer.position["smooth"] = 3.2
    with pytest.raises(TrainingError, match=r"the loss has grown from 1\.000 to 3\."):
        trainer._refuse_divergence({"answers": 5.0})


def test_a_run_can_be_watched(make_recipe):
    recipe = make_recipe("optim.epochs=0.5", "run.trackers=[tensorboard]", "run.overlays=2", output="watched")
    folder = Trainer(recipe).train()
    entries = list(map(json.loads, (folder.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()))
    assert entries[0]["kind"] == "start"
    assert entries[0]["versions"]["torch"] == torch.__version__
    assert entries[0]["seed"] == 0
    entry = [entry for entry in entries if entry["kind"] == "step"][-1]  # the first step's rate is 0
    for name in (
        "answers",
        "gradient_norm",
        "memory_gib",
        "gate/0",
        "rate/encoder",
        "rate/decoder, no decay",
    ):
        assert entry[name] > 0
    assert entry["frames_per_second"] * 6 == pytest.approx(entry["questions_per_second"], rel=1e-3)
    (picture,) = (folder.parent / "overlays").iterdir()
    assert Image.open(picture).height > 2 * 96
    assert list(folder.parent.rglob("events.out.tfevents.*"))


def test_a_missing_tracker_is_one_line(make_recipe):
    with pytest.raises(RecipeError, match=r"run\.trackers is 'tensorbord': use 'tensorboard' or"):
        make_recipe("run.trackers=[tensorbord]")


def test_a_run_says_what_it_started_from_and_takes_parts(make_recipe):
    first = Trainer(make_recipe("optim.epochs=0.25", output="first")).train()
    options = (f"model.init_from={first.as_posix()}", "optim.epochs=0.25")
    tokenizer = f"model.tokenizer={(first.parent / 'tokenizer').as_posix()}"
    second = Trainer(make_recipe(*options, tokenizer, "model.init_parts=[vision_tower]", output="second"))
    weights = load_file(first / "model.safetensors")
    for name, weight in second.network.state_dict().items():
        if "vision_tower" in name:
            assert torch.equal(weight, weights[name].float())
    record = json.loads((second.train() / "training" / "record.json").read_text(encoding="utf-8"))
    earlier = json.loads((first / "training" / "record.json").read_text(encoding="utf-8"))
    assert record["started_from"]["step"] == earlier["step"]
    assert record["started_from"]["git_revision"] == earlier["git_revision"]
    with pytest.raises(RecipeError, match="no part is called 'vision'"):
        Trainer(make_recipe(*options, tokenizer, "model.init_parts=[vision]", output="third"))


def test_streamed_frames_are_each_nodes_own_and_resume_exactly(make_recipe):
    made = make_recipe("data.streaming=true", "optim.batch_size=4", output="streamed")
    trainer = Trainer(made)
    again = Trainer(made)
    assert len(again.split) == len(trainer.split)
    (Path(made.run.output) / "rows" / "train" / "source.txt").write_text("another", encoding="utf-8")
    with pytest.raises(DataError, match="holds the rows of other data than"):
        Trainer(made)
    assert not list(Path(made.run.output).rglob("train/frames.npy"))
    packed = Trainer(make_recipe(output="packed"))
    assert trainer.batches.num_frames == packed.batches.num_frames
    numbers = {row["image_id"]: number for number, row in enumerate(packed.split.rows)}
    shares = []
    for rank in (0, 1):
        stream = trainer._loader(0).dataset
        stream.rank, stream.world, stream.own = rank, 2, 2
        ids = [sample["image_id"] for sample, _ in zip(stream.samples(), range(12), strict=False)]
        shares.append(set(ids))
    assert not shares[0] & shares[1]
    first = next(iter(trainer._loader(0)))[0]
    frames = {packed.split.frames[number].tobytes() for number in numbers.values()}
    assert all(frame.permute(1, 2, 0).numpy().tobytes() in frames for frame in first.pixel_values)
    whole = [batches[0].pixel_values for batches, _ in zip(trainer._loader(0), range(5), strict=False)]
    resumed = next(iter(trainer._loader(4)))[0].pixel_values
    assert torch.equal(whole[4], resumed)
    assert trainer._step(next(iter(trainer._loader(0))))["answers"] > 0
    with pytest.raises(RecipeError, match=r"data\.streaming"):
        make_recipe("data.streaming=true", "data.variants=1")


def test_a_step_holds_its_frames_where_one_ends_an_epoch_and_begins_the_next(make_recipe, monkeypatch):
    stream = Trainer(make_recipe("data.streaming=true", "optim.batch_size=4"))._loader(0).dataset
    samples = list(itertools.islice(stream.samples(), 3))
    monkeypatch.setattr(stream, "samples", lambda: iter([*samples, samples[0]] * 2))
    for (batch,) in itertools.islice(stream, 2):
        assert len(batch.pixel_values) == 4
        assert torch.equal(batch.pixel_values[0], batch.pixel_values[3])


def test_a_streamed_data_set_may_be_on_the_hub(make_recipe, monkeypatch):
    local, load, fetched = make_recipe().data.dataset, datasets.load_dataset, []
    frames = len(open_source(local, "val"))

    def from_the_hub(dataset, data_files=None, streaming=False, **options):
        assert dataset == "somebody/frames"
        if not streaming:
            fetched.append(data_files)
        return load(local, data_files=data_files, streaming=streaming, **options)

    monkeypatch.setattr(datasets, "load_dataset", from_the_hub)
    recipe = make_recipe("data.dataset=somebody/frames", "data.streaming=true", output="hub")
    folder = pack_recipe(recipe)
    assert len(open_packed(folder, "val")) == frames
    assert fetched == [{"val": "data/val-*.parquet"}], "of the other splits nothing"
    with pytest.raises(DataError, match="somebody/frames: no such data set"):
        pack_recipe(make_recipe("data.dataset=somebody/frames", output="folder"))


def test_a_streamed_frame_stands_upright(make_recipe, monkeypatch):
    """As it does when it is packed and when it is asked about: its boxes are those of the upright picture."""
    trainer = Trainer(make_recipe("data.streaming=true", "optim.batch_size=1", output="upright"))
    stream = trainer._loader(0).dataset
    exif, lying = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned by a quarter when shown
    Image.fromarray(np.repeat(np.uint8([[200], [20]]), 2, axis=1)).resize((64, 64), 0).save(
        lying, "PNG", exif=exif
    )
    sample = {"image_id": trainer.split.rows[0]["image_id"], "image": {"bytes": lying.getvalue()}}
    monkeypatch.setattr(stream, "samples", lambda: iter([sample]))
    pixels = next(iter(stream))[0].pixel_values[0, 0].float()
    left, right = pixels[:, : pixels.shape[1] // 4].mean(), pixels[:, -pixels.shape[1] // 4 :].mean()
    assert (left.item(), right.item()) == (20, 200)
