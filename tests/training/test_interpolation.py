import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launching import ON_CPU, processes
from safetensors import SafetensorError
from safetensors.torch import load_file
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.training import interpolation
from traffic_vlm.training.interpolation import choose_share, interpolate, keep_answers
from traffic_vlm.training.packing import open_packed
from traffic_vlm.training.setup import pack_recipe
from traffic_vlm.training.trainer import Trainer


def test_weights_lie_between_and_the_record_says_where(make_recipe, tmp_path):
    first = Trainer(make_recipe("optim.epochs=0.25", output="first")).train()
    second = Trainer(make_recipe("optim.epochs=0.5", output="second")).train()
    interpolate(first, second, 0.75, tmp_path / "between")
    a, b, found = (load_file(f / "model.safetensors") for f in (first, second, tmp_path / "between"))
    assert found.keys() == b.keys()
    assert any(not torch.equal(a[name], b[name]) for name in a)
    for name, weight in found.items():
        expected = 0.25 * a[name].float() + 0.75 * b[name].float()
        torch.testing.assert_close(weight.float(), expected, rtol=1e-2, atol=1e-6)  # kept in bfloat16
    record = json.loads((tmp_path / "between" / "training" / "record.json").read_text(encoding="utf-8"))
    assert record["averaged"] == {"share": 0.75}
    assert "0.75 of the way" in (tmp_path / "between" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="is there already"):
        interpolate(first, second, 0.75, tmp_path / "between")
    with pytest.raises(ValueError, match="between 0 and 1"):
        interpolate(first, second, 1.5, tmp_path / "other")
    smaller = make_recipe("optim.epochs=0.25", "loss.patch_weight=0", output="smaller")
    with pytest.raises(ValueError, match="holds another network than"):
        interpolate(Trainer(smaller).train(), second, 0.5, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_failed_average_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    (tmp_path / "after").mkdir()
    (tmp_path / "after" / "model.safetensors").write_bytes(b"the latter's weights")
    monkeypatch.setattr(interpolation, "weights_between", lambda *_: {"weight": torch.ones(1)})

    def no_space(*_, **__):
        raise SafetensorError("No space left on device")

    with monkeypatch.context() as full:
        full.setattr(interpolation, "save_file", no_space)
        with pytest.raises(SafetensorError):
            interpolate(tmp_path / "before", tmp_path / "after", 0.5, tmp_path / "between")
    assert not (tmp_path / "between").exists()
    assert not list(tmp_path.rglob("between*/model.safetensors"))
    interpolate(tmp_path / "before", tmp_path / "after", 0.5, tmp_path / "between")
    assert load_file(tmp_path / "between" / "model.safetensors").keys() == {"weight"}
    assert {path.name for path in tmp_path.iterdir()} == {"after", "between"}


def test_a_stage_on_finer_frames_is_averaged_with_the_one_before(make_recipe, tmp_path):
    name = "model.vision_tower.embeddings.position_embedding"
    before = Trainer(make_recipe("optim.epochs=0.25", output="coarse")).train()
    finer = make_recipe("optim.epochs=0.25", f"model.init_from={before.as_posix()}", output="fine")
    config = json.loads(Path(finer.model.config).read_text(encoding="utf-8"))
    config["vision_config"]["image_size"] = [96, 128]
    finer.model.config = str(tmp_path / "finer.json")
    Path(finer.model.config).write_text(json.dumps(config), encoding="utf-8")
    after = Trainer(finer).train()
    interpolate(before, after, 0, tmp_path / "first")
    found, given = (load_file(f / "model.safetensors") for f in (tmp_path / "first", before))
    assert found[name].shape == load_file(after / "model.safetensors")[name].shape
    encoder = TrafficVLMForConditionalGeneration.from_pretrained(before).model.vision_tower
    torch.testing.assert_close(
        found[name].float(), encoder.embeddings.positions(6, 8).float(), rtol=1e-2, atol=1e-4
    )
    assert all(torch.equal(found[other], given[other]) for other in found if other != name)
    coarse = pack_recipe(make_recipe("run.validate_split=tune"))
    with pytest.raises(ValueError, match="holds frames of 160x96; the checkpoint takes 128x96"):
        choose_share(before, after, [0.5, 1], coarse)


def test_the_best_share_comes_first_and_all_that_was_tried_is_kept(make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe("optim.epochs=0.25", "run.validate_split=tune", output="first")
    first = Trainer(recipe).train()
    second = Trainer(make_recipe("optim.epochs=0.5", output="second")).train()
    name = "model.vision_tower.layers.0.mlp.fc1.weight"
    a, b = (load_file(folder / "model.safetensors")[name].float() for folder in (first, second))

    def likes_the_first(model, tokenizer, split, frames, show_progress):
        """A score that falls with the distance from the first run's weights, which shows what was asked."""
        assert (len(split), len(frames)) == (len(open_packed(packed, "tune")),) * 2
        away = (model.get_parameter(name) - a).norm() / (b - a).norm()
        return [], {"balanced_accuracy": 1 - float(away)}

    packed = pack_recipe(recipe)
    monkeypatch.setattr(interpolation, "validate", likes_the_first)
    tried = choose_share(first, second, [1.0, 0.0, 0.5], packed)
    assert [one.share for one in tried] == [0.0, 0.5, 1.0]
    scores = [one.means["balanced_accuracy"] for one in tried]
    assert (scores[0], scores[2]) == (1, pytest.approx(0))
    assert 0.2 < scores[1] < 0.8  # half way, but rounded to bfloat16
    interpolate(first, second, tried[0].share, tmp_path / "best")
    keep_answers(tmp_path / "best", tried)
    record = json.loads((tmp_path / "best" / "training" / "record.json").read_text(encoding="utf-8"))
    assert record["averaged"]["summary"] == tried[0].means
    assert [one["share"] for one in record["averaged"]["tried"]] == [0.0, 0.5, 1.0]
    assert (tmp_path / "best" / "training" / "table.md").read_text(encoding="utf-8").startswith("| family")
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose_share(first, second, [0.5, 2.0], tmp_path / "nothing is opened")


def test_several_shares_need_something_to_choose_by(capsys, monkeypatch):
    command = ["average.py", "--before", "a", "--after", "b", "--share", "0.5", "1", "--output", "c"]
    monkeypatch.setattr(sys, "argv", command)
    assert runpy.run_path("scripts/average.py")["main"]() == 2
    assert "--packed" in capsys.readouterr().err


def test_two_processes_ask_and_one_writes(make_recipe, tmp_path):
    recipe = make_recipe("optim.epochs=0.25", "run.validate_split=tune", output="first")
    first = str(Trainer(recipe).train())
    command = [
        *processes(2),
        "scripts/average.py",
        "--before",
        first,
        "--after",
        first,
        "--share",
        "0.5",
        "1",
    ]
    command += ["--output", str(tmp_path / "best"), "--packed", str(pack_recipe(recipe))]
    environment = {name: value for name, value in ON_CPU.items() if name != "ACCELERATE_USE_CPU"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("share ") == 2
    assert (tmp_path / "best" / "model.safetensors").is_file()
    again = subprocess.run(
        [sys.executable, *command[len(processes(2)) :]], env=environment, capture_output=True, text=True
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert "is there already" in again.stderr
