"""Scaled dot-product attention behind transformers' attention interface.

`attend` picks the backend of the config (sdpa, eager, flash, flex); `eager_attention_forward` is the one written out.
"""

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    is_causal: bool = False,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in plain operations, which also returns its probabilities.

    Unlike the eager functions of transformers it takes every mask that the sdpa backend takes: additive, boolean
    (True = may look), or none with `is_causal`. So maps can be asked for without rebuilding the masks.

    Args:
        module: The calling module; only `training` is read.
        query: `(batch, heads, query_length, head_dim)`.
        key: `(batch, key_value_heads, key_length, head_dim)`.
        value: As `key`.
        attention_mask: `(batch or 1, heads or 1, query_length, key_length)` or None.
        scaling: Factor on the scores.
        dropout: Dropout rate of the probabilities.
        is_causal: Without a mask, position i sees keys 0..i.
        **kwargs: Ignored (other backends' options).

    Returns:
        The output `(batch, query_length, heads, head_dim)` and the probabilities
        `(batch, heads, query_length, key_length)`.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    query_length, key_length = scores.shape[-2:]
    if attention_mask is None and is_causal and query_length > 1:
        # sdpa's convention too: the diagonal starts in the upper left corner (an empty static cache is longer).
        attention_mask = torch.ones(query_length, key_length, dtype=torch.bool, device=scores.device).tril()
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    # The softmax runs in float32 whatever the dtype, as in Gemma: bfloat16 sums lose the small probabilities.
    probabilities = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    probabilities = nn.functional.dropout(probabilities, p=dropout, training=module.training)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), probabilities


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    output_attentions: bool | None = None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention through the backend that `module.config` names.

    `module` carries `config`, `scaling`, `is_causal`, `num_key_value_groups` and `attention_dropout`. When maps are
    asked for, the eager function answers whatever the backend: no fused kernel returns its probabilities.

    Args:
        module: The attention module.
        query: `(batch, heads, query_length, head_dim)`.
        key: `(batch, key_value_heads, key_length, head_dim)`.
        value: As `key`.
        attention_mask: A mask as the backend wants it, or None.
        output_attentions: Whether the probabilities are wanted.
        **kwargs: Handed to the backend.

    Returns:
        `(batch, query_length, heads * head_dim)` and the probabilities or None.
    """
    backend = eager_attention_forward
    if not output_attentions:
        backend = ALL_ATTENTION_FUNCTIONS.get_interface(
            module.config._attn_implementation, eager_attention_forward
        )
    output, probabilities = backend(
        module,
        query,
        key,
        value,
        attention_mask,
        scaling=module.scaling,
        dropout=module.attention_dropout if module.training else 0.0,
        is_causal=module.is_causal,
        **kwargs,
    )
    return output.reshape(output.shape[0], output.shape[1], -1), probabilities
