"""Saving and loading: safetensors only, tied weights once, shards, half precision, a stranger's process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.modeling.modeling_traffic_vlm import TrafficVLMModel
from transformers.dynamic_module_utils import get_relative_imports


def saved_names(folder: Path) -> list[str]:
    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names += tensors.keys()
    return names


def test_round_trip_is_exact(fusion, tiny_model, tiny_inputs, tmp_path) -> None:
    model = tiny_model(fusion, num_patch_labels=3)
    inputs = tiny_inputs(model.config)
    model.save_pretrained(tmp_path)
    loaded, report = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**inputs).logits, model(**inputs).logits)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json", ".py"}, "no pickles"


def test_the_model_without_head_does_without_the_patch_head(tiny_model, tmp_path) -> None:
    model = tiny_model(num_patch_labels=3)
    model.save_pretrained(tmp_path)
    loaded, report = TrafficVLMModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    whole = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path)
    for name, weight in model.patch_head.state_dict().items():
        assert torch.equal(whole.patch_head.state_dict()[name], weight), name
    for name, weight in model.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name


def test_tied_weights_are_saved_once(tiny_model, tmp_path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    names = saved_names(tmp_path)
    assert "model.language_model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    loaded = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight
    loaded.resize_token_embeddings(44)
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight
    assert loaded.config.text_config.vocab_size == len(loaded.lm_head.weight) == 44


def test_untied_weights_are_both_saved(tiny_model, tiny_inputs, tmp_path) -> None:
    model = tiny_model(tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" in saved_names(tmp_path)
    loaded = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path).eval()
    inputs = tiny_inputs(model.config)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_shards(tiny_model, tiny_inputs, tmp_path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert sorted(index["weight_map"]) == sorted(saved_names(tmp_path))
    loaded = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path).eval()
    inputs = tiny_inputs(model.config)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype, tiny_model, tiny_inputs, tmp_path) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        exact = model(**inputs).logits
    model.to(dtype).save_pretrained(tmp_path)
    loaded = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    wide = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        assert_close(loaded(**inputs).logits.float(), exact, atol=0.1, rtol=0.1)
        assert_close(wide(**inputs).logits, exact, atol=0.1, rtol=0.1)
    # Frequencies stay float32 whatever the weights are: they are buffers, recomputed, never saved.
    assert not [name for name in saved_names(tmp_path) if "inv_freq" in name or "embed_scale" in name]


def test_every_file_is_imported_directly(tiny_model, tmp_path) -> None:
    """Old transformers copies from a local folder only what the model's own file imports."""
    tiny_model().save_pretrained(tmp_path)
    direct = set(get_relative_imports(tmp_path / "modeling_traffic_vlm.py"))
    saved = {file.stem for file in tmp_path.glob("*.py")} - {"modeling_traffic_vlm"}
    assert direct == saved


STRANGER = """
import json, sys, torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText
folder = sys.argv[1]
case = torch.load(folder + "/case.pt")
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
with torch.no_grad():
    difference = (model(**case["inputs"]).logits - case["logits"]).abs().max().item()
generated = model.generate(**case["inputs"], max_new_tokens=4, do_sample=False)
model.save_pretrained(folder + "/again")
print(json.dumps({
    "difference": difference,
    "same_tokens": torch.equal(generated, case["generated"]),
    "auto_model": type(AutoModel.from_pretrained(folder, trust_remote_code=True)).__name__,
    "auto_config": type(AutoConfig.from_pretrained(folder, trust_remote_code=True)).__name__,
    "from_source_tree": sorted(name for name in sys.modules if name.startswith("traffic_vlm")),
}))
"""


def test_a_strangers_offline_process_loads_it(tiny_model, tiny_inputs, tmp_path) -> None:
    """The code beside the weights is enough: no source tree, no network; what it saves loads here again."""
    model = tiny_model(num_patch_labels=3, vision={"stem": "conv"})
    inputs = tiny_inputs(model.config)
    model.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        case = {
            "inputs": inputs,
            "logits": model(**inputs).logits,
            "generated": model.generate(**inputs, max_new_tokens=4, do_sample=False),
        }
    torch.save(case, tmp_path / "model" / "case.pt")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # other sums of the same bits elsewhere
    result = subprocess.run(
        [sys.executable, "-c", STRANGER, str(tmp_path / "model")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report == {
        "difference": 0.0,
        "same_tokens": True,
        "auto_model": "TrafficVLMModel",
        "auto_config": "TrafficVLMConfig",
        "from_source_tree": [],
    }
    again = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path / "model" / "again").eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, case["logits"])
