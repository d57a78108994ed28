"""Drivable areas and lane markings drawn as poly2d (lines, cubic Bezier curves) put on the drivable grid."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .labels import Problems
from .scene import ALTERNATIVE, BACKGROUND, DIRECT, GRID_HEIGHT, GRID_WIDTH, Lane

OVERSAMPLE = 8
"""Pixels drawn for each side of a grid cell before a cell takes the value that most of them have."""
CURVE_STEPS = 12

CURVE_WEIGHTS = tuple(
    ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
    for t in (step / CURVE_STEPS for step in range(1, CURVE_STEPS + 1))
)
"""Bernstein polynomials at each step of a curve."""

Point = tuple[float, float]
Points = list[Point]


def outline(poly: Any) -> Points:
    """Vertices of one poly2d entry, curves replaced by short lines.

    Two spellings occur: `[[x, y, "L"], ...]` and `{"vertices": [[x, y], ...], "types": "LLCC", "closed":
        true}`. "C"
    vertices come in threes, two control points and the end of a cubic Bezier curve that starts at the
    vertex before.

    Args:
        poly: One polygon or polyline in either spelling.

    Returns:
        Points in pixels.

    Raises:
        ValueError: There are no finite numbers or no letters where they should be.
    """
    vertices, types = _spelled(poly)
    if len(vertices) != len(types) or not all(isfinite(x) and isfinite(y) for x, y in vertices):
        raise ValueError("vertices and types do not fit")
    points: Points = vertices[:1]
    index = 1
    while index < len(vertices):
        # A curve needs two control points and an end; a closed outline may end where it began.
        if types[index] == "C" and index + 1 < len(vertices):
            first, second = vertices[index], vertices[index + 1]
            end = vertices[index + 2] if index + 2 < len(vertices) else vertices[0]
            points.extend(_bezier(points[-1], first, second, end))
            index += 3
        else:
            points.append(vertices[index])
            index += 1
    return points


def _spelled(poly: Any) -> tuple[Points, str]:
    try:
        if isinstance(poly, Mapping):
            return [(float(x), float(y)) for x, y in poly["vertices"]], str(poly["types"]).upper()
        return [(float(x), float(y)) for x, y, _ in poly], "".join(str(kind) for *_, kind in poly).upper()
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a polygon: {error}") from None


def _bezier(start: Point, first: Point, second: Point, end: Point) -> Points:
    """Points of a cubic Bezier curve after its start, its end included."""
    return [
        (
            a * start[0] + b * first[0] + c * second[0] + d * end[0],
            a * start[1] + b * first[1] + c * second[1] + d * end[1],
        )
        for a, b, c, d in CURVE_WEIGHTS
    ]


def polygons_of(label: Mapping[str, Any]) -> list[Any]:
    """The polygons of a label: it holds one as a list of points, or a list of them as objects."""
    given = label.get("poly2d")
    if not isinstance(given, list) or not given:
        return []
    return given if isinstance(given[0], Mapping) else [given]


def rasterise(
    areas: Iterable[tuple[int, Any]], width: float, height: float, name: str, problems: Problems
) -> np.ndarray | None:
    """Drivable areas on the grid.

    Args:
        areas: `(DIRECT or ALTERNATIVE, polygon)` pairs; where they overlap the ego lane wins.
        width: Width in pixels of the frame they were drawn on.
        height: Its height.
        name: The frame's name, for the report.
        problems: Where polygons that cannot be drawn are counted.

    Returns:
        uint8 `(90, 160)`; None where a polygon cannot be read, since its lane would be taken for absent.
    """
    lost = False
    canvas = Image.new("L", (GRID_WIDTH * OVERSAMPLE, GRID_HEIGHT * OVERSAMPLE), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for value, polygon in sorted(areas, key=lambda area: -area[0]):
        try:
            points = outline(polygon)
        except ValueError as error:
            problems.dropped("polygon cannot be read", name, str(error)[:80])
            lost = True
            continue
        if len(points) < 3:
            problems.dropped("polygon with fewer than three points", name)
            lost = True
            continue
        # PIL takes integer coordinates as pixel centres.
        scaled = [(x / width * canvas.width - 0.5, y / height * canvas.height - 0.5) for x, y in points]
        draw.polygon(scaled, fill=value)
    return None if lost else to_grid(np.asarray(canvas))


def to_grid(mask: np.ndarray) -> np.ndarray:
    """The drivable grid of a mask: a cell takes the value that at least half of its 8x8 pixels have.

    Args:
        mask: uint8 `(720, 1280)` of 0 direct, 1 alternative, anything else background.
    """
    grid = np.full((GRID_HEIGHT, GRID_WIDTH), BACKGROUND, np.uint8)
    for value in (ALTERNATIVE, DIRECT):
        # Eight pixels side by side are the bytes of one number: rows are added, then the bytes of the sums.
        eights = (mask == value).view(np.uint64).reshape(GRID_HEIGHT, 8, GRID_WIDTH).sum(axis=1)
        grid[(eights * np.uint64(0x0101010101010101)) >> np.uint64(56) >= 32] = value
    return grid


def lane(label: Mapping[str, Any], kind: str, width: float, height: float) -> list[Lane]:
    """A label's lane markings, as fractions of the frame; those that cannot be read are left out."""
    given = label.get("attributes")
    given = given if isinstance(given, Mapping) else {}
    direction = given.get("laneDirection", given.get("direction"))
    style = given.get("laneStyle", given.get("style"))
    lanes = []
    for polygon in polygons_of(label):
        try:
            points = outline(polygon)
        except ValueError:
            continue
        fractions = tuple((x / width, y / height) for x, y in points)
        lanes.append(Lane(kind, fractions, direction, style))
    return lanes
