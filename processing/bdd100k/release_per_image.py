"""Reader of the 2018 release's one file per image: `labels/100k/{split}/NAME.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import polygons
from .labels import Problems, attributes, frame_size, scene_objects
from .scene import ALTERNATIVE, DIRECT, Scene

AREAS = {"area/drivable": DIRECT, "area/alternative": ALTERNATIVE}
LANE = "lane/"


def is_per_image(record: Mapping[str, Any]) -> bool:
    """Whether a JSON object is one frame of this format: its labels are at frames[0].objects."""
    frames = record.get("frames")
    first = frames[0] if isinstance(frames, list) and frames else None
    return isinstance(first, Mapping) and "objects" in first


def scene(record: Mapping[str, Any], problems: Problems) -> Scene:
    """One frame's scene.

    A frame without any drivable area may not have been annotated for it, so its drivable area is unknown.

    Args:
        record: A whole file: name, attributes, frames.
        problems: Where repairs and drops are counted.
    """
    name = record["name"]
    width, height = frame_size(record)
    labels = record["frames"][0]["objects"]
    given = [label for label in labels if isinstance(label, Mapping)] if isinstance(labels, list) else []
    areas = [
        (AREAS[label["category"]], polygon)
        for label in given
        if label.get("category") in AREAS
        for polygon in polygons.polygons_of(label) or [None]  # which cannot be read
    ]
    markings = [label for label in given if str(label.get("category")).startswith(LANE)]
    lanes = tuple(
        marking
        for label in markings
        for marking in polygons.lane(label, label["category"].removeprefix(LANE), width, height)
    )
    return Scene(
        image_id=Path(name).stem,
        **attributes(record),
        objects=scene_objects(labels, width, height, name, problems),
        drivable=polygons.rasterise(areas, width, height, name, problems) if areas else None,
        lanes=lanes if markings else None,
        width=int(width),
        height=int(height),
    )
