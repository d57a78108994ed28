"""The vision encoder: SigLIP's pre-norm transformer on rectangular images."""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import attend
from .configuration_traffic_vlm import TrafficVLMVisionConfig
from .stem import STEM_CLASSES


def drop_path(branch: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """Stochastic depth ([Huang et al., 2016](https://arxiv.org/abs/1603.09382)): drops whole branches.

    Args:
        branch: `(batch, ...)`; each entry of the batch is dropped on its own.
        rate: Probability of dropping.
        training: Whether to drop at all.

    Returns:
        `branch`, dropped or scaled up so that the mean stays.
    """
    if rate == 0.0 or not training:
        return branch
    keep = torch.empty(branch.shape[0], *[1] * (branch.ndim - 1), dtype=branch.dtype, device=branch.device)
    return branch * keep.bernoulli_(1.0 - rate).div_(1.0 - rate)


class VisionEmbeddings(nn.Module):
    """Patches plus learned positions.

    Departs from SigLIP in that the grid of positions is rectangular and is interpolated by itself when an
    image of another size comes in.
    """

    def __init__(self, config: TrafficVLMVisionConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.patch_size = config.patch_size
        self.grid_size = config.grid_size
        self.stem = STEM_CLASSES[config.stem](config)
        self.position_embedding = nn.Parameter(torch.zeros(config.num_patches, config.hidden_size))

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        """Position vectors of a `rows` x `columns` grid, `(rows * columns, hidden_size)`."""
        if (rows, columns) == self.grid_size:
            return self.position_embedding
        return interpolate_positions(self.position_embedding, self.grid_size, (rows, columns))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(num_images, channels, height, width)` -> `(num_images, num_patches, hidden_size)`."""
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.num_channels:
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}, not (num_images, {self.num_channels}, "
                "height, width): pass what the processor returns."
            )
        height, width = pixel_values.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"pixel_values are {height} x {width}, not multiples of the patch size {self.patch_size}: "
                "resize the images."
            )
        features = self.stem(pixel_values.to(self.position_embedding.dtype))
        rows, columns = features.shape[-2:]
        return features.flatten(2).transpose(1, 2) + self.positions(rows, columns)


def interpolate_positions(
    positions: torch.Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> torch.Tensor:
    """Bicubic interpolation of learned positions from one grid of patches to another.

    Args:
        positions: `(old_rows * old_columns, hidden_size)`.
        old_grid: `(old_rows, old_columns)`.
        new_grid: `(new_rows, new_columns)`.

    Returns:
        `(new_rows * new_columns, hidden_size)`, in the dtype of `positions`.
    """
    grid = positions.float().view(1, *old_grid, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=new_grid, mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).flatten(0, 2).to(positions.dtype)


class VisionAttention(nn.Module):
    """Multi-head self-attention over the patches of one image."""

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config: TrafficVLMVisionConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj.residual_branches = 2 * config.num_hidden_layers

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`(num_images, num_patches, hidden_size)` -> the same shape, and maps or None."""
        heads_shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_proj(hidden_states).view(heads_shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(heads_shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(heads_shape).transpose(1, 2)
        output, maps = attend(self, query, key, value, attention_mask, **kwargs)
        return self.out_proj(output), maps


class VisionMLP(nn.Module):
    """Two linear layers with GELU (tanh form) between."""

    def __init__(self, config: TrafficVLMVisionConfig):
        super().__init__()
        self.activation = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.fc2.residual_branches = 2 * config.num_hidden_layers

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., hidden_size)` -> the same shape."""
        return self.fc2(self.activation(self.fc1(hidden_states)))


class VisionEncoderLayer(GradientCheckpointingLayer):
    """Pre-norm attention and feed-forward, each with dropout and stochastic depth on its branch."""

    def __init__(self, config: TrafficVLMVisionConfig, layer_idx: int):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)
        self.hidden_dropout = config.hidden_dropout
        self.drop_path_rate = config.drop_path_rate * layer_idx / max(config.num_hidden_layers - 1, 1)

    def add_branch(self, hidden_states: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """The residual sum, with dropout and stochastic depth while training."""
        if self.hidden_dropout:
            branch = nn.functional.dropout(branch, self.hidden_dropout, self.training)
        return hidden_states + drop_path(branch, self.drop_path_rate, self.training)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """`(num_images, num_patches, hidden_size)` -> the same shape."""
        attended, _ = self.self_attn(self.layer_norm1(hidden_states), attention_mask, **kwargs)
        hidden_states = self.add_branch(hidden_states, attended)
        return self.add_branch(hidden_states, self.mlp(self.layer_norm2(hidden_states)))
