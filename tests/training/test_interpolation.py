import json

import pytest
import torch
from safetensors.torch import load_file
from traffic_vlm.training.interpolation import interpolate
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
