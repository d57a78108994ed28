"""Buildings along the street: blocks with shops and rows of windows, and houses with pitched roofs."""

from __future__ import annotations

import numpy as np

from .painter import Colour, Painter
from .plan import Actor, Layout

_WALLS = (
    (150, 92, 72), (168, 116, 88), (186, 168, 140), (200, 192, 178), (138, 130, 124), (112, 84, 72),
    (206, 200, 190), (160, 160, 164), (122, 104, 92), (178, 150, 120), (128, 76, 62), (96, 92, 92),
)  # fmt: skip
_SIDINGS = (
    (206, 204, 196),
    (190, 196, 198),
    (176, 168, 150),
    (214, 206, 184),
    (150, 160, 160),
    (172, 120, 96),
)
_ROOFS = ((84, 80, 78), (104, 84, 72), (70, 72, 78), (120, 100, 88))
_SIGNS = (
    (170, 40, 38),
    (36, 70, 130),
    (40, 110, 70),
    (210, 170, 60),
    (220, 220, 214),
    (60, 60, 64),
    (150, 70, 120),
)
_TRIM = (226, 224, 218)
_WINDOW = (62, 72, 84)
_LAMPLIGHT = ((236, 196, 128), (226, 178, 104), (206, 214, 226), (240, 222, 180))
Metres = float | np.ndarray
FLOOR = 3.3  # metres from storey to storey
DEEP = 13.0  # metres from the street front to the back


class _Wall:
    """An upright rectangle between two ground points; (u, y) metres along and up become world points."""

    def __init__(self, painter: Painter, start: np.ndarray, end: np.ndarray, height: float):
        self.start = start
        self.length = float(np.linalg.norm(end - start))
        self.direction = (end - start) / max(self.length, 1e-6)
        self.height = height
        corners = painter.camera.to_camera(np.stack([start, end]))
        self.depth = float(np.clip(corners[:, 2].mean(), 3.0, None))
        self.nearest = float(corners[:, 2].min())

    def rectangle(self, u1: Metres, u2: Metres, y1: Metres, y2: Metres) -> np.ndarray:
        """Corners ``(..., 4, 3)`` of rectangles on the wall."""
        u = np.stack(np.broadcast_arrays(np.asarray(u1, float), u2, u2, u1), axis=-1)
        y = np.stack(np.broadcast_arrays(np.asarray(y1, float), y1, y2, y2), axis=-1)
        return self.start + u[..., None] * self.direction + y[..., None] * np.array([0.0, 1.0, 0.0])


def draw_building(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a building: its end wall that faces us, then its street front."""
    length, height, side = actor.size
    if actor.s + length < 1.0:
        return
    rng = np.random.default_rng(actor.seed)
    road = layout.road
    near, far = road.place(actor.s, actor.d), road.place(actor.s + length, actor.d)
    outer = near + np.array([side * DEEP, 0.0, 0.0])
    front = _Wall(painter, near, far, height)
    gable = _Wall(painter, near, outer, height) if side > 0 else _Wall(painter, outer, near, height)
    painter.begin()
    if actor.model == "house":
        _draw_house(painter, gable, front, side, rng)
    else:
        _draw_block(painter, gable, front, side, rng)
    painter.end()


def _draw_block(painter: Painter, gable: _Wall, front: _Wall, side: float, rng: np.random.Generator) -> None:
    wall = _WALLS[int(rng.integers(len(_WALLS)))]
    bay, glass = rng.uniform(2.0, 3.4), rng.uniform(0.35, 0.62)
    shops = bool(rng.random() < 0.6)
    sunny = 0.95 if (side < 0) == (painter.air.sun > 0.35) else 0.72
    for face, light in ((gable, 1.5 - sunny - 0.1), (front, sunny)):
        if face is gable and gable.nearest < 0.5:
            continue
        painter.polygon(
            face.rectangle(0, face.length, 0, face.height),
            wall,
            face.depth,
            light,
            claim=True,
            low_light=light * 0.78,
        )
        _draw_windows(
            painter, face, bay if face is front else bay * 1.7, glass, shops and face is front, light, rng
        )
        trim = tuple(min(255, c * 1.18) for c in wall)
        painter.polygon(
            face.rectangle(0, face.length, face.height - 0.5, face.height), trim, face.depth, light
        )
        dark_line = face.rectangle(0, face.length, face.height - 0.62, face.height - 0.5)
        painter.polygon(dark_line, (30, 28, 28), face.depth, light, alpha=0.5)
    if shops:
        _draw_shops(painter, front, rng)


def _draw_windows(
    painter: Painter,
    wall: _Wall,
    bay: float,
    glass: float,
    shops: bool,
    light: float,
    rng: np.random.Generator,
) -> None:
    floors = int((wall.height - 1.0) / FLOOR)
    bays = int(wall.length / bay)
    if wall.depth > 130 or floors < 1 or bays < 1:
        return
    u, y = np.meshgrid(
        (np.arange(bays) + 0.5 - glass / 2) * bay, 0.9 + np.arange(1 if shops else 0, floors) * FLOOR
    )
    u, y = u.ravel(), y.ravel()
    if not len(u):
        return
    panes = wall.rectangle(u, u + glass * bay, y, y + 1.8)
    if wall.depth < 60:
        painter.polygons(
            wall.rectangle(u - 0.08, u + glass * bay + 0.08, y - 0.14, y), (214, 208, 198), wall.depth, light
        )
    lit = rng.random(len(panes)) < (rng.uniform(0.08, 0.45) if painter.air.brightness < 0.55 else 0.0)
    shine = (rng.random(len(panes)) < 0.3) & ~lit
    painter.polygons(panes[~lit & ~shine], _WINDOW, wall.depth, light * 0.85)
    painter.polygons(panes[shine], tuple(0.5 * c + 40 for c in painter.air.sky[1]), wall.depth, 0.8)
    painter.lit_polygons(panes[lit], _LAMPLIGHT[int(rng.integers(len(_LAMPLIGHT)))], wall.depth, alpha=0.75)
    if wall.depth < 45:
        middle = u + glass * bay / 2
        painter.polygons(
            wall.rectangle(middle - 0.04, middle + 0.04, y, y + 1.8), (196, 192, 186), wall.depth, light
        )


def _draw_shops(painter: Painter, wall: _Wall, rng: np.random.Generator) -> None:
    """Shop windows on the ground floor, each with a board above and perhaps an awning."""
    u = 0.4
    while u + 3.5 < wall.length:
        width = min(rng.uniform(4.0, 8.0), wall.length - u - 0.3)
        board = _SIGNS[int(rng.integers(len(_SIGNS)))]
        open_now = painter.air.brightness < 0.55 and rng.random() < 0.65
        pane = wall.rectangle(u + 0.2, u + width - 0.2, 0.5, 2.5)
        if open_now:
            lamplight = _LAMPLIGHT[int(rng.integers(len(_LAMPLIGHT)))]
            painter.lit_polygon(pane, lamplight, wall.depth, alpha=0.85)
            painter.glow(pane.mean(0), 3.0, lamplight, 0.35)
        else:
            painter.polygon(pane, (46, 52, 60), wall.depth, 0.9, low_light=0.5)
        sign = wall.rectangle(u, u + width, 2.7, 3.3)
        if open_now and rng.random() < 0.5:
            painter.lit_polygon(sign, board, wall.depth, alpha=0.9)
        else:
            painter.polygon(sign, board, wall.depth, 0.9)
        if wall.depth < 60:
            _draw_lettering(painter, wall, u, width, board, rng)
        if rng.random() < 0.35:
            awning = wall.rectangle(u, u + width, 2.3, 2.75)
            outward = np.array([-np.sign(awning[0, 0] or 1.0) * 0.9, 0.0, 0.0])
            awning[:2] += outward
            painter.polygon(
                awning, _SIGNS[int(rng.integers(len(_SIGNS)))], wall.depth, 0.95, claim=True, low_light=0.7
            )
        if rng.random() < 0.8:
            door = u + width - 1.4
            painter.polygon(wall.rectangle(door, door + 0.95, 0.0, 2.2), (40, 38, 38), wall.depth, 0.8)
        u += width + rng.uniform(0.1, 0.5)


def _draw_lettering(
    painter: Painter, wall: _Wall, u: float, width: float, board: Colour, rng: np.random.Generator
) -> None:
    ink = (240, 236, 226) if sum(board) < 420 else (50, 44, 44)
    letters = np.arange(u + 0.15 * width, u + 0.85 * width, 0.42)
    letters = letters[rng.random(len(letters)) < 0.85]
    painter.polygons(wall.rectangle(letters, letters + 0.26, 2.86, 3.14), ink, wall.depth, 0.9, alpha=0.8)


def _draw_house(painter: Painter, gable: _Wall, front: _Wall, side: float, rng: np.random.Generator) -> None:
    siding = (
        _SIDINGS[int(rng.integers(len(_SIDINGS)))] if rng.random() < 0.7 else _WALLS[int(rng.integers(3))]
    )
    snow = 0.85 * painter.air.snow
    roof = tuple(c * (1 - snow) + 228 * snow for c in _ROOFS[int(rng.integers(len(_ROOFS)))])
    eaves = min(front.height * 0.62, 6.2)
    ridge = eaves + rng.uniform(2.0, 3.4)
    up = np.array([0.0, 1.0, 0.0])
    half_deep = np.array([side * DEEP / 2, 0.0, 0.0])
    if gable.nearest > 0.5:
        _draw_gable(painter, gable, siding, eaves, ridge, rng)
    wall = front.rectangle(0, front.length, 0, eaves)
    painter.polygon(wall, siding, front.depth, 0.92, claim=True, low_light=0.8)
    _draw_boards(painter, front, eaves)
    slope = front.rectangle(-0.3, front.length + 0.3, eaves - 0.1, eaves - 0.1)
    slope[2:] += half_deep + up * (ridge - eaves)
    painter.polygon(slope, roof, front.depth, 0.95, claim=True)
    painter.polygon(
        front.rectangle(-0.3, front.length + 0.3, eaves - 0.28, eaves - 0.1), _TRIM, front.depth, 0.9
    )
    _draw_windows(painter, _low(painter, front, eaves), 2.4, 0.42, False, 0.9, rng)
    door = rng.uniform(0.2, 0.7) * front.length
    painter.polygon(front.rectangle(door - 0.2, door + 1.2, 0, 2.4), _TRIM, front.depth, 0.9)
    painter.polygon(
        front.rectangle(door, door + 1.0, 0, 2.2), _SIGNS[int(rng.integers(len(_SIGNS)))], front.depth, 0.7
    )


def _low(painter: Painter, wall: _Wall, height: float) -> _Wall:
    """The same wall, only so high."""
    return _Wall(painter, wall.start, wall.start + wall.direction * wall.length, height)


def _draw_gable(
    painter: Painter, wall: _Wall, siding: Colour, eaves: float, ridge: float, rng: np.random.Generator
) -> None:
    """The end wall of a house up to the ridge, with boards, windows and white trim along the roof."""
    base = wall.rectangle(0, wall.length, 0, eaves)
    peak = (base[2] + base[3]) / 2 + np.array([0.0, ridge - eaves, 0.0])
    painter.polygon(
        np.stack([*base[:3], peak, base[3]]), siding, wall.depth, 0.78, claim=True, low_light=0.66
    )
    _draw_boards(painter, wall, eaves)
    painter.strokes([np.stack([base[3], peak, base[2]])], 0.22, _TRIM, wall.depth, 0.85)
    _draw_windows(painter, _low(painter, wall, eaves), 3.1, 0.36, False, 0.8, rng)
    attic = wall.rectangle(wall.length / 2 - 0.5, wall.length / 2 + 0.5, eaves + 0.2, eaves + 1.3)
    painter.polygon(attic, _WINDOW, wall.depth, 0.75)


def _draw_boards(painter: Painter, wall: _Wall, height: float) -> None:
    if wall.depth < 45:
        y = np.arange(0.4, height, 0.4)
        painter.polygons(wall.rectangle(0.0, wall.length, y, y + 0.05), (30, 30, 30), wall.depth, alpha=0.16)
