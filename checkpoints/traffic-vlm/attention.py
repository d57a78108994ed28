"""Scaled dot-product attention behind transformers' attention interface.

`attend` picks the backend of the config (sdpa, eager, flash, flex); `eager_attention_forward` is the one
written out.
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

    Unlike the eager functions of transformers it takes every mask that the sdpa backend takes: additive,
    boolean (True = may look), or none with `is_causal`. So maps can be asked for without rebuilding the
    masks. Query heads that share a key head are folded into the query length, so that keys and values are not
    repeated.

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
    batch, heads, query_length, head_dim = query.shape
    key_heads, key_length = key.shape[1], key.shape[2]
    queries = query.reshape(batch * key_heads, -1, head_dim)
    keys, values = key.reshape(-1, key_length, head_dim), value.reshape(-1, key_length, head_dim)
    # baddbmm scales inside the product: no pass of its own over the scores, and no rounding of scaled
    # queries.
    scores = torch.baddbmm(queries.new_empty(1, 1, 1), queries, keys.transpose(1, 2), beta=0, alpha=scaling)
    scores = scores.view(batch, heads, query_length, key_length)
    if attention_mask is None and is_causal and query_length > 1:
        # sdpa's convention too: the diagonal starts in the upper left corner (an empty static cache is
        # longer).
        attention_mask = torch.ones(query_length, key_length, dtype=torch.bool, device=scores.device).tril()
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    # PyTorch's softmax sums bfloat16 scores in float32 by itself: an explicit cast would only cost memory.
    probabilities = scores.softmax(dim=-1)
    dropped = nn.functional.dropout(probabilities, dropout, module.training) if dropout else probabilities
    output = torch.bmm(dropped.view(batch * key_heads, -1, key_length), values)
    return output.view(batch, heads, query_length, -1).transpose(1, 2), probabilities


def is_short_cpu_training(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether plain products beat PyTorch's fused CPU kernel: its backward pass takes about three times
    as long.

    Measured at 24 to 200 tokens, 32 and 64 channels a head, bfloat16; far beyond that, memory speaks for the
    kernel.
    """
    return query.device.type == "cpu" and query.requires_grad and key.shape[2] <= 512


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

    `module` carries `config`, `scaling`, `is_causal`, `num_key_value_groups` and `attention_dropout`. When
    maps are asked for, the eager function answers whatever the backend: no fused kernel returns its
    probabilities.

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
    implementation = module.config._attn_implementation
    backend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    if output_attentions or (implementation == "sdpa" and is_short_cpu_training(query, key)):
        backend = eager_attention_forward
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
