import json
import runpy
import sys

import pytest
import torch
from safetensors.torch import load_file
from traffic_vlm.training.interpolation import choose_share, interpolate, keep_answers
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


def test_the_share_is_chosen_on_tune_and_all_that_was_tried_is_kept(make_recipe, tmp_path):
    recipe = make_recipe("optim.epochs=0.25", "run.validate_split=tune", output="first")
    first = Trainer(recipe).train()
    second = Trainer(make_recipe("optim.epochs=0.5", output="second")).train()
    tried = choose_share(first, second, [0.0, 1.0], pack_recipe(recipe))
    assert {one.share for one in tried} == {0.0, 1.0}
    assert tried[0].means["balanced_accuracy"] >= tried[1].means["balanced_accuracy"]
    interpolate(first, second, tried[0].share, tmp_path / "best")
    keep_answers(tmp_path / "best", tried)
    averaged = json.loads((tmp_path / "best" / "training" / "record.json").read_text(encoding="utf-8"))[
        "averaged"
    ]
    assert averaged["summary"] == tried[0].means
    assert [one["share"] for one in averaged["tried"]] == [one.share for one in tried]
    assert (tmp_path / "best" / "training" / "table.md").read_text(encoding="utf-8").startswith("| family")


def test_several_shares_need_something_to_choose_by(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["average.py", "--before", "a", "--after", "b", "--share", "0.5", "1", "--output", "c"]
    )
    assert runpy.run_path("scripts/average.py")["main"]() == 2
    assert "--packed" in capsys.readouterr().err
