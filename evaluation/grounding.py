"""Whether attention lies on the evidence: entropy, mass ratio, pointing game, sinks, per layer and head.

Each number stands beside what a map knows without looking: mass ratio 1 is an even map, the pointing game
has the picture's centre as its baseline, which is high wherever photographers aim, and both have the blind
map, the mean of the maps of the same question about other frames: in any frame cars are on the road.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .metrics import mean_with_interval

#: 15 pixels (Zhang et al., 2018, arXiv:1608.00507) in a picture 512 pixels wide, as a fraction of the width.
TOLERANCE = 15 / 512
SINK_PATCHES = 4
ASPECT = 9 / 16
#: What `scored` says of a map.
SCORES = ("entropy", "mass", "ratio", "pointing", "centre", "blind_ratio", "blind_pointing")
#: What it leads by: score -> the score and what that is compared with.
LEADS = {
    "above_centre": ("pointing", "centre"),
    "above_blind": ("pointing", "blind_pointing"),
    "ratio_above_blind": ("ratio", "blind_ratio"),
}

Boxes = Sequence[Sequence[float]]


def touched(boxes: Boxes, grid: tuple[int, int]) -> np.ndarray:
    """Patches that boxes touch.

    Args:
        boxes: (x1, y1, x2, y2) as fractions of the frame.
        grid: rows and columns of patches.

    Returns:
        (rows, columns) bool.
    """
    height, width = grid
    mask = np.zeros(grid, dtype=bool)
    for x1, y1, x2, y2 in boxes:
        left, top = min(max(int(x1 * width), 0), width - 1), min(max(int(y1 * height), 0), height - 1)
        right, bottom = min(math.ceil(x2 * width), width), min(math.ceil(y2 * height), height)
        mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    return mask


def is_hit(
    point: tuple[float, float], boxes: Boxes, tolerance: float = TOLERANCE, aspect: float = ASPECT
) -> bool:
    """The pointing game: whether a point lies within the tolerance of a box.

    Args:
        point: (x, y) as fractions of the frame.
        boxes: (x1, y1, x2, y2) as fractions of the frame.
        tolerance: as a fraction of the frame's width.
        aspect: the frame's height over its width.

    Returns:
        Whether it is.
    """
    x, y = point
    for x1, y1, x2, y2 in boxes:
        dx, dy = max(x1 - x, 0.0, x - x2), max(y1 - y, 0.0, y - y2) * aspect
        if dx * dx + dy * dy <= tolerance * tolerance:
            return True
    return False


def peak(attention: np.ndarray) -> tuple[float, float]:
    """Centre of the strongest patch, (x, y) as fractions of the frame."""
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    return (column + 0.5) / attention.shape[1], (row + 0.5) / attention.shape[0]


def score_map(attention: np.ndarray, boxes: Boxes) -> dict[str, float]:
    """Scores of one map.

    Args:
        attention: (rows, columns), sums to 1.
        boxes: evidence, at least one box.

    Returns:
        entropy (1 is even, 0 one patch), mass (inside the evidence), ratio (mass over the evidence's share
        of the patches), pointing, centre, both 0 or 1.
    """
    inside = touched(boxes, attention.shape)
    mass = float(attention[inside].sum())
    flat = attention.ravel()
    entropy = float(-(flat * np.log(np.maximum(flat, 1e-12))).sum() / np.log(flat.size))
    return {
        "entropy": entropy,
        "mass": mass,
        "ratio": mass / float(inside.mean()),
        "pointing": float(is_hit(peak(attention), boxes)),
        "centre": float(is_hit((0.5, 0.5), boxes)),
    }


def sink_mass(maps: np.ndarray, patches: int = SINK_PATCHES) -> float:
    """Mean attention on the few patches that get most of it on average, whatever is asked.

    Args:
        maps: (rows, height, width), each sums to 1.
        patches: how many patches.

    Returns:
        A fraction; an even map has patches / (height * width).
    """
    mean = maps.reshape(len(maps), -1).mean(0)
    return float(np.sort(mean)[-patches:].sum())


def blind_maps(maps: np.ndarray, frames: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """What a map can know of the evidence without looking: where the maps of other frames lie.

    Args:
        maps: (rows, height, width), each sums to 1.
        frames: (rows,) which frame each is of.
        questions: (rows,) the kind of question that each belongs to.

    Returns:
        (rows, height, width): for each row the mean map of the same question over all other frames, an even
        map where there is none.
    """
    result = np.full(maps.shape, 1 / np.prod(maps.shape[1:]))
    for question in np.unique(questions):
        rows = np.flatnonzero(questions == question)
        of_frame = pd.factorize(frames[rows])[0]
        own, count = np.zeros((of_frame.max() + 1, *maps.shape[1:])), np.bincount(of_frame)
        np.add.at(own, of_frame, maps[rows])
        if len(count) > 1:
            others = len(rows) - count[of_frame]
            result[rows] = (own.sum(0) - own[of_frame]) / others[:, None, None]
    return result


def scored(table: pd.DataFrame, maps: np.ndarray) -> pd.DataFrame:
    """The table of rows with the scores of their maps as columns.

    Args:
        table: rows with `evidence`, `image_id` and `family`.
        maps: (rows, height, width), each sums to 1.

    Returns:
        The table with `SCORES` (those of `score_map`, and those of the blind map) and `LEADS`.
    """
    blind = blind_maps(maps, table["image_id"].astype(str).to_numpy(), table["family"].to_numpy())
    scores = []
    for attention, without_looking, boxes in zip(maps, blind, table["evidence"], strict=True):
        other = score_map(without_looking, boxes)
        others = {"blind_ratio": other["ratio"], "blind_pointing": other["pointing"]}
        scores.append(score_map(attention, boxes) | others)
    columns = pd.DataFrame(scores, columns=list(SCORES))
    for name, (ours, theirs) in LEADS.items():
        columns[name] = columns[ours] - columns[theirs]
    return table.reset_index(drop=True).join(columns)


def summarise(rows: pd.DataFrame) -> dict[str, Any]:
    """Mean scores of rows with their intervals.

    Args:
        rows: from `scored`.

    Returns:
        n, and for each of `SCORES` and `LEADS` (paired differences) the mean and its interval.
    """
    frames = rows["image_id"].astype(str).tolist()
    found = {name: mean_with_interval(rows[name].to_numpy(float), frames) for name in (*SCORES, *LEADS)}
    return {"n": len(rows)} | found


def by_head(table: pd.DataFrame, maps: np.ndarray) -> list[dict[str, Any]]:
    """Scores of every layer and head.

    Args:
        table: rows with evidence.
        maps: (rows, layers, heads, height, width).

    Returns:
        One mapping a head: layer, head, entropy, ratio, pointing, centre, sink_mass, as plain means.
    """
    result = []
    for layer in range(maps.shape[1]):
        for head in range(maps.shape[2]):
            attention = maps[:, layer, head]
            part = pd.DataFrame([score_map(m, b) for m, b in zip(attention, table["evidence"], strict=True)])
            means = {
                name: round(float(part[name].mean()), 6)
                for name in ("entropy", "ratio", "pointing", "centre")
            }
            result.append(
                {
                    "layer": layer,
                    "head": head,
                    **means,
                    "sink_mass": round(sink_mass(attention), 6),
                }
            )
    return result
