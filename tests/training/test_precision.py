import pytest
import torch
from traffic_vlm.training import precision
from traffic_vlm.training.trainer import Trainer


@pytest.mark.parametrize(("gain", "expected"), [(2.0, "bf16_masters"), (0.01, "no")])
def test_a_cpu_computes_in_what_is_faster_there(monkeypatch, gain, expected):
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: gain)
    assert precision.fastest_precision(torch.device("cpu")) == expected


def test_the_probe_is_short_and_finds_a_ratio():
    assert 0 < precision.bfloat16_gain(0.005) < float("inf")


def test_a_run_that_goes_on_keeps_its_precision(make_recipe, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: 0.01)
    first = Trainer(make_recipe("run.precision=auto", "optim.epochs=0.25"))
    assert first.recipe.run.precision == "no"
    first._start_log()
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: 10.0)
    assert Trainer(make_recipe("run.precision=auto")).recipe.run.precision == "no"
    assert Trainer(make_recipe("run.precision=auto", output="anew")).recipe.run.precision == "bf16_masters"
