"""Textures that are painted once a process: asphalt, clouds and trees. Always the same ones."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import skia

SPRITE = 192  # pixels a side
NUM_TREES = 8


def _fractal(side: int, octaves: int, seed: int) -> np.ndarray:
    """Tileable value noise ``(side, side)``, mean 0: random grids, each finer and fainter than the last."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side))
    for octave in range(octaves):
        cells = 4 * 2**octave
        grid = rng.normal(0, 1, (cells, cells))
        position = np.arange(side) * cells / side
        low = position.astype(int)
        share = position - low
        share = share * share * (3 - 2 * share)
        high = (low + 1) % cells
        rows = grid[low] * (1 - share)[:, None] + grid[high] * share[:, None]
        total += (rows[:, low] * (1 - share) + rows[:, high] * share) * 0.6**octave
    return total - total.mean()


@lru_cache(maxsize=1)
def asphalt() -> skia.Image:
    """Grain of the road, ``512x512``: black or white of little opacity, to be laid over a plain colour."""
    rng = np.random.default_rng(21)
    rough = _fractal(512, 7, 22) * 11 + rng.normal(0, 9, (512, 512))
    pixels = np.zeros((512, 512, 4), np.uint8)
    pixels[..., :3] = np.where(rough > 0, 255, 0)[..., None]
    pixels[..., 3] = np.clip(np.abs(rough), 0, 90)
    straight = pixels.astype(np.float32)
    straight[..., :3] *= straight[..., 3:] / 255  # Skia wants colours multiplied by their opacity
    return skia.Image.fromarray(straight.astype(np.uint8), skia.kRGBA_8888_ColorType).withDefaultMipmaps()


@lru_cache(maxsize=1)
def clouds() -> skia.Image:
    """White clouds of varying opacity, ``512x512``, tileable."""
    field = _fractal(512, 6, 31)
    field = field / field.std()
    pixels = np.zeros((512, 512, 4), np.uint8)
    opacity = np.clip(field * 90 + 20, 0, 235)
    pixels[..., 3] = opacity
    pixels[..., :3] = (np.clip(1.0 - 0.16 * (np.roll(field, 12, 0) > 0.6), 0, 1) * opacity)[..., None]
    return skia.Image.fromarray(pixels, skia.kRGBA_8888_ColorType)


@lru_cache(maxsize=NUM_TREES)
def leafy_tree(kind: int) -> skia.Image:
    """A tree in leaf, seen from the side and standing on the lower edge of ``192x192`` pixels."""
    rng = np.random.default_rng([41, kind])
    surface, canvas = _blank()
    _branches(canvas, rng, depth=3, colour=(70, 58, 46))
    round_crown = kind % 2 == 0
    lumps = [
        (
            rng.normal(96, 30 if round_crown else 20),
            rng.uniform(30, 112 if round_crown else 128),
            rng.uniform(20, 34),
        )
        for _ in range(14)
    ]
    lumps.sort(key=lambda lump: -lump[1])
    for x, y, radius in lumps:
        canvas.drawCircle(x, y, radius * 0.85, skia.Paint(AntiAlias=True, Color=skia.ColorSetRGB(38, 50, 28)))
    hue = np.array([[70, 94, 44], [84, 108, 50], [62, 84, 50], [96, 104, 48]][kind % 4], dtype=float)
    for x, y, radius in lumps:
        for _ in range(110):
            angle, far = rng.uniform(0, 2 * math.pi), radius * math.sqrt(rng.uniform(0, 1))
            light = 0.62 + 0.42 * (math.sin(angle) < 0) * rng.uniform(0.3, 1.0)  # the sun is above
            light *= 1.12 - 0.4 * (y + math.sin(angle) * far) / SPRITE
            red, green, blue = (min(255, int(c * light * rng.uniform(0.85, 1.15))) for c in hue)
            paint = skia.Paint(AntiAlias=True, Color=skia.ColorSetRGB(red, green, blue))
            at_x, at_y = x + math.cos(angle) * far, y + math.sin(angle) * far
            canvas.drawOval(skia.Rect.MakeXYWH(at_x, at_y, rng.uniform(4, 9), rng.uniform(3, 7)), paint)
    return surface.makeImageSnapshot().withDefaultMipmaps()


@lru_cache(maxsize=NUM_TREES)
def bare_tree(kind: int) -> skia.Image:
    """A tree in winter, seen from the side and standing on the lower edge of ``192x192`` pixels."""
    surface, canvas = _blank()
    _branches(canvas, np.random.default_rng([43, kind]), depth=6, colour=(82, 72, 64))
    return surface.makeImageSnapshot().withDefaultMipmaps()


def _blank() -> tuple[skia.Surface, skia.Canvas]:
    surface = skia.Surface(SPRITE, SPRITE)
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorTRANSPARENT)
    return surface, canvas


def _branches(
    canvas: skia.Canvas, rng: np.random.Generator, depth: int, colour: tuple[int, int, int]
) -> None:
    """Fork a trunk again and again, each branch shorter and thinner than the one it grows from."""
    growing = [(96.0, float(SPRITE), -math.pi / 2, 58.0, 7.0, depth)]
    while growing:
        x, y, angle, length, width, left = growing.pop()
        end_x, end_y = x + math.cos(angle) * length, y + math.sin(angle) * length
        paint = skia.Paint(AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeWidth=width)
        paint.setColor(skia.ColorSetRGB(*colour))
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        canvas.drawLine(x, y, end_x, end_y, paint)
        if left:
            for turn in (-0.45, 0.45, 0.05)[: 3 if left > 2 else 2]:
                spread = angle + turn + rng.normal(0, 0.18)
                growing.append(
                    (end_x, end_y, spread, length * rng.uniform(0.6, 0.8), max(width * 0.6, 0.7), left - 1)
                )
