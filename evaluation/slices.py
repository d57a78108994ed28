"""Where the model is weak: scores by weather, time of day, place, evidence and number of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .answers import UNCLEAR
from .metrics import mean_with_interval

MIN_ROWS = 50
SIZES = ((0.0, "under 0.2%"), (0.002, "0.2 to 1%"), (0.01, "1 to 5%"), (0.05, "over 5%"))
BOTTOMS = (
    (0.0, "far (bottom edge above 0.54)"),
    (0.54, "middle (0.54 to 0.60)"),
    (0.60, "near (below 0.60)"),
)
COUNTS = ((0, "0 to 5"), (6, "6 to 12"), (13, "13 to 20"), (21, "over 20"))
ORDER = {name: i for bins in (SIZES, BOTTOMS, COUNTS) for i, (_, name) in enumerate(bins)}


def _bin(value: float, bins: Sequence[tuple[float, str]]) -> str:
    return [name for start, name in bins if value >= start][-1]


def _has_boxes(evidence: Any) -> bool:
    return evidence is not None and not np.isscalar(evidence) and len(evidence) > 0


def evidence_size(evidence: Any) -> str | None:
    """The largest evidence box's share of the frame, in words; `None` without evidence."""
    if not _has_boxes(evidence):
        return None
    return _bin(max((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in evidence), SIZES)


def evidence_distance(evidence: Any) -> str | None:
    """How far away the nearest evidence stands on the road, by its bottom edge; `None` without evidence."""
    if not _has_boxes(evidence):
        return None
    return _bin(max(box[3] for box in evidence), BOTTOMS)


def number_of_objects(count: Any) -> str | None:
    """How crowded the frame is; `None` where it is not annotated."""
    return None if count is None or pd.isna(count) else _bin(float(count), COUNTS)


def slice_columns(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The slices that a table of predictions can be cut into: name -> a value a row (`None` = unknown)."""
    columns = {name: table[name] for name in ("weather", "timeofday", "scene", "source") if name in table}
    if "evidence" in table:
        columns["evidence size"] = table["evidence"].map(evidence_size)
        columns["evidence distance"] = table["evidence"].map(evidence_distance)
    if "num_objects" in table:
        columns["objects in the frame"] = table["num_objects"].map(number_of_objects)
    return columns


def slice_table(table: pd.DataFrame, shuffled: pd.DataFrame | None = None) -> list[dict[str, Any]]:
    """Accuracy of every slice with at least `MIN_ROWS` rows.

    Args:
        table: decided predictions.
        shuffled: decided predictions of the same model for the same questions about other frames' pictures.

    Returns:
        One mapping a slice: slice, value, n, frames, accuracy and its interval by frame, balanced_accuracy
        (the mean over the yes/no families that have at least ten rows of either answer there), and with
        `shuffled` its shuffled_balanced_accuracy. Attributes stay those of the frame that was asked about.
    """
    known = table[table["truth"] != UNCLEAR]
    blind = None if shuffled is None else slice_columns(shuffled)
    rows = []
    for name, values in slice_columns(known).items():
        groups = dict(list(known.groupby(values)))
        for value, part in sorted(groups.items(), key=lambda group: (ORDER.get(group[0], 0), group[0])):
            if len(part) < MIN_ROWS:
                continue
            accuracy = mean_with_interval(
                part["correct"].to_numpy(float), part["image_id"].astype(str).tolist()
            )
            rows.append({
                "slice": name,
                "value": str(value),
                "n": len(part),
                "frames": int(part["image_id"].nunique()),
                "accuracy": accuracy["mean"],
                "accuracy_interval": accuracy["interval"],
                "balanced_accuracy": _mean_balanced(part),
            })  # fmt: skip
            if shuffled is not None and blind is not None:
                rows[-1]["shuffled_balanced_accuracy"] = _mean_balanced(shuffled[blind[name] == value])
    return rows


def _mean_balanced(part: pd.DataFrame, least: int = 10) -> float | None:
    """Mean over yes/no families of the mean recall of yes and of no."""
    questions = part[part["kind"] == "yes/no"]
    recall = questions.groupby(["family", "truth"])["correct"].agg(["mean", "size"]).reset_index()
    recall = recall[(recall["size"] >= least) & recall["truth"].isin(["yes", "no"])]
    both = recall.groupby("family").filter(lambda rows: len(rows) == 2)
    return round(float(both.groupby("family")["mean"].mean().mean()), 6) if len(both) else None
