"""What the lens and the windscreen add: glow, rain, snow, the bonnet, noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import skia

from .camera import FRAME_HEIGHT, FRAME_WIDTH
from .painter import OWN_CAR, Painter


def draw_glows(painter: Painter) -> None:
    """Add the halos of all lamps whose middle is still seen."""
    for glow in painter.glows:
        column, row = int(glow.x), int(glow.y)
        if not (0 <= column < FRAME_WIDTH and 0 <= row < FRAME_HEIGHT):
            continue
        if painter.owners[row, column] != glow.owner and painter.owners[row, column] != 0:
            continue
        red, green, blue = (int(c) for c in glow.colour)
        strength = int(255 * min(1.0, glow.strength) * (0.75 if painter.air.dark else 0.3))
        colours = [
            skia.ColorSetARGB(int(strength * share), red, green, blue) for share in (1.0, 0.32, 0.1, 0.0)
        ]
        shader = skia.GradientShader.MakeRadial(
            skia.Point(glow.x, glow.y), glow.radius, colours, [0.0, 0.25, 0.55, 1.0]
        )
        paint = skia.Paint(Shader=shader, BlendMode=skia.BlendMode.kPlus)
        painter.canvas.drawCircle(glow.x, glow.y, glow.radius, paint)


def draw_bonnet(painter: Painter, rng: np.random.Generator) -> None:
    """Draw the own bonnet along the lower edge; it hides what is behind it."""
    if rng.random() < 0.12:
        return
    top = rng.uniform(625, 705)
    bow = rng.uniform(10, 36)
    path = skia.Path()
    path.moveTo(-5, FRAME_HEIGHT + 5)
    path.lineTo(-5, top + bow * 1.6)
    path.quadTo(FRAME_WIDTH * 0.2, top, FRAME_WIDTH * 0.5, top - bow * 0.1)
    path.quadTo(FRAME_WIDTH * 0.8, top, FRAME_WIDTH + 5, top + bow * 1.6)
    path.lineTo(FRAME_WIDTH + 5, FRAME_HEIGHT + 5)
    path.close()
    tone = rng.uniform(16, 60)
    colours = [
        skia.ColorSetRGB(*painter.air.shade((tone * k, tone * k, tone * k * 1.05), 60))
        for k in (1.9, 1.0, 0.5)
    ]
    shader = skia.GradientShader.MakeLinear(
        [skia.Point(0, top), skia.Point(0, FRAME_HEIGHT)], colours, [0.0, 0.3, 1.0]
    )
    painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=shader))
    claim = skia.Paint(
        AntiAlias=False, BlendMode=skia.BlendMode.kSrc, Color=skia.ColorSetARGB(OWN_CAR, 0, 0, 0)
    )
    painter.owner_canvas.drawPath(path, claim)


def draw_precipitation(painter: Painter, rng: np.random.Generator) -> None:
    """Draw falling rain or snow."""
    air = painter.air
    if air.weather == "rainy":
        path = skia.Path()
        for x, y, length in rng.uniform((0, 0, 12), (FRAME_WIDTH, FRAME_HEIGHT, 40), (220, 3)).tolist():
            path.moveTo(x, y)
            path.lineTo(x + length * 0.12, y + length)
        paint = skia.Paint(AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeWidth=1.2)
        paint.setColor(skia.ColorSetARGB(40 if air.dark else 70, 210, 216, 224))
        painter.canvas.drawPath(path, paint)
    elif air.weather == "snowy":
        path = skia.Path()
        for x, y, size in rng.uniform((0, 0, 0.8), (FRAME_WIDTH, FRAME_HEIGHT, 3.2), (260, 3)).tolist():
            path.addCircle(x, y, size)
        painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=skia.ColorSetARGB(150, 236, 238, 242)))


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1, (1024, 1024, 1)).astype(np.float32)


def develop(pixels: np.ndarray, dark: bool, rng: np.random.Generator) -> np.ndarray:
    """What the sensor makes of the light: vignette, gain and noise; uint8 ``(height, width, 3)`` in and out."""
    height, width = pixels.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32)
    down = np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1.0 - rng.uniform(0.08, 0.22) * (across[None, :] ** 2 + down[:, None] ** 2) / 2
    top, left = (int(value) for value in rng.integers(0, 512, 2))
    noise = _noise_tile()[np.arange(top, top + height) % 1024][:, np.arange(left, left + width) % 1024]
    strength = rng.uniform(2.0, 5.0) if dark else rng.uniform(0.8, 2.5)
    developed = pixels * (vignette[..., None] * np.float32(rng.uniform(0.95, 1.05))) + noise * np.float32(
        strength
    )
    return np.clip(developed, 0, 255).astype(np.uint8)
