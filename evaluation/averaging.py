"""Test-time averaging: what a model says about a frame, and about its mirror image asked in mirrored words.

The probabilities of the two are averaged. Where both decide alike that is the mean of their confidences;
where they differ the surer one is followed, and the other counts with what it left for that decision: exact
for questions of two answers, an upper bound for others.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from traffic_vlm.processing.bdd100k.mirror import mirror_text

from .answers import read
from .metrics import kinds_of


def average(plain: pd.DataFrame, mirrored: pd.DataFrame, column: int) -> pd.DataFrame:
    """Average two tables of predictions row by row.

    Args:
        plain: from `predict.predict`.
        mirrored: from the same questions in `views.mirrored`.
        column: which of the `confidences` is the `confidence`.

    Returns:
        The plain table with other `prediction`, `confidence`, `confidences` and `score_yes`.
    """
    kinds = plain["family"].map(kinds_of(plain))
    own, back = plain["prediction"], mirrored["prediction"].map(mirror_text)
    read_as = [[read(*pair) for pair in zip(texts, kinds, strict=True)] for texts in (own, back)]
    alike = np.array([a == b for a, b in zip(*read_as, strict=True)])
    follow = alike | (plain["confidence"] >= mirrored["confidence"]).to_numpy()
    sure, other = (np.array(table["confidences"].tolist()) for table in (plain, mirrored))
    sure, other = (np.where(follow[:, None], *pair) for pair in ((sure, other), (other, sure)))
    confidences = (sure + np.where(alike[:, None], other, 1 - other)) / 2
    return plain.assign(
        prediction=own.where(follow, back),
        confidences=list(confidences.round(6)),
        confidence=confidences[:, column].round(6),
        score_yes=(plain["score_yes"] + mirrored["score_yes"]) / 2,
    )
