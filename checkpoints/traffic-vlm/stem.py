"""The stem: from pixels to one vector a patch."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_traffic_vlm import TrafficVLMVisionConfig


class PatchStem(nn.Module):
    """One convolution with kernel = stride = patch size, as in ViT and SigLIP."""

    def __init__(self, config: TrafficVLMVisionConfig):
        super().__init__()
        self.projection = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(num_images, channels, height, width)` -> `(num_images, hidden_size, grid_h, grid_w)`."""
        return self.projection(pixel_values)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of an image, position by position.

    The permutation is free in channels_last memory, which is the layout that CPU convolutions are fastest in.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(num_images, channels, height, width)` -> the same shape."""
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Pre-activation residual block (He et al., 2016, https://arxiv.org/abs/1603.05027) of one 3x3
    convolution.

    Its convolution starts at zero (Zhang et al., 2019, https://arxiv.org/abs/1901.09321), so that blocks can
    be put into a trained stem without a change in what it computes.
    """

    def __init__(self, channels: int, config: TrafficVLMVisionConfig):
        super().__init__()
        self.norm = ChannelNorm(channels, eps=config.layer_norm_eps)
        self.activation = ACT2FN[config.hidden_act]
        self.convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.convolution.starts_at_zero = True

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(num_images, channels, height, width)` -> the same shape."""
        return features + self.convolution(self.activation(self.norm(features)))


class ConvStem(nn.Module):
    """Stages of a stride-2 3x3 convolution with a norm and the activation, and of residual blocks where
    `config.stem_depths` asks for them; then a 1x1 convolution to the encoder's width.

    "Early Convolutions Help Transformers See Better" (Xiao et al., 2021); departs from it in normalising over
    channels instead of over the batch, so that training and inference compute the same, and in the residual
    blocks, which see small things where the image is still fine.
    """

    def __init__(self, config: TrafficVLMVisionConfig):
        super().__init__()
        layers: list[nn.Module] = []
        channels = config.num_channels
        for out_channels in config.stem_channels:
            layers += [
                nn.Conv2d(channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False),
                ChannelNorm(out_channels, eps=config.layer_norm_eps),
                ACT2FN[config.hidden_act],
            ]
            channels = out_channels
        self.blocks = nn.Sequential(*layers)
        self.refine = nn.ModuleList(
            nn.Sequential(*(ConvBlock(channels, config) for _ in range(depth)))
            for channels, depth in zip(config.stem_channels, config.stem_depths, strict=True)
        )
        self.projection = nn.Conv2d(channels, config.hidden_size, kernel_size=1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(num_images, channels, height, width)` -> `(num_images, hidden_size, grid_h, grid_w)`."""
        features = pixel_values.contiguous(memory_format=torch.channels_last)
        for stage, refine in enumerate(self.refine):
            features = refine(self.blocks[3 * stage : 3 * stage + 3](features))
        return self.projection(features)


STEM_CLASSES = {"patch": PatchStem, "conv": ConvStem}
