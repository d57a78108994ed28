"""Where things stand: the corridor ahead, the lanes, near and far.

Assumptions, all of them symmetric in left and right:

* The camera looks along the road from about 1.4 m above it, horizon near 0.47 of the frame's height, focal
  length about 0.8 of its width. On a flat road a thing that touches the ground at height `y` (a fraction,
  from the top) is then about 2 / (y - 0.47) metres away: 0.60 is 15 m, 0.54 is 30 m, 0.51 is 50 m. Hills
  and camera pitch move this, so most thresholds have a band around them in which a question is left
  undecided, and the lane questions are undecided when the road plainly does not end near that horizon.
* The corridor ahead is the trapezoid (0.40, 0.45), (0.60, 0.45), (0.95, 1), (0.05, 1).
* The ego lane is the region labelled "direct". "Alternative" regions beside it are the lane on that side; it
  may be several lanes. Where lane markings are labelled, a thing beyond the next lane's outer marking does
  not decide about that lane. Drivable regions stop where a vehicle stands: the middle of a vehicle's bottom
  edge touches the upper end of its lane's region, it does not lie inside it.
* What is behind or beside the camera is not in the frame and is not judged.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np

from .scene import (
    ALTERNATIVE,
    DIRECT,
    GRID_HEIGHT,
    GRID_WIDTH,
    ROAD_USERS,
    VEHICLES,
    Box,
    Lane,
    Scene,
    SceneObject,
)

CORRIDOR_TOP, CORRIDOR_TOP_HALF, CORRIDOR_BOTTOM_HALF = 0.45, 0.10, 0.45
LARGE_AREA = 0.05
NEAR, NOT_NEAR = 0.60, 0.57
"""Near: the bottom edge is at or below the first; surely not near: above the second."""
BLOCKS, FREE = 0.54, 0.51
"""In a lane: blocks it when the bottom edge is at or below the first; does not matter above the second."""
HORIZON = 0.47
HIGHEST_ROAD = 0.42
"""A drivable region that reaches above this: the camera looks down, or uphill; distances are unknown."""
VISIBLE_SIZE = 0.025
"""Geometric mean of width and height, in frame heights, that can be seen at 288x160 (4 pixels)."""
COUNTED_SIZE = 0.8 * VISIBLE_SIZE
"""The same among several of a kind, of which one tells what the others are."""
MY_LIGHT, ALMOST_MY_LIGHT = (0.025, 0.3, 0.65), (0.0175, 0.35, 0.7)
"""A light taller than the first, nearer to the middle than the second and above the third is the driver's;
by the other three it falls a little short of that."""
MIN_REGION = 60
"""Cells (of 14,400) that make a region a lane rather than a sliver of mask."""


def size(thing: SceneObject, scene: Scene) -> float:
    """Geometric mean of a box's sides, in frame heights."""
    x1, y1, x2, y2 = thing.box
    return sqrt(max(0.0, (x2 - x1) * (y2 - y1)) * scene.width / scene.height)


def middle(box: Box) -> float:
    """Horizontal centre of a box."""
    return (box[0] + box[2]) / 2


def area(box: Box) -> float:
    """Area of a box as a fraction of the frame."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def side(x: float, y: float) -> str:
    """Side of the corridor on which a ground point lies: "left", "ahead" (in it) or "right"."""
    fraction = max(0.0, (y - CORRIDOR_TOP) / (1 - CORRIDOR_TOP))
    half = CORRIDOR_TOP_HALF + (CORRIDOR_BOTTOM_HALF - CORRIDOR_TOP_HALF) * fraction
    if abs(x - 0.5) <= half:
        return "ahead"
    return "left" if x < 0.5 else "right"


def side_of(thing: SceneObject) -> str:
    """Side of the middle of a thing's bottom edge."""
    return side(middle(thing.box), thing.box[3])


def in_corridor(thing: SceneObject) -> bool:
    """Whether a thing stands in the corridor, or is so large that it must be close (five-way rule)."""
    bottom = thing.box[3]
    stands = bottom >= CORRIDOR_TOP and side_of(thing) == "ahead"
    return stands or (area(thing.box) > LARGE_AREA and bottom > CORRIDOR_TOP)


def is_light_placed(thing: SceneObject, where: tuple[float, float, float]) -> bool:
    """Whether a traffic light is as large, central and high as `MY_LIGHT` or `ALMOST_MY_LIGHT` asks for."""
    tall, aside, low = where
    _, y1, _, y2 = thing.box
    return (
        thing.category == "traffic light"
        and y2 - y1 > tall
        and abs(middle(thing.box) - 0.5) < aside
        and y2 < low
    )


def location_tokens(box: Box) -> str:
    """A box as `<loc y1><loc x1><loc y2><loc x2>` (PaliGemma's order), snapped to 1/128 of the frame.

    The values are multiples of 8, with 1023 in place of 1024, so that a model has 129 steps to learn and
    mirroring the tokens is exactly mirroring the box.
    """
    x1, y1, x2, y2 = box
    return "".join(f"<loc{_snap(value):04d}>" for value in (y1, x1, y2, x2))


def _snap(fraction: float) -> int:
    return min(1023, 8 * round(128 * min(1.0, max(0.0, fraction))))


@dataclass(frozen=True, slots=True)
class Lanes:
    """The ego lane and its neighbours on the drivable grid.

    Attributes:
        cells: For each of "mine", "left", "right" a bool `(90, 160)` mask.
        left_edge: `(90,)` column of the ego lane's left edge for each row, extrapolated where the lane is
            hidden.
        right_edge: The same on the right, exclusive.
        usual_pitch: Whether the road ends near the assumed horizon, so that heights in the frame mean
            distances.
    """

    cells: dict[str, np.ndarray]
    left_edge: np.ndarray
    right_edge: np.ndarray
    usual_pitch: bool

    def exists(self, which: str) -> bool:
        """Whether the lane is there at all."""
        return int(self.cells[which].sum()) >= MIN_REGION

    def box(self, which: str) -> Box:
        """Smallest box around a lane's cells."""
        rows = np.flatnonzero(self.cells[which].any(axis=1))
        columns = np.flatnonzero(self.cells[which].any(axis=0))
        return (
            float(columns[0]) / GRID_WIDTH,
            float(rows[0]) / GRID_HEIGHT,
            float(columns[-1] + 1) / GRID_WIDTH,
            float(rows[-1] + 1) / GRID_HEIGHT,
        )


def find_lanes(drivable: np.ndarray | None) -> Lanes | None:
    """Splits a drivable grid into the ego lane and the lanes left and right of it.

    In a row that the ego lane crosses, an alternative cell belongs to the side of the lane's middle on
    which it lies; elsewhere to the side of a line from there to the vanishing point.

    Args:
        drivable: uint8 `(90, 160)` or `None`.

    Returns:
        The lanes; `None` when there is no grid or no ego lane in it.
    """
    if drivable is None:
        return None
    direct = drivable == DIRECT
    widths = direct.sum(axis=1)
    rows = np.flatnonzero(widths)
    if widths.sum() < MIN_REGION or len(rows) < 4:
        return None
    first = direct[rows].argmax(axis=1)
    last = GRID_WIDTH - direct[rows, ::-1].argmax(axis=1)
    left_edge, right_edge = _towards_horizon(rows, first), _towards_horizon(rows, last)
    centre = (left_edge + right_edge) / 2
    x = np.arange(GRID_WIDTH) + 0.5
    alternative = drivable == ALTERNATIVE
    cells = {
        "mine": direct,
        "left": alternative & (x < centre[:, None]),
        "right": alternative & (x > centre[:, None]),
    }
    top = int(((direct | alternative).any(axis=1)).argmax())
    return Lanes(cells, left_edge, right_edge, top >= HIGHEST_ROAD * GRID_HEIGHT)


def _towards_horizon(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at the given rows; at the others a line through their mean and the vanishing point."""
    mean_row, mean_value = rows.mean(), values.mean()
    vanishing_row, vanishing_value = HORIZON * GRID_HEIGHT, GRID_WIDTH / 2
    run = max(mean_row - vanishing_row, 2.0)
    line = mean_value + (mean_value - vanishing_value) / run * (np.arange(GRID_HEIGHT) - mean_row)
    line[rows] = values
    return line


def lane_of(thing: SceneObject, lanes: Lanes) -> str | None:
    """The lane in which a thing stands: "mine", "left", "right", or `None` when it touches none.

    The middle half of its bottom edge must lie over a lane's cells for at least half its width, in one of
    the rows from just above the edge to 0.04 below it.
    """
    x1, _, x2, y2 = thing.box
    quarter = (x2 - x1) / 4
    first = min(int((x1 + quarter) * GRID_WIDTH), GRID_WIDTH - 1)
    last = max(first + 1, -int(-(x2 - quarter) * GRID_WIDTH // 1))
    row = min(int(y2 * GRID_HEIGHT), GRID_HEIGHT - 4)
    foot = (slice(max(0, row - 1), row + 4), slice(first, last))
    shares = {which: float(cells[foot].mean(axis=1).max()) for which, cells in lanes.cells.items()}
    share, which = max((share, which) for which, share in shares.items())
    ties = sum(other == share for other in shares.values())
    return which if share >= 0.5 and ties == 1 else None


def is_beside(thing: SceneObject, which: str, lanes: Lanes) -> bool:
    """Whether a near thing stands next to the ego lane on a side, with no free cell of that lane between.

    A vehicle then hides the lane that it stands in, so that no region touches its bottom edge. A person hides
    none, and may as well stand beside the road.
    """
    x1, _, x2, y2 = thing.box
    if y2 < NEAR:
        return False
    row = min(int(y2 * GRID_HEIGHT), GRID_HEIGHT - 1)
    if which == "left":
        outside, inner, edge = middle(thing.box) * GRID_WIDTH < lanes.left_edge[row], x2, lanes.left_edge[row]
        gap = slice(max(0, int(inner * GRID_WIDTH)), max(0, round(float(edge))))
        distance = edge - inner * GRID_WIDTH
    else:
        outside, inner, edge = (
            middle(thing.box) * GRID_WIDTH > lanes.right_edge[row],
            x1,
            lanes.right_edge[row],
        )
        gap = slice(max(0, round(float(edge))), max(0, -int(-inner * GRID_WIDTH // 1)))
        distance = inner * GRID_WIDTH - edge
    between = lanes.cells[which][row, gap]
    free = float(between.mean()) if between.size else 0.0
    return bool(outside and distance < 24 and free < 0.3)


def may_stand_in(thing: SceneObject, which: str, lanes: Lanes) -> bool:
    """Whether the middle of a thing's bottom edge lies where a lane as wide as the ego lane runs on, be a
    region marked there or not.

    A region may end before the thing that hides the rest of it. What `lane_of` places nowhere then stands in
    the lane or just behind its end.
    """
    row = min(int(thing.box[3] * GRID_HEIGHT), GRID_HEIGHT - 1)
    left, right = float(lanes.left_edge[row]), float(lanes.right_edge[row])
    shift = {"left": left - right, "mine": 0.0, "right": right - left}[which]
    return left + shift < middle(thing.box) * GRID_WIDTH < right + shift


def is_beyond_next(thing: SceneObject, which: str, lanes: Lanes, markings: Iterable[Lane]) -> bool:
    """Whether a labelled marking shows that a thing stands farther to a side than in the next lane.

    The marking runs along the road, and crosses the height of the thing's bottom edge between its middle and
    half a lane's width beside the ego lane: nearer ones are the ego lane's own.
    """
    y = thing.box[3]
    row = min(int(y * GRID_HEIGHT), GRID_HEIGHT - 1)
    left, right = float(lanes.left_edge[row]) / GRID_WIDTH, float(lanes.right_edge[row]) / GRID_WIDTH
    half = (right - left) / 2
    low, high = (middle(thing.box), left - half) if which == "left" else (right + half, middle(thing.box))
    return any(low < x < high for x in _crossings(markings, y))


def _crossings(markings: Iterable[Lane], y: float) -> list[float]:
    """Where markings along the road cross a height, fractions of the frame's width."""
    return [
        x1 + (y - y1) / (y2 - y1) * (x2 - x1)
        for marking in markings
        if marking.direction == "parallel"
        for (x1, y1), (x2, y2) in pairwise(marking.points)
        if min(y1, y2) <= y < max(y1, y2)
    ]


@functools.lru_cache(maxsize=4)
def view(scene: Scene) -> "View":
    """What several families need to know about a scene, worked out once (scenes compare by identity)."""
    lanes = find_lanes(scene.drivable)
    users = scene.of(*ROAD_USERS)
    stands: dict[str, list[SceneObject]] = {"mine": [], "left": [], "right": []}
    for thing in users:
        if lanes is None:
            break
        which = lane_of(thing, lanes)
        if which is None and thing.category in VEHICLES:
            which = next((name for name in ("left", "right") if is_beside(thing, name, lanes)), None)
        if which:
            stands[which].append(thing)
    corridor = [thing for thing in scene.objects or () if in_corridor(thing)]
    lights = [thing for thing in scene.of("traffic light") if is_light_placed(thing, MY_LIGHT)]
    return View(scene, lanes, stands, corridor, lights)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A scene with its geometry.

    Attributes:
        scene: The scene.
        lanes: Its lanes or `None`.
        stands: For "mine", "left", "right" the road users that stand there.
        corridor: Everything that stands in the corridor ahead or is very large.
        lights: The traffic lights taken as the driver's own.
    """

    scene: Scene
    lanes: Lanes | None
    stands: dict[str, list[SceneObject]]
    corridor: list[SceneObject]
    lights: list[SceneObject]

    def near_vehicles(self, where: str, limit: float = NEAR) -> list[SceneObject]:
        """Vehicles on a side ("left", "ahead", "right") whose bottom edge is at or below `limit`."""
        vehicles = self.scene.of(*VEHICLES)
        return [thing for thing in vehicles if thing.box[3] >= limit and side_of(thing) == where]
