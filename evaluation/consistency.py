"""Whether answers agree with each other: opposites, paraphrases, mirrored frames, and a bias towards yes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from traffic_vlm.processing.bdd100k.mirror import mirror_text

from .answers import UNCLEAR, read
from .metrics import mean_with_interval

KEY = ["image_id", "question_index"]


def _by_frame(values: np.ndarray, frames: pd.Series) -> dict[str, Any]:
    """Mean of 0/1 values with its interval by frame."""
    found = mean_with_interval(values, frames.astype(str).tolist())
    return {"n": len(values), "rate": found["mean"], "interval": found["interval"]}


def opposites(table: pd.DataFrame) -> dict[str, Any]:
    """Pairs of a question and its opposite: both answered right (as HallusionBench scores pairs).

    Args:
        table: decided predictions with `pair_id`.

    Returns:
        "all" and one entry a topic: pairs, both right with its interval, at_least_one (what the accuracy
        of single questions hides), same (the part of pairs answered with the same word, which cannot both
        be right). Empty where there are no pairs.
    """
    if "pair_id" not in table:
        return {}
    rows = table[table["pair_id"].notna() & (table["kind"] == "yes/no") & (table["truth"] != UNCLEAR)]
    first = rows.drop_duplicates(["pair_id", "family"])
    sizes = first.groupby("pair_id")["family"].transform("size")
    first = first[sizes == 2].sort_values(["pair_id", "family"])
    if first.empty:
        return {}
    a, b = first.iloc[0::2].reset_index(drop=True), first.iloc[1::2].reset_index(drop=True)
    differ = (a["truth"] != b["truth"]).to_numpy()  # "is it red" and "is it green" may both be no
    topic = a["pair_id"].str.rsplit("/", n=1).str[-1]
    both = (a["correct"] & b["correct"]).to_numpy()

    def summary(inside: np.ndarray) -> dict[str, Any]:
        opposed = inside & differ
        same = (a["decision"] == b["decision"]).to_numpy()[opposed]
        result = _by_frame(both[inside].astype(float), a["image_id"][inside])
        result["at_least_one"] = round(float((a["correct"] | b["correct"])[inside].mean()), 6)
        result["same"] = round(float(same.mean()), 6) if opposed.any() else None
        return result

    everything = {"all": summary(np.ones(len(a), dtype=bool))}
    return everything | {str(name): summary((topic == name).to_numpy()) for name in sorted(topic.unique())}


def both_right(table: pd.DataFrame) -> float | None:
    """The part of all pairs of `opposites` that are both right; `None` where there are no pairs."""
    found = opposites(table)
    return found["all"]["rate"] if found else None


def always_commonest(table: pd.DataFrame) -> pd.DataFrame:
    """Decided predictions of somebody who always says what is most often true in each family."""
    known = table[table["truth"] != UNCLEAR]
    commonest = known.groupby("family")["truth"].agg(lambda truth: truth.value_counts().index[0])
    decision = table["family"].map(commonest)
    return table.assign(decision=decision, correct=decision == table["truth"])


def agreement(table: pd.DataFrame, other: pd.DataFrame, *, is_mirrored: bool = False) -> dict[str, Any]:
    """How often the same question, asked otherwise, gets the same decision.

    Args:
        table: decided predictions.
        other: decided predictions of another view of the same rows.
        is_mirrored: whether `other` saw mirrored frames; its answers are mirrored back before they are
            compared.

    Returns:
        "all" and one entry a family: n, rate with its interval, both_right. Two answers that cannot be read
        do not agree.
    """
    joined = table.merge(other, on=KEY, suffixes=("", "_other"), validate="one_to_one")
    if joined.empty:
        return {}
    back = joined["prediction_other"].map(mirror_text) if is_mirrored else joined["prediction_other"]
    if is_mirrored:
        decision = pd.Series(
            [read(t, k) for t, k in zip(back, joined["kind"], strict=True)], index=joined.index
        )
    else:
        decision = joined["decision_other"]
    readable = (joined["decision"] != UNCLEAR) & (decision != UNCLEAR)
    same = ((joined["decision"] == decision) & readable).to_numpy()
    right = (joined["correct"] & joined["correct_other"]).to_numpy()

    def summary(inside: np.ndarray) -> dict[str, Any]:
        result = _by_frame(same[inside].astype(float), joined["image_id"][inside])
        result["both_right"] = round(float(right[inside].mean()), 6)
        return result

    families = joined["family"].to_numpy()
    everything = {"all": summary(np.ones(len(joined), dtype=bool))}
    return everything | {str(name): summary(families == name) for name in sorted(set(families))}


def yes_ratio(table: pd.DataFrame) -> dict[str, Any]:
    """How often the answer is yes, beside how often it should be.

    Args:
        table: decided predictions.

    Returns:
        "all" and one entry a family of yes/no questions: n, predicted, true.
    """
    rows = table[(table["kind"] == "yes/no") & (table["truth"] != UNCLEAR)]

    def summary(part: pd.DataFrame) -> dict[str, Any]:
        predicted, true = ((part[column] == "yes").mean() for column in ("decision", "truth"))
        return {"n": len(part), "predicted": round(float(predicted), 6), "true": round(float(true), 6)}

    if rows.empty:
        return {}
    return {"all": summary(rows)} | {str(name): summary(part) for name, part in rows.groupby("family")}
