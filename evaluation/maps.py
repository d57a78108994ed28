"""Where the model looks, in four ways: evidence map, every head, gradient-weighted attention, rollout.

All maps are of the prompt's last token, the position that decides the answer's first word, and sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Attention that returns its maps, inside the block."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def last_tokens(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Position of each prompt's last real token, (rows,)."""
    mask = inputs["attention_mask"]
    return (torch.arange(mask.shape[1], device=mask.device) * mask).amax(1)


def grid_of(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Rows and columns of patches."""
    size = model.config.vision_config.patch_size
    return inputs["pixel_values"].shape[-2] // size, inputs["pixel_values"].shape[-1] // size


def _normalised(maps: torch.Tensor, grid: tuple[int, int]) -> np.ndarray:
    """(..., patches), not negative, to (..., *grid) that sum to 1; a map of nothing becomes even."""
    maps = maps.detach().cpu().double().clamp(min=0) + 1e-12  # on the CPU, as Apple's GPUs have no double
    return (maps / maps.sum(-1, keepdim=True)).unflatten(-1, grid).numpy()


def evidence_maps(model: Any, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """The maps that the model itself offers as evidence.

    Args:
        model: the checkpoint.
        inputs: what its processor returns, with pixels.

    Returns:
        (rows, grid height, grid width).
    """
    with torch.inference_mode():
        maps = model.get_evidence_maps(**inputs)
    return _normalised(maps.flatten(1), maps.shape[1:])


def head_maps(model: Any, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """The cross-attention of every layer and head.

    Args:
        model, inputs: as in `evidence_maps`.

    Returns:
        (rows, layers, heads, grid height, grid width); layers are those that have cross-attention, in
        order.
    """
    with torch.inference_mode(), eager_attention(model):
        out = model(**inputs, output_attentions=True, use_cache=False)
    rows = torch.arange(len(inputs["input_ids"]))
    at = last_tokens(inputs)
    maps = torch.stack([layer[rows, :, at] for layer in out.cross_attentions], dim=1)
    return _normalised(maps, grid_of(model, inputs))


def gradient_maps(model: Any, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Gradient-weighted cross-attention: positive attention times gradient, summed over heads and layers.

    The generic attention explainability of Chefer et al. (2021, arXiv:2103.15679), for the probability of
    the first word that the model would say, without its propagation through self-attention.

    Args:
        model, inputs: as in `evidence_maps`.

    Returns:
        (rows, grid height, grid width).
    """
    layers = [layer.cross_attn for layer in model.model.language_model.layers if layer.cross_attn is not None]
    with torch.enable_grad(), eager_attention(model), _captured(layers) as (read, values):
        out = model(**inputs, output_attentions=True, use_cache=False)
        rows, at = torch.arange(len(inputs["input_ids"])), last_tokens(inputs)
        score = out.logits[rows, at].float().log_softmax(-1).amax(-1).sum()
        gradients = torch.autograd.grad(score, read)
    total = torch.zeros(())
    for attention, gradient, value in zip(out.cross_attentions, gradients, values, strict=True):
        heads = attention.shape[1]
        by_head = gradient[rows, at].unflatten(
            -1, (heads, -1)
        )  # of what each head has read: (rows, heads, width)
        value = value.unflatten(-1, (-1, by_head.shape[-1]))
        value = value.repeat_interleave(heads // value.shape[2], dim=2)[inputs["image_index"]]
        # A head reads attention times values, so this is the gradient of its attention.
        slope = torch.einsum("rhd,rphd->rhp", by_head, value)
        total = total + (attention[rows, :, at] * slope).clamp(min=0).sum(1)
    return _normalised(total, grid_of(model, inputs))


@contextmanager
def _captured(layers: list[Any]) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """What cross-attention layers have read, before their output projection, and the values read from."""
    read: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    hooks = [layer.o_proj.register_forward_pre_hook(lambda _, args: read.append(args[0])) for layer in layers]
    hooks += [layer.v_proj.register_forward_hook(lambda *args: values.append(args[2])) for layer in layers]
    try:
        yield read, values
    finally:
        for hook in hooks:
            hook.remove()


def rollout_maps(model: Any, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Attention rollout (Abnar and Zuidema, 2020, arXiv:2005.00928) through the vision encoder.

    Mean cross-attention over layers and heads, carried back to the pixels' own patches through the product
    of the encoder's attention, half of each layer being its residual path.

    Args:
        model, inputs: as in `evidence_maps`.

    Returns:
        (rows, grid height, grid width).
    """
    with torch.inference_mode(), eager_attention(model):
        out = model(**inputs, output_attentions=True, use_cache=False)
    rows, at = torch.arange(len(inputs["input_ids"])), last_tokens(inputs)
    looked = torch.stack([layer[rows, :, at].mean(1) for layer in out.cross_attentions]).mean(0)
    identity = torch.eye(looked.shape[-1], device=looked.device)
    mixed = identity.expand(len(inputs["pixel_values"]), -1, -1)
    for layer in out.vision_attentions:
        mixed = (0.5 * layer.mean(1) + 0.5 * identity) @ mixed
    return _normalised(
        torch.einsum("rp,rpq->rq", looked, mixed[inputs["image_index"]]), grid_of(model, inputs)
    )


METHODS = {"evidence": evidence_maps, "gradient": gradient_maps, "rollout": rollout_maps}
