"""The ground: sky above it, road, markings, crossings, and which part of it may be driven on."""

from __future__ import annotations

import numpy as np
import skia

from .camera import FRAME_HEIGHT, FRAME_WIDTH, clip_near
from .layout import Layout, Road
from .painter import Painter

DIRECT, ALTERNATIVE, BACKGROUND = 0, 1, 2
DRIVABLE_REACH = 75.0  # metres: annotators stop where the road gets too thin to outline

ASPHALT = (98, 98, 100)
CONCRETE = (158, 155, 148)
GRASS = (92, 112, 62)
WHITE_PAINT = (214, 214, 208)
YELLOW_PAINT = (206, 164, 44)
SNOW = (226, 230, 236)


def mix(a: tuple[float, ...], b: tuple[float, ...], share: float) -> tuple[float, float, float]:
    """Blend two colours; `share` is how much of the second there is."""
    red, green, blue = (x * (1 - share) + y * share for x, y in zip(a, b, strict=True))
    return red, green, blue


def draw_sky(painter: Painter) -> None:
    """Fill the frame with the sky's gradient."""
    horizon = painter.camera.horizon
    colours = [skia.ColorSetRGB(*(min(255, max(0, int(c))) for c in rgb)) for rgb in painter.air.sky]
    shader = skia.GradientShader.MakeLinear(
        [skia.Point(0, horizon - 420), skia.Point(0, horizon + 10)], colours, [0.0, 0.55, 1.0]
    )
    painter.canvas.drawRect(skia.Rect.MakeWH(FRAME_WIDTH, FRAME_HEIGHT), skia.Paint(Shader=shader))


def draw_ground(painter: Painter, layout: Layout, rng: np.random.Generator) -> None:
    """Draw terrain, road, crossing roads and markings."""
    road, air = layout.road, painter.air
    terrain = GRASS if road.scene != "city street" else CONCRETE
    _band(painter, road, -250.0, 250.0, mix(terrain, SNOW, air.snow * 0.9))
    tone = rng.uniform(0.75, 1.15) * (1 - 0.3 * air.wet)
    asphalt = mix(tuple(tone * channel for channel in ASPHALT), SNOW, air.snow * 0.35)
    if road.sidewalk:
        kerb = mix(CONCRETE, SNOW, air.snow * 0.85)
        _band(painter, road, road.kerb_left - road.sidewalk, road.kerb_right + road.sidewalk, kerb)
    for junction in road.junctions:
        for start, end, colour in (
            (
                junction.start - road.sidewalk,
                junction.end + road.sidewalk,
                mix(CONCRETE, SNOW, air.snow * 0.85),
            ),
            (junction.start, junction.end, asphalt),
        ):
            _patch(painter, road, start, end, -120.0, 120.0, colour)
    _band(painter, road, road.kerb_left, road.kerb_right, asphalt)
    if air.snow < 0.85:
        _draw_markings(painter, road, 1.0 - 0.75 * air.snow)
    _draw_haze(painter)


def _stations(road: Road, start: float, end: float) -> np.ndarray:
    steps = 2 if road.curvature == 0 else 28
    return start + (end - start) * np.linspace(0, 1, steps) ** 2


def strip(road: Road, left: float, right: float, start: float, end: float) -> np.ndarray:
    """Outline ``(n, 3)`` of a ribbon of ground that follows the road between two offsets."""
    s = _stations(road, start, end)
    return np.concatenate([road.place(s, left), road.place(s[::-1], right)])


def _band(painter: Painter, road: Road, left: float, right: float, rgb: tuple[float, ...]) -> None:
    """A ribbon from under the camera to the horizon, lit by the headlights where it is near."""
    path, _ = painter.outline(strip(road, left, right, -2.0, 900.0))
    painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=_ground_shader(painter, rgb)))


def _patch(
    painter: Painter, road: Road, start: float, end: float, left: float, right: float, rgb: tuple[float, ...]
) -> None:
    """A rectangle of ground across the road; crossing roads run straight whatever the road does."""
    centre = road.place((start + end) / 2, 0.0)[0]
    x1, x2 = centre + left, centre + right
    corners = np.array([[x1, 0, start], [x1, 0, end], [x2, 0, end], [x2, 0, start]])
    path, _ = painter.outline(corners)
    painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=_ground_shader(painter, rgb)))


def _ground_shader(painter: Painter, rgb: tuple[float, ...]) -> skia.Shader:
    """Vertical gradient: what one ground colour looks like from the horizon down to the bonnet."""
    camera, air = painter.camera, painter.air
    horizon = camera.horizon
    rows = np.array([1.0, 4, 10, 20, 40, 80, 140, 220, 385])
    depths = camera.height * camera.focal / rows
    colours = [skia.ColorSetRGB(*air.shade(rgb, float(depth))) for depth in depths]
    return skia.GradientShader.MakeLinear(
        [skia.Point(0, horizon), skia.Point(0, horizon + 385)], colours, (rows / 385).tolist()
    )


def _draw_markings(painter: Painter, road: Road, strength: float) -> None:
    pieces: dict[tuple[int, int, int], list[np.ndarray]] = {WHITE_PAINT: [], YELLOW_PAINT: []}
    if road.marked:
        for lane in range(1, road.lanes):
            pieces[WHITE_PAINT] += _dashes(road, road.divider_d + lane * road.lane_width)
        for lane in range(1, road.opposite):
            pieces[WHITE_PAINT] += _dashes(road, road.left_d + lane * road.lane_width)
        if road.opposite and road.divider == "yellow":
            pieces[YELLOW_PAINT] += _line(road, road.divider_d - 0.14) + _line(road, road.divider_d + 0.14)
        if road.scene == "highway":
            pieces[YELLOW_PAINT] += _line(road, road.divider_d)
            pieces[WHITE_PAINT] += _line(road, road.right_d)
        elif road.parking_right:
            pieces[WHITE_PAINT] += _line(road, road.right_d)
    for junction in road.junctions:
        if junction.signal or junction.stop_sign:
            pieces[WHITE_PAINT].append(
                _quad(road, junction.start - 4.6, junction.start - 4.1, road.divider_d, road.right_d)
            )
        if junction.crosswalk:
            for start in (junction.start - 3.6, junction.end + 0.8):
                bars = np.arange(road.kerb_left + 0.3, road.kerb_right - 0.5, 1.1)
                pieces[WHITE_PAINT] += [_quad(road, start, start + 2.6, bar, bar + 0.55) for bar in bars]
    for rgb, quads in pieces.items():
        if quads:
            stack = np.stack(quads)
            nearest = stack[:, :, 2].min(1)
            for low, high in ((-5, 6), (6, 14), (14, 30), (30, 200)):
                chosen = stack[(nearest >= low) & (nearest < high)]
                painter.polygons(chosen, rgb, depth=max(low, 3.0) * 1.2, alpha=0.85 * strength)


def _quad(road: Road, start: float, end: float, left: float, right: float) -> np.ndarray:
    return road.place(np.array([start, end, end, start]), np.array([left, left, right, right]))


def _dashes(road: Road, d: float) -> list[np.ndarray]:
    return [
        _quad(road, s, s + 3.0, d - 0.06, d + 0.06)
        for s in np.arange(0.5, 90, 9.0).tolist()
        if not road.in_junction(s, 5.0)
    ]


def _line(road: Road, d: float) -> list[np.ndarray]:
    return [
        _quad(road, s, s + 3.0, d - 0.05, d + 0.05)
        for s in np.arange(0.5, 100, 3.0).tolist()
        if not road.in_junction(s, 5.0)
    ]


def _draw_haze(painter: Painter) -> None:
    """Soften the line where ground and sky meet."""
    horizon = painter.camera.horizon
    red, green, blue = (min(255, max(0, int(c))) for c in painter.air.haze)
    clear, full = skia.ColorSetARGB(0, red, green, blue), skia.ColorSetARGB(170, red, green, blue)
    shader = skia.GradientShader.MakeLinear(
        [skia.Point(0, horizon - 30), skia.Point(0, horizon + 14)], [clear, full, clear], [0.0, 0.7, 1.0]
    )
    painter.canvas.drawRect(skia.Rect.MakeXYWH(0, horizon - 30, FRAME_WIDTH, 44), skia.Paint(Shader=shader))


def drivable_mask(painter: Painter, layout: Layout) -> np.ndarray:
    """Drivable area, uint8 ``(720, 1280)``: 0 the ego lane up to its lead vehicle, 1 other lanes our way, 2 the rest.

    Whatever covers the road in the picture (vehicles, people, the own bonnet) is cut out of it.
    """
    road = layout.road
    mask = np.zeros((FRAME_HEIGHT, FRAME_WIDTH), np.uint8)
    info = skia.ImageInfo.Make(FRAME_WIDTH, FRAME_HEIGHT, skia.kAlpha_8_ColorType, skia.kPremul_AlphaType)
    canvas = skia.Surface.MakeRasterDirect(info, mask).getCanvas()
    reach = DRIVABLE_REACH if layout.lead is None else min(DRIVABLE_REACH, layout.lead + 0.5)
    for lane in range(road.lanes):
        end = reach if lane == road.ego_lane else DRIVABLE_REACH
        value = 1 + (DIRECT if lane == road.ego_lane else ALTERNATIVE)
        middle = road.lane_centre(lane)
        outline = strip(road, middle - road.lane_width / 2, middle + road.lane_width / 2, -1.0, end)
        pixels = painter.camera.to_pixels(clip_near(painter.camera.to_camera(outline)))
        path = skia.Path()
        path.addPoly([skia.Point(x, y) for x, y in np.clip(pixels, -20000, 20000).tolist()], True)
        paint = skia.Paint(
            AntiAlias=False, BlendMode=skia.BlendMode.kSrc, Color=skia.ColorSetARGB(value, 0, 0, 0)
        )
        canvas.drawPath(path, paint)
    free = (mask > 0) & (painter.owners == 0)
    return np.where(free, mask - 1, BACKGROUND).astype(np.uint8)
