"""The ground: terrain, road, crossings, markings, wear, shadows and pools of light."""

from __future__ import annotations

import math

import numpy as np
import skia

from .camera import FRAME_HEIGHT, FRAME_WIDTH
from .painter import Colour, Painter
from .plan import Layout, Road
from .street import lamp_colour, lamp_head
from .textures import asphalt

ASPHALT = (98, 98, 100)
CONCRETE = (150, 147, 140)
GRASS = (88, 106, 60)
WHITE_PAINT = (212, 212, 206)
YELLOW_PAINT = (204, 160, 44)
SNOW = (222, 226, 232)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Blend two colours; `share` is how much of the second there is."""
    return tuple(x * (1 - share) + y * share for x, y in zip(a, b, strict=True))


def draw_ground(painter: Painter, layout: Layout, rng: np.random.Generator) -> None:
    """Draw all that lies flat: terrain first, then roads, paint, wear, shadows and light."""
    road, air = layout.road, painter.air
    terrain = CONCRETE if road.scene == "city street" else GRASS
    _band(painter, road, -250.0, 250.0, mix(terrain, SNOW, air.snow * 0.9))
    surface = _road_colour(painter, rng)
    pavement = mix(CONCRETE, SNOW, air.snow * 0.85)
    if road.sidewalk:
        _band(painter, road, road.kerb_left - road.sidewalk, road.kerb_right + road.sidewalk, pavement)
        _draw_slabs(painter, road)
    for junction in road.junctions:
        start, end = junction.start, junction.end
        _patch(painter, road, start - road.sidewalk, end + road.sidewalk, pavement)
        _patch(painter, road, start, end, surface)
    _band(painter, road, road.kerb_left, road.kerb_right, surface)
    _draw_kerbs(painter, road)
    _draw_wear(painter, road, rng)
    if air.snow:
        _draw_snow_tracks(painter, road, surface, rng)
    if air.snow < 0.85:
        _draw_markings(painter, road, rng.uniform(0.6, 1.0) * (1.0 - 0.7 * air.snow))
    _draw_texture(painter)
    if air.sun > 0.25:
        _draw_shadows(painter, layout, rng)
    if air.dark:
        _draw_pools_of_light(painter, layout)
    _draw_haze(painter)


def _road_colour(painter: Painter, rng: np.random.Generator) -> Colour:
    air = painter.air
    tone = rng.uniform(0.75, 1.2) * (1 - 0.35 * air.wet)
    bleached = mix(ASPHALT, (132, 128, 120), rng.uniform(0, 0.7))
    return mix(tuple(tone * channel for channel in bleached), SNOW, air.snow * 0.62)


def _stations(road: Road, start: float, end: float) -> np.ndarray:
    steps = 2 if abs(road.curvature) < 1e-5 else 28
    return start + (end - start) * np.linspace(0, 1, steps) ** 2


def strip(road: Road, left: float, right: float, start: float, end: float) -> np.ndarray:
    """Outline ``(n, 3)`` of a ribbon of ground that follows the road between two offsets."""
    s = _stations(road, start, end)
    return np.concatenate([road.place(s, left), road.place(s[::-1], right)])


def _band(painter: Painter, road: Road, left: float, right: float, rgb: Colour) -> None:
    """A ribbon from under the camera to the horizon."""
    path, _ = painter.outline(strip(road, left, right, -2.0, 900.0))
    painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=_ground_shader(painter, rgb)))


def _patch(painter: Painter, road: Road, start: float, end: float, rgb: Colour) -> None:
    """The ground of a crossing road, which runs straight across whatever our road does."""
    centre = road.place((start + end) / 2, 0.0)[0]
    left, right = centre - 120.0, centre + 120.0
    corners = np.array([[left, 0, start], [left, 0, end], [right, 0, end], [right, 0, start]])
    path, _ = painter.outline(corners)
    painter.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=_ground_shader(painter, rgb)))


def _ground_shader(painter: Painter, rgb: Colour) -> skia.Shader:
    """Vertical gradient: what one ground colour looks like from the horizon down to the bonnet."""
    camera, air = painter.camera, painter.air
    rows = np.array([1.0, 4, 10, 20, 40, 80, 140, 220, 385])
    depths = camera.height * camera.focal / rows
    colours = [skia.ColorSetRGB(*air.shade(rgb, float(depth), beam=0.12)) for depth in depths]
    ends = [skia.Point(0, camera.horizon), skia.Point(0, camera.horizon + 385)]
    return skia.GradientShader.MakeLinear(ends, colours, (rows / 385).tolist())


def _quad(road: Road, start: float, end: float, left: float, right: float) -> np.ndarray:
    return road.place(np.array([start, end, end, start]), np.array([left, left, right, right]))


def _scatter(painter: Painter, quads: list[np.ndarray], rgb: Colour, alpha: float, beam: float = 0.5) -> None:
    """Fill many small pieces of ground, each lit as its distance asks for."""
    if not quads:
        return
    stack = np.stack(quads)
    nearest = stack[:, :, 2].min(1)
    painter.beam = beam
    for low, high in ((-5, 6), (6, 12), (12, 24), (24, 50), (50, 200)):
        painter.polygons(
            stack[(nearest >= low) & (nearest < high)], rgb, depth=max(low, 3.0) * 1.3, alpha=alpha
        )


# --- paint


def _draw_markings(painter: Painter, road: Road, strength: float) -> None:
    white: list[np.ndarray] = []
    yellow: list[np.ndarray] = []
    if road.marked:
        for lane in range(1, road.lanes):
            white += _dashes(road, road.divider_d + lane * road.lane_width)
        for lane in range(1, road.opposite):
            white += _dashes(road, road.left_d + lane * road.lane_width)
        if road.opposite and road.divider == "yellow":
            yellow += _line(road, road.divider_d - 0.14) + _line(road, road.divider_d + 0.14)
        if road.scene == "highway":
            yellow += _line(road, road.divider_d)
        if road.scene == "highway" or road.parking_right:
            white += _line(road, road.right_d)
    for junction in road.junctions:
        if junction.signal or junction.stop_sign:
            line = _quad(road, junction.start - 4.6, junction.start - 4.15, road.divider_d, road.right_d)
            white.append(line)
        if junction.signal and road.lanes > 1 and junction.start > 14:
            white += _arrows(road, junction.start - 11.0)
        if junction.crosswalk:
            for start in (junction.start - 3.6, junction.end + 0.8):
                bars = np.arange(road.kerb_left + 0.3, road.kerb_right - 0.5, 1.15)
                white += [_quad(road, start, start + 2.6, bar, bar + 0.55) for bar in bars]
    _scatter(painter, white, WHITE_PAINT, 0.85 * strength)
    _scatter(painter, yellow, YELLOW_PAINT, 0.85 * strength)


def _dashes(road: Road, d: float) -> list[np.ndarray]:
    starts = [s for s in np.arange(0.5, 90, 9.0).tolist() if not road.in_junction(s, 5.0)]
    return [_quad(road, s, s + 3.0, d - 0.06, d + 0.06) for s in starts]


def _line(road: Road, d: float) -> list[np.ndarray]:
    starts = [s for s in np.arange(0.5, 100, 3.0).tolist() if not road.in_junction(s, 5.0)]
    return [_quad(road, s, s + 3.0, d - 0.05, d + 0.05) for s in starts]


def _arrows(road: Road, s: float) -> list[np.ndarray]:
    """Straight-ahead arrows on the lanes our way: a shaft and a head."""
    pieces = []
    for lane in range(road.lanes):
        d = road.lane_centre(lane)
        pieces.append(_quad(road, s, s + 1.9, d - 0.08, d + 0.08))
        head = road.place(
            np.array([s + 1.9, s + 3.0, s + 3.0, s + 1.9]), d + np.array([-0.35, 0.0, 0.0, 0.35])
        )
        pieces.append(head)
    return pieces


# --- wear and weather


def _draw_slabs(painter: Painter, road: Road) -> None:
    lines = []
    for left, right in (
        (road.kerb_left - road.sidewalk, road.kerb_left),
        (road.kerb_right, road.kerb_right + road.sidewalk),
    ):
        lines += [_quad(road, s, s + 0.05, left, right) for s in np.arange(3.0, 40.0, 1.8).tolist()]
    _scatter(painter, lines, (70, 68, 64), 0.35, beam=0.1)


def _draw_kerbs(painter: Painter, road: Road) -> None:
    if not road.sidewalk:
        return
    edges = []
    for d in (road.kerb_left - 0.08, road.kerb_right - 0.08):
        starts = [s for s in np.arange(1.0, 80.0, 3.0).tolist() if not road.in_junction(s, 2.0)]
        edges += [_quad(road, s, s + 3.0, d, d + 0.16) for s in starts]
    _scatter(painter, edges, (60, 58, 56), 0.55, beam=0.2)


def _draw_wear(painter: Painter, road: Road, rng: np.random.Generator) -> None:
    """Wheel tracks, mended patches and manholes."""
    for lane in range(-road.opposite, road.lanes):
        d = road.lane_centre(lane)
        for side in (-0.85, 0.85):
            outline = strip(road, d + side - 0.32, d + side + 0.32, 0.0, 120.0)
            painter.polygon(outline, (30, 30, 32), 20.0, alpha=0.045)
    quads = []
    for _ in range(int(rng.integers(1, 7))):
        s, d = rng.uniform(4, 40), rng.uniform(road.kerb_left, road.kerb_right - 1.5)
        quads.append(_quad(road, s, s + rng.uniform(0.8, 6.0), d, d + rng.uniform(0.5, 1.6)))
    _scatter(painter, quads, (36, 36, 38), rng.uniform(0.1, 0.3), beam=0.1)
    turn = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    for _ in range(int(rng.integers(0, 3))):
        s, d = rng.uniform(6, 28), rng.uniform(road.left_d, road.right_d)
        ring = road.place(s + 0.36 * np.sin(turn), d + 0.36 * np.cos(turn))
        painter.polygon(ring, (52, 52, 54), s, alpha=0.45)


def _draw_snow_tracks(painter: Painter, road: Road, surface: Colour, rng: np.random.Generator) -> None:
    """Where wheels have pressed the snow away the road is dark; what was ploughed lies along the kerbs."""
    slush = mix((78, 80, 84), surface, 0.3)
    worn = rng.uniform(0.12, 0.3)
    for lane in range(-road.opposite, road.lanes):
        d = road.lane_centre(lane) + rng.normal(0, 0.15)
        for side in (-0.85, 0.85):
            for half in (0.75, 0.5, 0.28):
                outline = strip(road, d + side - half, d + side + half, 0.0, 160.0)
                painter.polygon(outline, slush, 22.0, alpha=worn)
    for d in (road.kerb_left, road.kerb_right):
        s = np.arange(1.0, 90.0, 1.5)
        s = s[[not road.in_junction(float(value), 3.0) for value in s]]
        near, far = rng.uniform(0.1, 0.9, len(s)), rng.uniform(0.1, 0.9, len(s))
        piles = [_quad(road, a, a + 1.7, d - b, d + c) for a, b, c in zip(s.tolist(), near, far, strict=True)]
        _scatter(painter, piles, mix(SNOW, (150, 150, 152), rng.uniform(0, 0.4)), 0.8, beam=0.4)


def _ground_matrix(painter: Painter) -> skia.Matrix:
    """Maps ground coordinates (x, z) in metres to pixels, the inverse of what a map-maker would want."""
    camera = painter.camera
    rotation = camera.rotation
    columns = np.stack(
        [rotation[:, 0], rotation[:, 2], rotation @ np.array([0.0, -camera.height, 0.0])], axis=1
    )
    lens = np.array([[camera.focal, 0, FRAME_WIDTH / 2], [0, camera.focal, FRAME_HEIGHT / 2], [0, 0, 1.0]])
    return skia.Matrix.MakeAll(*(lens @ columns).ravel().tolist())


def _draw_texture(painter: Painter) -> None:
    """Lay the asphalt's grain over the ground in front of us, in perspective."""
    sampling = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kLinear)
    scale = skia.Matrix.Scale(14.0 / 512, 14.0 / 512)
    shader = asphalt().makeShader(skia.TileMode.kRepeat, skia.TileMode.kRepeat, sampling, scale)
    ahead = skia.Path()
    ahead.addPoly([skia.Point(x, z) for x, z in ((-2, 1.6), (2, 1.6), (60, 55), (-60, 55))], True)
    painter.canvas.save()
    painter.canvas.concat(_ground_matrix(painter))
    opacity = (0.35 if painter.air.dark else 0.75) * (1 - 0.4 * painter.air.snow)
    painter.canvas.drawPath(ahead, skia.Paint(Shader=shader, Alphaf=opacity))
    painter.canvas.restore()


# --- light and shade


def _draw_shadows(painter: Painter, layout: Layout, rng: np.random.Generator) -> None:
    """Shadows of buildings and trees, thrown to one side; one path, so that overlaps do not darken twice."""
    side = float(rng.choice([-1.0, 1.0]))
    length, slant = rng.uniform(0.25, 1.1), rng.uniform(-0.5, 0.5)
    shade = skia.Path()
    turn = np.linspace(0, 2 * math.pi, 14, endpoint=False)
    for actor in layout.actors:
        if actor.kind == "building" and actor.size[2] == -side:
            reach = min(actor.size[1] * length, 40.0)
            s = np.array([actor.s, actor.s + actor.size[0], actor.s + actor.size[0], actor.s])
            s = s + np.array([0.0, 0.0, slant * reach, slant * reach])
            corners = layout.road.place(s, actor.d + np.array([0.0, 0.0, side * reach, side * reach]))
        elif actor.kind == "tree" and actor.s < 70:
            tall = actor.size[0]
            blob = 1 + 0.16 * np.sin(5 * turn + actor.seed % 7)
            s = actor.s + slant * tall * length * 0.7 + 0.26 * tall * np.sin(turn) * blob
            d = actor.d + side * tall * length * 0.7 + 0.3 * tall * np.cos(turn) * blob
            corners = layout.road.place(s, d)
        else:
            continue
        path, _ = painter.outline(corners)
        shade = skia.Op(shade, path, skia.PathOp.kUnion_PathOp)
    alpha = int(255 * 0.62 * painter.air.sun)
    painter.canvas.drawPath(shade, skia.Paint(AntiAlias=True, Color=skia.ColorSetARGB(alpha, 12, 14, 22)))


def _draw_pools_of_light(painter: Painter, layout: Layout) -> None:
    """At night: what the street lamps and the own headlights throw on the ground."""
    canvas = painter.canvas
    canvas.save()
    canvas.concat(_ground_matrix(painter))
    red, green, blue = lamp_colour(layout)
    for actor in layout.actors:
        if actor.kind != "lamp" or actor.s > 90:
            continue
        x, _, z = lamp_head(layout.road.place(actor.s, actor.d), actor).tolist()
        radius = min(8.5, z - 2.0)
        if radius > 1:
            _pool(canvas, x, z, radius, radius, skia.ColorSetARGB(74, red, green, blue))
    for x in (-0.7, 0.9):
        _pool(canvas, x, 12.0, 2.6, 9.5, skia.ColorSetARGB(52, 255, 246, 226))
    canvas.restore()


def _pool(
    canvas: skia.Canvas, x: float, z: float, half_width: float, half_length: float, colour: int
) -> None:
    clear = colour & 0x00FFFFFF
    stretch = skia.Matrix()
    stretch.setScale(half_width, half_length)
    stretch.postTranslate(x, z)
    shader = skia.GradientShader.MakeRadial(
        skia.Point(0, 0), 1.0, [colour, colour, clear], [0.0, 0.25, 1.0], skia.TileMode.kClamp, 0, stretch
    )
    oval = skia.Rect.MakeLTRB(x - half_width, z - half_length, x + half_width, z + half_length)
    canvas.drawOval(oval, skia.Paint(Shader=shader, BlendMode=skia.BlendMode.kPlus))


def _draw_haze(painter: Painter) -> None:
    """Soften the line where ground and sky meet."""
    horizon = painter.camera.horizon
    red, green, blue = (min(255, max(0, int(c))) for c in painter.air.haze)
    clear, full = skia.ColorSetARGB(0, red, green, blue), skia.ColorSetARGB(150, red, green, blue)
    ends = [skia.Point(0, horizon - 30), skia.Point(0, horizon + 14)]
    shader = skia.GradientShader.MakeLinear(ends, [clear, full, clear], [0.0, 0.7, 1.0])
    painter.canvas.drawRect(skia.Rect.MakeXYWH(0, horizon - 30, FRAME_WIDTH, 44), skia.Paint(Shader=shader))
