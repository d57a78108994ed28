"""Light, colour, blur and noise on batches, on whatever device the batch is.

None of these makes an answer false: hues stay (a red light stays red), the frame stays where it is (moved
frames are made in moving.py, with their questions asked anew), and a rectangle is only painted over where no
label lies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

GREY = (0.299, 0.587, 0.114)
PLACES_TRIED = 10  # for an erased rectangle, in a frame where most of the places are labelled


def normalise(pixel_values: torch.Tensor) -> torch.Tensor:
    """uint8 `(frames, 3, height, width)` to float32 in -1 to 1 (mean 0.5 and deviation 0.5, as SigLIP's)."""
    return pixel_values.float().mul_(1 / 127.5).sub_(1.0)


def photometric(images: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Changes light, contrast, saturation and white balance of every frame, blurs and adds noise to some.

    Args:
        images: `(frames, 3, height, width)` in -1 to 1; changed in place.
        strength: 1 is the usual range, 0 returns the images as they are.
        generator: CPU generator that decides everything.

    Returns:
        The changed images, clamped to -1 to 1.
    """
    if not strength:
        return images
    frames = images.shape[0]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        drawn = torch.rand((frames, *(shape or (1,)), 1, 1), generator=generator)
        return (drawn * (high - low) + low).to(images.device)

    # One affine map a frame and channel joins exposure, contrast and white balance: one pass over the pixels.
    contrast = 1 + strength * uniform(-0.35, 0.35)
    balance = 1 + strength * uniform(-0.08, 0.08, 3)
    mean = images.mean((2, 3), keepdim=True)
    offset = mean * (1 - contrast) + strength * uniform(-0.25, 0.25)
    images.mul_(contrast * balance).add_(offset)
    grey = (images * images.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
    images.lerp_(grey.expand_as(images), strength * uniform(-0.3, 0.5))
    _soften(images, torch.rand(frames, generator=generator) < 0.15 * strength)
    noisy = torch.rand(frames, generator=generator) < 0.25 * strength
    if noisy.any():
        shape = (
            int(noisy.sum()),
            1,
            *images.shape[2:],
        )  # one grain for the three channels, a third of the draws
        grain = torch.randn(shape, generator=generator).to(images.device) * 0.05
        images[noisy.to(images.device)] += grain
    return images.clamp_(-1, 1)


def _soften(images: torch.Tensor, chosen: torch.Tensor) -> None:
    """Halves the resolution of the chosen frames and scales them back: the blur of a cheap or dirty lens."""
    if chosen.any():
        where = chosen.to(images.device)
        small = F.avg_pool2d(images[where], 2)
        images[where] = F.interpolate(small, size=images.shape[2:], mode="bilinear", align_corners=False)


def erase(
    images: torch.Tensor, free: torch.Tensor, probability: float, generator: torch.Generator
) -> torch.Tensor:
    """Paints a grey rectangle over patches where nothing is labelled (Zhong et al. 2020, kept off the
    labels).

    Args:
        images: `(frames, 3, height, width)`; changed in place.
        free: `(frames, rows, columns)` bool, patches that no label and no evidence touches.
        probability: Share of the frames where a place is looked for; in a few there is none.
        generator: CPU generator that decides everything.
    """
    frames, rows, columns = free.shape
    patch_height, patch_width = images.shape[2] // rows, images.shape[3] // columns
    for frame in torch.nonzero(torch.rand(frames, generator=generator) < probability).flatten().tolist():
        for _ in range(PLACES_TRIED):
            height = int(torch.randint(1, max(2, rows // 3), (1,), generator=generator))
            width = int(torch.randint(1, max(2, columns // 3), (1,), generator=generator))
            top = int(torch.randint(0, rows - height + 1, (1,), generator=generator))
            left = int(torch.randint(0, columns - width + 1, (1,), generator=generator))
            if free[frame, top : top + height, left : left + width].all():
                window = images[frame, :, top * patch_height : (top + height) * patch_height]
                window[:, :, left * patch_width : (left + width) * patch_width] = 0.0
                break
    return images
