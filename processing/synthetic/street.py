"""What stands beside and above the road: buildings, trees, lamps, signals, signs."""

from __future__ import annotations

import math

import numpy as np

from .layout import Actor, Layout
from .painter import Painter

_WALLS = (
    (150, 92, 72), (168, 116, 88), (186, 168, 140), (200, 192, 178), (138, 130, 124), (112, 84, 72), (206, 200, 190),
    (160, 160, 164), (122, 104, 92), (178, 150, 120),
)  # fmt: skip
_METAL = (92, 96, 98)


def _upright(bottom: np.ndarray, width: float, height: float) -> np.ndarray:
    """A vertical rectangle that faces the camera along the road, standing on `bottom` ``(3,)``."""
    half = np.array([width / 2, 0.0, 0.0])
    up = np.array([0.0, height, 0.0])
    return np.stack([bottom - half, bottom + half, bottom + half + up, bottom - half + up])


def _depth(painter: Painter, point: np.ndarray) -> float:
    return max(1.0, float(painter.camera.to_camera(point)[2]))


def draw_building(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a building with its street front and the end wall that faces us."""
    rng = np.random.default_rng(actor.seed)
    length, height, side = actor.size
    wall = _WALLS[int(rng.integers(len(_WALLS)))]
    road = layout.road
    start, end = max(actor.s, -4.0), actor.s + length
    if end < 1.5:
        return
    s = np.array([start, end, end, start])
    front = road.place(s, actor.d, np.array([0, 0, height, height]))
    depth = _depth(painter, front.mean(0))
    deep = 14.0
    painter.begin()
    back = road.place(actor.s, np.array([actor.d, actor.d + side * deep, actor.d + side * deep, actor.d]))
    back[2:, 1] = height
    painter.polygon(back, wall, depth, 0.62, claim=True)
    painter.polygon(front, wall, depth, 0.88 if side < 0 else 0.74, claim=True)
    _draw_windows(painter, road.place, actor, start, end, height, depth, rng)
    painter.end()


def _draw_windows(
    painter, place, actor: Actor, start: float, end: float, height: float, depth: float, rng
) -> None:
    floor_height = 3.2
    floors = max(1, int((height - 0.8) / floor_height))
    bay = rng.uniform(2.2, 3.6)
    bays = max(1, int((end - actor.s) / bay))
    if depth > 110:
        return
    low_s = actor.s + (np.arange(bays) + 0.25) * bay
    low_y = 0.9 + np.arange(floors) * floor_height
    grid_s, grid_y = (axis.ravel() for axis in np.meshgrid(low_s, low_y))
    keep = grid_s > max(start, 1.0)
    grid_s, grid_y = grid_s[keep], grid_y[keep]
    s = np.stack([grid_s, grid_s + bay * 0.5, grid_s + bay * 0.5, grid_s], axis=1)
    y = np.stack([grid_y, grid_y, grid_y + 1.7, grid_y + 1.7], axis=1)
    quads = place(s, actor.d - 0.02 * actor.size[2], y)
    lit = rng.random(len(quads)) < (0.3 if painter.air.dark else 0.04)
    painter.polygons(quads[~lit], (58, 66, 76), depth, 0.8)
    if painter.air.dark:
        for quad in quads[lit][:40]:
            painter.lit_polygon(quad, (226, 186, 120), depth * 2, alpha=0.8)
    else:
        painter.polygons(quads[lit], (176, 190, 200), depth, 1.0)


def draw_backdrop(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a clump of distant greenery."""
    rng = np.random.default_rng(actor.seed)
    place = layout.road.place(actor.s, actor.d)
    depth = _depth(painter, place)
    painter.begin()
    for _ in range(7):
        offset = np.array([rng.normal(0, 5), rng.uniform(0.1, 0.6) * actor.size[0], 0.0])
        green = (62 + rng.normal(0, 8), 84 + rng.normal(0, 8), 50)
        painter.disc(place + offset, rng.uniform(2, 4), green, rng.uniform(0.6, 0.9), claim=True)
    painter.end()


def draw_tree(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a tree: a trunk, a fork and a crown of leaf clumps, bare and white in snow."""
    rng = np.random.default_rng(actor.seed)
    place = layout.road.place(actor.s, actor.d)
    depth = float(painter.camera.to_camera(place)[2])
    if depth < 3:
        return
    tall = actor.size[0]
    up = np.array([0.0, tall, 0.0])
    painter.begin()
    painter.strokes([np.stack([place, place + up * 0.55])], 0.32, (74, 60, 48), depth, 0.8, claim=True)
    base = (
        np.array([66, 92, 48]) * rng.uniform(0.7, 1.15)
        if painter.air.snow < 0.3
        else np.array([150, 152, 154])
    )
    for level in range(3):
        for _ in range(9):
            offset = np.array([rng.normal(0, 0.15) * tall, 0.0, rng.normal(0, 0.1) * tall])
            centre = place + up * rng.uniform(0.42 + 0.1 * level, 0.72 + 0.1 * level) + offset
            shade = 0.55 + 0.2 * level + rng.uniform(-0.08, 0.08)
            painter.disc(centre, tall * rng.uniform(0.07, 0.14), base, shade, claim=level == 0)
    painter.end()


def draw_lamp(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a street lamp whose arm reaches over the road; lit in the dark."""
    height, side = actor.size
    foot = layout.road.place(actor.s, actor.d)
    depth = float(painter.camera.to_camera(foot)[2])
    if depth < 2:
        return
    top = foot + np.array([0.0, height, 0.0])
    head = top + np.array([-side * 2.2, 0.25, 0.0])
    painter.begin()
    painter.strokes([np.stack([foot, top, head])], 0.14, _METAL, depth, 0.8, claim=True)
    painter.end()
    if layout.timeofday == "night":
        painter.disc(head, 0.18, (255, 214, 150), emits=True)
        painter.glow(head, 1.7, (255, 196, 120), 0.9)


_LAMPS = {"red": (255, 44, 36), "yellow": (255, 190, 40), "green": (60, 255, 170)}
_CODES = {"red": "R", "yellow": "Y", "green": "G"}


def draw_signal(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a traffic light's head and label it; one that faces the crossing road shows us no colour."""
    foot = layout.road.place(actor.s, actor.d)
    depth = float(painter.camera.to_camera(foot)[2])
    if depth < 2:
        return
    rng = np.random.default_rng(actor.seed)
    bottom = foot + np.array([0.0, actor.size[0] - 0.5, -0.15])
    housing = (38, 38, 36) if layout.seed % 3 else (196, 158, 40)
    crosswise = actor.state == "cross"
    painter.begin("traffic light", _CODES.get(actor.state, "NA"))
    painter.polygon(_upright(bottom, 0.24 if crosswise else 0.40, 1.08), housing, depth, 0.8, claim=True)
    if crosswise:
        visor = _upright(bottom + np.array([0.2 * (1 if rng.random() < 0.5 else -1), 0.1, 0.0]), 0.2, 0.9)
        painter.polygon(visor, (26, 26, 26), depth, 0.8, claim=True)
    else:
        for i, name in enumerate(("green", "yellow", "red")):
            centre = bottom + np.array([0.0, 0.2 + 0.34 * i, -0.05])
            if name == actor.state:
                painter.disc(centre, 0.145, _LAMPS[name], emits=True)
                painter.glow(
                    centre, 0.9 if painter.air.dark else 0.45, _LAMPS[name], 1.0 if painter.air.dark else 0.45
                )
            else:
                painter.disc(centre, 0.125, (24, 24, 24), 0.7)
    painter.end()


def draw_signal_post(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw the post beside the road that carries a traffic light."""
    _draw_pole(painter, layout.road.place(actor.s, actor.d), 4.2, 0.14)


def _draw_pole(painter: Painter, foot: np.ndarray, height: float, width: float) -> None:
    depth = float(painter.camera.to_camera(foot)[2])
    if depth < 2:
        return
    painter.begin()
    painter.strokes(
        [np.stack([foot, foot + np.array([0.0, height, 0.0])])], width, _METAL, depth, 0.8, claim=True
    )
    painter.end()


def draw_mast(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a mast whose arm reaches over the road to carry traffic lights."""
    reach, height = actor.size
    foot = layout.road.place(actor.s, actor.d)
    depth = float(painter.camera.to_camera(foot)[2])
    if depth < 2:
        return
    top = foot + np.array([0.0, height, 0.0])
    painter.begin()
    painter.strokes([np.stack([foot, top])], 0.22, _METAL, depth, 0.8, claim=True)
    painter.strokes(
        [np.stack([top, top - np.array([reach, -0.2, 0.0])])], 0.14, _METAL, depth, 0.8, claim=True
    )
    painter.end()


def draw_sign(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a traffic sign on its post and label the plate."""
    foot = layout.road.place(actor.s, actor.d)
    depth = float(painter.camera.to_camera(foot)[2])
    if depth < 2:
        return
    height = actor.size[0]
    _draw_pole(painter, foot, height, 0.07)
    painter.begin("traffic sign")
    centre = foot + np.array([0.0, height, -0.06])
    _PLATES[actor.model](painter, centre, depth)
    painter.end()


def _polygon_around(centre: np.ndarray, radius: float, corners: int, turn: float) -> np.ndarray:
    angle = turn + np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return centre + np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(corners)], axis=-1)


def _stop(painter: Painter, centre: np.ndarray, depth: float) -> None:
    painter.polygon(_polygon_around(centre, 0.41, 8, math.pi / 8), (230, 226, 222), depth, claim=True)
    painter.polygon(_polygon_around(centre, 0.38, 8, math.pi / 8), (176, 28, 34), depth)
    painter.strokes(
        [np.stack([centre - [0.22, 0, 0.01], centre + [0.22, 0, -0.01]])], 0.14, (230, 226, 222), depth
    )


def _warning(painter: Painter, centre: np.ndarray, depth: float) -> None:
    painter.polygon(_polygon_around(centre, 0.46, 4, 0), (30, 30, 28), depth, claim=True)
    painter.polygon(_polygon_around(centre, 0.42, 4, 0), (232, 184, 30), depth)
    painter.strokes(
        [np.stack([centre - [0, 0.16, 0.01], centre + [0, 0.16, -0.01]])], 0.07, (30, 30, 28), depth
    )


def _plate(
    painter: Painter, centre: np.ndarray, depth: float, width: float, height: float, rgb, bars, ink
) -> None:
    painter.polygon(_upright(centre - [0, height / 2, 0], width, height), rgb, depth, claim=True)
    for y, half in bars:
        line = np.stack(
            [centre + [-half * width, y * height, -0.01], centre + [half * width, y * height, -0.01]]
        )
        painter.strokes([line], 0.09 * height, ink, depth)


def _speed(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(
        painter,
        centre,
        depth,
        0.6,
        0.75,
        (232, 232, 228),
        ((0.3, 0.25), (0.0, 0.22), (-0.2, 0.22)),
        (30, 30, 30),
    )


def _parking(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(
        painter,
        centre,
        depth,
        0.32,
        0.48,
        (228, 228, 222),
        ((0.25, 0.3), (0.0, 0.25), (-0.25, 0.3)),
        (190, 40, 40),
    )


def _street_name(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(painter, centre + [0, 0.4, 0], depth, 0.95, 0.24, (22, 104, 62), ((0.0, 0.36),), (226, 230, 226))


def _oneway(painter: Painter, centre: np.ndarray, depth: float) -> None:
    _plate(painter, centre, depth, 0.9, 0.30, (28, 28, 30), ((0.0, 0.36),), (230, 230, 228))


def _no_entry(painter: Painter, centre: np.ndarray, depth: float) -> None:
    painter.disc(centre, 0.38, (184, 30, 36), claim=True)
    painter.strokes(
        [np.stack([centre - [0.22, 0, 0.01], centre + [0.22, 0, -0.01]])], 0.12, (230, 228, 224), depth
    )


_PLATES = {
    "stop": _stop,
    "warning": _warning,
    "speed": _speed,
    "parking": _parking,
    "street": _street_name,
    "oneway": _oneway,
    "no_entry": _no_entry,
}


def draw_gantry(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a motorway gantry with its green boards; the boards are labelled."""
    rng = np.random.default_rng(actor.seed)
    left, right = actor.size
    feet = layout.road.place(actor.s, np.array([left, right]))
    depth = _depth(painter, feet.mean(0))
    tall = np.array([0.0, 6.4, 0.0])
    painter.begin()
    for foot in feet:
        painter.strokes([np.stack([foot, foot + tall])], 0.35, _METAL, depth, 0.9, claim=True)
    painter.strokes([feet + tall, feet + tall * 0.9], 0.18, _METAL, depth, 0.9, claim=True)
    painter.end()
    for share in np.linspace(0.25, 0.75, int(rng.integers(1, 4))):
        painter.begin("traffic sign")
        centre = feet[0] * (1 - share) + feet[1] * share + tall + np.array([0.0, 0.1, -0.2])
        bars = ((0.25, 0.35), (0.0, 0.30), (-0.25, 0.2))
        _plate(
            painter,
            centre,
            depth,
            rng.uniform(2.6, 3.8),
            rng.uniform(1.8, 2.6),
            (24, 108, 66),
            bars,
            (226, 232, 226),
        )
        painter.end()
