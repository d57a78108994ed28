"""Frames of the same time of day and the same weather joined side by side (after CutMix, Yun et al. 2019,
https://arxiv.org/abs/1905.04899): more pictures of which both are known.

CutMix mixes the labels of what it joins; an answer in words cannot be mixed. Here both halves have the same
time and weather, and so has the whole. (Hence who knows either half by heart still answers rightly: what is
new is the picture, not the answer.) A kind of thing is there when either half shows one, and not there when
both are known to show none. What the joined street means no rule knows: nothing else is asked.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from PIL import Image
from traffic_vlm.processing.bdd100k.families import FAMILIES

from .moving import LEAST_INSIDE, moved_thing, share_inside
from .pasting import carried

ASKED = {"presence", "absence", "weather", "weather_is", "time_of_day", "time_is", "visibility"}
"""Groups of families whose answers two halves with the same time and weather decide together."""
SEAM = (0.3, 0.7)
"""Where the halves may meet, as fractions of the width."""


class Partners:
    """For each frame the others of the same time of day and weather.

    Args:
        source: A split of the data set.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.alike: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, row in enumerate(source.select_columns(["objects", "timeofday", "weather"])):
            if row["objects"] is not None and None not in (row["timeofday"], row["weather"]):
                self.alike[row["timeofday"], row["weather"]].append(index)

    def draw(self, index: int, row: dict[str, Any], rng: np.random.Generator) -> dict[str, Any] | None:
        """Another row like the split's `index`-th; None where there is none, or its time or weather is
        unknown."""
        others = [other for other in self.alike.get((row["timeofday"], row["weather"]), ()) if other != index]
        return self.source[others[rng.integers(len(others))]] if others else None


def joined(
    image: Image.Image, row: dict[str, Any], other: dict[str, Any], rng: np.random.Generator
) -> tuple[Image.Image, dict[str, Any]]:
    """Joins a part of a frame with the rest of another, each where it was.

    Args:
        image: The frame.
        row: Its row in the data set.
        other: The row, with its `image`, of a frame of the same time of day and weather.
        rng: Decides where the seam is and which frame is on its left.

    Returns:
        The new picture, and the row with what is in it now; its questions are those that may be asked of it,
        their answers not yet given anew (see `moved_copy`).
    """
    seam = round(rng.uniform(*SEAM) * image.width)
    left, right = (0, 0, seam, image.height), (seam, 0, image.width, image.height)
    own, foreign = (left, right) if rng.random() < 0.5 else (right, left)
    picture = image.copy()
    picture.paste(other["image"].convert("RGB").resize(image.size).crop(foreign), foreign)
    objects, cut = [], set()
    for half, things in ((own, row["objects"]), (foreign, other["objects"])):
        window = (half[0] / image.width, 0.0, half[2] / image.width, 1.0)
        for thing in things:
            if inside := moved_thing(thing, window):
                left = share_inside(thing, window)
                box = carried(inside["box"], (0.0, 0.0, 1.0, 1.0), window)
                objects.append({**inside, "box": box, "left": left})
                cut |= {thing["category"]} if left < LEAST_INSIDE else set()
    known = {question["family"] for question in other["questions"]}
    questions = [
        question
        for question in row["questions"]
        if question["family"] in known
        and FAMILIES[question["family"]].group in ASKED
        and FAMILIES[question["family"]].category not in cut
    ]
    changed = {**row, "objects": objects, "drivable": None, "questions": questions, "joined": True}
    changed.pop("forerunner", None)  # a class of the street
    return picture, changed
