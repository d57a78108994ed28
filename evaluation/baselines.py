"""What the model must beat: answers from label frequencies, the question's words, the frame's attributes.

Each baseline is a table of predictions for the same questions, scored like the model's own. They learn
from the training split and never see a picture. (Shuffled and grey pictures are views of the model itself,
see `views`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from .answers import UNCLEAR, read
from .metrics import FIVE_WAY_FAMILY, kinds_of

#: The table that they learn from, beside the tables of answers.
TRAINING_QUESTIONS = "training-questions.parquet"
ATTRIBUTES = ("weather", "timeofday", "scene")
#: Families whose answers are sentences or boxes of their own are not worth a classifier over them.
MOST_DECISIONS = 40
#: Training rows with their `decision`, and rows to answer -> a decision, one for all or one a row.
Choose = Callable[[pd.DataFrame, pd.DataFrame], Any]


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
    """The commonest decision of each family in the training split.

    Args:
        train: from `question_rows`.
        table: predictions whose questions are answered.

    Returns:
        A copy of the table with other predictions; a family that training lacks is answered with "".
    """
    return _answered(train, table, lambda known, rows: known["decision"].mode()[0])


def _with(table: pd.DataFrame, predictions: pd.Series) -> pd.DataFrame:
    """The table with other predictions, of which nothing says how sure they are."""
    keep = table.drop(columns=[c for c in ("confidence", "confidences", "score_yes") if c in table])
    return keep.assign(prediction=predictions)


def _answered(train: pd.DataFrame, table: pd.DataFrame, choose: Choose) -> pd.DataFrame:
    """The table with what `choose` decides, move forward's five ways apart from its yes and no."""
    made = _with(table, _said(train, table, kinds_of(table), choose))
    forward = table[table["family"] == FIVE_WAY_FAMILY]
    if len(forward):
        made["prediction_five_way"] = _said(train, forward, {FIVE_WAY_FAMILY: "five-way"}, choose)
    return made


def _said(train: pd.DataFrame, table: pd.DataFrame, kinds: Mapping[str, str], choose: Choose) -> pd.Series:
    """What is answered to each row: the commonest text in training that holds the chosen decision.

    Choosing among decisions and not among texts is what the scores reward: a family with one text for yes and
    four for no would be balanced over five answers.
    """
    said = pd.Series("", index=table.index, dtype=object)
    answers = dict(list(train.groupby("family")))
    for family, rows in table.groupby("family"):
        if family not in answers:
            continue
        known = answers[family]
        known = known.assign(decision=[read(text, kinds[str(family)]) for text in known["answer"]])
        known = known[known["decision"] != UNCLEAR]
        if len(known):
            texts = known.groupby("decision")["answer"].agg(lambda answers: answers.mode()[0])
            said[rows.index] = pd.Series(choose(known, rows), index=rows.index).map(texts)
    return said


def _classify(train: pd.DataFrame, table: pd.DataFrame, build: Any, features: Any) -> pd.DataFrame:
    """One balanced logistic classifier over the decisions of each family, where there are not too many."""

    def choose(known: pd.DataFrame, rows: pd.DataFrame) -> Any:
        if not 1 < known["decision"].nunique() <= MOST_DECISIONS:
            return known["decision"].mode()[0]
        model = make_pipeline(build(), LogisticRegression(class_weight="balanced", max_iter=300))
        return model.fit(features(known), known["decision"]).predict(features(rows))

    return _answered(train, table, choose)


def question_only(train: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The likeliest decision from the words of the question: logistic regression on one- and two-word counts.

    Args:
        train, table: as in `commonest`. Classes are weighted equally, which serves balanced accuracy.

    Returns:
        A copy of the table with other predictions.
    """

    def build() -> CountVectorizer:
        return CountVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[?]", binary=True)

    return _classify(train, table, build, lambda rows: rows["question"])


def attributes_only(train: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The likeliest decision from weather, time of day and scene, which no picture is needed to be told.

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
