"""What the air, the windscreen, the bonnet and the sensor add to the picture."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import skia
from PIL import Image

from .camera import FRAME_HEIGHT, FRAME_WIDTH
from .painter import OWN_CAR, Glow, Painter


def draw_glows(painter: Painter) -> None:
    """Add the halos of all lamps whose middle is still seen, and in the dark their streaks on a wet road."""
    damp = 1.0 + 0.9 * (painter.air.weather in ("rainy", "foggy", "snowy"))
    for glow in painter.glows:
        column, row = int(glow.x), int(glow.y)
        if not (0 <= column < FRAME_WIDTH and 0 <= row < FRAME_HEIGHT):
            continue
        if painter.owners[row, column] not in (glow.owner, 0):
            continue
        red, green, blue = (int(c) for c in glow.colour)
        strength = int(255 * min(1.0, glow.strength) * (0.8 if painter.air.dark else 0.3))
        radius = glow.radius * damp
        colours = [
            skia.ColorSetARGB(int(strength * share), red, green, blue) for share in (1.0, 0.34, 0.1, 0.0)
        ]
        centre = skia.Point(glow.x, glow.y)
        shader = skia.GradientShader.MakeRadial(centre, radius, colours, [0.0, 0.22, 0.55, 1.0])
        paint = skia.Paint(Shader=shader, BlendMode=skia.BlendMode.kPlus)
        painter.canvas.drawCircle(glow.x, glow.y, radius, paint)


def reflect_in_wet_road(painter: Painter) -> None:
    """Mirror what stands above the horizon in the wet road, blurred from top to bottom."""
    air = painter.air
    if air.wet < 0.1:
        return
    height, width = painter.pixels.shape[:2]
    horizon = int(np.clip(painter.camera.horizon / FRAME_HEIGHT * height, 8, height - 8))
    rows = height - horizon
    above = painter.pixels[max(0, horizon - rows) : horizon, :, :3][::-1]
    image = Image.fromarray(np.ascontiguousarray(above)).resize(
        (width // 2, max(2, len(above) // 14)), Image.Resampling.BOX
    )
    mirrored = np.asarray(image.resize((width, rows), Image.Resampling.BICUBIC), np.float32)
    owners = Image.fromarray(painter.owners).resize((width, height), Image.Resampling.NEAREST)
    share = (np.asarray(owners)[horizon:] == 0)[..., None] * np.float32(
        (0.30 if air.dark else 0.26) * air.wet
    )
    below = painter.pixels[horizon:, :, :3]
    kept = 1.0 if air.dark else 1 - share
    mixed = below * kept + mirrored * share * (1.6 if air.dark else 1.0)
    painter.pixels[horizon:, :, :3] = np.clip(mixed, 0, 255).astype(np.uint8)
    if air.dark:
        for glow in painter.glows:
            _draw_streak(painter, glow, horizon * FRAME_HEIGHT / height)


def _draw_streak(painter: Painter, glow: Glow, horizon: float) -> None:
    """The long reflection of one lamp on wet asphalt, straight below it."""
    if not (0 <= glow.x < FRAME_WIDTH and 0 <= glow.y < FRAME_HEIGHT):
        return
    if painter.owners[int(glow.y), int(glow.x)] not in (glow.owner, 0):
        return
    top = horizon + 0.6 * abs(horizon - glow.y) + 4
    length = min(240.0, 30 + 5 * glow.radius)
    red, green, blue = (int(c) for c in glow.colour)
    alpha = int(120 * min(1.0, glow.strength) * painter.air.wet)
    colours = [skia.ColorSetARGB(a, red, green, blue) for a in (0, alpha, 0)]
    shader = skia.GradientShader.MakeLinear(
        [skia.Point(0, top), skia.Point(0, top + length)], colours, [0, 0.25, 1]
    )
    paint = skia.Paint(Shader=shader, BlendMode=skia.BlendMode.kPlus, AntiAlias=True)
    paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, max(1.0, glow.radius * 0.12)))
    half = max(1.2, glow.radius * 0.16)
    painter.canvas.drawRect(skia.Rect.MakeLTRB(glow.x - half, top, glow.x + half, top + length), paint)


def draw_precipitation(painter: Painter, rng: np.random.Generator) -> None:
    """Draw falling rain as faint streaks, falling snow as flakes, near ones large and blurred."""
    if painter.air.weather == "rainy":
        path = skia.Path()
        for x, y, length in rng.uniform((0, 0, 8), (FRAME_WIDTH, FRAME_HEIGHT, 30), (160, 3)).tolist():
            path.moveTo(x, y)
            path.lineTo(x + (x - FRAME_WIDTH / 2) * length * 0.0004, y + length)
        paint = skia.Paint(AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeWidth=1.4)
        paint.setColor(skia.ColorSetARGB(26 if painter.air.dark else 44, 214, 220, 228))
        painter.canvas.drawPath(path, paint)
    elif painter.air.weather == "snowy" and rng.random() < 0.7:
        for count, low, high, alpha in ((420, 0.6, 1.5, 130), (130, 1.5, 3.0, 120), (16, 4.0, 9.0, 60)):
            path = skia.Path()
            for x, y, size in rng.uniform(
                (0, 0, low), (FRAME_WIDTH, FRAME_HEIGHT, high), (count, 3)
            ).tolist():
                path.addOval(skia.Rect.MakeXYWH(x, y, size * 2, size * 2.4))
            colour = skia.ColorSetARGB(alpha // (2 if painter.air.dark else 1), 240, 242, 246)
            painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=colour))


def draw_bonnet(painter: Painter, rng: np.random.Generator) -> None:
    """Draw the own bonnet or dashboard along the lower edge; it hides what is behind it."""
    if rng.random() < 0.15:
        return
    top = float(np.clip(rng.normal(622, 48), 520, 712))
    bow, tilt = rng.uniform(8, 40), rng.normal(0, 8)
    path = skia.Path()
    path.moveTo(-5, FRAME_HEIGHT + 5)
    path.lineTo(-5, top + bow * 1.6 + tilt)
    path.cubicTo(FRAME_WIDTH * 0.2, top + tilt, FRAME_WIDTH * 0.35, top, FRAME_WIDTH * 0.5, top)
    path.cubicTo(
        FRAME_WIDTH * 0.65, top, FRAME_WIDTH * 0.8, top - tilt, FRAME_WIDTH + 5, top + bow * 1.6 - tilt
    )
    path.lineTo(FRAME_WIDTH + 5, FRAME_HEIGHT + 5)
    path.close()
    air = painter.air
    tone = np.array([26, 27, 30]) if rng.random() < 0.75 else np.array([90, 92, 96]) * rng.uniform(0.5, 1.3)
    shine = 0.0 if rng.random() < 0.3 else rng.uniform(0.15, 0.55)
    sky = np.array(air.sky[1]) * shine
    stops = [
        skia.ColorSetRGB(
            *(min(255, int(c)) for c in np.array(air.shade(tone * gain, 1.0, beam=0.0)) + sky * gleam)
        )
        for gain, gleam in ((1.5, 0.9), (1.0, 0.5), (0.7, 0.12), (0.5, 0.0))
    ]
    ends = [skia.Point(0, top - 4), skia.Point(0, FRAME_HEIGHT)]
    shader = skia.GradientShader.MakeLinear(ends, stops, [0.0, 0.2, 0.6, 1.0])
    painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=shader))
    edge = skia.Paint(
        AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeWidth=5, Color=skia.ColorSetARGB(150, 8, 8, 10)
    )
    painter.canvas.drawPath(path, edge)
    claim = skia.Paint(
        AntiAlias=False, BlendMode=skia.BlendMode.kSrc, Color=skia.ColorSetARGB(OWN_CAR, 0, 0, 0)
    )
    painter.owner_canvas.drawPath(path, claim)
    if shine:
        _draw_bonnet_highlights(painter, path, top, rng)


def _draw_bonnet_highlights(
    painter: Painter, bonnet: skia.Path, top: float, rng: np.random.Generator
) -> None:
    """Creases of the bonnet that catch the light."""
    painter.canvas.save()
    painter.canvas.clipPath(bonnet, doAntiAlias=True)
    bright = int(min(255, max(painter.air.sky[2]) * 0.9))
    for _ in range(int(rng.integers(1, 4))):
        x, lean = rng.uniform(0.1, 0.9) * FRAME_WIDTH, rng.normal(0, 160)
        path = skia.Path()
        path.moveTo(x, top)
        path.quadTo(x + lean * 0.6, (top + FRAME_HEIGHT) / 2, x + lean * 2, FRAME_HEIGHT + 10)
        paint = skia.Paint(
            AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeWidth=float(rng.uniform(3, 16))
        )
        paint.setColor(skia.ColorSetARGB(int(rng.uniform(20, 70)), bright, bright, bright))
        paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, 6.0))
        painter.canvas.drawPath(path, paint)
    painter.canvas.restore()


def draw_windscreen(painter: Painter, rng: np.random.Generator) -> None:
    """Draw what is on the glass: the dashboard's reflection, and drops in the rain."""
    air = painter.air
    if not air.dark and rng.random() < 0.5:
        veil = int(rng.uniform(8, 34))
        ends = [skia.Point(0, FRAME_HEIGHT * 0.35), skia.Point(0, FRAME_HEIGHT)]
        colours = [skia.ColorSetARGB(0, 230, 234, 240), skia.ColorSetARGB(veil, 230, 234, 240)]
        shader = skia.GradientShader.MakeLinear(ends, colours)
        painter.canvas.drawRect(skia.Rect.MakeWH(FRAME_WIDTH, FRAME_HEIGHT), skia.Paint(Shader=shader))
    if air.weather != "rainy":
        return
    drops = int(rng.integers(10, 90))
    gray = int(np.clip(np.mean(air.sky[2]) * 0.95, 30, 210))
    for x, y, size in rng.uniform((0, 0, 0), (FRAME_WIDTH, FRAME_HEIGHT, 1.0), (drops, 3)).tolist():
        radius = 2.5 + 9.0 * size**3
        colours = [
            skia.ColorSetARGB(110, gray // 3, gray // 3, gray // 3),
            skia.ColorSetARGB(70, gray, gray, gray),
            skia.ColorSetARGB(120, gray, gray, min(255, gray + 10)),
        ]
        ends = [skia.Point(x, y - radius), skia.Point(x, y + radius)]
        paint = skia.Paint(AntiAlias=True, Shader=skia.GradientShader.MakeLinear(ends, colours))
        paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, 1.2))
        painter.canvas.drawOval(
            skia.Rect.MakeXYWH(x - radius * 0.9, y - radius, radius * 1.8, radius * 2), paint
        )


@lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1, (1024, 1024, 1)).astype(np.float32)


def develop(pixels: np.ndarray, dark: bool, rng: np.random.Generator) -> np.ndarray:
    """What the sensor makes of the light: vignette, colour cast, saturation, contrast and noise.

    Args:
        pixels: uint8 ``(height, width, 3)``.
        dark: True at night, when the sensor is noisier.
        rng: Source of the camera's temper.

    Returns:
        The developed picture, uint8 ``(height, width, 3)``.
    """
    height, width = pixels.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32)
    down = np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1.0 - rng.uniform(0.05, 0.2) * (across[None, :] ** 2 + down[:, None] ** 2) / 2
    warm, green = rng.normal(0.03 if dark else -0.03, 0.03), rng.normal(0 if dark else 0.02, 0.015)
    cast = np.array([1 + warm, 1 + green, 1 - warm], np.float32) * rng.uniform(0.94, 1.08)
    top, left = (int(value) for value in rng.integers(0, 512, 2))
    noise = _noise_tile()[np.arange(top, top + height) % 1024][:, np.arange(left, left + width) % 1024]
    strength = rng.uniform(2.0, 5.5) if dark else rng.uniform(0.8, 2.5)
    contrast = np.float32(1.0 if dark else rng.uniform(1.05, 1.3))
    vivid = np.float32(rng.uniform(0.9, 1.4))
    noise = noise[..., 0] * np.float32(strength)
    # Channel by channel: numpy is slow along an axis of three.
    linear = [pixels[..., channel] * (vignette * cast[channel]) for channel in range(3)]
    gray = (linear[0] + linear[1] + linear[2]) / np.float32(3)
    developed = np.empty((height, width, 3), np.uint8)
    for channel, light in enumerate(linear):
        shown = (gray + (light - gray) * vivid - 112) * contrast + 112 + noise
        developed[..., channel] = np.clip(shown, 0, 255)
    return developed
