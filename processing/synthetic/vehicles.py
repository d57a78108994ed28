"""Draw vehicles: each side profile drawn out across its width, with windows, wheels and lamps on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .camera import FRAME_WIDTH, NEAR
from .painter import Colour, Painter
from .plan import Actor, Layout
from .vehicle_models import BOX, MODELS, PICKUP, WORK_PAINTS, Hull, Model

Numbers = float | Sequence[float]

TRIMMED = 42.0  # metres: beyond, a vehicle is so small that it gets no trim

_GLASS = (64, 74, 84)
_TYRE = (26, 26, 28)
_BLACK = (24, 24, 26)


class _Placed:
    """A vehicle's own axes (across, height, along) in the world, and where the camera is in them."""

    def __init__(self, painter: Painter, centre: np.ndarray, heading: float):
        cos, sin = math.cos(heading), math.sin(heading)
        self.axes = np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
        self.centre = centre
        offset = self.axes @ (painter.camera.position - centre)
        self.camera_across, self.camera_height, self.camera_along = offset.tolist()
        self.depth = max(1.0, float(painter.camera.to_camera(centre)[2]))

    @property
    def far(self) -> bool:
        """True when the vehicle is too small for trim."""
        return self.depth > TRIMMED

    @property
    def near_side(self) -> float:
        """-1 when the camera looks at the left flank, 1 when at the right one."""
        return 1.0 if self.camera_across > 0 else -1.0

    def world(self, local: np.ndarray) -> np.ndarray:
        """Local points ``(..., 3)`` as (across, height, along) to world points."""
        return self.centre + local @ self.axes


def draw_vehicle(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a car, truck, bus or train and label it."""
    rng = np.random.default_rng(actor.seed)
    model = MODELS[actor.model]
    paint = model.paints[int(rng.integers(len(model.paints)))]
    placed = _Placed(painter, layout.road.place(actor.s, actor.d), actor.heading)
    if _out_of_sight(painter, placed, model):
        return
    _draw_shadow(painter, placed, model)
    painter.begin(model.category)
    _draw_tyre_treads(painter, placed, model)
    if model.category == "car":
        _draw_mirrors(painter, placed, model.hulls[0], paint)
    hulls = sorted(model.hulls, key=lambda hull: -abs(hull.start + hull.length / 2 - placed.camera_along))
    for hull in hulls:
        is_load = hull.profile is BOX
        body = WORK_PAINTS[int(rng.integers(3))] if is_load else paint
        with painter.rounded(placed.world(_outline(hull)), 0.05 if is_load else 0.16, placed.depth):
            _draw_faces(painter, placed, hull, body)
            _draw_flank(painter, placed, hull, body, model)
            if hull is model.hulls[0] and placed.camera_along < hull.start:
                _draw_rear(painter, placed, hull, model, actor.state, rng)
            if hull is model.hulls[-1] and placed.camera_along > hull.start + hull.length:
                _draw_front(painter, placed, hull, model, actor.state)
    _draw_wheels(painter, placed, model)
    if actor.model == "taxi":
        sign = np.array([[-0.35, 1.48, -0.2], [0.35, 1.48, -0.2], [0.3, 1.64, -0.2], [-0.3, 1.64, -0.2]])
        painter.polygon(placed.world(sign), (236, 230, 200), placed.depth, claim=True)
    painter.end()


def _out_of_sight(painter: Painter, placed: _Placed, model: Model) -> bool:
    """True when the vehicle's surrounding sphere is behind the lens or beside the frame."""
    start, end = model.ends
    radius = (end - start) / 2 + 1.0
    across, _, ahead = painter.camera.to_camera(placed.centre)
    edge = FRAME_WIDTH / 2 / painter.camera.focal
    return bool(ahead + radius < NEAR or abs(across) - radius > edge * (ahead + radius))


def _on_hull(hull: Hull, along: Numbers, share: Numbers, side: Numbers) -> np.ndarray:
    """Points ``(n, 3)`` on the hull: shares of its length and height, side from -1 to 1 of its width there.

    Each is a number or a sequence; plain floats, because arrays of four are slower than loops.
    """
    count = max(1 if isinstance(value, float) else len(value) for value in (along, share, side))
    rows = zip(
        *([value] * count if isinstance(value, float) else value for value in (along, share, side)),
        strict=True,
    )
    points = []
    for a, y, x in rows:
        above_belt = min(max((y - hull.belt) / max(1e-6, 1.0 - hull.belt), 0.0), 1.0)
        half = hull.width / 2 * (1.0 - (1.0 - hull.lean) * above_belt)
        points.append(
            (x * half, hull.bottom + y * (hull.height - hull.bottom), hull.start + (a + 0.5) * hull.length)
        )
    return np.array(points)


def _outline(hull: Hull) -> np.ndarray:
    """All corners of the hull in local axes ``(2 * corners, 3)``."""
    along, share = zip(*hull.profile, strict=True)
    return np.concatenate([_on_hull(hull, along, share, side) for side in (-1.0, 1.0)])


_ROUND = np.linspace(0, 2 * math.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.zeros(16), np.sin(_ROUND), np.cos(_ROUND)], axis=-1)
_PATCH = np.stack([np.sign(np.cos(_ROUND)) * np.abs(np.cos(_ROUND)) ** 0.4,
                   np.sign(np.sin(_ROUND)) * np.abs(np.sin(_ROUND)) ** 0.4])  # fmt: skip


def _draw_shadow(painter: Painter, placed: _Placed, model: Model) -> None:
    start, end = model.ends
    half = model.width / 2
    for grow, alpha in ((0.1, 0.5),) if placed.far else ((0.5, 0.16), (0.25, 0.25), (0.0, 0.5)):
        across = _PATCH[0] * (half + grow)
        along = (start + end) / 2 + _PATCH[1] * ((end - start) / 2 + grow)
        local = np.stack([across, np.zeros(16), along], axis=-1)
        painter.polygon(placed.world(local), (10, 10, 12), placed.depth, alpha=alpha)


def _draw_faces(painter: Painter, placed: _Placed, hull: Hull, rgb: Colour) -> None:
    """Fill the faces across the width that look at the camera: boot, rear window, roof, bonnet ..."""
    shares_along, shares_up = zip(*hull.profile, strict=True)
    corners = [_on_hull(hull, shares_along, shares_up, side) for side in (-1.0, 1.0)]
    height, along = corners[0][:, 1].tolist(), corners[0][:, 2].tolist()
    faces = []
    for i in range(len(along) - 1):
        back, up = height[i] - height[i + 1], along[i + 1] - along[i]  # the outward normal
        if back * (placed.camera_along - along[i]) + up * (placed.camera_height - height[i]) > 0:
            upward = up / (math.hypot(back, up) + 1e-9)
            faces.append((abs((along[i] + along[i + 1]) / 2 - placed.camera_along), i, upward))
    for _, i, upward in sorted(faces, reverse=True):
        quad = np.stack([corners[0][i], corners[0][i + 1], corners[1][i + 1], corners[1][i]])
        light = 0.74 + 0.34 * upward
        rear_light = None if placed.far or upward > 0.5 else light * 0.78
        painter.polygon(placed.world(quad), rgb, placed.depth, light, claim=True, low_light=rear_light)
        if i in hull.glass:
            middle = quad.mean(0)
            inset = middle + (quad - middle) * np.array([0.88, 0.84, 0.84])
            painter.polygon(placed.world(inset), _GLASS, placed.depth, 1.0, low_light=0.42)
        elif painter.air.snow > 0.35 and upward > 0.5:
            painter.polygon(placed.world(quad), (226, 230, 236), placed.depth, 0.9, alpha=0.8)


def _draw_flank(painter: Painter, placed: _Placed, hull: Hull, rgb: Colour, model: Model) -> None:
    """Fill the side that looks at the camera: sheet metal, sill, windows, doors."""
    if abs(placed.camera_across) < hull.width * 0.4:
        return
    side, depth = placed.near_side, placed.depth
    along, up = zip(*hull.profile, strict=True)
    face = _on_hull(hull, along, up, side)
    painter.polygon(
        placed.world(face),
        rgb,
        depth,
        0.8 if placed.far else 0.95,
        claim=True,
        low_light=None if placed.far else 0.58,
    )
    sill = _on_hull(hull, (-0.5, 0.5, 0.5, -0.5), (0.0, 0.0, 0.1, 0.1), side)
    painter.polygon(placed.world(sill), _BLACK, depth, 1.0, alpha=0.75)
    for window in hull.side_glass:
        along, up = zip(*window, strict=True)
        glass = _on_hull(hull, along, up, side)
        painter.polygon(placed.world(glass), _GLASS, depth, 0.95, low_light=0.6)
    if depth > 22 or not hull.side_glass:
        return
    if model.category == "car":
        doors = [-0.24, -0.02, 0.19]
        lines = [placed.world(_on_hull(hull, a, (0.12, 0.62), side)) for a in doors]
        painter.strokes(lines, 0.012, _BLACK, depth)
        handles = [placed.world(_on_hull(hull, (a, a + 0.035), 0.54, side)) for a in (-0.08, 0.10)]
        painter.strokes(handles, 0.03, _BLACK, depth)


def _draw_tyre_treads(painter: Painter, placed: _Placed, model: Model) -> None:
    """Tyres below the body, seen from behind or in front."""
    start, end = model.ends
    half = model.width / 2
    for axle in sorted(
        model.axles, key=lambda a: -abs(start + (a + 0.5) * (end - start) - placed.camera_along)
    ):
        along = start + (axle + 0.5) * (end - start)
        for side in (-1.0, 1.0):
            inner, outer = side * (half - 0.28), side * (half - 0.04)
            across = np.array([inner, outer, outer, inner])
            height = np.array([0.0, 0.0, 2.0, 2.0]) * model.wheel
            tyre = np.stack([across, height, np.full(4, along)], axis=-1)
            painter.polygon(placed.world(tyre), _TYRE, placed.depth, 0.8, claim=True)


_RINGS = ((1.16, (12, 12, 13)), (1.0, _TYRE), (0.66, (158, 160, 164)), (0.52, (78, 80, 84)))
"""Radius, in wheels, and colour: wheel arch, tyre, rim, and what is behind its spokes."""


def _draw_wheels(painter: Painter, placed: _Placed, model: Model) -> None:
    half = model.width / 2
    if abs(placed.camera_across) < half:
        return
    start, end = model.ends
    for axle in model.axles:
        centre = np.array([placed.near_side * half, model.wheel, start + (axle + 0.5) * (end - start)])
        for radius, rgb in _RINGS[1:3] if placed.far else _RINGS:
            ring = placed.world(centre + _CIRCLE * model.wheel * radius)
            painter.polygon(ring, rgb, placed.depth, 0.85, claim=radius == 1.0)
        if placed.depth < 25:
            spokes = [
                placed.world(np.stack([centre, centre + _CIRCLE[i] * model.wheel * 0.6]))
                for i in (0, 3, 6, 10, 13)
            ]
            painter.strokes(spokes, 0.03, (150, 152, 156), placed.depth, 0.85)


def _draw_mirrors(painter: Painter, placed: _Placed, hull: Hull, rgb: Colour) -> None:
    if placed.depth > 30:
        return
    for side in (-1.0, 1.0):
        root = _on_hull(hull, 0.17, 0.66, side)[0]
        across = root[0] + side * np.array([0.0, 0.17, 0.17, 0.0])
        height = root[1] + np.array([0.0, 0.0, 0.13, 0.13])
        painter.polygon(
            placed.world(np.stack([across, height, np.full(4, root[2])], axis=-1)), rgb, placed.depth, 0.6
        )


def _panel(hull: Hull, along: float, x1: float, x2: float, y1: float, y2: float) -> np.ndarray:
    """A rectangle on the rear or front face ``(4, 3)``, in shares of half the width and of the height."""
    return _on_hull(hull, along, (y1, y1, y2, y2), (x1, x2, x2, x1))


def _draw_rear(
    painter: Painter, placed: _Placed, hull: Hull, model: Model, state: str, rng: np.random.Generator
) -> None:
    depth = placed.depth
    back = -0.502
    is_car = model.category == "car" or hull.profile is PICKUP
    if placed.far:
        _draw_rear_lamps(painter, placed, hull, is_car, state, rng)
        return
    if is_car:
        painter.polygon(placed.world(_panel(hull, back, -1, 1, 0.0, 0.13)), _BLACK, depth)
        painter.polygon(placed.world(_panel(hull, back, -1, 1, 0.26, 0.28)), _BLACK, depth, alpha=0.4)
        painter.polygon(placed.world(_panel(hull, back, -0.3, 0.3, 0.36, 0.52)), _BLACK, depth, alpha=0.35)
    elif hull.profile is BOX:
        frame = [placed.world(_panel(hull, back, x, x + 0.01, 0.03, 0.97)) for x in (-0.96, -0.01, 0.95)]
        for bar in frame:
            painter.polygon(bar, (90, 90, 92), depth)
        painter.polygon(
            placed.world(_panel(hull, back, -1, 1, -0.12, -0.05)), (70, 70, 72), depth, claim=True
        )
        painter.polygon(placed.world(_panel(hull, back, -1, 1, 0.0, 0.02)), (190, 60, 50), depth)
    else:
        painter.polygon(placed.world(_panel(hull, back, -0.8, 0.8, 0.08, 0.3)), _BLACK, depth, alpha=0.5)
    _draw_rear_lamps(painter, placed, hull, is_car, state, rng)
    plate = (
        _panel(hull, back, -0.18, 0.18, 0.38, 0.5) if is_car else _panel(hull, back, -0.1, 0.1, 0.02, 0.07)
    )
    painter.polygon(
        placed.world(plate), ((226, 222, 208), (226, 178, 60))[int(rng.random() < 0.4)], depth, 0.95
    )


def _draw_rear_lamps(
    painter: Painter, placed: _Placed, hull: Hull, is_car: bool, state: str, rng: np.random.Generator
) -> None:
    braking = state == "braking"
    lit = braking or (state != "parked" and painter.air.dark)
    upright = is_car and rng.random() < 0.4
    inner, low, high = (0.80, 0.36, 0.62) if upright else (0.60, 0.45, 0.59)
    if not is_car:
        inner, low, high = 0.84, 0.05, 0.16
    for side in (-1.0, 1.0):
        lamp = placed.world(_panel(hull, -0.503, side * inner, side * 0.97, low, high))
        if not lit:
            painter.polygon(lamp, (196, 30, 28), placed.depth, 0.95, low_light=0.6)
            continue
        rgb = (255, 52, 40) if braking else (206, 26, 22)
        painter.lit_polygon(lamp, rgb, placed.depth)
        painter.glow(lamp.mean(0), 0.55 if braking else 0.38, (255, 40, 24), 0.95 if braking else 0.6)
    if braking and is_car:
        painter.lit_polygon(
            placed.world(_panel(hull, -0.46, -0.16, 0.16, 0.9, 0.93)), (255, 60, 48), placed.depth
        )


def _draw_front(painter: Painter, placed: _Placed, hull: Hull, model: Model, state: str) -> None:
    depth, nose = placed.depth, 0.502
    _draw_headlamps(painter, placed, hull, state)
    if placed.far:
        return
    painter.polygon(placed.world(_panel(hull, nose, -1, 1, 0.0, 0.09)), _BLACK, depth)
    painter.polygon(
        placed.world(_panel(hull, nose, -0.5, 0.5, 0.20, 0.34)), _BLACK, depth, 1.2, low_light=0.8
    )
    painter.polygon(placed.world(_panel(hull, nose, -0.75, 0.75, 0.09, 0.15)), _BLACK, depth, 1.1)
    painter.polygon(placed.world(_panel(hull, 0.503, -0.17, 0.17, 0.13, 0.21)), (222, 214, 190), depth, 0.9)
    if model.category == "bus":
        painter.lit_polygon(placed.world(_panel(hull, 0.5, -0.6, 0.6, 0.88, 0.96)), (250, 150, 40), depth)


def _draw_headlamps(painter: Painter, placed: _Placed, hull: Hull, state: str) -> None:
    lit = state != "parked" and (painter.air.dark or painter.air.density > 0.006)
    for side in (-1.0, 1.0):
        lamp = placed.world(_panel(hull, 0.503, side * 0.60, side * 0.97, 0.25, 0.36))
        if lit:
            painter.lit_polygon(lamp, (255, 252, 236), placed.depth)
            painter.glow(lamp.mean(0), 1.1 if painter.air.dark else 0.6, (255, 244, 220), 1.0)
        else:
            painter.polygon(lamp, (226, 230, 234), placed.depth, 1.05, low_light=0.6)
