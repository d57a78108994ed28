"""Left and right exchanged in words and in boxes.

Flipping a picture flips what is true of it. Every family's rule is symmetric, so that flipping the picture,
its boxes and the words of question and answer alike gives another true row. In this data set "left" and
"right" are only ever sides, never "correct" or "remaining".
"""

import re
from collections.abc import Mapping
from typing import Any

from PIL import Image

from .scene import mirror_box

__all__ = ["mirror_box", "mirror_frame", "mirror_text"]

LOCATION_BINS = 1024
_SIDE = re.compile(r"\b(left|right)(?=\b|most|ward|hand)", re.IGNORECASE)
_LOCATIONS = re.compile(r"<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})>")


def mirror_text(text: str) -> str:
    """Exchanges left and right, and mirrors boxes written as `<loc y1><loc x1><loc y2><loc x2>`.

    Location values are snapped to multiples of 8 of 1023 (see `geometry.location_tokens`), so the mirrored
    value is 1024 minus the value: snapping and mirroring commute, and 0 and 1024 meet the ends of the
    scale.
    """
    return _LOCATIONS.sub(_mirror_locations, _SIDE.sub(_other_side, text))


def _other_side(match: re.Match) -> str:
    word = match.group(1)
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _mirror_locations(match: re.Match) -> str:
    y1, x1, y2, x2 = (int(value) for value in match.groups())
    flipped = (y1, _mirror_location(x2), y2, _mirror_location(x1))
    return "".join(f"<loc{value:04d}>" for value in flipped)


def _mirror_location(value: int) -> int:
    return min(LOCATION_BINS - value, LOCATION_BINS - 1) if value < LOCATION_BINS - 1 else 0


def mirror_frame(frame: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the data set flipped left to right: picture, regions, boxes, questions and answers alike.

    Args:
        frame: A row with its pictures decoded.
    """
    objects = frame["objects"] and [{**thing, "box": mirror_box(thing["box"])} for thing in frame["objects"]]
    return {
        **frame,
        "image": _flip(frame["image"]),
        "drivable": _flip(frame["drivable"]),
        "objects": objects,
        "questions": [_mirror_question(question) for question in frame["questions"]],
    }


def _flip(picture: Image.Image | None) -> Image.Image | None:
    return None if picture is None else picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _mirror_question(question: Mapping[str, Any]) -> dict[str, Any]:
    words = {name: mirror_text(question[name]) for name in ("question", "answer")}
    # Names such as "lane_clear_left" and "ID/lane left" hold the side too.
    for name in ("family", "template", "pair_id"):
        words[name] = question[name] and re.sub(
            r"(?<![a-z])(left|right)(?![a-z])", _other_side, question[name]
        )
    return {**question, **words, "evidence": [mirror_box(box) for box in question["evidence"]]}
