"""A frame seen through a slightly smaller window: the boxes and regions move along and the questions are
asked anew.

The answers of a moved frame come from the same rules as the original's, applied to the moved labels, so that
no crop or shift can make an answer false. The horizon stays where the rules assume it; left and right move
freely.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image
from traffic_vlm.processing.bdd100k.decisions import forerunner_class
from traffic_vlm.processing.bdd100k.families import ask_all
from traffic_vlm.processing.bdd100k.geometry import HORIZON
from traffic_vlm.processing.bdd100k.phrasings import SLIPS
from traffic_vlm.processing.bdd100k.scene import Box, Scene, SceneObject

HORIZON_SHIFT = 0.02
"""Largest move of the horizon, as a fraction of the frame's height: the tolerance of the rules' distance
bands."""


def moved_copy(
    image: Image.Image, row: dict[str, Any], max_zoom: float, rng: np.random.Generator
) -> tuple[Image.Image, dict[str, Any]]:
    """Makes a moved copy of a frame.

    Args:
        image: The frame.
        row: Its row in the data set.
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
        None if row["objects"] is None else [t for t in (_moved(t, window) for t in row["objects"]) if t]
    )
    drivable = (
        None if row["drivable"] is None else _cropped(np.asarray(row["drivable"], dtype=np.uint8), window)
    )
    moved = {**row, "objects": objects, "drivable": drivable}
    if "forerunner" in row:
        moved["forerunner"] = forerunner_class(scene_of(moved))
    asked = ask_all(scene_of(moved), seed=int(rng.integers(2**31)), slips=SLIPS)
    # What the frame itself could not be asked (its lane markings or its labels' limits forbade it, and a row
    # holds neither) its copy is not asked either.
    families = {question["family"] for question in row["questions"]}
    questions = [asdict(question) for question in asked.rows if question.family in families]
    return picture, {**moved, "questions": questions}


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


def _moved(thing: dict[str, Any], window: Box) -> dict[str, Any] | None:
    """A labelled thing in the window's coordinates; None when nothing of it is inside."""
    left, top, right, bottom = window
    x1, y1, x2, y2 = thing["box"]
    scale_x, scale_y = right - left, bottom - top
    whole = ((x1 - left) / scale_x, (y1 - top) / scale_y, (x2 - left) / scale_x, (y2 - top) / scale_y)
    clipped = tuple(min(1.0, max(0.0, value)) for value in whole)
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        return None
    return {**thing, "box": list(clipped), "truncated": True if clipped != whole else thing["truncated"]}


def _cropped(grid: np.ndarray, window: Box) -> np.ndarray:
    """The window of a drivable grid, stretched back to the grid's size by nearest neighbour."""
    left, top, right, bottom = window
    rows = ((np.arange(grid.shape[0]) + 0.5) / grid.shape[0] * (bottom - top) + top) * grid.shape[0]
    columns = ((np.arange(grid.shape[1]) + 0.5) / grid.shape[1] * (right - left) + left) * grid.shape[1]
    return np.ascontiguousarray(grid[rows.astype(int)][:, columns.astype(int)])
