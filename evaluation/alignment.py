"""Any model's predictions, brought into the order of a data set."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .metrics import PredictionError


def align(table: pd.DataFrame, frames: Any) -> tuple[pd.DataFrame, dict[str, int]]:
    """Bring any model's predictions into the order of a data set.

    A question without a prediction is scored as unanswered, which is wrong: leaving out the hard ones
    cannot pay. Predictions for questions that the split does not hold are dropped. Of equal duplicates one
    stays.

    Args:
        table: predictions with image_id, question and prediction.
        frames: the split.

    Returns:
        One row a question of the split, and how many were missing, extra and duplicate.

    Raises:
        PredictionError: if a column is missing or two predictions for one question differ.
    """
    key = ["image_id", "question"]
    lacking = [column for column in (*key, "prediction") if column not in table.columns]
    if lacking:
        raise PredictionError(f"predictions lack the column(s) {lacking}; needed are {[*key, 'prediction']}")
    table = table.assign(image_id=table["image_id"].astype(str))
    extra_columns = [c for c in ("confidence", "confidences", "score_yes") if c in table.columns]
    given = table[[*key, "prediction", *extra_columns]]
    copies = given.duplicated([*key, "prediction"])
    given = given[~copies]
    clash = given.duplicated(key)
    if clash.any():
        first = given[clash].iloc[0]
        raise PredictionError(
            f"{int(clash.sum())} question(s) have different predictions, the first is {first['question']!r} "
            f"about {first['image_id']}; keep one of each"
        )
    wanted = question_table(frames)
    joined = wanted.merge(given, on=key, how="left", indicator=True)
    found = wanted.merge(given, on=key, how="inner")
    counts = {
        "missing": int((joined["_merge"] == "left_only").sum()),
        "extra": len(given) - len(found[key].drop_duplicates()),
        "duplicate": int(copies.sum()),
    }
    return joined.drop(columns="_merge"), counts


def question_table(frames: Any) -> pd.DataFrame:
    """The questions of a split with their labels and the frame's attributes, one row a question."""
    columns = frames
    if hasattr(frames, "remove_columns"):
        columns = frames.remove_columns([c for c in ("image", "drivable") if c in frames.column_names])
    rows = []
    for index, row in enumerate(columns):
        shared = {k: row.get(k) for k in ("image_id", "source", "weather", "timeofday", "scene")}
        shared["num_objects"] = None if row.get("objects") is None else len(row["objects"])
        rows += [
            {**shared, **q, "frame_index": index, "question_index": i} for i, q in enumerate(row["questions"])
        ]
    return pd.DataFrame(rows).assign(image_id=lambda table: table["image_id"].astype(str))
