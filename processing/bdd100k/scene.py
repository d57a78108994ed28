"""The one type that readers produce and question families consume.

A value that the labels do not give is `None`, never a default: a missing `occluded` is not `False`, a frame
without a drivable mask is not a frame without a road.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

CATEGORIES = (
    "pedestrian",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "traffic light",
    "traffic sign",
)
PEOPLE = ("pedestrian", "rider", "other person")
VEHICLES = ("car", "truck", "bus", "train", "motorcycle", "bicycle", "other vehicle")
"""The last of each could not be named by the annotators: in the way all the same, but of unknown kind."""
ROAD_USERS = PEOPLE + VEHICLES
UNNAMED = {"other person": PEOPLE, "other vehicle": VEHICLES}
"""Things of unknown kind, and what each may be."""
WEATHERS = ("clear", "partly cloudy", "overcast", "rainy", "snowy", "foggy")
TIMES_OF_DAY = ("daytime", "dawn/dusk", "night")
PLACES = ("city street", "highway", "residential", "parking lot", "tunnel", "gas stations")

GRID_HEIGHT, GRID_WIDTH = 90, 160
"""Cells of the drivable grid: one cell is 8x8 pixels of a 1280x720 frame."""
DIRECT, ALTERNATIVE, BACKGROUND = 0, 1, 2

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 as fractions of the frame's width and height, origin at the top left."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One labelled thing.

    Attributes:
        category: One of `CATEGORIES`, or "other person" or "other vehicle".
        box: `(x1, y1, x2, y2)`, fractions of the frame.
        occluded: Whether something hides part of it, `None` when not labelled.
        truncated: Whether the frame's edge cuts it, `None` when not labelled.
        light: Colour of a traffic light, `None` when not known.
        object_id: The label's own id.
    """

    category: str
    box: Box
    occluded: bool | None = None
    truncated: bool | None = None
    light: str | None = None
    object_id: str | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane marking or kerb.

    Attributes:
        category: For example "single white", "road curb", "crosswalk".
        points: Vertices `(x, y)`, fractions of the frame.
        direction: "parallel" or "vertical" to the direction of travel, `None` when not labelled.
        style: "solid" or "dashed", `None` when not labelled.
    """

    category: str
    points: tuple[tuple[float, float], ...]
    direction: str | None = None
    style: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything that is known about one frame.

    Attributes:
        image_id: The frame's name without its suffix.
        split: "train", "val" or "test" as the release has it.
        source: "bdd100k" or "synthetic".
        weather: One of `WEATHERS` or `None`.
        timeofday: One of `TIMES_OF_DAY` or `None`.
        scene: One of `PLACES` or `None`.
        objects: The labelled things; `None` when the frame has no annotation at all.
        drivable: uint8 `(90, 160)` of `DIRECT`, `ALTERNATIVE`, `BACKGROUND`; `None` when not annotated.
        lanes: Lane markings; `None` when not annotated.
        image_path: The picture's file.
        width: Width in pixels of the frame that the labels were drawn on.
        height: Its height.
    """

    image_id: str
    split: str = "train"
    source: str = "bdd100k"
    weather: str | None = None
    timeofday: str | None = None
    scene: str | None = None
    objects: tuple[SceneObject, ...] | None = None
    drivable: np.ndarray | None = None
    lanes: tuple[Lane, ...] | None = None
    image_path: Path | None = None
    width: int = 1280
    height: int = 720

    def of(self, *categories: str) -> list[SceneObject]:
        """The objects of these categories, in label order (none when the frame is not annotated)."""
        return [thing for thing in self.objects or () if thing.category in categories]


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """One row of the data set.

    Attributes:
        question: As a person would type it.
        answer: The decision first, then the reason.
        family: Name in the registry.
        template: Phrasing id, `family.3`, or `family.h0` for a held-out phrasing.
        evidence: Boxes that justify the answer; empty when the answer rests on the whole frame or on an
            absence.
        evidence_category: What the boxes hold: a category, "lane", or a group such as "vehicle".
        rule: Name of the rule that decided.
        pair_id: Shared by a question and its opposite in the same frame.
    """

    question: str
    answer: str
    family: str
    template: str
    evidence: tuple[Box, ...] = ()
    evidence_category: str | None = None
    rule: str = ""
    pair_id: str | None = None


def mirror_box(box: Box) -> Box:
    """The box in the frame flipped left to right."""
    x1, y1, x2, y2 = box
    return (1.0 - x2, y1, 1.0 - x1, y2)


def mirror_scene(scene: Scene) -> Scene:
    """The same scene flipped left to right: boxes, drivable grid, lane markings (not the picture)."""
    objects = scene.objects and tuple(replace(thing, box=mirror_box(thing.box)) for thing in scene.objects)
    lanes = scene.lanes and tuple(
        replace(lane, points=tuple((1.0 - x, y) for x, y in lane.points)) for lane in scene.lanes
    )
    drivable = None if scene.drivable is None else np.ascontiguousarray(scene.drivable[:, ::-1])
    return replace(scene, objects=objects, lanes=lanes, drivable=drivable)
