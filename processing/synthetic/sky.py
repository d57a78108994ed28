"""The sky: its gradient, clouds, the glare of a low sun and the glow of a city at night."""

from __future__ import annotations

import numpy as np
import skia

from .camera import FRAME_HEIGHT, FRAME_WIDTH
from .painter import Painter
from .textures import clouds

_COVER = {"clear": 0.25, "partly cloudy": 0.95, "overcast": 0.8, "rainy": 0.7, "snowy": 0.35, "foggy": 0.0}


def draw_sky(painter: Painter, rng: np.random.Generator) -> None:
    """Fill the frame with sky."""
    horizon, air = painter.camera.horizon, painter.air
    colours = [skia.ColorSetRGB(*(min(255, max(0, int(c))) for c in rgb)) for rgb in air.sky]
    shader = skia.GradientShader.MakeLinear(
        [skia.Point(0, horizon - 420), skia.Point(0, horizon + 10)], colours, [0.0, 0.55, 1.0]
    )
    painter.canvas.drawRect(skia.Rect.MakeWH(FRAME_WIDTH, FRAME_HEIGHT), skia.Paint(Shader=shader))
    cover = _COVER[air.weather] * rng.uniform(0.4, 1.0) * (0.25 if air.dark else 1.0)
    left, top, scale = rng.uniform(0, 512), rng.uniform(0, 512), rng.uniform(2.2, 4.5)
    if cover > 0.08:
        _draw_clouds(painter, cover, left, top, scale)
    _draw_skyline(painter, rng)
    if air.sun > 0.15 and rng.random() < 0.18:
        _draw_glare(painter, rng.uniform(0.1, 0.9) * FRAME_WIDTH, horizon - rng.uniform(90, 330))


def _draw_clouds(painter: Painter, cover: float, left: float, top: float, scale: float) -> None:
    """Clouds lie flat above us, so they are stretched wide and grow thin towards the horizon."""
    horizon, air = painter.camera.horizon, painter.air
    matrix = skia.Matrix()
    matrix.setScale(scale * 1.7, scale * 0.55)
    matrix.preTranslate(-left, -top)
    image = clouds().makeShader(skia.TileMode.kRepeat, skia.TileMode.kRepeat, skia.SamplingOptions(), matrix)
    gray = air.weather in ("overcast", "rainy", "snowy")
    tone = min(1.0, max(air.sky[2]) / 255 * (0.86 if gray else 1.08))
    tint = [tone, 0, 0, 0, 0, 0, tone, 0, 0, 0, 0, 0, tone, 0, 0, 0, 0, 0, cover, 0]
    paint = skia.Paint(Shader=image, ColorFilter=skia.ColorFilters.Matrix(tint))
    painter.canvas.drawRect(skia.Rect.MakeWH(FRAME_WIDTH, max(horizon, 1)), paint)
    low = skia.ColorSetRGB(*(min(255, max(0, int(c))) for c in air.sky[2]))
    ends = [skia.Point(0, horizon - 190), skia.Point(0, horizon - 20)]
    fade = skia.GradientShader.MakeLinear(ends, [low & 0x00FFFFFF, low])
    painter.canvas.drawRect(
        skia.Rect.MakeLTRB(0, horizon - 190, FRAME_WIDTH, horizon + 10), skia.Paint(Shader=fade)
    )


def _draw_glare(painter: Painter, x: float, y: float) -> None:
    warm = painter.air.timeofday == "dawn/dusk"
    red, green, blue = (255, 214, 160) if warm else (255, 250, 236)
    colours = [skia.ColorSetARGB(alpha, red, green, blue) for alpha in (255, 150, 46, 0)]
    shader = skia.GradientShader.MakeRadial(skia.Point(x, y), 420, colours, [0.0, 0.09, 0.35, 1.0])
    paint = skia.Paint(Shader=shader, BlendMode=skia.BlendMode.kScreen)
    painter.canvas.drawCircle(x, y, 420, paint)


def _draw_skyline(painter: Painter, rng: np.random.Generator) -> None:
    """Far roofs and tree tops along the horizon, washed out by haze; a few lit windows at night."""
    horizon = painter.camera.horizon
    tall = rng.uniform(6, 38)
    x = -20.0
    while x < FRAME_WIDTH + 20:
        width, height = rng.uniform(14, 70), tall * rng.gamma(2.0, 0.5)
        shade = (
            np.array([104, 104, 104]) * rng.uniform(0.6, 1.2)
            if rng.random() < 0.6
            else np.array([76, 90, 66])
        )
        box = skia.Rect.MakeLTRB(x, horizon - height, x + width, horizon + 8)
        colour = painter.colour(shade, rng.uniform(160, 420))
        painter.canvas.drawRoundRect(box, 3, 3, skia.Paint(AntiAlias=True, Color=colour))
        if painter.air.dark and rng.random() < 0.7:
            for _ in range(int(rng.integers(1, 5))):
                dot_x, dot_y = x + width * rng.random(), horizon - height * rng.random()
                lamp = skia.Paint(AntiAlias=True, Color=skia.ColorSetARGB(150, 236, 196, 140))
                painter.canvas.drawCircle(dot_x, dot_y, 1.3, lamp)
        x += width * rng.uniform(0.5, 1.3)
