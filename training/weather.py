"""Weather, light and compression on batches, on whatever device the batch is.

Rain, fog and dusk would turn "Is it raining?" or "Is it night?" false, so a frame that is asked about
weather, light, visibility, or for a description in this step keeps its own (`keeps_weather`). They are mild
enough that what is labelled stays visible: fog leaves at least 0.45 of the contrast, dusk at least 0.35 of
the light, and neither changes which of a lamp's colours is brightest.

A new change is one function and one line in `CHANGES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from traffic_vlm.processing.bdd100k.families import FAMILIES

ASKED_ABOUT = {"weather", "weather_is", "time_of_day", "time_is", "visibility", "describe"}
"""Groups of families whose answers depend on weather or light."""
HORIZON = 0.45
"""Share of the height above which everything counts as far away."""
# ITU-T T.81, tables K.1 and K.2.
LUMINANCE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
CHROMINANCE = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]
TO_YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


def asks_about_weather(family: str) -> bool:
    """Whether a family's answer could turn false in other weather or light."""
    return family in FAMILIES and FAMILIES[family].group in ASKED_ABOUT


def jpeg(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What compression with a quality of 15 to 60 leaves of each frame."""
    return compress(images, 15 + 45 * torch.rand(len(images), generator=generator))


def compress(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """JPEG without chroma subsampling: block cosine transform, rounding, and back.

    Args:
        images: `(frames, 3, height, width)` in -1 to 1.
        quality: `(frames,)`, 1 to 100.
    """
    frames, _, height, width = images.shape
    padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
    to_ycc = images.new_tensor(TO_YCC)
    ycc = torch.einsum("ij,njhw->nihw", to_ycc, padded * 127.5 + 127.5)
    ycc[:, 0] -= 128
    steps = torch.arange(8, device=images.device, dtype=images.dtype)
    cosine = torch.cos(math.pi / 8 * torch.outer(steps, steps + 0.5)) * 0.5
    cosine[0] *= math.sqrt(0.5)
    blocks = ycc.unflatten(2, (-1, 8)).unflatten(4, (-1, 8))  # (frames, 3, rows, 8, columns, 8)
    waves = torch.einsum("ui,ncrisj,vj->ncrusv", cosine, blocks, cosine)
    quality = quality.to(images)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(-1, 1, 1, 1)
    tables = images.new_tensor([LUMINANCE, CHROMINANCE, CHROMINANCE])
    table = (tables * scale + 0.5).floor().clamp(1, 255).view(frames, 3, 1, 8, 1, 8)
    waves = (waves / table).round() * table
    ycc = torch.einsum("ui,ncrusv,vj->ncrisj", cosine, waves, cosine).flatten(4, 5).flatten(2, 3)
    ycc[:, 0] += 128
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_ycc), ycc)
    return (rgb / 127.5 - 1).clamp(-1, 1)[..., :height, :width]


def fog(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mixes frames with grey, far more at and above the horizon than near the bonnet."""
    height = images.shape[2]
    rows = torch.linspace(0, 1, height, device=images.device)
    far = (1 - (rows - HORIZON) / (1 - HORIZON)).clamp(0.1, 1.0)
    thickness = 0.2 + 0.6 * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    grey = 0.2 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    kept = torch.exp(-thickness * far.view(1, 1, -1, 1))  # at least 0.45
    return images * kept + grey * (1 - kept)


def rain(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draws bright slanted streaks over frames whose contrast a wet air takes down a little."""
    length = int(torch.randint(7, 16, (1,), generator=generator))
    slant = math.tan(math.radians(float(torch.rand(1, generator=generator) * 40 - 20)))
    kernel = images.new_zeros(1, 1, length, length)
    for row in range(length):
        column = round(length // 2 + (row - length // 2) * slant)
        kernel[0, 0, row, column] = 1.0
    drops = (
        torch.rand(len(images), 1, *images.shape[2:], generator=generator)
        < 0.002 + 0.006 * torch.rand(len(images), 1, 1, 1, generator=generator)
    ).to(images)
    streaks = F.conv2d(drops, kernel, padding=length // 2)[..., : images.shape[2], : images.shape[3]]
    return (images * 0.88 + 0.02).lerp(images.new_tensor(0.6), 0.3 * streaks.clamp(0, 1))


def dusk(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Takes light away, more from the dark parts than from lamps, and cools the rest by a tenth."""
    light = 0.35 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    cool = images.new_tensor([0.92, 0.97, 1.05]).view(1, 3, 1, 1)
    bright = images * 0.5 + 0.5
    lamps = bright.amax(1, keepdim=True) ** 4  # near 1 for lamps, near 0 for the rest
    return (bright * (light * cool).lerp(torch.ones_like(cool), lamps)).clamp(0, 1) * 2 - 1


@dataclass(frozen=True)
class Change:
    """A change of frames.

    Attributes:
        apply: Frames `(frames, 3, height, width)` in -1 to 1 and a CPU generator -> the changed frames.
        is_weather: Whether an answer about weather or light would turn false.
    """

    apply: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
    is_weather: bool


CHANGES = {
    "fog": Change(fog, True),
    "rain": Change(rain, True),
    "dusk": Change(dusk, True),
    "jpeg": Change(jpeg, False),
}


def change(
    images: torch.Tensor,
    chances: dict[str, float],
    keeps_weather: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Applies each named change to a share of the frames.

    Args:
        images: `(frames, 3, height, width)` in -1 to 1; changed in place.
        chances: Share of the frames by name; names not there are not applied.
        keeps_weather: `(frames,)` bool, frames that are asked about their weather or light.
        generator: CPU generator that decides everything.
    """
    for name, entry in CHANGES.items():
        chosen = torch.rand(len(images), generator=generator) < chances.get(name, 0.0)
        if entry.is_weather:
            chosen &= ~keeps_weather.cpu()
        if chosen.any():
            where = chosen.to(images.device)
            images[where] = entry.apply(images[where], generator)
    return images
