"""Any model's predictions, brought into the order of a data set, each question answered once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from .metrics import PredictionError, as_text


def align(table: pd.DataFrame, frames: Any) -> tuple[pd.DataFrame, dict[str, int]]:
    """Bring any model's predictions into the order of a data set.

    A question without a prediction is scored as unanswered, which is wrong: leaving out the hard ones
    cannot pay. Predictions for questions that the split does not hold are dropped. Of equal duplicates one
    stays.

    Args:
        table: predictions with image_id, question and prediction; what is neither text nor number is no
            prediction.
        frames: the split.

    Returns:
        One row a question of the split, and how many were missing, extra and duplicate.

    Raises:
        PredictionError: if a column is missing, two predictions for one question differ, the split has no
            questions, or none of them is answered.
    """
    key = ["image_id", "question"]
    lacking = [column for column in (*key, "prediction") if column not in table.columns]
    if lacking:
        raise PredictionError(f"predictions lack the column(s) {lacking}; needed are {[*key, 'prediction']}")
    texts = {column: table[column].astype(str) for column in key}
    table = table.assign(**texts, prediction=[as_text(value) for value in table["prediction"]])
    extra_columns = [c for c in ("confidence", "confidences", "score_yes") if c in table.columns]
    given, copies = without_copies(table[[*key, "prediction", *extra_columns]], key)
    wanted = question_table(frames)
    joined = wanted.merge(given, on=key, how="left", indicator=True)
    found = wanted.merge(given, on=key, how="inner")
    if found.empty:
        raise PredictionError(
            "none of the predictions is about a question of this split; give the data set and split that "
            "were asked"
        )
    counts = {
        "missing": int((joined["_merge"] == "left_only").sum()),
        "extra": len(given) - len(found[key].drop_duplicates()),
        "duplicate": copies,
    }
    return joined.drop(columns="_merge"), counts


def without_copies(table: pd.DataFrame, key: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Predictions that answer each question once: of equal ones the first stays.

    Args:
        table: predictions as text.
        key: the columns that name a question.

    Returns:
        The rows that stay, and how many went.

    Raises:
        PredictionError: if two predictions for one question differ.
    """
    copies = table.duplicated([*key, "prediction"])
    table = table[~copies]
    clash = table.duplicated(list(key))
    if clash.any():
        first = table[clash].iloc[0]
        raise PredictionError(
            f"{int(clash.sum())} question(s) have different predictions, the first is {first['question']!r} "
            f"about {first['image_id']}; keep one of each"
        )
    return table, int(copies.sum())


def question_table(frames: Any) -> pd.DataFrame:
    """The questions of a split with their labels and the frame's attributes, one row a question.

    Raises:
        PredictionError: if the split has no questions.
    """
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
    if not rows:
        raise PredictionError("the split has frames but no questions, there is nothing to score")
    return pd.DataFrame(rows).assign(image_id=lambda table: table["image_id"].astype(str))
