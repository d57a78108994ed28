"""Reader of the 2018 release's single file, `bdd100k_labels_images_{split}.json`: boxes and poly2d."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import polygons
from .labels import Problems, attributes, frame_size, scene_objects
from .release_2020 import AREAS
from .scene import Scene

AREA, LANE = "drivable area", "lane"


def is_2018(record: Mapping[str, Any]) -> bool:
    """Whether a Scalabel record has the marks of the 2018 release: areas and lanes among the boxes."""
    labels = record.get("labels")
    return isinstance(labels, list) and any(
        isinstance(label, Mapping) and (label.get("category") in (AREA, LANE) or "manualShape" in label)
        for label in labels
    )


def scene(record: Mapping[str, Any], problems: Problems) -> Scene:
    """One frame's scene.

    A frame without any drivable area may not have been annotated for it, so its drivable area is unknown.

    Args:
        record: An entry of the list: name, attributes, labels.
        problems: Where repairs and drops are counted.
    """
    name = record["name"]
    width, height = frame_size(record)
    labels = record.get("labels")
    given = [label for label in labels if isinstance(label, Mapping)] if isinstance(labels, list) else []
    areas = [
        (AREAS[kind], polygon)
        for label in given
        if label.get("category") == AREA and (kind := _attribute(label, "areaType")) in AREAS
        for polygon in polygons.polygons_of(label) or [None]  # which cannot be read
    ]
    markings = [label for label in given if label.get("category") == LANE]
    lanes = tuple(
        marking
        for label in markings
        for marking in polygons.lane(label, str(_attribute(label, "laneType")), width, height)
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


def _attribute(label: Mapping[str, Any], name: str) -> Any:
    given = label.get("attributes")
    return given.get(name) if isinstance(given, Mapping) else None
