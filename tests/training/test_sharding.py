"""Weights in pieces over two processes, held to whole ones in one process."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import ON_CPU, processes
from safetensors.torch import load_file
from traffic_vlm.training import sharding
from traffic_vlm.training.recipe import RecipeError
from traffic_vlm.training.setup import pack_recipe
from traffic_vlm.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
FSDP = {**ON_CPU, "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
REPORT = """
import sys
import torch
from torch.distributed.tensor import DTensor
from traffic_vlm.training.recipe import load_recipe
from traffic_vlm.training.trainer import Trainer

path, stop, *options = sys.argv[1:]
trainer = Trainer(load_recipe(path, options))
step = trainer._step

def step_and_stop(batches):
    trainer.stop_requested = trainer.position["step"] + 1 == int(stop)
    return step(batches)

trainer._step = step_and_stop
trainer.train()
held = [p for group in trainer.optimizer.param_groups for p in group["params"]]
assert all(isinstance(p, DTensor) for p in held)
share = sum(p.to_local().numel() for p in held) / sum(p.numel() for p in held)
print(f"share {share:.2f}")
"""


def test_two_halves_learn_what_the_whole_learns(make_recipe, tmp_path):
    options = ("optim.epochs=1", "optim.micro_batch_size=2", "run.overlays=1", "run.validate_every=3")
    whole = Trainer(make_recipe(*options, output="whole"))
    whole.train()
    recipe = make_recipe(*options, output="halves")
    pack_recipe(recipe)
    (tmp_path / "report.py").write_text(REPORT)
    for stop in ("2", "0"):  # stopped after two steps, and gone on from there
        command = [*processes(2), str(tmp_path / "report.py"), str(tmp_path / "recipe.yaml"), stop]
        command += [f"data.dataset={recipe.data.dataset}", f"run.output={recipe.run.output}"]
        command += ["run.validate_split=val", *options]
        result = subprocess.run(command, cwd=ROOT, env=FSDP, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-3000:]
        # Anywhere in a line: what the other process prints may end in the middle of one.
        shares = list(map(float, re.findall(r"share (\d\.\d\d)", result.stdout)))
        assert len(shares) == 2
        assert max(shares) < 0.55  # each process moves half of the weights and no more
    logs = [
        list(map(json.loads, (Path(output) / "log.jsonl").read_text(encoding="utf-8").splitlines()))
        for output in (whole.output, recipe.run.output)
    ]
    for name in ("answers", "patches", "grounding", "gradient_norm", "gate/0"):
        one, two = ([entry[name] for entry in log if entry["kind"] == "step"] for log in logs)
        assert len(one) >= 4
        np.testing.assert_allclose(two, one, rtol=2e-3, atol=1e-6)
    exported = [load_file(Path(o) / "last" / "model.safetensors") for o in (whole.output, recipe.run.output)]
    assert exported[0].keys() == exported[1].keys()
    for name in exported[0]:
        torch.testing.assert_close(exported[1][name], exported[0][name], rtol=0.02, atol=2e-3)
    assert list((Path(recipe.run.output) / "overlays").iterdir())


def test_what_cannot_be_sharded_is_refused(make_recipe, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")

    class Two:
        num_processes = 2

    assert sharding.wants_shards(Two(), make_recipe())
    with pytest.raises(RecipeError, match="'bf16' or 'no'"):
        sharding.wants_shards(Two(), make_recipe("run.precision=bf16_masters"))
    with pytest.raises(RecipeError, match="'captions'"):
        sharding.wants_shards(Two(), make_recipe("loss.objective=captions", "run.metric=retrieval"))
    with pytest.raises(RecipeError, match="muon"):
        sharding.wants_shards(Two(), make_recipe("optim.optimizer=muon"))
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    assert not sharding.wants_shards(Two(), make_recipe())
