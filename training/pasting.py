"""Rare things of some frames shown in others (copy and paste, Ghiasi et al. 2021, https://arxiv.org/abs/2012.07177),
against learning by heart which frames have them.

A cutting holds a rare thing and everything that touches it, so that no part of an unlabelled thing comes
along. It stands as high above or below the horizon as before, hides nothing that is labelled, comes from the
same time of day, and has other colours each time. Every other cutting holds nothing, so that an edge in the
picture does not tell what is inside. What a cutting does to the street (is that lane still free?) no rule
knows: only kinds of things, and the time and place, are asked about afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from traffic_vlm.processing.bdd100k.families import FAMILIES
from traffic_vlm.processing.bdd100k.geometry import HORIZON, area
from traffic_vlm.processing.bdd100k.scene import UNNAMED, Box

RARE = ("rider", "truck", "bus", "train", "motorcycle", "bicycle")
WHOLE_FRAME = {"time_of_day", "time_is", "place"}
"""Groups of families that a cutting does not change; it may come from other weather."""
MOST = 400
"""Cuttings that are kept of each kind."""
PASTED = 3
NEARER_OR_FARTHER = (0.6, 1.4)
"""A thing's size when pasted, times its own."""
PLACES_TRIED = 30
MARGIN = 0.12
"""Of a thing's size, around it: there the cutting fades into the frame."""
SMALLEST, WIDEST, HIGHEST = 0.0008, 0.45, 0.6
"""Least area of the rare thing and largest sides of a cutting, as fractions of the frame."""


@dataclass(frozen=True)
class Cutting:
    """A rectangle of a frame.

    Attributes:
        picture: Its pixels.
        place: Where it was.
        objects: What is in it, with boxes as fractions of the frame it comes from.
    """

    picture: Image.Image
    place: Box
    objects: list[dict[str, Any]]


@dataclass
class Cuttings:
    """All cuttings, by time of day and kind: one of `RARE`, or "no rider" and so on for the empty ones."""

    kept: dict[str, dict[str, list[Cutting]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def draw(self, timeofday: str | None, rng: np.random.Generator) -> Cutting | None:
        """A cutting of that time of day, every other time an empty one; None when there is none."""
        kinds = self.kept.get(timeofday or "", {})
        things = [kind for kind in RARE if kinds.get(kind) and kinds.get(f"no {kind}")]
        if not things:
            return None
        # Of the rarest there are a handful: drawn as often as the others they would be learnt by heart.
        shares = np.sqrt([len(kinds[kind]) for kind in things])
        kind = rng.choice(things, p=shares / shares.sum())
        choice = kinds[kind if rng.random() < 0.5 else f"no {kind}"]
        return choice[rng.integers(len(choice))]


def cuttings_of(source: Any, seed: int) -> Cuttings:
    """Cuts rare things out of a split, and rectangles of the same sizes with nothing in them.

    Args:
        source: The split, as `datasets` loads it: rows with `image`, `objects` and `timeofday`.
        seed: Decides which are kept where there are more than `MOST` of a kind.
    """
    rng = np.random.default_rng(seed)
    labels = list(source.select_columns(["objects", "timeofday"]))
    planned: dict[str, list[tuple[int, Box]]] = defaultdict(list)
    frames: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(labels):
        if row["objects"] is None or row["timeofday"] is None:
            continue
        frames[row["timeofday"]].append(index)
        for thing in row["objects"]:
            if thing["category"] in RARE and (place := place_around(thing, row["objects"])):
                planned[thing["category"]].append((index, place))
    for kind in list(planned):
        rng.shuffle(planned[kind])
        del planned[kind][MOST:]
        for index, place in planned[kind]:
            for other in map(int, rng.choice(frames[labels[index]["timeofday"]], PLACES_TRIED)):
                if not any(share_area(place, thing["box"]) for thing in labels[other]["objects"]):
                    planned[f"no {kind}"].append((other, place))
                    break
    found = Cuttings()
    for kind, places in planned.items():
        for index, place in places:
            image = source[index]["image"].convert("RGB")
            inside = [thing for thing in labels[index]["objects"] if share_area(place, thing["box"])]
            found.kept[labels[index]["timeofday"]][kind].append(
                Cutting(image.crop(pixels(place, image.size)), place, inside)
            )
    return found


def place_around(thing: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Box | None:
    """The smallest rectangle with the thing in it that no labelled thing's edge crosses; None when it would
    be too large, the thing is too small or cut off, or something in it is of unknown kind."""
    if area(thing["box"]) < SMALLEST or thing["truncated"]:
        return None
    place, inside = widened(thing["box"]), [thing]
    while True:
        x1, y1, x2, y2 = place
        if x1 <= 0 or y1 <= 0 or x2 >= 1 or y2 >= 1 or x2 - x1 > WIDEST or y2 - y1 > HIGHEST:
            return None
        touching = [other for other in objects if share_area(place, other["box"])]
        if len(touching) == len(inside):
            break
        inside = touching
        corners = np.array([place, *(widened(other["box"]) for other in inside)])
        place = (*map(float, corners[:, :2].min(0)), *map(float, corners[:, 2:].max(0)))
    return None if any(other["category"] in UNNAMED for other in inside) else place


def pasted(
    image: Image.Image, row: dict[str, Any], cuttings: Cuttings, rng: np.random.Generator
) -> tuple[Image.Image, dict[str, Any]]:
    """Pastes up to three cuttings into a frame.

    Args:
        image: The frame.
        row: Its row in the data set; its things are labelled.
        cuttings: What may be pasted.
        rng: Decides what and where.

    Returns:
        The new picture, and the row with what is in it now; its questions are those that may be asked of it,
        their answers not yet given anew (see `moved_copy`). Where nothing could be pasted both are as given.
    """
    picture, objects = image.copy(), list(row["objects"])
    taken: list[Box] = []
    for _ in range(PASTED):
        cutting = cuttings.draw(row["timeofday"], rng)
        place = cutting and free_place(cutting.place, [*(t["box"] for t in objects), *taken], rng)
        if not place:
            continue
        left, top, right, bottom = pixels(place, image.size)
        patch = recoloured(cutting, rng).resize(
            (right - left, bottom - top), Image.Resampling.BILINEAR, reducing_gap=2.0
        )
        there = [{**thing, "box": carried(thing["box"], cutting.place, place)} for thing in cutting.objects]
        picture.paste(patch, (left, top), opacity(place, [thing["box"] for thing in there], image.size))
        objects += there
        taken.append(place)
    if not taken:
        return image, row
    questions = [question for question in row["questions"] if may_still_be_asked(question["family"])]
    changed = {**row, "objects": objects, "drivable": None, "questions": questions, "pasted": True}
    changed.pop("forerunner", None)  # a class of the street
    return picture, changed


def may_still_be_asked(family: str) -> bool:
    """Whether a family is about one kind of things, or about the frame as a whole."""
    return FAMILIES[family].category is not None or FAMILIES[family].group in WHOLE_FRAME


def free_place(place: Box, taken: Sequence[Box], rng: np.random.Generator) -> Box | None:
    """Somewhere as high above or below the horizon, a little nearer or farther, that covers nothing."""
    x1, y1, x2, y2 = place
    for _ in range(PLACES_TRIED):
        scale = rng.uniform(*NEARER_OR_FARTHER)
        width, top, bottom = (
            (x2 - x1) * scale,
            HORIZON + (y1 - HORIZON) * scale,
            HORIZON + (y2 - HORIZON) * scale,
        )
        left = rng.uniform(0, 1 - width) if width < 1 else -1.0
        new = (left, top, left + width, bottom)
        if min(new) >= 0 and max(new) <= 1 and not any(share_area(new, other) for other in taken):
            return new
    return None


def recoloured(cutting: Cutting, rng: np.random.Generator) -> Image.Image:
    """A cutting in other colours. Where a light is in it, whose colour is asked about, the hue stays."""
    turn, stronger, brighter = rng.uniform(-0.1, 0.1), rng.uniform(0.6, 1.4), rng.uniform(0.75, 1.25)
    if any(thing["category"] == "traffic light" for thing in cutting.objects):
        turn = 0.0
    hue, saturation, value = (
        np.asarray(channel, dtype=np.float32) for channel in cutting.picture.convert("HSV").split()
    )
    changed = (hue + 256 * turn) % 256, saturation * stronger, value * brighter
    channels = [Image.fromarray(np.clip(channel, 0, 255).astype(np.uint8)) for channel in changed]
    return Image.merge("HSV", channels).convert("RGB")


def opacity(place: Box, things: Sequence[Box], size: tuple[int, int]) -> Image.Image:
    """A mask for a cutting at `place` that fades to nothing at its edges, and nowhere over its things."""
    left, top, right, bottom = pixels(place, size)
    edges = [
        np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)) / max(1, side * MARGIN / (1 + 2 * MARGIN))
        for side in (right - left, bottom - top)
    ]
    mask = np.minimum(1, np.minimum(edges[0][None, :], edges[1][:, None]))
    for thing in things:
        x1, y1, x2, y2 = pixels(thing, size)
        mask[y1 - top : y2 - top, x1 - left : x2 - left] = 1
    return Image.fromarray(np.round(255 * mask).astype(np.uint8))


def carried(box: Sequence[float], old: Box, new: Box) -> list[float]:
    """A box inside `old`, at the same place inside `new`."""
    scale = (new[2] - new[0]) / (old[2] - old[0]), (new[3] - new[1]) / (old[3] - old[1])
    return [new[i % 2] + (box[i] - old[i % 2]) * scale[i % 2] for i in range(4)]


def widened(box: Sequence[float]) -> Box:
    """A box with its margin."""
    x1, y1, x2, y2 = box
    across, down = (x2 - x1) * MARGIN, (y2 - y1) * MARGIN
    return x1 - across, y1 - down, x2 + across, y2 + down


def share_area(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes share an area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box as whole pixels of a picture, at least one wide and high."""
    x1, y1, x2, y2 = box
    left, top = round(x1 * size[0]), round(y1 * size[1])
    return left, top, max(left + 1, round(x2 * size[0])), max(top + 1, round(y2 * size[1]))
