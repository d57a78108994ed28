"""One vocabulary out of the release's three label formats, and repair of bad values.

What is plainly meant is repaired (swapped corners, a box that reaches over the frame's edge); what cannot
be meant is dropped (NaN, an empty box, an unknown category). Both are counted by kind.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .scene import CATEGORIES, PLACES, ROAD_USERS, TIMES_OF_DAY, WEATHERS, Box, SceneObject

ALIASES = {
    "person": "pedestrian",
    "bike": "bicycle",
    "motor": "motorcycle",
    "motorbike": "motorcycle",
    "trailer": "other vehicle",
}
KNOWN = {*CATEGORIES, *ROAD_USERS}
LIGHTS = {
    "red": "red",
    "r": "red",
    "yellow": "yellow",
    "y": "yellow",
    "green": "green",
    "g": "green",
}
"""Spellings of the colours. The release of 2018 has "none" also for lights that later labels call green: it
says no more than NA."""


class BadLabels(ValueError):
    """A label file that cannot be used at all; the message is one line that names the file."""


@dataclass
class Problems:
    """What was repaired, dropped or skipped.

    Attributes:
        counts: Kind -> number.
        rejected: One entry for each frame or label that is not in the data set.
    """

    counts: Counter = field(default_factory=Counter)
    rejected: list[dict[str, str]] = field(default_factory=list)

    def repaired(self, kind: str) -> None:
        """Counts a value that was put right."""
        self.counts[f"repaired: {kind}"] += 1

    def dropped(self, kind: str, name: str, detail: str = "") -> None:
        """Counts and lists a label that was left out."""
        self._reject(f"dropped label: {kind}", name, detail)

    def skipped(self, kind: str, name: str, detail: str = "") -> None:
        """Counts and lists a frame that was left out."""
        self._reject(f"skipped frame: {kind}", name, detail)

    def _reject(self, kind: str, name: str, detail: str) -> None:
        self.counts[kind] += 1
        self.rejected.append({"kind": kind, "name": name, "detail": detail})


def attributes(record: Mapping[str, Any]) -> dict[str, Any]:
    """Weather, time of day and place of a frame; "undefined", missing and unheard-of values are `None`."""
    given = record.get("attributes")
    given = given if isinstance(given, Mapping) else {}
    known = {"weather": WEATHERS, "timeofday": TIMES_OF_DAY, "scene": PLACES}
    return {name: given.get(name) if given.get(name) in values else None for name, values in known.items()}


FRAME_WIDTH, FRAME_HEIGHT = 1280, 720
"""Size in pixels on which the release's labels are drawn, whatever the size of the picture files."""


def frame_size(record: Mapping[str, Any]) -> tuple[float, float]:
    """Width and height in pixels of the frame that a record's labels were drawn on.

    Scalabel's optional "size" (or "imageSize") is believed when it is there; the release's own size is
    1280x720.

    Raises:
        ValueError: A given size is not two positive numbers.
    """
    given = record.get("size") or record.get("imageSize") or {}
    try:
        width, height = float(given.get("width", FRAME_WIDTH)), float(given.get("height", FRAME_HEIGHT))
    except (AttributeError, TypeError):
        raise ValueError(f"frame size {str(given)[:40]} is not two numbers") from None
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"frame size {width}x{height} is not positive")
    return width, height


def scene_objects(
    labels: Any, width: float, height: float, name: str, problems: Problems
) -> tuple[SceneObject, ...] | None:
    """The boxes of a frame; `None` when it has no list of labels, so that nothing is known.

    Nor is anything known of a frame where a box of a known category has no place in it, or something has a
    place but no category: what was labelled would be taken for absent.

    Args:
        labels: Entries with `category`, `box2d` and perhaps `attributes`; other entries are ignored.
        width: Width in pixels of the frame that the boxes were drawn on.
        height: Its height.
        name: The frame's name, for the report.
        problems: Where repairs and drops are counted.
    """
    if not isinstance(labels, list):
        if labels is not None:
            problems.dropped("labels are not a list", name)
        return None
    objects, lost = [], False
    for label in labels:
        if not isinstance(label, Mapping):
            problems.dropped("not an object", name)
            continue
        category = _category(label.get("category"))
        if label.get("box2d") is None:
            if category and not label.get("poly2d"):
                problems.dropped("no box", name, category)
                lost = True
            continue
        if category is None:
            problems.dropped("unknown category", name, str(label.get("category")))
            lost = lost or not isinstance(label.get("category"), str)
            continue
        box = repair_box(label["box2d"], width, height, name, problems)
        if box is None:
            lost = lost or not has_place(label["box2d"])
            continue
        given = label.get("attributes")
        given = given if isinstance(given, Mapping) else {}
        objects.append(
            SceneObject(
                category,
                box,
                _flag(given.get("occluded")),
                _flag(given.get("truncated")),
                light_colour(given.get("trafficLightColor")) if category == "traffic light" else None,
                None if label.get("id") is None else str(label["id"]),
            )
        )
    return None if lost else tuple(objects)


def _category(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    value = ALIASES.get(value.strip().lower(), value.strip().lower())
    return value if value in KNOWN else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def light_colour(value: Any) -> str | None:
    """ "red", "yellow" or "green"; `None` (not known) for "NA", "none" and everything else."""
    return LIGHTS.get(value.strip().lower()) if isinstance(value, str) else None


def has_place(box: Any) -> bool:
    """Whether a box is four numbers that span something, be it in the frame or not."""
    try:
        x1, y1, x2, y2 = (float(box[key]) for key in ("x1", "y1", "x2", "y2"))
    except (TypeError, KeyError, ValueError):
        return False
    return all(map(math.isfinite, (x1, y1, x2, y2))) and x1 != x2 and y1 != y2


def repair_box(box: Any, width: float, height: float, name: str, problems: Problems) -> Box | None:
    """A box in pixels as fractions of the frame, put right where the intent is clear.

    Returns:
        `(x1, y1, x2, y2)` within 0..1, or `None` when there is no box in it.
    """
    try:
        x1, y1, x2, y2 = (float(box[key]) for key in ("x1", "y1", "x2", "y2"))
    except (TypeError, KeyError, ValueError):
        problems.dropped("box without four numbers", name, repr(box)[:80])
        return None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        problems.dropped("box not finite", name, repr(box)[:80])
        return None
    if x1 > x2 or y1 > y2:
        problems.repaired("swapped corners")
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    inside = (max(0.0, x1), max(0.0, y1), min(width, x2), min(height, y2))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        kind = "empty box" if x1 == x2 or y1 == y2 else "box outside the frame"
        problems.dropped(kind, name, repr(box)[:80])
        return None
    # Annotators' boxes often end a pixel or two outside; only more than that is worth a count.
    if max(-x1, -y1, x2 - width, y2 - height) > 2:
        problems.repaired("box over the frame's edge")
    return (inside[0] / width, inside[1] / height, inside[2] / width, inside[3] / height)
