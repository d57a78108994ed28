"""The model cut into three graphs that need no Python: encoder, prefill, decode.

    encoder   pixel_values                                 -> image_keys, image_values
    prefill   questions, image_keys, image_values          -> logits, keys, values, evidence
    decode    one token a row, keys, values, image_*       -> logits, keys, values

What the encoder returns is all that the decoder ever needs of a frame, so that a frame is encoded once
however many questions follow, and however many tokens their answers have.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from traffic_vlm.modeling.image_memory import ImageMemory
from transformers import DynamicCache

Shapes = dict[str, dict[int, Any]]


class Encoder(nn.Module):
    """Frames to the keys and values that every cross-attention layer reads."""

    def __init__(self, model: Any):
        super().__init__()
        self.vision_tower = model.model.vision_tower
        self.projector = model.model.projector
        self.cross_attention: Any = nn.ModuleList([layer.cross_attn for layer in cross_layers(model)])

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        """`(num_images, 3, height, width)` -> keys and values.

        Each is `(layers, num_images, heads, patches, head_dim)`.
        """
        states = self.projector(self.vision_tower(pixel_values, return_dict=True).last_hidden_state)
        memory = ImageMemory(num_images=states.shape[0])
        pairs = [layer.keys_values(states, memory) for layer in self.cross_attention]
        return {
            "image_keys": torch.stack([keys for keys, _ in pairs]),
            "image_values": torch.stack([values for _, values in pairs]),
        }


class Decoder(nn.Module):
    """What prefill and decode share: the decoder over one frame's keys and values, and the output layer."""

    def __init__(self, model: Any):
        super().__init__()
        self.language_model = model.model.language_model
        self.lm_head = model.lm_head
        self.cross_layers = [layer.cross_attn.layer_idx for layer in cross_layers(model)]
        self.num_layers = len(self.language_model.layers)

    def run(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_keys: torch.Tensor,
        image_values: torch.Tensor,
        cache: Any,
        grounding_positions: torch.Tensor | None = None,
    ) -> tuple[dict[str, torch.Tensor], Any]:
        """Logits of the next token and the lengthened cache; grounding maps, where positions were given."""
        pairs = zip(self.cross_layers, image_keys, image_values, strict=True)
        memory = ImageMemory(num_images=1, keys_values={index: (key, value) for index, key, value in pairs})
        length = input_ids.shape[1]
        positions = (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)[:, -length:]
        outputs = self.language_model(
            input_ids=input_ids,
            attention_mask=visible(attention_mask, length),
            position_ids=positions,
            cache=cache,
            use_cache=True,
            image_memory=memory,
            grounding_positions=grounding_positions,
            return_dict=True,
        )
        result = {
            "logits": self.lm_head(outputs.last_hidden_state[:, -1]).float(),
            "keys": torch.stack([layer.keys for layer in cache.layers]),
            "values": torch.stack([layer.values for layer in cache.layers]),
        }
        return result, outputs.grounding_maps


class Prefill(Decoder):
    """Questions about one frame, padded on the left, to the logits of each answer's first token."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_keys: torch.Tensor,
        image_values: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """One pass over the questions.

        Args:
            input_ids: `(rows, length)`.
            attention_mask: `(rows, length)`, 0 where a token is padding, which stands on the left.
            image_keys: `(layers, 1, heads, patches, head_dim)`.
            image_values: As `image_keys`.

        Returns:
            `logits` `(rows, vocab_size)`; `keys` and `values` `(layers, rows, heads, length, head_dim)`;
            `evidence` `(rows, patches)`, where each question's last token looks.
        """
        last = torch.full_like(input_ids[:, 0], input_ids.shape[1] - 1)
        result, maps = self.run(input_ids, attention_mask, image_keys, image_values, DynamicCache(), last)
        return {**result, "evidence": maps.mean(dim=1)}


class Decode(Decoder):
    """One more token of every answer."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_keys: torch.Tensor,
        image_values: torch.Tensor,
        past_keys: torch.Tensor,
        past_values: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """One step.

        Args:
            input_ids: `(rows, 1)`, the tokens chosen last.
            attention_mask: `(rows, past + 1)`.
            image_keys: `(layers, 1, heads, patches, head_dim)`.
            image_values: As `image_keys`.
            past_keys: `(layers, rows, heads, past, head_dim)`.
            past_values: As `past_keys`.

        Returns:
            `logits`, and `keys` and `values` one token longer.
        """
        cache = DynamicCache()
        for index in range(self.num_layers):
            cache.update(past_keys[index], past_values[index], index)
        result, _ = self.run(input_ids, attention_mask, image_keys, image_values, cache)
        return result


def visible(attention_mask: torch.Tensor, length: int) -> torch.Tensor:
    """Causal mask with padding, `(rows, 1, length, keys)` bool.

    Padding sees itself, so that no row of the attention is empty, which runtimes answer differently.
    """
    keys = attention_mask.shape[1]
    key = torch.arange(keys, device=attention_mask.device)
    query = torch.arange(length, device=attention_mask.device)[:, None] + (keys - length)
    seen = (key <= query) & (attention_mask[:, None, None, :] > 0)
    return seen | (key == query)


def cross_layers(model: Any) -> list[Any]:
    """The decoder layers that look at the frame."""
    return [layer for layer in model.model.language_model.layers if layer.cross_attn is not None]


@torch.no_grad()
def three_graphs(model: Any) -> Iterator[tuple[str, nn.Module, dict[str, torch.Tensor], Shapes]]:
    """Yields name, module, example inputs and dynamic axes of each graph, in the order of use.

    Args:
        model: A `TrafficVLMForConditionalGeneration` in evaluation mode.

    Raises:
        ValueError: If the image does not enter through cross-attention alone.
    """
    if not model.config.uses_cross_attention or model.config.uses_prefix:
        raise ValueError(
            f"fusion {model.config.fusion!r} cannot be exported: one frame serves many questions only "
            "through cross-attention. Use a checkpoint with fusion='cross_attention'."
        )
    rows, length = 3, 7
    height, width = model.config.vision_config.image_size
    pixels = torch.zeros(2, 3, height, width, dtype=model.dtype)
    yield "encoder", Encoder(model), {"pixel_values": pixels}, {"pixel_values": {0: Dim.DYNAMIC}}
    image = {name: value[:, :1] for name, value in Encoder(model)(pixels).items()}
    fixed: Shapes = {name: {} for name in image}
    text = {"input_ids": torch.full((rows, length), 5), "attention_mask": torch.ones(rows, length).long()}
    row_and_length = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    axes: Shapes = {"input_ids": row_and_length, "attention_mask": row_and_length, **fixed}
    prefill = Prefill(model)
    yield "prefill", prefill, {**text, **image}, axes
    past = prefill(**text, **image)
    step = {
        "input_ids": torch.full((rows, 1), 5),
        "attention_mask": torch.ones(rows, length + 1).long(),
        **image,
        "past_keys": past["keys"],
        "past_values": past["values"],
    }
    cache_axes = {1: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    axes = {
        "input_ids": {0: Dim.DYNAMIC},
        "attention_mask": row_and_length,
        **fixed,
        "past_keys": cache_axes,
        "past_values": cache_axes,
    }
    yield "decode", Decode(model), step, axes
