"""Runs that are killed, asked to stop, or out of disk, and what the next start makes of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from launching import ON_CPU, processes
from safetensors import SafetensorError
from safetensors.torch import load_file
from traffic_vlm.training import trainer as engine
from traffic_vlm.training.checkpoints import complete_states
from traffic_vlm.training.setup import pack_recipe
from traffic_vlm.training.trainer import Trainer
from traffic_vlm.training.watching import cut_log

ROOT = Path(__file__).resolve().parents[2]


def arguments(recipe, tmp_path, *options):
    """The command line's part after `scripts/train.py` for a recipe of `make_recipe`."""
    where = [f"data.dataset={recipe.data.dataset}", f"run.output={recipe.run.output}"]
    return ["--config", str(tmp_path / "recipe.yaml"), *where, "run.validate_split=val", *options]


def log_of(recipe):
    return list(map(json.loads, (Path(recipe.run.output) / "log.jsonl").read_text("utf-8").splitlines()))


def same_weights(one, other):
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_run_killed_while_it_saves_ends_with_the_same_bits(make_recipe, tmp_path):
    options = (
        "optim.epochs=4",  # long enough to be killed in three times
        "run.save_every=1",
        "data.photometric=1",
        "data.mirror=0.5",
        "data.workers=1",
        "run.overlays=0",
    )
    recipe = make_recipe(*options, output="killed")
    pack_recipe(recipe)
    command = [sys.executable, "scripts/train.py", *arguments(recipe, tmp_path, *options)]
    states, half = Path(recipe.run.output) / "states", 0
    for kills in (1, 2, 3):
        process = subprocess.Popen(command, cwd=ROOT, env=ON_CPU, stderr=subprocess.DEVNULL)
        before, deadline = complete_states(states)[-1:], time.monotonic() + 400
        while process.poll() is None and time.monotonic() < deadline:
            if list(states.glob("*.part")) and complete_states(states)[-1:] > before:
                process.send_signal(signal.SIGSTOP)
                if list(states.glob("*.part")):
                    break  # in the middle of writing a state, with one of this start's there
                process.send_signal(signal.SIGCONT)
            time.sleep(0.001)
        assert process.poll() is None, "the run was over before it could be killed"
        process.kill()
        process.wait()
        half += len(list(states.glob("*.part")))
        assert not (Path(recipe.run.output) / "last").exists(), kills
    assert half  # at least one state was left half-written
    ended = subprocess.run(command, cwd=ROOT, env=ON_CPU, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "resuming at step" in ended.stdout
    whole = Trainer(make_recipe(*options, output="whole")).train()
    assert same_weights(whole, Path(recipe.run.output) / "last")
    steps = [entry["step"] for entry in log_of(recipe) if entry["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))  # no step is there twice


SIGNALLED = """
import os, signal, sys
from traffic_vlm.training.recipe import load_recipe
from traffic_vlm.training.trainer import Trainer

path, *options = sys.argv[1:]
trainer = Trainer(load_recipe(path, options))
step = trainer._step

def step_and_signal(batches):
    if trainer.position["step"] == 2 and trainer.accelerator.process_index == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(batches)

trainer._step = step_and_signal
trainer.train()
print(f"process {trainer.accelerator.process_index} stopped at {trainer.position['step']}, "
      f"{trainer.position['seconds']!r} s")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_signal_to_one_process_stops_all_at_the_same_step(make_recipe, tmp_path):
    recipe = make_recipe("optim.epochs=50", "optim.max_minutes=5", output="signalled")
    pack_recipe(recipe)
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    command = [*processes(2), str(tmp_path / "signalled.py")]
    command += arguments(recipe, tmp_path, "optim.max_minutes=5", "optim.epochs=50")[1:]
    result = subprocess.run(command, cwd=ROOT, env=ON_CPU, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    stops = dict(re.findall(r"process (\d) stopped at (3, .* s)", result.stdout))
    assert stops.keys() == {"0", "1"}
    assert stops["0"] == stops["1"]  # the same step by the same clock
    position = Path(recipe.run.output) / "states" / "step-0000003" / "position.json"
    assert json.loads(position.read_text(encoding="utf-8"))["step"] == 3


def test_tables_and_patience_survive_an_interruption(make_recipe, monkeypatch, tmp_path):
    scores = {1: 0.5, 2: 0.7, 3: 0.6, 4: 0.65, 5: 0.9}
    options = ("optim.epochs=50", "run.validate_every=1", "run.patience=2", "run.save_every=1")

    def run(output, stop_at):
        trainer = Trainer(make_recipe(*options, "run.overlays=0", output=output))
        monkeypatch.setattr(
            trainer.objective,
            "table",
            lambda *_: ([], {"balanced_accuracy": scores[trainer.position["step"]]}),
        )
        step = trainer._step

        def step_and_stop(batches):
            trainer.stop_requested = trainer.position["step"] + 1 == stop_at
            return step(batches)

        trainer._step = step_and_stop
        trainer.train()
        return trainer.position

    whole = run("whole", None)
    assert (whole["step"], whole["best"]) == (4, 0.7)
    record = tmp_path / "whole" / "best" / "training" / "record.json"
    assert json.loads(record.read_text(encoding="utf-8"))["step"] == 2
    # With the best table of the run just to come, with it behind, and with the last one to come.
    for stop_at in (2, 3, 4):
        stopped = run("stopped", stop_at)
        assert stopped["step"] == stop_at
    again = run("stopped", None)
    assert (again["step"], again["best"], again["waited"]) == (4, 0.7, 2)
    assert run("stopped", None)["step"] == 4  # a run that has stopped early has stopped
    keys = ("step", "best", "waited", "smooth", "lowest", "table")
    assert {key: again[key] for key in keys} == {key: whole[key] for key in keys}


def with_little_disk(limit, recipe, tmp_path, *options, **environment):
    """What a command says that cannot write files beyond this size, as any on a full disk."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
    code += "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, "scripts/train.py", *arguments(recipe, tmp_path, *options)]
    # Modules that are compiled under the limit would be cached cut off.
    environment = ON_CPU | {"PYTHONDONTWRITEBYTECODE": "1"} | environment
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 2, result.stderr[-2000:]
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_leaves_the_earlier_state(make_recipe, tmp_path):
    recipe = make_recipe("optim.epochs=0.5", "run.overlays=0", output="full")
    Trainer(recipe).train()
    states = Path(recipe.run.output) / "states"
    before = {path: path.read_bytes() for path in states.rglob("*") if path.is_file()}
    largest = max(map(len, before.values()))
    for limit in (largest // 2, largest // 50):  # too little for the moments, and for the weights as well
        assert "could not be written" in with_little_disk(limit, recipe, tmp_path, "optim.epochs=1")
        assert {path: path.read_bytes() for path in states.rglob("*") if path.is_file()} == before
    again = Trainer(make_recipe("optim.epochs=1", "run.overlays=0", output="full"))
    again.train()
    assert again.position["step"] == again.total


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_while_packing_leaves_nothing_half_done(make_recipe, tmp_path):
    recipe, packed = make_recipe(output="unpacked"), tmp_path / "packed"
    options = (f"data.packed={packed.as_posix()}", "--pack-only")
    cache = {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    error = with_little_disk(2**16, recipe, tmp_path, *options, **cache)
    assert re.search(r"cannot be loaded \(.*File too large", error)
    load_dataset(recipe.data.dataset, split="train", cache_dir=str(tmp_path / "cache"))
    error = with_little_disk(2**16, recipe, tmp_path, *options, **cache)
    assert "train.part: could not be packed (File too large). Free some disk space" in error
    assert not list(packed.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_leaves_no_half_tokenizer(make_recipe, tmp_path):
    recipe = make_recipe(output="words")
    pack_recipe(recipe)
    error = with_little_disk(2**12, recipe, tmp_path)
    assert re.search(r"tokenizer: cannot be written \(.*File too large", error)
    assert not (Path(recipe.run.output) / "tokenizer").exists()


def test_an_output_that_cannot_be_made_is_one_line(make_recipe, tmp_path):
    recipe = make_recipe(output="recipe.yaml/run")
    command = [sys.executable, "scripts/train.py", *arguments(recipe, tmp_path)]
    result = subprocess.run(command, cwd=ROOT, env=ON_CPU, capture_output=True, text=True, timeout=600)
    assert result.returncode == 2, result.stderr[-2000:]
    assert "Traceback" not in result.stderr
    assert re.fullmatch(r"error: .*recipe\.yaml.*", result.stderr.splitlines()[-1])


def test_a_full_disk_under_the_best_checkpoint_is_named(make_recipe, monkeypatch):
    trainer = Trainer(make_recipe("optim.epochs=0.25", output="best"))

    def refuse(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(engine, "write_record", refuse)
    with pytest.raises(engine.TrainingError, match=r"No space left on device.*are intact"):
        trainer.train()


def test_a_full_disk_leaves_the_runs_recipe(make_recipe, monkeypatch):
    trainer = Trainer(make_recipe(output="recipe"))
    trainer._start_log()
    before, write = (trainer.output / "recipe.yaml").read_text(encoding="utf-8"), Path.write_text

    def write_half(path, text, **options):
        write(path, text[: len(text) // 2], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="No space left"):
        trainer._start_log()
    assert (trainer.output / "recipe.yaml").read_text(encoding="utf-8") == before


def test_an_error_of_a_loader_process_is_one_line(make_recipe, monkeypatch, tmp_path):
    packed = tmp_path / "packed"
    trainer = Trainer(make_recipe(f"data.packed={packed.as_posix()}", "data.workers=1", output="loader"))
    loader = trainer._loader(0)
    monkeypatch.setattr(trainer, "_loader", lambda _: loader)
    (packed / "train" / "rows.jsonl").unlink()
    with pytest.raises(engine.TrainingError, match=r"\(FileNotFoundError: .*rows\.jsonl'?\)") as caught:
        trainer.train()
    assert "\n" not in str(caught.value)


def test_the_log_loses_what_the_state_does_not_know(tmp_path):
    path, kinds = tmp_path / "log.jsonl", [("step", 1), ("table", 1), ("step", 2), ("step", 3), ("table", 3)]
    lines = [json.dumps({"step": step, "kind": kind}) for kind, step in [*kinds, ("final", 3)]]
    path.write_text("\n".join(lines) + '\n{"step": 4, "ki', encoding="utf-8")
    cut_log(path, 2, 1)
    assert path.read_text(encoding="utf-8").splitlines() == lines[:3]
    cut_log(tmp_path / "none.jsonl", 2, 1)
    assert not (tmp_path / "none.jsonl").exists()
