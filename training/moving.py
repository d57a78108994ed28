"""A frame seen through a slightly smaller window: the boxes and regions move along and the questions are
asked anew.

The answers of a moved frame come from the same rules as the original's, applied to the moved labels. What the
window cuts away must not become a false answer, so a copy is asked less than its frame: about the street only
where the rules say the same of both (a lane outside the window is still there, and a window that slides aside
does not put the next lane's car ahead), and not about kinds of things of which hardly more than an edge is
left. `nearest` and `compare_sides` are answered anew: their sides are those of the picture. The horizon stays
where the rules assume it; left and right move freely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image
from traffic_vlm.processing.bdd100k.decisions import forerunner_class
from traffic_vlm.processing.bdd100k.families import FAMILIES, ask_all
from traffic_vlm.processing.bdd100k.geometry import HORIZON, area
from traffic_vlm.processing.bdd100k.phrasings import SLIPS
from traffic_vlm.processing.bdd100k.scene import Box, Scene, SceneObject

HORIZON_SHIFT = 0.02
"""Largest move of the horizon, as a fraction of the frame's height: the tolerance of the rules' distance
bands."""
STREET = {
    *("lane_clear", "lane_blocked", "lane_exists", "change_lane", "command_lane", "turn", "command_turn"),
    *("move_forward", "must_stop", "command_forward", "light_state", "light_is", "light_for_me"),
    *("vehicle_near", "directly_ahead"),
}
"""Groups of families whose answers are about the street: another window changes the view, not them."""
LEAST_INSIDE = 0.25
"""Share of a thing's box that must be inside the window for its kind to be asked about."""


def moved_copy(
    image: Image.Image, row: dict[str, Any], max_zoom: float, rng: np.random.Generator
) -> tuple[Image.Image, dict[str, Any]]:
    """Makes a moved copy of a frame.

    Args:
        image: The frame.
        row: Its row in the data set. A thing of which a seam has taken a part says what share is `left`.
        max_zoom: Largest share of width and height that is cut away.
        rng: Decides the window and the phrasings.

    Returns:
        The picture inside the window (not resized) and the row that belongs to it.
    """
    window = draw_window(max_zoom, rng)
    x1, y1, x2, y2 = window
    left, right = round(x1 * image.width), round(x2 * image.width)
    top, bottom = round(y1 * image.height), round(y2 * image.height)
    picture = image.crop((left, top, right, bottom))
    objects = (
        None if row["objects"] is None else [t for t in (moved_thing(t, window) for t in row["objects"]) if t]
    )
    drivable = (
        None if row["drivable"] is None else _cropped(np.asarray(row["drivable"], dtype=np.uint8), window)
    )
    moved = {**row, "objects": objects, "drivable": drivable}
    if "forerunner" in row:
        moved["forerunner"] = forerunner_class(scene_of(moved))
    asked = ask_all(scene_of(moved), seed=int(rng.integers(2**31)), slips=SLIPS)
    own = {question["family"]: question for question in row["questions"]}
    cut = {t["category"] for t in row["objects"] or () if 0 < share_inside(t, window) < LEAST_INSIDE}

    def may_ask(question: dict[str, Any]) -> bool:
        family = FAMILIES[question["family"]]
        # What the frame itself could not be asked (its lane markings or its labels' limits forbade it, and a
        # row holds neither) its copy is not asked either.
        if question["family"] not in own or family.category in cut:
            return False
        # Of all kinds of things at once, an edge may be what the answer rests on.
        of_all_kinds = bool(cut) and family.category is None
        if family.group in STREET or of_all_kinds:
            return _says_the_same(question, own[question["family"]], window)
        return True

    questions = [question for question in map(asdict, asked.rows) if may_ask(question)]
    return picture, {**moved, "questions": questions}


def _says_the_same(question: dict[str, Any], own: dict[str, Any], window: Box) -> bool:
    """Whether a copy's answer is the frame's own, and rests on nothing but what that rests on."""
    if question["answer"] != own["answer"]:
        return False
    if question["evidence_category"] == "lane":
        return True
    there = [inside for box in own["evidence"] if (inside := _clipped(_seen_through(box, window)))]
    return all(any(np.allclose(box, known, atol=1e-4) for known in there) for box in question["evidence"])


def draw_window(max_zoom: float, rng: np.random.Generator) -> Box:
    """A window (xyxy, fractions of the frame) that keeps the frame's shape and, within 0.02, its horizon."""
    size = 1.0 - rng.uniform(0.0, max_zoom)
    left = rng.uniform(0.0, 1.0 - size)
    top = np.clip(HORIZON * (1.0 - size) + rng.uniform(-HORIZON_SHIFT, HORIZON_SHIFT) * size, 0.0, 1.0 - size)
    return float(left), float(top), float(left + size), float(top + size)


def scene_of(row: dict[str, Any]) -> Scene:
    """The scene that a row of the data set describes."""
    objects = row["objects"]
    if objects is not None:
        objects = tuple(
            SceneObject(t["category"], tuple(t["box"]), t["occluded"], t["truncated"], t["light"])
            for t in objects
        )
    drivable = None if row["drivable"] is None else np.asarray(row["drivable"], dtype=np.uint8)
    names = ("image_id", "split", "source", "weather", "timeofday", "scene")
    return Scene(**{name: row[name] for name in names}, objects=objects, drivable=drivable)


def moved_thing(thing: dict[str, Any], window: Box) -> dict[str, Any] | None:
    """A labelled thing in the window's coordinates; None when nothing of it is inside."""
    whole = _seen_through(thing["box"], window)
    inside = _clipped(whole)
    if inside is None:
        return None
    seen = {**thing, "box": list(inside)}
    seen.pop("left", None)
    # The lamp that shines may be what was cut off.
    return seen if inside == whole else seen | {"truncated": True, "light": None}


def _seen_through(box: Sequence[float], window: Box) -> Box:
    """A box in the window's coordinates; it may reach beyond."""
    left, top, right, bottom = window
    x1, y1, x2, y2 = box
    scale_x, scale_y = right - left, bottom - top
    return ((x1 - left) / scale_x, (y1 - top) / scale_y, (x2 - left) / scale_x, (y2 - top) / scale_y)


def _clipped(box: Box) -> Box | None:
    """The part of a box that lies in the picture; None when there is none."""
    x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in box)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def share_inside(thing: dict[str, Any], window: Box) -> float:
    """Share of a whole thing's box that is inside the window."""
    whole = _seen_through(thing["box"], window)
    inside = _clipped(whole)
    return thing.get("left", 1.0) * area(inside) / area(whole) if inside else 0.0


def _cropped(grid: np.ndarray, window: Box) -> np.ndarray:
    """The window of a drivable grid, stretched back to the grid's size by nearest neighbour."""
    left, top, right, bottom = window
    rows = ((np.arange(grid.shape[0]) + 0.5) / grid.shape[0] * (bottom - top) + top) * grid.shape[0]
    columns = ((np.arange(grid.shape[1]) + 0.5) / grid.shape[1] * (right - left) + left) * grid.shape[1]
    return np.ascontiguousarray(grid[rows.astype(int)][:, columns.astype(int)])
