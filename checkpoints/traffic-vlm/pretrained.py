"""What every model class shares: capabilities announced to transformers, and the initial weights."""

import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from .configuration_traffic_vlm import TrafficVLMConfig
from .decoder import CrossAttention, RMSNorm, ScaledEmbedding
from .rotary import RotaryEmbedding
from .vision import VisionEmbeddings

CACHE_NAME = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
"""What transformers calls the cache of generation: it was renamed in 5.24."""


class TrafficVLMPreTrainedModel(PreTrainedModel):
    """Base class: loading, saving, backends, gradient checkpointing and initial weights.

    Initial weights keep the size of activations flat with depth: a linear layer's weights have standard
    deviation `1 / sqrt(fan_in)`, and the last layer of each residual branch `1 / sqrt(fan_in * branches)`
    (GPT-2's scaling, Radford et al., 2019), so that all branches of a stack together add as much as the stem.
    """

    config: TrafficVLMConfig
    config_class = TrafficVLMConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["DecoderLayer", "VisionEncoderLayer", "VisionEmbeddings"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values", "cache"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        factor = getattr(self.config, "initializer_factor", 1.0)
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fan_in = module.weight[0].numel()
            branches = getattr(module, "residual_branches", 1)
            if getattr(module, "starts_at_zero", False):
                init.zeros_(module.weight)
            else:
                init.normal_(module.weight, std=factor / math.sqrt(fan_in * branches))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, RMSNorm):
            init.zeros_(module.weight)
        elif isinstance(module, ScaledEmbedding):
            # Times sqrt(width) in the forward pass: unit variance going in, whatever the width.
            init.normal_(module.weight, std=factor / math.sqrt(module.embedding_dim))
            init.constant_(module.embed_scale, module.scale)
        elif isinstance(module, RotaryEmbedding):
            inv_freq, _ = module.frequencies()
            init.copy_(module.inv_freq, inv_freq)
            init.copy_(module.original_inv_freq, inv_freq)
        elif isinstance(module, VisionEmbeddings):
            init.normal_(
                module.position_embedding, std=factor / math.sqrt(module.position_embedding.shape[-1])
            )
        elif isinstance(module, CrossAttention):
            init.constant_(module.gate, module.gate_init)
