"""What a recipe costs before it is run: parameters, operations, memory and hours, by formula.

Parameters are exact; operations are those of matrix products and convolutions (what a FLOP counter counts);
memory is what the optimiser and the backward pass keep. Tests hold all three to what is measured. Hours are
operations over a device's sustained rate, which is an assumption and printed as one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from traffic_vlm.modeling import TrafficVLMConfig

from .recipe import Recipe

TRAINING_PASSES = 3
"""A backward pass costs twice the forward one: a product for the inputs'
gradient and one for the weights'."""
ANSWER_TOKENS = 4
"""Tokens of an answer with its end: most are one to three words."""
BDD100K_FRAMES = 70_000
DEVICES = {"RTX 4090": 165e12, "A100": 312e12, "H100": 989e12}
"""Peak bfloat16 FLOP/s without sparsity, from the makers' data sheets."""
UTILISATION = 0.3
"""Share of the peak that is assumed to be sustained; scripts/benchmark.py train measures it."""


@dataclass(frozen=True)
class Estimate:
    """Cost of a recipe.

    Attributes:
        parameters: By component.
        forward: Floating-point operations of a forward pass of one frame with its questions.
        state_bytes: Weights, gradients, optimiser and average.
        activation_bytes: What the backward pass of one frame keeps.
        frames: Frames seen over the whole run.
    """

    parameters: dict[str, int]
    forward: float
    state_bytes: int
    activation_bytes: float
    frames: int

    def hours(self, flops_per_second: float) -> float:
        """Length of the run at a sustained rate."""
        return self.frames * TRAINING_PASSES * self.forward / flops_per_second / 3600


def estimate(config: TrafficVLMConfig, recipe: Recipe, frames: int = BDD100K_FRAMES) -> Estimate:
    """Estimates a run.

    Args:
        config: The model's.
        recipe: The run's.
        frames: Frames of the training split.
    """
    parameters = count_parameters(config)
    rows, length = recipe.data.questions_per_image, recipe.data.max_row_tokens
    masters = recipe.run.precision == "bf16_masters"
    width = 2 if masters or recipe.run.precision == "bf16" else 4
    # Weights and gradients (and their float32 copies, where the network computes in bfloat16), two moments.
    copies = (2 + 2 + 4 + 4 if masters else 4 + 4) + 8 + (4 if recipe.optim.ema else 0)
    views = 2 if recipe.loss.objective == "consistent_answers" else 1  # each frame also stands there mirrored
    return Estimate(
        parameters=parameters,
        forward=views * (encoder_flops(config) + decoder_flops(config, rows, length, ANSWER_TOKENS)),
        state_bytes=sum(parameters.values()) * copies,
        activation_bytes=views * width * activations(config, rows, length, recipe.optim.attention == "eager"),
        frames=round(recipe.optim.epochs * frames),
    )


def count_parameters(config: TrafficVLMConfig) -> dict[str, int]:
    """Parameters by component, from the configuration alone."""
    vision, text = config.vision_config, config.text_config
    width, inner, patches = vision.hidden_size, vision.intermediate_size, vision.num_patches
    encoder_layer = 4 * (width * width + width) + 2 * 2 * width + 2 * width * inner + inner + width
    counts = {}
    if config.uses_vision:
        counts["encoder"] = (
            _stem_parameters(config) + patches * width + vision.num_hidden_layers * encoder_layer + 2 * width
        )
        counts["projector"] = width * text.hidden_size + text.hidden_size
        if config.num_patch_labels:
            counts["patch head"] = 2 * width + (width + 1) * config.num_patch_labels
    layers = text.num_hidden_layers
    self_attention = _attention_parameters(config, text.num_attention_heads, text.num_key_value_heads)
    counts["decoder"] = text.hidden_size + layers * (
        self_attention + 3 * text.hidden_size * text.intermediate_size + 2 * text.hidden_size
    )
    counts["embeddings"] = text.vocab_size * text.hidden_size * (1 if config.tie_word_embeddings else 2)
    if config.uses_cross_attention:
        cross = _attention_parameters(
            config, config.num_cross_attention_heads, config.num_cross_key_value_heads
        )
        counts["cross-attention"] = len(config.cross_attention_layers) * (cross + 1 + text.hidden_size)
    return counts


def _stem_parameters(config: TrafficVLMConfig) -> int:
    vision = config.vision_config
    if vision.stem == "patch":
        return (vision.num_channels * vision.patch_size**2 + 1) * vision.hidden_size
    channels = [vision.num_channels, *vision.stem_channels]
    convolutions = sum(9 * a * b + 2 * b for a, b in pairwise(channels))
    convolutions += sum(
        n * (9 * c * c + 2 * c) for n, c in zip(vision.stem_depths, vision.stem_channels, strict=True)
    )
    return convolutions + (channels[-1] + 1) * vision.hidden_size


def _attention_parameters(config: TrafficVLMConfig, heads: int, key_value_heads: int) -> int:
    text = config.text_config
    queries, keys = heads * text.head_dim, key_value_heads * text.head_dim
    biases = queries + 2 * keys + text.hidden_size if text.attention_bias else 0
    return 2 * text.hidden_size * (queries + keys) + biases


def encoder_flops(config: TrafficVLMConfig) -> float:
    """Operations to encode one frame: stem, layers, projection, keys and values of cross-attention."""
    if not config.uses_vision:
        return 0.0
    vision, text = config.vision_config, config.text_config
    width, patches = vision.hidden_size, vision.num_patches
    height, breadth = vision.image_size
    if vision.stem == "patch":
        stem = vision.num_channels * vision.patch_size**2 * width * patches
    else:
        channels = [vision.num_channels, *vision.stem_channels]
        stem = channels[-1] * width * patches + sum(
            9 * (a + n * b) * b * height * breadth // 4**level
            for level, (a, b, n) in enumerate(
                zip(channels, vision.stem_channels, vision.stem_depths, strict=False), start=1
            )
        )
    layer = patches * (4 * width * width + 2 * width * vision.intermediate_size) + 2 * patches**2 * width
    fusion = patches * width * text.hidden_size
    if config.uses_cross_attention:
        keys = config.num_cross_key_value_heads * text.head_dim
        fusion += len(config.cross_attention_layers) * 2 * patches * text.hidden_size * keys
    head = patches * width * config.num_patch_labels
    return 2.0 * (stem + vision.num_hidden_layers * layer + fusion + head)


def decoder_flops(config: TrafficVLMConfig, rows: int, length: int, answer_tokens: int) -> float:
    """Operations to decode `rows` questions of `length` tokens about one encoded frame."""
    text, patches = config.text_config, config.vision_config.num_patches
    if config.uses_prefix:
        length += patches
    width, queries = text.hidden_size, text.num_attention_heads * text.head_dim
    keys = text.num_key_value_heads * text.head_dim
    token = width * (queries + 2 * keys) + queries * width + 3 * width * text.intermediate_size
    per_token = text.num_hidden_layers * (token + 2 * length * queries)
    if config.uses_cross_attention:
        queries = config.num_cross_attention_heads * text.head_dim
        per_token += len(config.cross_attention_layers) * 2 * queries * (width + patches)
    return 2.0 * rows * (length * per_token + answer_tokens * width * text.vocab_size)


def activations(config: TrafficVLMConfig, rows: int, length: int, eager: bool) -> float:
    """Numbers that the backward pass of one frame keeps; `eager` attention keeps its maps as well."""
    vision, text = config.vision_config, config.text_config
    kept = 0.0
    if config.uses_vision:
        width, patches = vision.hidden_size, vision.num_patches
        height, breadth = vision.image_size
        kept += vision.num_channels * height * breadth
        if vision.stem == "conv":
            kept += sum(
                3 * c * (1 + n) * height * breadth / 4**level
                for level, (c, n) in enumerate(
                    zip(vision.stem_channels, vision.stem_depths, strict=True), start=1
                )
            )
        maps = vision.num_attention_heads * patches if eager else 0
        kept += vision.num_hidden_layers * patches * (8 * width + 2 * vision.intermediate_size + maps)
    if config.uses_prefix:
        length += vision.num_patches
    width, queries = text.hidden_size, text.num_attention_heads * text.head_dim
    keys = text.num_key_value_heads * text.head_dim
    maps = text.num_attention_heads * length if eager else 0
    token = text.num_hidden_layers * (4 * width + 2 * queries + 2 * keys + 4 * text.intermediate_size + maps)
    if config.uses_cross_attention:
        queries = config.num_cross_attention_heads * text.head_dim
        keys = config.num_cross_key_value_heads * text.head_dim
        maps = config.num_cross_attention_heads * vision.num_patches if eager else 0
        token += len(config.cross_attention_layers) * (3 * width + 2 * queries + maps)
        kept += len(config.cross_attention_layers) * 2 * keys * vision.num_patches
    return kept + rows * length * token


def sustained_flops(seconds: float = 0.2) -> float:
    """What this machine sustains in float32 matrix products, FLOP/s, measured for a moment."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if device == "cuda" else 768
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    a @ b
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        (a @ b).sum().item()
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - start)


def describe(config: TrafficVLMConfig, recipe: Recipe, frames: int | None = None) -> str:
    """The estimate in words, for `scripts/train.py --estimate`.

    Args:
        config: The model's.
        recipe: The run's.
        frames: Frames of the training split; None where it is not packed yet, which counts all of BDD100K's.
    """
    cost = estimate(config, recipe, frames or BDD100K_FRAMES)
    micro = recipe.optim.micro_batch_size or recipe.optim.batch_size
    parts = ", ".join(f"{name} {count / 1e6:.2f}M" for name, count in cost.parameters.items())
    local = sustained_flops()
    length = f"length: {recipe.optim.epochs:g} epochs of {frames or BDD100K_FRAMES} frames"
    if recipe.optim.max_minutes:
        length = (
            f"length: {recipe.optim.max_minutes:g} minutes by the clock (optim.max_minutes); without it "
            f"{recipe.optim.epochs:g} epochs of {frames or BDD100K_FRAMES} frames"
        )
    lines = [
        f"parameters: {sum(cost.parameters.values()) / 1e6:.2f}M ({parts})",
        f"operations: {cost.forward / 1e9:.1f} GFLOP a frame with "
        f"{recipe.data.questions_per_image} questions, {TRAINING_PASSES} times that in training",
        f"memory: {cost.state_bytes / 2**30:.2f} GiB weights, gradients, optimiser and average "
        f"+ {cost.activation_bytes / 2**20:.0f} MiB a frame x {micro} frames "
        f"= {(cost.state_bytes + micro * cost.activation_bytes) / 2**30:.1f} GiB",
        length + ("" if frames else " (all of BDD100K; the data set is not packed yet)"),
        f"  here: {cost.hours(local):.1f} h at {local / 1e9:.0f} GFLOP/s "
        "(float32 products, measured just now)",
    ]
    lines += [
        f"  {name}: {cost.hours(peak * UTILISATION):.2f} h if it sustains {UTILISATION:.0%} of its peak of "
        f"{peak / 1e12:.0f} TFLOP/s (assumed, not measured; small models reach less)"
        for name, peak in DEVICES.items()
    ]
    return "\n".join(lines)
