"""Provenance made visible: a row's frame, boxes, regions, and its rule in words."""

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from .families import FAMILIES
from .geometry import find_lanes

WIDTH = 960
LANE_COLOURS = {"mine": (60, 200, 90), "left": (220, 90, 80), "right": (80, 130, 240)}
EVIDENCE, OTHER = (255, 210, 0), (200, 200, 200)


def find(
    folder: Path, split: str, image_id: str | None, family: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A frame of a built data set, pictures decoded, and its question of a family.

    Args:
        folder: The data set.
        split: One of its splits.
        image_id: The frame; the first one that has such a question if `None`.
        family: Name of the family.

    Raises:
        ValueError: There is no such split, frame or question.
    """
    shards = sorted((folder / "data").glob(f"{split}-*.parquet"))
    if not shards:
        raise ValueError(f"no split {split!r} in {folder}: no file data/{split}-*.parquet")
    known = False
    for shard in map(pq.ParquetFile, shards):
        for group in range(shard.num_row_groups):
            ids = shard.read_row_group(group, columns=["image_id"])["image_id"]
            if image_id is not None and not pc.any(pc.equal(ids, image_id)).as_py():
                continue
            for frame in shard.read_row_group(group).to_pylist():
                if image_id not in (None, frame["image_id"]):
                    continue
                known = True
                for question in frame["questions"]:
                    if question["family"] == family:
                        return {
                            **frame,
                            "image": _open(frame["image"]),
                            "drivable": _open(frame["drivable"]),
                        }, question
    if known:
        raise ValueError(f"no decidable question of family {family!r} about {image_id or split}")
    raise ValueError(f"no frame {image_id!r} in split {split!r} of {folder}")


def _open(stored: Mapping[str, Any] | None) -> Image.Image | None:
    return None if stored is None else Image.open(io.BytesIO(stored["bytes"]))


def explain(frame: Mapping[str, Any], question: Mapping[str, Any]) -> Image.Image:
    """Draws one row of a built data set.

    Evidence boxes are thick and yellow, other labelled boxes thin and grey; my lane is green, the lane on
    the left red, on the right blue. Below stand question, answer, rule, and the opposite question with its
    answer.

    Args:
        frame: A row of the data set, pictures decoded.
        question: One of the frame's questions.
    """
    picture = frame["image"].convert("RGB")
    picture = picture.resize((WIDTH, round(WIDTH * picture.height / picture.width)), Image.Resampling.LANCZOS)
    picture = _tint_lanes(picture, frame["drivable"])
    draw = ImageDraw.Draw(picture)
    for thing in frame["objects"] or ():
        draw.rectangle(_pixels(thing["box"], picture), outline=OTHER, width=1)
    for box in question["evidence"]:
        draw.rectangle(_pixels(box, picture), outline=EVIDENCE, width=4)
    return _with_caption(picture, caption(frame, question))


def caption(frame: Mapping[str, Any], question: Mapping[str, Any]) -> list[str]:
    """What is written below the picture, a paragraph an entry."""
    boxes = len(question["evidence"])
    evidence = (
        f"{boxes} box{'es' if boxes != 1 else ''} ({question['evidence_category']})" if boxes else "none"
    )
    lines = [
        f"Q: {question['question']}",
        f"A: {question['answer']}",
        f"Rule: {question['rule']}. {FAMILIES[question['family']].rule}",
        f"Evidence: {evidence}. Family {question['family']}, phrasing {question['template']}.",
        f"Frame {frame['image_id']}: {frame['weather'] or 'weather unknown'},"
        f" {frame['timeofday'] or 'time unknown'}, {frame['scene'] or 'place unknown'}.",
    ]
    opposites = [
        other
        for other in frame["questions"]
        if question["pair_id"]
        and other["pair_id"] == question["pair_id"]
        and other["family"] != question["family"]
    ]
    return lines + [f"Opposite: {other['question']} - {other['answer']}" for other in opposites]


def _tint_lanes(picture: Image.Image, drivable: Image.Image | None) -> Image.Image:
    lanes = find_lanes(None if drivable is None else np.asarray(drivable))
    if lanes is None:
        return picture
    for which, colour in LANE_COLOURS.items():
        cells = Image.fromarray(lanes.cells[which].view(np.uint8) * np.uint8(80))
        picture.paste(
            Image.new("RGB", picture.size, colour), mask=cells.resize(picture.size, Image.Resampling.NEAREST)
        )
    return picture


def _pixels(box: list[float], picture: Image.Image) -> tuple[float, float, float, float]:
    return (box[0] * picture.width, box[1] * picture.height, box[2] * picture.width, box[3] * picture.height)


def _with_caption(picture: Image.Image, paragraphs: list[str]) -> Image.Image:
    font = ImageFont.load_default(18)
    lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 100)]
    sheet = Image.new("RGB", (picture.width, picture.height + 24 * len(lines) + 16), (25, 25, 28))
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((10, picture.height + 8 + 24 * number), line, fill=(240, 240, 240), font=font)
    return sheet
