"""Kinds of vehicles: what they are called, how large they are and what they look like from the side.

A profile is a list of (along, height) points, rear bumper first, over the roof to the front bumper; `along`
runs from -0.5 (rear) to 0.5 (front) of the length and `height` from 0 to 1 of the height.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """A kind of vehicle: BDD100K category, hulls (rear first), axles (shares of the length) and paints."""

    category: str
    hulls: tuple[Hull, ...]
    wheel: float
    axles: tuple[float, ...]
    paints: tuple[tuple[int, int, int], ...]

    @property
    def ends(self) -> tuple[float, float]:
        """Rear and front end in metres from the middle."""
        return min(h.start for h in self.hulls), max(h.start + h.length for h in self.hulls)

    @property
    def length(self) -> float:
        """Length in metres."""
        start, end = self.ends
        return end - start

    @property
    def width(self) -> float:
        """Width in metres, without mirrors."""
        return max(h.width for h in self.hulls)


_PAINTS = (
    (228, 228, 226), (222, 222, 224), (40, 42, 46), (30, 31, 34), (58, 60, 64), (120, 123, 128),
    (166, 169, 172), (92, 96, 102), (134, 32, 30), (36, 54, 96), (44, 70, 112), (96, 88, 76),
    (40, 62, 52), (170, 160, 140),
)  # fmt: skip
_BUS_PAINTS = ((226, 228, 230), (222, 226, 234), (210, 70, 40), (60, 120, 150))
WORK_PAINTS = (
    (232, 232, 228),
    (226, 226, 222),
    (190, 190, 186),
    (168, 50, 36),
    (48, 76, 120),
    (196, 150, 50),
)

_SEDAN = (
    (-0.5, 0.0), (-0.5, 0.30), (-0.49, 0.58), (-0.33, 0.63), (-0.17, 0.95), (0.0, 1.0), (0.09, 0.97),
    (0.25, 0.62), (0.46, 0.50), (0.5, 0.36), (0.5, 0.0),
)  # fmt: skip
_SUV = (
    (-0.5, 0.0), (-0.5, 0.34), (-0.485, 0.58), (-0.42, 0.95), (-0.1, 1.0), (0.08, 0.97), (0.22, 0.62),
    (0.46, 0.55), (0.5, 0.40), (0.5, 0.0),
)  # fmt: skip
_HATCH = (
    (-0.5, 0.0), (-0.5, 0.34), (-0.47, 0.60), (-0.36, 0.95), (-0.1, 1.0), (0.10, 0.96), (0.28, 0.62),
    (0.46, 0.50), (0.5, 0.36), (0.5, 0.0),
)  # fmt: skip
_VAN = (
    (-0.5, 0.0), (-0.5, 0.28), (-0.49, 0.52), (-0.47, 0.96), (-0.3, 1.0), (0.22, 0.98), (0.38, 0.58),
    (0.48, 0.46), (0.5, 0.30), (0.5, 0.0),
)  # fmt: skip
PICKUP = (
    (-0.5, 0.0), (-0.5, 0.30), (-0.5, 0.56), (-0.12, 0.56), (-0.09, 0.96), (0.02, 1.0), (0.12, 0.96),
    (0.24, 0.60), (0.47, 0.54), (0.5, 0.40), (0.5, 0.0),
)  # fmt: skip
BOX = ((-0.5, 0.0), (-0.5, 1.0), (0.5, 1.0), (0.5, 0.0))
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
    """A passenger car's hull; `roof` places the side windows' corners and the pillar between, along it."""
    rear_low, rear_high, pillar, front_high, front_low = roof
    windows = (
        ((rear_low, 0.64), (rear_high, 0.91), (pillar - 0.012, 0.93), (pillar - 0.012, 0.64)),
        ((pillar + 0.012, 0.64), (pillar + 0.012, 0.93), (front_high, 0.90), (front_low, 0.64)),
    )
    top = [i for i, (_, y) in enumerate(profile) if y >= 0.94]
    return Hull(-length / 2, length, width, 0.22, height, profile, (top[0] - 1, top[-1]), windows)


def _windows(count: int, low: float, high: float) -> tuple[tuple[Point, ...], ...]:
    """A row of equal side windows from end to end of a bus, between two heights."""
    pitch = 0.94 / count
    edges = [(-0.47 + i * pitch, -0.47 + (i + 0.84) * pitch) for i in range(count)]
    return tuple(((left, low), (left, high), (right, high), (right, low)) for left, right in edges)


_SEDAN_ROOF = (-0.27, -0.16, -0.02, 0.08, 0.20)
_SEDAN_HULL = _car(4.75, 1.84, 1.46, _SEDAN, _SEDAN_ROOF)
_TAXI_HULL = _car(4.75, 1.84, 1.48, _SEDAN, _SEDAN_ROOF)
_SUV_HULL = _car(4.7, 1.92, 1.74, _SUV, (-0.43, -0.38, -0.04, 0.07, 0.18))
_HATCH_HULL = _car(4.1, 1.76, 1.50, _HATCH, (-0.38, -0.31, -0.02, 0.09, 0.22))
_VAN_HULL = _car(5.2, 2.0, 2.05, _VAN, (-0.42, -0.42, 0.06, 0.20, 0.32))
_PICKUP_HULL = _car(5.6, 1.98, 1.86, PICKUP, (-0.09, -0.07, 0.02, 0.11, 0.19))
_CAB_WINDOW = (((-0.35, 0.58), (-0.35, 0.92), (0.02, 0.92), (0.22, 0.58)),)
_FLAT_CAB_WINDOW = (((-0.2, 0.55), (-0.2, 0.85), (0.3, 0.85), (0.36, 0.55)),)
_BOX_HULLS = (
    Hull(-4.0, 5.6, 2.4, 0.75, 3.35, BOX, belt=1.0, lean=1.0),
    Hull(1.7, 2.3, 2.15, 0.45, 2.45, _CAB, (2,), _CAB_WINDOW, 0.6, 0.9),
)
_SEMI_HULLS = (
    Hull(-8.0, 12.5, 2.55, 1.05, 4.0, BOX, belt=1.0, lean=1.0),
    Hull(4.7, 3.3, 2.4, 0.5, 3.4, _FLAT_CAB, (2,), _FLAT_CAB_WINDOW, 0.6, 0.95),
)
_BUS_HULL = Hull(-6.0, 12.0, 2.55, 0.32, 3.1, _BUS, (1, 4), _windows(6, 0.42, 0.86), 0.9, 0.96)
_TRAM_HULL = Hull(-12.0, 24.0, 2.65, 0.3, 3.5, _BUS, (1, 4), _windows(12, 0.42, 0.82), 0.9, 0.96)

MODELS: dict[str, Model] = {
    "sedan": Model("car", (_SEDAN_HULL,), 0.33, (-0.29, 0.30), _PAINTS),
    "taxi": Model("car", (_TAXI_HULL,), 0.33, (-0.29, 0.30), ((236, 172, 24), (240, 180, 40))),
    "suv": Model("car", (_SUV_HULL,), 0.37, (-0.29, 0.30), _PAINTS),
    "hatchback": Model("car", (_HATCH_HULL,), 0.31, (-0.31, 0.31), _PAINTS),
    "van": Model("car", (_VAN_HULL,), 0.35, (-0.30, 0.31), WORK_PAINTS),
    "pickup": Model("truck", (_PICKUP_HULL,), 0.40, (-0.29, 0.31), _PAINTS),
    "box_truck": Model("truck", _BOX_HULLS, 0.45, (-0.27, 0.36), WORK_PAINTS),
    "semi": Model("truck", _SEMI_HULLS, 0.5, (-0.42, -0.34, 0.22, 0.40), WORK_PAINTS),
    "bus": Model("bus", (_BUS_HULL,), 0.48, (-0.27, 0.27), _BUS_PAINTS),
    "tram": Model("train", (_TRAM_HULL,), 0.4, (-0.4, -0.33, 0.33, 0.4), ((214, 214, 216), (170, 40, 44))),
}
