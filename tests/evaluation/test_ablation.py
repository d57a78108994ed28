"""Ablations: what each changes, a run from frames to table, and that a finished run is not repeated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from traffic_vlm.evaluation import ablation as a
from traffic_vlm.evaluation.ablation_table import bootstrap, compare, verdict
from traffic_vlm.evaluation.metrics import frame_weights
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration
from traffic_vlm.processing.bdd100k.build import BuildOptions, build
from traffic_vlm.processing.synthetic import render_dataset
from traffic_vlm.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
TINY = json.loads((ROOT / "configs" / "models" / "tiny.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", list(a.ABLATIONS))
def test_every_ablation_is_a_recipe_and_a_model(name):
    found = a.ABLATIONS[name]
    load_recipe(ROOT / a.CONFIG, found.recipe)
    model = a.changed(TINY, found)
    assert name in ("full", "no_grounding_loss", "no_patch_loss", "one_question", "no_mirror") or (
        model != TINY or found.recipe or found.frames != "mixed"
    )
    TrafficVLMConfig(**model)


def outputs(name, stride=1):
    """A blank model with one thing taken out, and its logits for words that stand so far apart."""
    torch.manual_seed(0)
    config = TrafficVLMConfig(**a.changed(TINY, a.ABLATIONS[name]))
    model = TrafficVLMForConditionalGeneration(config).eval()
    positions = torch.arange(6)[None] * stride
    with torch.no_grad():
        return model, model(torch.arange(4, 10)[None], position_ids=positions).logits


def test_without_rope_positions_mean_nothing():
    assert torch.allclose(outputs("no_rope")[1], outputs("no_rope", stride=50)[1], atol=1e-4)
    assert not torch.allclose(outputs("full")[1], outputs("full", stride=50)[1], atol=1e-2)


def test_without_gates_everything_passes_and_nothing_is_learned_there():
    model, _ = outputs("no_gates")
    gate = model.model.language_model.layers[0].cross_attn.gate
    torch.tanh(gate).sum().backward()
    assert torch.tanh(gate).item() == 1.0
    assert gate.grad.item() == 0.0


def test_a_square_has_about_as_many_patches():
    assert a.square(TINY) == {"vision_config": {"image_size": [128, 128]}}


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    render_dataset(folder / "release", 24, seed=3)
    build(folder / "release", folder / "questions", BuildOptions(source="synthetic"))
    return folder / "questions"


def test_ablations_end_in_one_table_and_are_not_repeated(questions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    only = ["--only", "prefix", "no_cross_attention", "no_real"]
    given = ["--synthetic", str(questions), "--output", str(tmp_path), "--steps", "2", "--frames", "4"]
    assert a.main([*given, *only]) == 0
    said = capsys.readouterr().out
    assert "run 3 of 3: prefix, seed 0" in said  # without real frames there is nothing to leave out
    assert (tmp_path / "ablations.md").read_text(encoding="utf-8") in said
    rows = json.loads((tmp_path / "ablations.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["full", "no_cross_attention", "prefix"]
    assert rows[1]["parameters"] < rows[2]["parameters"] < rows[0]["parameters"]
    assert rows[0]["ratio"] > 0
    assert rows[1]["ratio"] is None
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-seed0/result.json")}
    assert a.main([*given, *only]) == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}
    kept = tmp_path / "full-seed0" / "last"
    a.run(a.Plan(None, questions, tmp_path, a.CONFIG, steps=1, frames=4), "full", 0)
    assert json.loads((kept / "training" / "record.json").read_text(encoding="utf-8"))["step"] == 1


def test_frames_are_mixed_anew_when_they_come_from_elsewhere(questions, tmp_path):
    few, all_of_them = (a.Plan(questions, None, tmp_path, a.CONFIG, train_frames=n) for n in (2, None))
    mixed = a.mix_frames(few, "mixed")
    assert a.mix_frames(few, "mixed") == mixed
    assert len(a.open_frames(mixed, "train")) == 2
    assert len(a.open_frames(a.mix_frames(all_of_them, "mixed"), "train")) > 2
    other = shutil.copytree(questions, tmp_path / "questions", copy_function=shutil.copyfile)
    assert a.mix_frames(a.Plan(other, None, tmp_path, a.CONFIG, train_frames=2), "mixed") != mixed


def answers(right, seed=0):
    """A run whose answers are right with a probability."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(200):
        truth = ("Yes.", "No.")[i % 2]
        is_right = rng.random() < right
        said = truth if is_right else ("No.", "Yes.")[i % 2]
        score = 0.9 if said == "Yes." else 0.1
        rows.append({"image_id": f"f{i // 2}", "family": "turn_left", "answer": truth, "prediction": said})
        rows[-1]["score_yes"] = score
    return pd.DataFrame(rows)


def test_a_change_is_called_by_its_interval(tmp_path):
    runs = {"full": 0.9, "no_rope": 0.6, "no_mirror": 0.9}
    for name, right in runs.items():
        folder = tmp_path / name
        folder.mkdir()
        answers(right).to_parquet(folder / "predictions.parquet")
        (folder / "result.json").write_text('{"parameters": 1, "training_seconds": 60}', encoding="utf-8")
    full, worse, same = compare({name: [tmp_path / name] for name in runs})
    assert verdict(worse) == "worse without"
    assert worse["balanced_accuracy_change"] == pytest.approx(
        worse["balanced_accuracy"] - full["balanced_accuracy"], abs=1e-6
    )
    assert worse["balanced_accuracy_change_interval"][1] < 0
    assert verdict(same) == "no difference shown"
    assert verdict(full) == ""
    assert verdict({"name": "x"}) == "not measured"
    frames = sorted({f"f{i}" for i in range(100)})
    found = bootstrap(answers(0.8), frames, frame_weights(100))
    low, high = np.percentile(found["balanced_accuracy"][1:], (2.5, 97.5))
    assert low < found["balanced_accuracy"][0] < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --real, --synthetic, or both"),
        (["--synthetic", "nowhere"], "nowhere: no such data set"),
        (["optim.stepps=3", "--synthetic", "QUESTIONS"], "unknown key optim.stepps"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(arguments, message, questions, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    given = [str(questions) if text == "QUESTIONS" else text for text in arguments]
    assert a.main([*given, "--output", str(tmp_path), "--steps", "1"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
