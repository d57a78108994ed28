"""Vehicles: a side profile drawn out across its width, with windows, wheels and lamps on it.

A profile is a list of (along, height) points, rear bumper first, over the roof to the front bumper; `along` runs from
-0.5 (rear) to 0.5 (front) of the length and `height` from 0 to 1 of the height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .layout import Actor, Layout
from .painter import Painter

Point = tuple[float, float]


@dataclass(frozen=True)
class Hull:
    """One extruded body of a vehicle.

    Args:
        start: Rear end in metres from the vehicle's middle.
        length: Length in metres.
        width: Width in metres.
        bottom: Height of the underside above the road in metres.
        height: Height of the roof above the road in metres.
        profile: Side profile in shares of length and height.
        glass: Indices of the profile's edges that are windows across the width.
        side_glass: Polygons of the side windows, in shares of length and height.
        belt: Height share above which the body leans inwards.
        lean: Width of the roof as a share of the body's width.
    """

    start: float
    length: float
    width: float
    bottom: float
    height: float
    profile: tuple[Point, ...]
    glass: tuple[int, ...] = ()
    side_glass: tuple[tuple[Point, ...], ...] = ()
    belt: float = 0.62
    lean: float = 0.80


@dataclass(frozen=True)
class Model:
    """A kind of vehicle: its BDD100K category, its hulls (rear first), axles and paints."""

    category: str
    hulls: tuple[Hull, ...]
    wheel: float
    axles: tuple[float, ...]
    lamp_height: float
    paints: tuple[tuple[int, int, int], ...]
    stripes: str = ""


_PAINTS = (
    (228, 228, 226), (222, 222, 224), (40, 42, 46), (30, 31, 34), (58, 60, 64), (120, 123, 128), (166, 169, 172),
    (92, 96, 102), (134, 32, 30), (36, 54, 96), (44, 70, 112), (96, 88, 76), (40, 62, 52), (170, 160, 140),
)  # fmt: skip
_WORK_PAINTS = (
    (232, 232, 228),
    (226, 226, 222),
    (190, 190, 186),
    (168, 50, 36),
    (48, 76, 120),
    (196, 150, 50),
)

_SEDAN = (
    (-0.5, 0.0), (-0.5, 0.30), (-0.49, 0.58), (-0.33, 0.63), (-0.17, 0.95), (0.0, 1.0), (0.09, 0.97), (0.25, 0.62),
    (0.46, 0.50), (0.5, 0.36), (0.5, 0.0),
)  # fmt: skip
_SUV = (
    (-0.5, 0.0), (-0.5, 0.34), (-0.485, 0.58), (-0.42, 0.95), (-0.1, 1.0), (0.08, 0.97), (0.22, 0.62), (0.46, 0.55),
    (0.5, 0.40), (0.5, 0.0),
)  # fmt: skip
_HATCH = (
    (-0.5, 0.0), (-0.5, 0.34), (-0.47, 0.60), (-0.36, 0.95), (-0.1, 1.0), (0.10, 0.96), (0.28, 0.62), (0.46, 0.50),
    (0.5, 0.36), (0.5, 0.0),
)  # fmt: skip
_VAN = (
    (-0.5, 0.0), (-0.5, 0.28), (-0.49, 0.52), (-0.47, 0.96), (-0.3, 1.0), (0.22, 0.98), (0.38, 0.58), (0.48, 0.46),
    (0.5, 0.30), (0.5, 0.0),
)  # fmt: skip
_PICKUP = (
    (-0.5, 0.0), (-0.5, 0.30), (-0.5, 0.56), (-0.12, 0.56), (-0.09, 0.96), (0.02, 1.0), (0.12, 0.96), (0.24, 0.60),
    (0.47, 0.54), (0.5, 0.40), (0.5, 0.0),
)  # fmt: skip
_BOX = ((-0.5, 0.0), (-0.5, 1.0), (0.5, 1.0), (0.5, 0.0))
_CAB = ((-0.5, 0.0), (-0.5, 1.0), (0.05, 1.0), (0.32, 0.55), (0.5, 0.48), (0.5, 0.0))
_FLAT_CAB = ((-0.5, 0.0), (-0.5, 1.0), (0.38, 1.0), (0.5, 0.5), (0.5, 0.0))
_BUS = (
    (-0.5, 0.0),
    (-0.5, 0.42),
    (-0.495, 0.86),
    (-0.48, 1.0),
    (0.48, 1.0),
    (0.495, 0.30),
    (0.5, 0.25),
    (0.5, 0.0),
)


def _car(
    length: float, width: float, height: float, profile: tuple[Point, ...], roof: tuple[float, ...]
) -> Hull:
    """A passenger car's hull; `roof` gives along-positions of the side windows' corners and the pillar between."""
    rear_low, rear_high, pillar, front_high, front_low = roof
    windows = (
        ((rear_low, 0.64), (rear_high, 0.91), (pillar - 0.012, 0.93), (pillar - 0.012, 0.64)),
        ((pillar + 0.012, 0.64), (pillar + 0.012, 0.93), (front_high, 0.90), (front_low, 0.64)),
    )
    top = [i for i, (_, y) in enumerate(profile) if y >= 0.94]
    return Hull(-length / 2, length, width, 0.22, height, profile, (top[0] - 1, top[-1]), windows)


MODELS: dict[str, Model] = {
    "sedan": Model(
        "car", (_car(4.75, 1.84, 1.46, _SEDAN, (-0.27, -0.16, -0.02, 0.08, 0.20)),), 0.33, (-0.29, 0.30), 0.66, _PAINTS
    ),
    "taxi": Model(
        "car", (_car(4.75, 1.84, 1.48, _SEDAN, (-0.27, -0.16, -0.02, 0.08, 0.20)),), 0.33, (-0.29, 0.30), 0.66,
        ((236, 172, 24), (240, 180, 40)), "taxi",
    ),
    "suv": Model(
        "car", (_car(4.7, 1.92, 1.74, _SUV, (-0.43, -0.38, -0.04, 0.07, 0.18)),), 0.37, (-0.29, 0.30), 0.66, _PAINTS
    ),
    "hatchback": Model(
        "car", (_car(4.1, 1.76, 1.50, _HATCH, (-0.38, -0.31, -0.02, 0.09, 0.22)),), 0.31, (-0.31, 0.31), 0.66, _PAINTS
    ),
    "van": Model(
        "car", (_car(5.2, 2.0, 2.05, _VAN, (-0.42, -0.42, 0.06, 0.20, 0.32)),), 0.35, (-0.30, 0.31), 0.55, _WORK_PAINTS
    ),
    "pickup": Model(
        "truck", (_car(5.6, 1.98, 1.86, _PICKUP, (-0.09, -0.07, 0.02, 0.11, 0.19)),), 0.40, (-0.29, 0.31), 0.60, _PAINTS
    ),
    "box_truck": Model(
        "truck",
        (
            Hull(-4.0, 5.6, 2.4, 0.75, 3.35, _BOX, belt=1.0, lean=1.0),
            Hull(1.7, 2.3, 2.15, 0.45, 2.45, _CAB, (2,), (((-0.35, 0.58), (-0.35, 0.92), (0.02, 0.92), (0.22, 0.58)),), 0.6, 0.9),
        ),
        0.45, (-0.27, 0.36), 0.32, _WORK_PAINTS,
    ),
    "semi": Model(
        "truck",
        (
            Hull(-8.0, 12.5, 2.55, 1.05, 4.0, _BOX, belt=1.0, lean=1.0),
            Hull(4.7, 3.3, 2.4, 0.5, 3.4, _FLAT_CAB, (2,), (((-0.2, 0.55), (-0.2, 0.85), (0.3, 0.85), (0.36, 0.55)),), 0.6, 0.95),
        ),
        0.5, (-0.42, -0.34, 0.22, 0.40), 0.25, _WORK_PAINTS,
    ),
    "bus": Model(
        "bus",
        (
            Hull(
                -6.0, 12.0, 2.55, 0.32, 3.1, _BUS, (1, 4),
                tuple(((-0.46 + i * 0.155, 0.42), (-0.46 + i * 0.155, 0.86), (-0.33 + i * 0.155, 0.86), (-0.33 + i * 0.155, 0.42)) for i in range(6)),
                0.9, 0.96,
            ),
        ),
        0.48, (-0.27, 0.27), 0.24, ((226, 228, 230), (222, 226, 234), (210, 70, 40), (60, 120, 150)),
    ),
    "tram": Model(
        "train",
        (
            Hull(
                -12.0, 24.0, 2.65, 0.3, 3.5, _BUS, (1, 4),
                tuple(((-0.47 + i * 0.08, 0.42), (-0.47 + i * 0.08, 0.82), (-0.405 + i * 0.08, 0.82), (-0.405 + i * 0.08, 0.42)) for i in range(12)),
                0.9, 0.96,
            ),
        ),
        0.4, (-0.4, -0.33, 0.33, 0.4), 0.2, ((214, 214, 216), (170, 40, 44)),
    ),
}  # fmt: skip

_GLASS = (52, 60, 68)
_TYRE = (26, 26, 28)


class _Placed:
    """A vehicle's frame in the world: local (across, height, along) to world points, and the camera seen from it."""

    def __init__(self, painter: Painter, centre: np.ndarray, heading: float):
        self.right = np.array([math.cos(heading), 0.0, -math.sin(heading)])
        self.ahead = np.array([math.sin(heading), 0.0, math.cos(heading)])
        self.centre = centre
        offset = painter.camera.position - centre
        self.camera_across = float(offset @ self.right)
        self.camera_along = float(offset @ self.ahead)
        self.camera_height = float(offset[1])
        self.depth = max(1.0, float(painter.camera.to_camera(centre)[2]))

    def world(self, local: np.ndarray) -> np.ndarray:
        """Local points ``(..., 3)`` as (across, height, along) to world points."""
        return (
            self.centre
            + local[..., 0:1] * self.right
            + local[..., 1:2] * np.array([0.0, 1.0, 0.0])
            + local[..., 2:3] * self.ahead
        )


def draw_vehicle(painter: Painter, actor: Actor, layout: Layout) -> None:
    """Draw a car, truck, bus or train and label it."""
    rng = np.random.default_rng(actor.seed)
    model = MODELS[actor.model]
    paint = model.paints[int(rng.integers(len(model.paints)))]
    placed = _Placed(painter, layout.road.place(actor.s, actor.d), actor.heading)
    _draw_shadow(painter, placed, model)
    painter.begin(model.category)
    hulls = sorted(model.hulls, key=lambda hull: -abs(hull.start + hull.length / 2 - placed.camera_along))
    _draw_far_wheels(painter, placed, model)
    for i, hull in enumerate(hulls):
        body = paint if not (len(hulls) > 1 and hull.profile is _BOX) else _WORK_PAINTS[int(rng.integers(3))]
        _draw_hull(painter, placed, hull, body)
        if hull.start == min(h.start for h in hulls):
            _draw_rear(painter, placed, hull, model, actor.state)
        if hull.start == max(h.start for h in hulls):
            _draw_front(painter, placed, hull, model, actor.state)
        if i == len(hulls) - 1:
            _draw_near_wheels(painter, placed, model)
    if actor.model == "taxi":
        sign = np.array([[-0.35, 1.48, -0.2], [0.35, 1.48, -0.2], [0.3, 1.64, -0.2], [-0.3, 1.64, -0.2]])
        painter.polygon(placed.world(sign), (236, 230, 200), placed.depth, claim=True)
    painter.end()


def _half_width(hull: Hull, share: np.ndarray | float) -> np.ndarray:
    lean = 1.0 - (1.0 - hull.lean) * np.clip(
        (np.asarray(share) - hull.belt) / max(1e-6, 1.0 - hull.belt), 0, 1
    )
    return hull.width / 2 * lean


def _at(hull: Hull, along: float, share: float, side: float, out: float = 0.0) -> tuple[float, float, float]:
    """A point on the hull: shares of length and height, side -1..1 of the width there."""
    height = hull.bottom + share * (hull.height - hull.bottom)
    across = side * (float(_half_width(hull, share)) + out)
    return across, height, hull.start + (along + 0.5) * hull.length


def _draw_shadow(painter: Painter, placed: _Placed, model: Model) -> None:
    start = min(h.start for h in model.hulls)
    end = max(h.start + h.length for h in model.hulls)
    half = max(h.width for h in model.hulls) / 2
    for grow, alpha in ((0.35, 0.25), (0.1, 0.45)):
        turn = np.linspace(0, 2 * math.pi, 16, endpoint=False)
        square = (
            np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.4,
            np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** 0.4,
        )
        local = np.stack(
            [
                square[0] * (half + grow),
                np.zeros(16),
                (start + end) / 2 + square[1] * ((end - start) / 2 + grow),
            ],
            axis=-1,
        )
        painter.polygon(placed.world(local), (10, 10, 12), placed.depth, alpha=alpha)


def _draw_hull(painter: Painter, placed: _Placed, hull: Hull, rgb: tuple[int, int, int]) -> None:
    profile = np.array(hull.profile)
    along = hull.start + (profile[:, 0] + 0.5) * hull.length
    height = hull.bottom + profile[:, 1] * (hull.height - hull.bottom)
    half = _half_width(hull, profile[:, 1])
    edges = []
    for i in range(len(profile) - 1):
        normal = np.array([height[i] - height[i + 1], along[i + 1] - along[i]])  # (along, height), outwards
        normal = normal / (np.linalg.norm(normal) + 1e-9)
        to_camera = np.array([placed.camera_along - along[i], placed.camera_height - height[i]])
        if normal @ to_camera > 0:
            edges.append((abs((along[i] + along[i + 1]) / 2 - placed.camera_along), i, normal))
    for _, i, normal in sorted(edges, key=lambda edge: -edge[0]):
        quad = np.array(
            [
                [-half[i], height[i], along[i]],
                [-half[i + 1], height[i + 1], along[i + 1]],
                [half[i + 1], height[i + 1], along[i + 1]],
                [half[i], height[i], along[i]],
            ]
        )
        light = 0.72 + 0.34 * normal[1]
        painter.polygon(placed.world(quad), rgb, placed.depth, light, claim=True)
        if i in hull.glass:
            middle = quad.mean(0)
            inset = middle + (quad - middle) * np.array([0.88, 0.84, 0.84])
            painter.polygon(placed.world(inset), _GLASS, placed.depth, 0.6 + 0.6 * max(normal[1], 0.0))
    side = 1.0 if placed.camera_across > 0 else -1.0
    if abs(placed.camera_across) > hull.width * 0.4:
        face = np.stack([side * half, height, along], axis=-1)
        painter.polygon(placed.world(face), rgb, placed.depth, 0.82, claim=True)
        sill = np.array(
            [
                _at(hull, -0.5, 0.0, side),
                _at(hull, 0.5, 0.0, side),
                _at(hull, 0.5, 0.1, side),
                _at(hull, -0.5, 0.1, side),
            ]
        )
        painter.polygon(placed.world(sill), rgb, placed.depth, 0.42)
        for window in hull.side_glass:
            corners = np.array([_at(hull, a, y, side, 0.01) for a, y in window])
            painter.polygon(placed.world(corners), _GLASS, placed.depth, 0.75)


def _draw_far_wheels(painter: Painter, placed: _Placed, model: Model) -> None:
    """Tyres below the bumper, seen from behind or in front."""
    start = min(h.start for h in model.hulls)
    length = max(h.start + h.length for h in model.hulls) - start
    half = max(h.width for h in model.hulls) / 2
    for axle in model.axles:
        along = start + (axle + 0.5) * length
        for side in (-1.0, 1.0):
            tyre = np.array(
                [
                    [side * (half - 0.28), 0.0, along],
                    [side * (half - 0.04), 0.0, along],
                    [side * (half - 0.04), 2 * model.wheel, along],
                    [side * (half - 0.28), 2 * model.wheel, along],
                ]
            )
            painter.polygon(placed.world(tyre), _TYRE, placed.depth, 0.8, claim=True)


_TURN = np.linspace(0, 2 * math.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.zeros(16), np.sin(_TURN), np.cos(_TURN)], axis=-1)


def _draw_near_wheels(painter: Painter, placed: _Placed, model: Model) -> None:
    half = max(h.width for h in model.hulls) / 2
    if abs(placed.camera_across) < half:
        return
    side = 1.0 if placed.camera_across > 0 else -1.0
    start = min(h.start for h in model.hulls)
    length = max(h.start + h.length for h in model.hulls) - start
    for axle in model.axles:
        centre = np.array([side * (half + 0.01), model.wheel, start + (axle + 0.5) * length])
        arch = centre + _CIRCLE * model.wheel * 1.14
        painter.polygon(placed.world(arch), (14, 14, 15), placed.depth, 0.7)
        painter.polygon(placed.world(centre + _CIRCLE * model.wheel), _TYRE, placed.depth, 0.9, claim=True)
        painter.polygon(
            placed.world(centre + _CIRCLE * model.wheel * 0.62), (150, 152, 156), placed.depth, 0.8
        )
        painter.polygon(placed.world(centre + _CIRCLE * model.wheel * 0.5), (84, 86, 90), placed.depth, 0.8)


def _box_on_face(hull: Hull, along: float, x1: float, x2: float, y1: float, y2: float) -> np.ndarray:
    """A rectangle on the rear or front face, in shares of half width and of height."""
    return np.array(
        [
            _at(hull, along, y1, x1),
            _at(hull, along, y1, x2),
            _at(hull, along, y2, x2),
            _at(hull, along, y2, x1),
        ]
    )


def _draw_rear(painter: Painter, placed: _Placed, hull: Hull, model: Model, state: str) -> None:
    if placed.camera_along > hull.start:
        return
    braking = state == "braking"
    running = state != "parked" and painter.air.dark
    rgb = (255, 40, 30) if braking else (190, 24, 22)
    y1, y2 = (0.42, 0.60) if model.category == "car" else (0.06, 0.14)
    painter.polygon(
        placed.world(_box_on_face(hull, -0.502, -1, 1, 0.0, 0.1)), (30, 30, 32), placed.depth, 0.8
    )
    for side in (-1.0, 1.0):
        lamp = placed.world(_box_on_face(hull, -0.503, side * 0.66, side * 0.97, y1, y2))
        if braking or running:
            painter.lit_polygon(lamp, rgb, placed.depth)
            painter.glow(lamp.mean(0), 0.45 if braking else 0.3, (255, 40, 24), 0.9 if braking else 0.6)
        else:
            painter.polygon(lamp, rgb, placed.depth, 0.8)
    plate = placed.world(
        _box_on_face(hull, -0.503, -0.18, 0.18, 0.24, 0.34)
        if model.category == "car"
        else _box_on_face(hull, -0.503, -0.12, 0.12, 0.0, 0.05)
    )
    painter.polygon(plate, (222, 214, 190), placed.depth, 0.9)


def _draw_front(painter: Painter, placed: _Placed, hull: Hull, model: Model, state: str) -> None:
    if placed.camera_along < hull.start + hull.length:
        return
    painter.polygon(placed.world(_box_on_face(hull, 0.502, -1, 1, 0.0, 0.1)), (30, 30, 32), placed.depth, 0.8)
    painter.polygon(
        placed.world(_box_on_face(hull, 0.502, -0.55, 0.55, 0.13, 0.30)), (34, 35, 38), placed.depth, 0.8
    )
    lit = state != "parked" and (painter.air.dark or painter.air.density > 0.006)
    for side in (-1.0, 1.0):
        lamp = placed.world(_box_on_face(hull, 0.503, side * 0.62, side * 0.96, 0.24, 0.36))
        if lit:
            painter.lit_polygon(lamp, (255, 252, 236), placed.depth)
            painter.glow(lamp.mean(0), 0.9, (255, 244, 214), 1.0)
        else:
            painter.polygon(lamp, (222, 226, 230), placed.depth, 1.0)
    painter.polygon(
        placed.world(_box_on_face(hull, 0.503, -0.17, 0.17, 0.12, 0.2)), (222, 214, 190), placed.depth, 0.9
    )
