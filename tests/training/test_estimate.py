import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration
from traffic_vlm.training.estimate import (
    activations,
    count_parameters,
    decoder_flops,
    encoder_flops,
    estimate,
)
from traffic_vlm.training.recipe import LossSection, Recipe

ROOT = Path(__file__).resolve().parents[2]
FRAMES, ROWS, LENGTH, ANSWER = 2, 8, 24, 4


def config_of(name, **changes):
    values = json.loads((ROOT / "configs" / "models" / f"{name}.json").read_text(encoding="utf-8"))
    return TrafficVLMConfig(**{**values, "num_patch_labels": 14, **changes})


@pytest.mark.parametrize("name", ["tiny", "small", "sharp", "base"])
def test_parameters_are_counted_exactly(name):
    config = config_of(name)
    with torch.device("meta"):
        model = TrafficVLMForConditionalGeneration(config)
    assert sum(count_parameters(config).values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"fusion": "prefix", "grounding_heads": []},
        {"fusion": "none", "grounding_heads": [], "num_patch_labels": 0},
    ],
)
def test_parameters_of_other_fusions_are_counted_exactly(changes):
    config = config_of("tiny", **changes)
    model = TrafficVLMForConditionalGeneration(config)
    assert sum(count_parameters(config).values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["tiny", "sharp"])
def test_operations_and_memory_are_those_of_a_forward_pass(name):
    config = config_of(name)
    model = TrafficVLMForConditionalGeneration(config)
    model.set_attn_implementation("eager")
    weights, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    scored = torch.zeros(FRAMES * ROWS, LENGTH, dtype=torch.bool)
    scored[:, -ANSWER - 1 : -1] = True
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter, hooks:
        output = model.train()(
            input_ids=torch.ones(FRAMES * ROWS, LENGTH, dtype=torch.long),
            pixel_values=torch.zeros(FRAMES, 3, *config.vision_config.image_size),
            logits_to_keep=scored,
            grounding_positions=torch.full((FRAMES * ROWS,), 5),
            use_cache=False,
        )
    expected = encoder_flops(config) + decoder_flops(config, ROWS, LENGTH, ANSWER)
    assert counter.get_total_flops() / FRAMES == pytest.approx(expected, rel=0.01)
    measured = sum(size for size, _ in kept.values()) / FRAMES
    assert measured == pytest.approx(4 * activations(config, ROWS, LENGTH, eager=True), rel=0.2)
    assert output.logits.shape[0] == FRAMES * ROWS * ANSWER


def test_hours_are_operations_over_the_rate():
    cost = estimate(config_of("tiny"), Recipe(), frames=100)
    assert cost.frames == 1200
    assert cost.hours(3 * cost.forward) == pytest.approx(1200 / 3600)
    held = estimate(config_of("tiny"), Recipe(loss=LossSection(objective="consistent_answers")), frames=100)
    assert held.hours(1.0) == 2 * cost.hours(1.0)
    assert held.activation_bytes == 2 * cost.activation_bytes


def test_the_command_prints_the_estimate():
    command = [sys.executable, "scripts/train.py", "--config", "configs/train/base.yaml", "--estimate"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert "parameters: 83.21M (encoder 39.94M" in result.stdout
    assert "assumed, not measured" in result.stdout
