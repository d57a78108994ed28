"""The decoder's parts: Gemma's layer, with gated cross-attention between self-attention and feed-forward."""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import attend
from .configuration_traffic_vlm import TrafficVLMConfig, TrafficVLMTextConfig
from .image_memory import ImageMemory
from .rotary import rotate


class RMSNorm(nn.Module):
    """Root-mean-square norm whose scale is `1 + weight`, as in Gemma: weight decay pulls it to 1."""

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., dim)` -> the same shape."""
        # Everything in float32, the scale included, and one cast at the end: Gemma's order, not Llama's
        # (https://github.com/huggingface/transformers/pull/29402).
        normed = nn.functional.rms_norm(x.float(), self.weight.shape, 1.0 + self.weight.float(), self.eps)
        return normed.type_as(x)

    def extra_repr(self) -> str:
        """Shown in the printed model."""
        return f"{tuple(self.weight.shape)}, eps={self.eps}"


class ScaledEmbedding(nn.Embedding):
    """Token embedding times sqrt(width), as in Gemma."""

    embed_scale: torch.Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None):
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.scale = embedding_dim**0.5
        self.register_buffer("embed_scale", torch.tensor(self.scale), persistent=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """`(batch, length)` -> `(batch, length, hidden_size)`."""
        # Rounding the scale to the weights' dtype first is what Gemma was trained with.
        return super().forward(input_ids) * self.embed_scale.to(self.weight.dtype)


class GatedMLP(nn.Module):
    """GeGLU ([Shazeer, 2020](https://arxiv.org/abs/2002.05202)): one linear layer gates another."""

    def __init__(self, config: TrafficVLMTextConfig, residual_branches: int):
        super().__init__()
        self.activation = ACT2FN[config.hidden_act]
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.down_proj.residual_branches = residual_branches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., hidden_size)` -> the same shape."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class SelfAttention(nn.Module):
    """Causal grouped-query self-attention over the text, with RoPE."""

    is_causal = True

    def __init__(self, config: TrafficVLMTextConfig, layer_idx: int, residual_branches: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        query_dim, key_dim = (
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        )
        self.q_proj = nn.Linear(config.hidden_size, query_dim, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, key_dim, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, key_dim, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_dim, config.hidden_size, bias=config.attention_bias)
        self.o_proj.residual_branches = residual_branches

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`(rows, length, hidden_size)` -> the same shape, and maps `(rows, heads, length, keys)` or None."""
        heads_shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = rotate(self.q_proj(hidden_states).view(heads_shape).transpose(1, 2), *position_embeddings)
        key = rotate(self.k_proj(hidden_states).view(heads_shape).transpose(1, 2), *position_embeddings)
        value = self.v_proj(hidden_states).view(heads_shape).transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        output, maps = attend(self, query, key, value, attention_mask, **kwargs)
        return self.o_proj(output), maps


class CrossAttention(nn.Module):
    """Gated grouped-query attention from text (queries) to patches (keys and values), without positions.

    All questions of one image are folded into the query length of one attention call, so that its keys and
    values are computed once and never copied: `(num_images, heads, questions * length, head_dim)` against
    `(num_images, key_value_heads, num_patches, head_dim)`.

    The gate is Flamingo's: the output is multiplied by `tanh(gate)`, which starts at 0 by default. Departs
    from Flamingo in that the layer's own feed-forward follows instead of a second gated one.
    """

    is_causal = False

    def __init__(self, config: TrafficVLMConfig, layer_idx: int, residual_branches: int):
        super().__init__()
        text = config.text_config
        self.config = text
        self.layer_idx = layer_idx
        self.head_dim = text.head_dim
        self.num_key_value_groups = config.num_cross_attention_heads // config.num_cross_key_value_heads
        self.scaling = text.head_dim**-0.5
        self.attention_dropout = text.attention_dropout
        self.grounding_heads = [head for layer, head in config.evidence_heads if layer == layer_idx]
        query_dim = config.num_cross_attention_heads * text.head_dim
        key_dim = config.num_cross_key_value_heads * text.head_dim
        self.q_proj = nn.Linear(text.hidden_size, query_dim, bias=text.attention_bias)
        self.k_proj = nn.Linear(text.hidden_size, key_dim, bias=text.attention_bias)
        self.v_proj = nn.Linear(text.hidden_size, key_dim, bias=text.attention_bias)
        self.o_proj = nn.Linear(query_dim, text.hidden_size, bias=text.attention_bias)
        self.o_proj.residual_branches = residual_branches
        self.gate_init = config.cross_attention_gate_init
        self.gate = nn.Parameter(torch.full((1,), float(self.gate_init)))

    def keys_values(
        self, image_hidden_states: torch.Tensor | None, memory: ImageMemory
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the images, each `(num_images, key_value_heads, num_patches, head_dim)`.

        Computed from `image_hidden_states` when images come in, and then left in `memory` if it outlives this
        forward pass; else read from there.
        """
        if image_hidden_states is None:
            return memory.keys_values[self.layer_idx]
        heads_shape = (*image_hidden_states.shape[:-1], -1, self.head_dim)
        key = self.k_proj(image_hidden_states).view(heads_shape).transpose(1, 2)
        value = self.v_proj(image_hidden_states).view(heads_shape).transpose(1, 2)
        if memory.is_kept:
            memory.keys_values[self.layer_idx] = (key, value)
        return key, value

    def forward(
        self,
        hidden_states: torch.Tensor,
        image_hidden_states: torch.Tensor | None,
        memory: ImageMemory,
        grounding_positions: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Lets every text position look at its image.

        Args:
            hidden_states: `(rows, length, hidden_size)`.
            image_hidden_states: `(num_images, num_patches, hidden_size)`, or None: read keys and values from
                `memory`.
            memory: Which row asks about which image, the mask of the patches, and kept keys and values.
            grounding_positions: `(rows,)`; the position in each row whose maps are wanted.
            **kwargs: Options of the attention backend.

        Returns:
            The gated output `(rows, length, hidden_size)`; maps `(rows, heads, length, num_patches)` if
            `output_attentions`, else None; maps of the grounding heads at the grounding positions
            `(rows, num_heads_here, num_patches)`, float32, else None.
        """
        rows, length = hidden_states.shape[:2]
        key, value = self.keys_values(image_hidden_states, memory)
        query_rows = self.q_proj(hidden_states)
        query = memory.fold(query_rows).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        output, maps = attend(
            self, query, key, value, memory.attention_mask(self.config, query, key), **kwargs
        )
        output = self.o_proj(memory.unfold(output, rows, length)) * torch.tanh(self.gate)
        if maps is not None:
            maps = memory.unfold(maps.transpose(1, 2).flatten(2), rows, length)
            maps = maps.unflatten(-1, (-1, key.shape[2])).transpose(1, 2)
        grounding_maps = None
        if grounding_positions is not None and self.grounding_heads:
            grounding_maps = self.maps_at(query_rows, key, memory, grounding_positions)
        return output, maps, grounding_maps

    def maps_at(
        self, query_rows: torch.Tensor, key: torch.Tensor, memory: ImageMemory, positions: torch.Tensor
    ) -> torch.Tensor:
        """Maps of the grounding heads at one position a row: `(rows, num_heads_here, num_patches)`.

        Computed beside the fused kernel, for a few heads and one position, which is far cheaper than eager
        attention.
        """
        heads = torch.tensor(self.grounding_heads, device=key.device)
        index = torch.arange(query_rows.shape[0], device=key.device)
        query = query_rows[index, positions].unflatten(-1, (-1, self.head_dim))[:, heads]
        query = memory.fold(query.flatten(1).unsqueeze(1)).unflatten(
            -1, (len(self.grounding_heads), self.head_dim)
        )
        chosen_keys = key[:, heads // self.num_key_value_groups]
        scores = torch.einsum("iqhd,ihpd->iqhp", query.float(), chosen_keys.float()) * self.scaling
        if memory.patch_mask is not None:
            scores = scores.masked_fill(~memory.patch_mask[:, None, None, :], torch.finfo(scores.dtype).min)
        maps = scores.softmax(dim=-1)
        return memory.unfold(maps.flatten(2), query_rows.shape[0], 1).view(
            *query_rows.shape[:1], len(heads), -1
        )


class DecoderLayer(GradientCheckpointingLayer):
    """Gemma's layer with cross-attention in the middle.

    Norm -> self-attention -> add; norm -> gated cross-attention -> add (in the layers that have it, when
    there is an image); norm -> feed-forward -> add.
    """

    def __init__(self, config: TrafficVLMTextConfig, layer_idx: int, fusion: TrafficVLMConfig | None = None):
        super().__init__()
        has_cross_attention = (
            fusion is not None and fusion.uses_cross_attention and layer_idx in fusion.cross_attention_layers
        )
        branches = (3 if has_cross_attention else 2) * config.num_hidden_layers
        self.hidden_dropout = config.hidden_dropout
        self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = SelfAttention(config, layer_idx, branches)
        self.cross_attn = None
        if has_cross_attention:
            self.cross_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            self.cross_attn = CrossAttention(fusion, layer_idx, branches)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = GatedMLP(config, branches)

    def add_branch(self, hidden_states: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """The residual sum, with dropout on the branch while training."""
        if self.hidden_dropout:
            branch = nn.functional.dropout(branch, self.hidden_dropout, self.training)
        return hidden_states + branch

    def forward(
        self,
        hidden_states: torch.Tensor,
        image_hidden_states: torch.Tensor | None = None,
        memory: ImageMemory | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        grounding_positions: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One layer.

        Args:
            hidden_states: `(rows, length, hidden_size)`.
            image_hidden_states: `(num_images, num_patches, hidden_size)`, or None.
            memory: How rows and images belong together; None when there is no image.
            position_embeddings: cos and sin, each `(rows or 1, length, head_dim)`.
            attention_mask: Mask of self-attention, as the backend wants it.
            cache: Cache of self-attention.
            grounding_positions: `(rows,)`; the position in each row whose maps are wanted.
            **kwargs: Options of the attention backend.

        Returns:
            `(rows, length, hidden_size)`, and the grounding maps of this layer or None.
        """
        attended, _ = self.self_attn(
            self.input_layernorm(hidden_states),
            position_embeddings,
            attention_mask,
            cache,
            **kwargs,
        )
        hidden_states = self.add_branch(hidden_states, attended)
        grounding_maps = None
        if self.cross_attn is not None and memory is not None:
            seen, _, grounding_maps = self.cross_attn(
                self.cross_attention_layernorm(hidden_states),
                image_hidden_states,
                memory,
                grounding_positions,
                **kwargs,
            )
            hidden_states = self.add_branch(hidden_states, seen)
        return self.add_branch(
            hidden_states, self.mlp(self.post_attention_layernorm(hidden_states))
        ), grounding_maps
