"""What the model must beat: answers from label frequencies, the question's words, the frame's attributes.

Each baseline is a table of predictions for the same questions, scored like the model's own. They learn
from the training split and never see a picture. (Shuffled and grey pictures are views of the model itself,
see `views`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

#: The table that they learn from, beside the tables of answers.
TRAINING_QUESTIONS = "training-questions.parquet"
ATTRIBUTES = ("weather", "timeofday", "scene")
#: Families whose answers are sentences or places of their own are not worth a classifier over answers.
MOST_ANSWERS = 40


def question_rows(frames: Sequence[dict[str, Any]], most_frames: int = 2000) -> pd.DataFrame:
    """The questions of a split as a table, without its pictures.

    Args:
        frames: the split.
        most_frames: how many frames are read, evenly spread.

    Returns:
        family, question, answer and the attributes, one row a question.
    """
    columns: Any = frames
    if hasattr(frames, "select_columns"):
        columns = frames.select_columns(["questions", *ATTRIBUTES])
    step = max(1, -(-len(frames) // most_frames))
    rows = []
    for i in range(0, len(frames), step):
        row = columns[i]
        attributes = {name: row.get(name) for name in ATTRIBUTES}
        rows += [{k: q[k] for k in ("family", "question", "answer")} | attributes for q in row["questions"]]
    return pd.DataFrame(rows)


def commonest(train: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The commonest answer of each family in the training split.

    Args:
        train: from `question_rows`.
        table: predictions whose questions are answered.

    Returns:
        A copy of the table with other predictions; a family that training lacks is answered with "".
    """
    answer = train.groupby("family")["answer"].agg(lambda answers: answers.value_counts().index[0])
    return _with(table, table["family"].map(answer).fillna(""))


def _with(table: pd.DataFrame, predictions: Any) -> pd.DataFrame:
    keep = table.drop(columns=[c for c in ("confidence", "confidences", "score_yes") if c in table])
    return keep.assign(prediction=list(predictions))


def _classify(train: pd.DataFrame, table: pd.DataFrame, build: Any, features: Any) -> pd.DataFrame:
    """One balanced logistic classifier over the answers of each family."""
    answers = dict(list(train.groupby("family")))
    predictions = pd.Series("", index=table.index, dtype=object)
    for family, rows in table.groupby("family"):
        known = answers.get(family)
        if known is None:
            continue
        choices = known["answer"].nunique()
        if choices == 1 or choices > MOST_ANSWERS:
            predictions[rows.index] = known["answer"].value_counts().index[0]
            continue
        model = make_pipeline(build(), LogisticRegression(class_weight="balanced", max_iter=300))
        predictions[rows.index] = model.fit(features(known), known["answer"]).predict(features(rows))
    return _with(table, predictions)


def question_only(train: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The likeliest answer from the words of the question: logistic regression on one- and two-word counts.

    Args:
        train, table: as in `commonest`. Classes are weighted equally, which serves balanced accuracy.

    Returns:
        A copy of the table with other predictions.
    """

    def build() -> CountVectorizer:
        return CountVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[?]", binary=True)

    return _classify(train, table, build, lambda rows: rows["question"])


def attributes_only(train: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The likeliest answer from weather, time of day and scene, which no picture is needed to be told.

    Args:
        train, table: as in `commonest`; families that ask for these very attributes are answered from them.

    Returns:
        A copy of the table with other predictions.
    """

    def features(rows: pd.DataFrame) -> list[dict[str, str]]:
        return rows[list(ATTRIBUTES)].fillna("unknown").astype(str).to_dict("records")

    return _classify(train, table, DictVectorizer, features)


def oracle(table: pd.DataFrame) -> pd.DataFrame:
    """The label itself, given as the answer: what the parser and the scores make of a perfect model.

    Args:
        table: predictions whose questions are answered.

    Returns:
        A copy of the table whose predictions are its labels.
    """
    return _with(table, table["answer"])


def mean_of(
    rows: Sequence[dict[str, Any]], families: Sequence[str], score: str = "balanced_accuracy"
) -> float | None:
    """Mean of a score over the families that have it.

    Args:
        rows: from `metrics.family_table`.
        families: which families.
        score: name of the score.

    Returns:
        The mean, `None` where no family has it.
    """
    values = [row[score] for row in rows if row["family"] in set(families) and row.get(score) is not None]
    return round(float(np.mean(values)), 6) if values else None
