"""What a street scene consists of: a road, a camera and the actors on and beside the road.

A street is laid out in road coordinates: `s` metres ahead along the road, `d` metres to the right of the
middle of the ego lane. Traffic keeps to the right, as in the cities where BDD100K was recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .camera import Camera

VIEW = 170.0  # metres: how far ahead the street is laid out


@dataclass(frozen=True)
class Junction:
    """A crossing road from `start` on, `width` metres wide; `signal` is the ego road's light, if any."""

    start: float
    width: float
    signal: str | None
    crosswalk: bool
    stop_sign: bool
    mast_arm: bool

    @property
    def end(self) -> float:
        """Where the road goes on behind the crossing."""
        return self.start + self.width


@dataclass(frozen=True)
class Road:
    """The road's cross-section and course; all `d` are metres to the right of the middle of the ego lane."""

    scene: str
    lane_width: float
    lanes: int  # in the ego direction
    ego_lane: int  # counted from the left
    opposite: int  # lanes that come towards us
    parking_left: float
    parking_right: float
    shoulder: float
    sidewalk: float
    divider: str  # "yellow", "barrier" or "none"
    marked: bool
    curvature: float  # 1 / metres, positive bends to the right
    ego_offset: float  # metres the camera stands to the right of the middle of its lane
    junctions: tuple[Junction, ...] = ()

    @property
    def divider_d(self) -> float:
        """Left edge of the lanes in the ego direction."""
        return -(self.ego_lane + 0.5) * self.lane_width

    @property
    def right_d(self) -> float:
        """Right edge of the lanes in the ego direction."""
        return (self.lanes - self.ego_lane - 0.5) * self.lane_width

    @property
    def median(self) -> float:
        """Width of what separates the directions, in metres."""
        return 1.6 if self.divider == "barrier" else 0.0

    @property
    def left_d(self) -> float:
        """Left edge of the oncoming lanes."""
        return self.divider_d - self.median - self.opposite * self.lane_width

    @property
    def kerb_left(self) -> float:
        """Where the paved road ends on the left."""
        return self.left_d - self.parking_left - self.shoulder

    @property
    def kerb_right(self) -> float:
        """Where the paved road ends on the right."""
        return self.right_d + self.parking_right + self.shoulder

    def lane_centre(self, lane: int) -> float:
        """Middle of a lane in the ego direction, counted from the left; negative ones are oncoming."""
        if lane >= 0:
            return (lane - self.ego_lane) * self.lane_width
        return self.divider_d - self.median + (lane + 0.5) * self.lane_width

    def place(self, s: np.ndarray | float, d: np.ndarray | float, y: np.ndarray | float = 0.0) -> np.ndarray:
        """Road coordinates and height to world points ``(..., 3)``: the road bends like a parabola."""
        x = d - self.ego_offset + 0.5 * self.curvature * s * np.abs(s)
        points = np.empty((*np.shape(x + y), 3))
        points[..., 0], points[..., 1], points[..., 2] = x, y, s
        return points

    def direction(self, s: float) -> float:
        """Angle of the road at `s`, in radians to the right of straight ahead."""
        return math.atan(self.curvature * abs(s))

    def in_junction(self, s: float, margin: float = 0.0) -> bool:
        """True where a crossing road passes."""
        return any(j.start - margin < s < j.end + margin for j in self.junctions)


@dataclass(frozen=True)
class Actor:
    """Something to draw: what it is, where it stands, which way it faces and a seed for its looks."""

    kind: str
    s: float
    d: float
    heading: float  # radians to the right of straight ahead, in the world
    seed: int
    model: str = ""
    state: str = ""
    size: tuple[float, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A whole scene before it is drawn."""

    seed: int
    weather: str
    timeofday: str
    road: Road
    camera: Camera
    actors: tuple[Actor, ...] = field(default_factory=tuple)
    lead: float | None = None  # where the ego lane is blocked by a vehicle, metres ahead
