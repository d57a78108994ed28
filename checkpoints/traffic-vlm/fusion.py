"""Where image and text meet: the projection, and `<image>` placeholders for the prefix fusion."""

from collections.abc import Callable

import torch
from torch import nn
from transformers.cache_utils import Cache

from .configuration_traffic_vlm import TrafficVLMConfig


class Projector(nn.Module):
    """One linear layer from the encoder's width to the decoder's, as in PaliGemma."""

    def __init__(self, config: TrafficVLMConfig):
        super().__init__()
        self.linear = nn.Linear(config.vision_config.hidden_size, config.text_config.hidden_size)

    def forward(self, patch_states: torch.Tensor) -> torch.Tensor:
        """`(num_images, num_patches, vision width)` -> `(num_images, num_patches, text width)`."""
        return self.linear(patch_states)


def fill_placeholders(
    inputs_embeds: torch.Tensor,
    is_placeholder: torch.Tensor,
    image_hidden_states: torch.Tensor,
    image_index: torch.Tensor | None,
) -> torch.Tensor:
    """Puts each row's patches where its `<image>` tokens stand.

    Args:
        inputs_embeds: `(rows, length, hidden_size)`.
        is_placeholder: `(rows, length)` bool.
        image_hidden_states: `(num_images, num_patches, hidden_size)`.
        image_index: `(rows,)`, the image of each row, or None when rows are grouped evenly by image.

    Returns:
        `(rows, length, hidden_size)`.

    Raises:
        ValueError: If a row has not exactly one placeholder a patch.
    """
    rows, (num_images, num_patches) = inputs_embeds.shape[0], image_hidden_states.shape[:2]
    if image_index is None:
        features = image_hidden_states.repeat_interleave(rows // num_images, dim=0)
    else:
        features = image_hidden_states[image_index]
    # Under compilation the counts are not known; masked_scatter itself then refuses too few features.
    if not torch.compiler.is_compiling():
        counts = is_placeholder.sum(dim=1)
        if not bool((counts == num_patches).all()):
            raise ValueError(
                f"an image has {num_patches} patches, but the text rows hold {sorted(set(counts.tolist()))} "
                "<image> tokens: put one <image> token a patch in front of each question."
            )
    return inputs_embeds.masked_scatter(is_placeholder[..., None], features.to(inputs_embeds.dtype))


def prefix_overlay(in_prefix: torch.Tensor) -> Callable:
    """A mask function for transformers' mask utilities: the prefix's tokens all see each other.

            I I q a        I = image, q = question token outside the prefix, a = answer
        I   x x . .
        I   x x . .
        q   x x x .
        a   x x x x

    Args:
        in_prefix: `(rows, key_length)` bool.

    Returns:
        A function of (batch, head, query, key) indices.
    """

    def both_in_prefix(
        batch_idx: torch.Tensor, head_idx: torch.Tensor, q_idx: torch.Tensor, kv_idx: torch.Tensor
    ) -> torch.Tensor:
        return in_prefix[batch_idx, q_idx] & in_prefix[batch_idx, kv_idx]

    return both_in_prefix


def pad_to_cache(in_prefix: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """Lengthens `(rows, length)` with False to the number of keys that a (static) cache will hand out."""
    if cache is None:
        return in_prefix
    key_length, _ = cache.get_mask_sizes(in_prefix.shape[1], 0)
    return nn.functional.pad(in_prefix, (0, key_length - in_prefix.shape[1]))
