"""Reader of the 2020 release: boxes, drivable masks or polygons, and lanes, in files joined by name.

labels/det_20/det_{split}.json
labels/drivable/masks/{split}/NAME.png    or    labels/drivable/polygons/drivable_{split}.json
labels/lane/polygons/lane_{split}.json
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import polygons
from .labels import Problems, attributes, frame_size, scene_objects
from .scene import ALTERNATIVE, DIRECT, GRID_HEIGHT, GRID_WIDTH, Scene

AREAS = {"direct": DIRECT, "alternative": ALTERNATIVE}


def scene(record: Mapping[str, Any], problems: Problems, mask: Path | None = None) -> Scene:
    """One frame's scene.

    A record without "labels" has not been annotated: its objects are unknown. An empty list means that
    nothing is there.

    Args:
        record: A Scalabel frame; the labels of its drivable and lane polygons, if any, under "drivable"
            and "lanes".
        problems: Where repairs and drops are counted.
        mask: The drivable mask's file if there is one; it is preferred to polygons.
    """
    name = record["name"]
    width, height = frame_size(record)
    labels = record.get("labels")
    drivable = read_mask(mask, problems) if mask is not None else None
    areas, lanes = record.get("drivable"), record.get("lanes")
    if drivable is None and isinstance(areas, list):
        found = [
            (AREAS[label["category"]], polygon)
            for label in areas
            if isinstance(label, Mapping) and label.get("category") in AREAS
            for polygon in polygons.polygons_of(label) or [None]  # which cannot be read
        ]
        drivable = polygons.rasterise(found, width, height, name, problems)
    if isinstance(lanes, list):
        lanes = tuple(
            marking
            for label in lanes
            if isinstance(label, Mapping)
            for marking in polygons.lane(label, str(label.get("category")), width, height)
        )
    return Scene(
        image_id=Path(name).stem,
        **attributes(record),
        objects=scene_objects(labels, width, height, name, problems),
        drivable=drivable,
        lanes=lanes if isinstance(lanes, tuple) else None,
        width=int(width),
        height=int(height),
    )


def read_mask(path: Path, problems: Problems) -> np.ndarray | None:
    """A drivable mask on the 90x160 grid: each cell takes the value that most of its pixels have.

    Args:
        path: Single-channel PNG with 0 direct, 1 alternative, 2 background, of any size.
        problems: Where an unreadable mask is counted; the frame then has no drivable annotation.
    """
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if image.mode not in ("L", "P"):
                raise OSError(f"mode {image.mode}")
            if image.size != (GRID_WIDTH * 8, GRID_HEIGHT * 8):
                image = image.resize((GRID_WIDTH * 8, GRID_HEIGHT * 8), Image.Resampling.NEAREST)
            return polygons.to_grid(np.asarray(image))
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        problems.dropped("unreadable drivable mask", path.name, str(error)[:80])
        return None
