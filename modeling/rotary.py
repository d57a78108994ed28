"""Rotary position embedding (RoPE, [Su et al., 2021](https://arxiv.org/abs/2104.09864)), as in Gemma."""

from collections.abc import Callable

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update

from .configuration_traffic_vlm import TrafficVLMTextConfig


class RotaryEmbedding(nn.Module):
    """Cosine and sine of every position's angles.

    `rope_type` "default" is computed here; the long-context types come from transformers.
    """

    inv_freq: torch.Tensor
    original_inv_freq: torch.Tensor

    def __init__(self, config: TrafficVLMTextConfig):
        super().__init__()
        self.config = config
        self.max_seq_len_cached = config.max_position_embeddings
        self.original_max_seq_len = config.max_position_embeddings
        self.rope_type = config.rope_parameters["rope_type"]
        inv_freq, self.attention_scaling = self.frequencies()
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

    def _apply(self, fn: Callable, recurse: bool = True) -> "RotaryEmbedding":
        """Moves to a device or dtype as any module does, but the frequencies stay in float32.

        Rounded to bfloat16, as `model.to(torch.bfloat16)` would, they are wrong by up to half a radian at
        position 400, and the same weights loaded in bfloat16 would not be.
        """
        exact = {name: getattr(self, name) for name in ("inv_freq", "original_inv_freq")}
        super()._apply(fn, recurse)
        for name, frequencies in exact.items():
            if getattr(self, name).dtype != torch.float:
                setattr(self, name, frequencies.to(getattr(self, name).device))
        return self

    @staticmethod
    def compute_default_rope_parameters(config: TrafficVLMTextConfig, **kwargs) -> tuple[torch.Tensor, float]:
        """theta ** (-2i / head_dim) for each pair i, `(head_dim / 2,)`, and the factor on cos and sin."""
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        return 1.0 / config.rope_parameters["rope_theta"] ** exponents, 1.0

    def frequencies(self) -> tuple[torch.Tensor, float]:
        """The inverse frequencies of the configured rope type, and the factor on cos and sin."""
        compute: Callable = self.compute_default_rope_parameters
        if self.rope_type != "default":
            compute = ROPE_INIT_FUNCTIONS[self.rope_type]
        return compute(self.config)

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Angles of the given positions.

        Args:
            x: Anything with the dtype and device wanted.
            position_ids: `(batch or 1, length)`.

        Returns:
            cos and sin, each `(batch or 1, length, head_dim)`.
        """
        # Angles in float32 whatever the dtype: bfloat16 cannot tell position 256 from 257.
        angles = position_ids[..., None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * self.attention_scaling).to(x.dtype), (
            angles.sin() * self.attention_scaling
        ).to(x.dtype)


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns each pair (i, i + head_dim / 2) of channels by its angle.

    Args:
        states: `(batch, heads, length, head_dim)`.
        cos: `(batch or 1, length, head_dim)`.
        sin: As `cos`.

    Returns:
        The turned states, shape of `states`.
    """
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return states * cos.unsqueeze(1) + turned * sin.unsqueeze(1)
