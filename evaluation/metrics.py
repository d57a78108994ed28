"""Scores of a table of predictions, each with a bootstrap interval by frame and beside what it must beat.

A table of predictions has one row a question: `image_id`, `family`, `question`, `answer` (the label) and
`prediction` (free text), and where known `confidence` (probability of the prediction), `score_yes`
(probability of yes), `template`, `pair_id` and the frame's attributes. It may come from any model.

Questions about one frame are not independent of each other: intervals are drawn by resampling *frames*. All
scores of a family are functions of its confusion matrix, so a bootstrap sample is one weighted sum of
per-frame confusion matrices, and a thousand of them are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.metrics import classification_report, confusion_matrix

from .answers import (
    ABSTAIN,
    FIVE_WAY,
    MORE_THAN_FIVE,
    UNCLEAR,
    affirms_absence,
    kind_of,
    normalise,
    read,
    read_boxes,
)

IDENTIFIES = ("image_id", "family", "answer")
REQUIRED = (*IDENTIFIES, "prediction")
FIVE_WAY_FAMILY = "move_forward"
OTHER = "(other)"
COUNTS = {**{str(number): number for number in range(6)}, MORE_THAN_FIVE: 6}
SAMPLES = 1000
INTERVAL = (2.5, 97.5)
#: Fewer frames than these are no sample to draw from: one alone would have an interval without any width.
LEAST_FRAMES = 5


class PredictionError(ValueError):
    """A table of predictions that cannot be scored; the message says what to change."""


def as_table(predictions: pd.DataFrame | Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Check predictions and return them as a table of their own.

    Args:
        predictions: a table or a list of mappings, one a question.

    Returns:
        A new table with at least the columns `REQUIRED`, index 0..n-1; a missing prediction is the empty
        text.

    Raises:
        PredictionError: if there are no rows, a column is missing, or a label or an image id is, or a
            confidence or `score_yes` is no probability.
    """
    table = predictions.copy() if isinstance(predictions, pd.DataFrame) else pd.DataFrame(list(predictions))
    if table.empty:
        raise PredictionError("there are no predictions to score: the split or the file is empty")
    table = table.reset_index(drop=True)
    missing = [column for column in REQUIRED if column not in table.columns]
    if missing:
        raise PredictionError(
            f"predictions lack the column(s) {', '.join(missing)}; needed are {', '.join(REQUIRED)}"
        )
    for column in (*IDENTIFIES, "prediction"):
        table[column] = [as_text(value) for value in table[column].astype(object)]
    for column in IDENTIFIES:  # a file of text holds nothing where another kind holds no value
        if blank := int((table[column].str.strip() == "").sum()):
            raise PredictionError(f"{blank} prediction row(s) have no {column}")
    for column in ("confidence", "score_yes"):
        if column in table:
            table[column] = _probabilities(table[column])
    return table


def as_text(value: Any) -> str:
    """A prediction as text: files hold numbers where a model answers in digits, nothing where it failed."""
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value) if isinstance(value, (str, int, np.integer, np.bool_)) else ""


def _probabilities(values: pd.Series) -> pd.Series:
    """Probabilities of a file as numbers, NaN where there is none."""
    given = values[values.notna() & (values != "")]
    numbers = pd.to_numeric(given, errors="coerce")
    wrong = given[~numbers.between(0, 1)]
    if len(wrong):
        raise PredictionError(
            f"{len(wrong)} value(s) of {values.name} are no probability from 0 to 1, the first is "
            f"{str(wrong.iloc[0])!r}"
        )
    return numbers.astype(float).reindex(values.index)


def kinds_of(table: pd.DataFrame) -> dict[str, str]:
    """The kind of decision of every family, from its labels."""
    return {str(name): kind_of(group["answer"]) for name, group in table.groupby("family", sort=True)}


def decide(table: pd.DataFrame, kinds: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Add what was asked for and what was decided.

    Args:
        table: checked predictions.
        kinds: family -> kind of decision; by default found from the labels.

    Returns:
        The table with the columns `kind`, `truth`, `decision` and `correct` (bool).
    """
    kinds = kinds_of(table) if kinds is None else kinds
    table = table.copy()
    table["kind"] = [kinds[family] for family in table["family"]]
    # What a sentence without yes or no means depends on the question: "No cars are there" of a clear lane.
    asked = {
        family: "absence" if kinds[family] == "yes/no" and affirms_absence(part["answer"]) else kinds[family]
        for family, part in table.groupby("family")
    }
    table["truth"] = [read(text, kind) for text, kind in zip(table["answer"], table["kind"], strict=True)]
    table["decision"] = [
        read(text, asked[family]) for text, family in zip(table["prediction"], table["family"], strict=True)
    ]
    boxes = (table["kind"] == "boxes").to_numpy()
    if boxes.any():
        table.loc[boxes, ["truth", "decision"]] = [
            _located(answer, prediction, reading)
            for answer, prediction, reading in zip(
                *(table.loc[boxes, column] for column in ("answer", "prediction", "decision")), strict=True
            )
        ]
    table["correct"] = (table["truth"] == table["decision"]) & (table["truth"] != UNCLEAR)
    return table


def _located(answer: str, prediction: str, reading: str, threshold: float = 0.5) -> tuple[str, str]:
    """Truth and decision of a box question: "here" where a predicted box overlaps the labelled one enough."""
    truth, found = read_boxes(answer), read_boxes(prediction)
    if any(a[0] == b[0] and overlap(a[1], b[1]) >= threshold for a in truth for b in found):
        return "here", "here"
    return ("here" if truth else "none"), ("elsewhere" if found else reading)


@lru_cache(maxsize=4)
def frame_weights(num_frames: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """How often each frame is drawn in each bootstrap sample (Efron, 1979).

    Args:
        num_frames: number of frames to draw from, and number drawn.
        samples: number of bootstrap samples.
        seed: of the random generator; the same seed pairs the samples of two tables over the same frames.

    Returns:
        (samples, num_frames) float64 counts, each row summing to `num_frames`.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(num_frames, size=(samples, num_frames)) + np.arange(samples)[:, None] * num_frames
    return (
        np.bincount(drawn.ravel(), minlength=samples * num_frames).reshape(samples, num_frames).astype(float)
    )


def scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of confusion matrices, any number at a time.

    Args:
        confusion: (..., classes, classes + 1) counts; rows are the truth, the last column collects
            decisions that are none of the classes (unclear, abstained, or a class that never is the truth).

    Returns:
        accuracy, balanced_accuracy (mean recall), macro_precision, weighted_precision, macro_f1 and
        weighted_f1, each (...). Classes without a row are left out of the means; with no rows at all the
        scores are NaN. As in scikit-learn, a class that is never predicted has a precision and an F1 of 0.
    """
    classes = confusion.shape[-2]
    support = confusion.sum(-1)
    hits = np.diagonal(confusion[..., :classes], axis1=-2, axis2=-1)
    predicted = confusion[..., :classes].sum(-2)
    present = support > 0
    recall = np.where(present, hits / np.where(present, support, 1), 0.0)
    precision = np.where(present & (predicted > 0), hits / np.where(predicted > 0, predicted, 1), 0.0)
    f1 = np.where(present, 2 * hits / np.where(present, support + predicted, 1), 0.0)
    total, num_present = support.sum(-1), present.sum(-1).astype(float)
    with np.errstate(invalid="ignore"):
        return {
            "accuracy": hits.sum(-1) / total,
            "balanced_accuracy": recall.sum(-1) / num_present,
            "macro_precision": precision.sum(-1) / num_present,
            "weighted_precision": (precision * support).sum(-1) / total,
            "macro_f1": f1.sum(-1) / num_present,
            "weighted_f1": (f1 * support).sum(-1) / total,
        }


def bootstrap_scores(weights: np.ndarray, confusion: np.ndarray) -> dict[str, np.ndarray]:
    """`scores` of bootstrap samples over frames.

    A sample that drew none of a class's rows would be a mean over fewer classes, which is another score: its
    macro scores are NaN.

    Args:
        weights: (samples, num_frames) from `frame_weights`.
        confusion: (num_frames, classes, classes + 1) from `frame_confusions`.

    Returns:
        As `scores`, each (samples,).
    """
    drawn = np.tensordot(weights, confusion, axes=1)
    result, complete = scores(drawn), (drawn.sum(-1) > 0).all(-1)
    for name in ("balanced_accuracy", "macro_precision", "macro_f1"):
        result[name] = np.where(complete, result[name], np.nan)
    return result


def frame_confusions(
    truth: Iterable[str],
    decision: Iterable[str],
    frames: np.ndarray,
    num_frames: int,
    classes: Sequence[str],
) -> np.ndarray:
    """Confusion matrices by frame.

    Args:
        truth, decision: (rows,) decisions; every truth is one of the classes.
        frames: (rows,) index of the frame of each row.
        num_frames: number of frames.
        classes: the family's classes.

    Returns:
        (num_frames, classes, classes + 1) counts, as `scores` takes them.
    """
    index = {name: i for i, name in enumerate(classes)}
    k = len(classes)
    rows = np.array([index[name] for name in truth], dtype=np.int64)
    columns = np.array([index.get(name, k) for name in decision], dtype=np.int64)
    flat = (frames * k + rows) * (k + 1) + columns
    return np.bincount(flat, minlength=num_frames * k * (k + 1)).reshape(num_frames, k, k + 1).astype(float)


def interval(samples: np.ndarray, num_frames: int = LEAST_FRAMES) -> tuple[float, float] | None:
    """The 95% percentile interval of bootstrap samples.

    Args:
        samples: (samples,) scores.
        num_frames: how many frames the score rests on.

    Returns:
        Low and high end; `None` below `LEAST_FRAMES` frames, or when fewer than half of the samples are
        defined.
    """
    defined = samples[np.isfinite(samples)]
    if num_frames < LEAST_FRAMES or len(defined) * 2 < len(samples) or not len(defined):
        return None
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)


def mean_with_interval(values: np.ndarray, frames: Sequence[str], samples: int = SAMPLES) -> dict[str, Any]:
    """Mean over rows, with its interval by frame.

    Args:
        values: (rows,) numbers.
        frames: (rows,) the frame of each row.
        samples: number of bootstrap samples.

    Returns:
        mean and interval.
    """
    names, index = np.unique(np.asarray(frames, dtype=str), return_inverse=True)
    weights = frame_weights(len(names), samples)
    sums, counts = (np.bincount(index, w, minlength=len(names)) for w in (values, np.ones(len(values))))
    with np.errstate(invalid="ignore"):
        span = interval((weights @ sums) / (weights @ counts), len(names))
    return {"mean": round(float(values.mean()), 6), "interval": span}


def bootstrap_auc(
    positive: np.ndarray, score: np.ndarray, frames: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Area under the ROC curve, and that of every bootstrap sample, ties counted half (Mann-Whitney).

    Args:
        positive: (rows,) bool.
        score: (rows,) higher means more positive.
        frames: (rows,) index of each row's frame.
        weights: (samples, num_frames) from `frame_weights`.

    Returns:
        The area, NaN with one class alone, and (samples,) areas.
    """
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    if not len(up) or not len(down):
        return float("nan"), np.full(len(weights), np.nan)
    wins = np.sign(score[up, None] - score[None, down]).astype(np.float32) / 2 + 0.5
    # Sums over pairs of frames are all that a bootstrap sample needs: a bilinear form in its weights.
    by_frame = np.zeros((weights.shape[1], weights.shape[1]))
    columns = csr_array(
        (np.ones(len(down)), (np.arange(len(down)), frames[down])), (len(down), len(by_frame))
    )
    np.add.at(by_frame, frames[up], wins @ columns)
    num_up, num_down = (np.bincount(frames[side], minlength=len(by_frame)) for side in (up, down))
    with np.errstate(invalid="ignore"):
        areas = ((weights @ by_frame) * weights).sum(1) / ((weights @ num_up) * (weights @ num_down))
    return float(by_frame.sum() / (len(up) * len(down))), areas


def _round(value: Any) -> Any:
    """Plain JSON numbers: floats to six digits, NaN to None."""
    if isinstance(value, tuple):
        return tuple(_round(item) for item in value)
    if isinstance(value, (float, np.floating)):
        return round(float(value), 6) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def classes_of(truth: Iterable[str], kind: str) -> list[str]:
    """The classes that occur as the truth, in the order of the tables; unclear labels are no class."""
    present = set(truth) - {UNCLEAR}
    if kind == "five-way":
        return [name for name in FIVE_WAY if name in present]
    first = ["yes", "no"] if kind == "yes/no" else []
    return [c for c in first if c in present] + sorted(present - set(first))


def _family_row(
    group: pd.DataFrame, name: str, weights: np.ndarray, shuffled: pd.DataFrame | None
) -> dict[str, Any]:
    """One row of `family_table`."""
    kind = str(group["kind"].iloc[0])
    group = group[group["truth"] != UNCLEAR]
    classes = classes_of(group["truth"], kind)
    row: dict[str, Any] = {
        "family": name,
        "kind": kind,
        "n": len(group),
        "frames": int(group["frame"].nunique()),
        "classes": len(classes),
        "unparsed": int((group["decision"] == UNCLEAR).sum()),
        "abstained": int(((group["decision"] == ABSTAIN) & (group["truth"] != ABSTAIN)).sum()),
        "exact": _share(group["answer"].str.strip() == group["prediction"].str.strip()),
        "normalised": _share(group["answer"].map(normalise) == group["prediction"].map(normalise)),
    }
    if not classes:
        return row | {"note": "no label of this family could be read"}
    confusion = frame_confusions(
        group["truth"], group["decision"], group["frame"].to_numpy(), weights.shape[1], classes
    )
    point, samples = scores(confusion.sum(0)), bootstrap_scores(weights, confusion)
    names = ["accuracy"] if len(classes) == 1 else list(point)
    for score in names:
        row[score] = float(point[score])
        row[f"{score}_interval"] = interval(samples[score], row["frames"])
    share = group["truth"].value_counts(normalize=True)
    if kind == "boxes":  # boxes are in many places: what can be said always is that there is none
        share = share.drop("here", errors="ignore")
    if len(share):
        row |= {"commonest": str(share.index[0]), "commonest_accuracy": float(share.iloc[0])}
        if len(classes) == 1:
            return row | {"note": "one class"}
        row["commonest_balanced_accuracy"] = 1 / len(classes)
    if kind == "yes/no" and "score_yes" in group and group["score_yes"].notna().all():
        positive = (group["truth"] == "yes").to_numpy()
        area, areas = bootstrap_auc(
            positive, group["score_yes"].to_numpy(float), group["frame"].to_numpy(), weights
        )
        row |= {"auc": area, "auc_interval": interval(areas, row["frames"])}
    if shuffled is not None:
        other = shuffled[shuffled["truth"] != UNCLEAR]
        blind = frame_confusions(
            other["truth"], other["decision"], other["frame"].to_numpy(), weights.shape[1], classes
        )
        row |= _gain(samples["balanced_accuracy"], point["balanced_accuracy"], blind, weights, row["frames"])
    return row


def _share(hits: pd.Series) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _gain(
    samples: np.ndarray, point: np.ndarray, blind: np.ndarray, weights: np.ndarray, num_frames: int
) -> dict[str, Any]:
    """The gain in balanced accuracy over another run on the same rows, paired by frame."""
    other, others = scores(blind.sum(0)), bootstrap_scores(weights, blind)
    gain = interval(samples - others["balanced_accuracy"], num_frames)
    own, classes = interval(samples, num_frames), blind.shape[1]
    sees = None
    if gain is not None and own is not None:
        # Shuffled pictures can do worse than a constant answer, which is not to see.
        sees = gain[0] > 0 and (classes == 1 or own[0] > 1 / classes)
    return {
        "shuffled_accuracy": float(other["accuracy"]),
        "shuffled_balanced_accuracy": float(other["balanced_accuracy"]),
        "shuffled_macro_f1": float(other["macro_f1"]),
        "gain": float(point - other["balanced_accuracy"]),
        "gain_interval": gain,
        "sees": sees,
    }


def with_five_way(table: pd.DataFrame) -> pd.DataFrame:
    """Add the five-way reading of *Can I move forward?* as rows of a family of their own.

    Args:
        table: what `decide` returns; a column `prediction_five_way` is read instead of `prediction` where
            somebody answers for the five ways apart.

    Returns:
        The table, followed by the move-forward rows read in five ways (family "move_forward (five-way)").
    """
    rows = table[table["family"] == FIVE_WAY_FAMILY].copy()
    if rows.empty:
        return table
    rows["family"], rows["kind"] = f"{FIVE_WAY_FAMILY} (five-way)", "five-way"
    rows["truth"] = [read(text, "five-way") for text in rows["answer"]]
    said = "prediction_five_way" if "prediction_five_way" in rows else "prediction"
    rows["decision"] = [read(text, "five-way") for text in rows[said]]
    rows["correct"] = (rows["truth"] == rows["decision"]) & (rows["truth"] != UNCLEAR)
    return pd.concat([table, rows], ignore_index=True)


def family_table(
    predictions: pd.DataFrame | Iterable[Mapping[str, Any]],
    shuffled: pd.DataFrame | Iterable[Mapping[str, Any]] | None = None,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The table of scores by family.

    Args:
        predictions: one row a question, see the module's docstring.
        shuffled: predictions of the same model for the same questions with the pictures swapped between
            frames; a family whose gain over them does not lie above 0 with its whole interval, or whose
            balanced accuracy not above a constant answer's, does not see.
        samples: number of bootstrap samples.
        seed: of the bootstrap.

    Returns:
        One mapping a family, sorted by name: n, frames, classes, what `scores` returns with their
        `_interval`s, auc for yes/no families with `score_yes`, exact and normalised (the share of
        predictions equal to the label as text, and as normalised text), commonest answer and its scores
        (of boxes: that there is none), unparsed, abstained, and with `shuffled` the scores of those, gain in
        balanced accuracy, its interval and `sees` (`None` where there is no interval). A family with one
        class, other than boxes that are there, has accuracy alone and a `note`. Scores are fractions.

    Raises:
        PredictionError: if a table cannot be scored, or the shuffled one answers other rows.
    """
    table = as_table(predictions)
    kinds = kinds_of(table)
    table = with_five_way(decide(table, kinds))
    frames = {image_id: i for i, image_id in enumerate(sorted(table["image_id"].astype(str).unique()))}
    table["frame"] = table["image_id"].astype(str).map(frames)
    other = None
    if shuffled is not None:
        other = as_table(shuffled)
        check_same_questions(as_table(predictions), other)
        other = with_five_way(decide(other, kinds))
        other["frame"] = other["image_id"].astype(str).map(frames)
    weights = frame_weights(len(frames), samples, seed)
    groups = None if other is None else dict(list(other.groupby("family")))
    rows = [
        _family_row(group, str(name), weights, None if groups is None else groups[name])
        for name, group in table.groupby("family", sort=True)
    ]
    return [{key: _round(value) for key, value in row.items()} for row in rows]


def check_same_questions(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Refuse to compare two tables that do not answer the same questions.

    Args:
        first, second: checked predictions.

    Raises:
        PredictionError: if image, family and label do not occur equally often in both.
    """
    keys = ["image_id", "family", "answer"]
    counted = [table.groupby(keys).size().sort_index() for table in (first, second)]
    if not counted[0].equals(counted[1]):
        raise PredictionError(
            f"the two tables do not answer the same questions: {len(first)} and {len(second)} rows, "
            f"{len(counted[0].index.symmetric_difference(counted[1].index))} of them in one alone"
        )


def class_report(table: pd.DataFrame) -> dict[str, Any]:
    """Precision, recall and F1 of every class and the confusion matrix, by scikit-learn.

    Args:
        table: decided rows of one family.

    Returns:
        classes: name -> precision, recall, f1, support; confusion: labels (the last may be `OTHER`) and
            counts, rows = truth, columns = decision.
    """
    table = table[table["truth"] != UNCLEAR]
    classes = classes_of(table["truth"], str(table["kind"].iloc[0])) if len(table) else []
    if not classes:
        return {"classes": {}, "confusion": {"labels": [], "counts": []}}
    decision = [name if name in classes else OTHER for name in table["decision"]]
    labels = [*classes, OTHER] if OTHER in decision else classes
    report = classification_report(
        table["truth"], decision, labels=classes, output_dict=True, zero_division=0
    )
    return {
        "classes": {
            name: {
                "precision": _round(report[name]["precision"]),
                "recall": _round(report[name]["recall"]),
                "f1": _round(report[name]["f1-score"]),
                "support": int(report[name]["support"]),
            }
            for name in classes
        },
        "confusion": {
            "labels": labels,
            # scikit-learn warns about a single class, whose table needs no counting
            "counts": confusion_matrix(table["truth"], decision, labels=labels).tolist()
            if len(labels) > 1
            else [[len(table)]],
        },
    }


def count_within_one(table: pd.DataFrame, low: int = 1, high: int = 5) -> dict[str, Any] | None:
    """How often a count is right to within one, for true counts from `low` to `high`.

    Always answering the number in the middle is often right to within one: that stands beside it.

    Args:
        table: decided rows of the kind "count".
        low, high: range of true counts; "more than five" stands for six in a prediction.

    Returns:
        n, within_one with the low and high end of its interval by frame, without_more (where "more than
        five" is never near enough, not even to five), constant (the best number to say always) and
        constant_within_one, fractions; `None` when no row has such a count.
    """
    truth = table["truth"].map(COUNTS)
    rows = table[(table["kind"] == "count") & (truth >= low) & (truth <= high)]
    if rows.empty:
        return None
    true, said = rows["truth"].map(COUNTS), rows["decision"].map(COUNTS)
    near = (true - said).abs() <= 1  # what is no count is not near
    always = {number: float(((true - number).abs() <= 1).mean()) for number in COUNTS.values()}
    constant = max(always, key=lambda number: always[number])
    found = mean_with_interval(near.to_numpy(float), rows["image_id"].astype(str).tolist())
    ends = found["interval"] or (None, None)
    return {
        "n": len(rows),
        "within_one": found["mean"],
        "low": _round(ends[0]),
        "high": _round(ends[1]),
        "without_more": _round(float((near & (said <= high)).mean())),
        "constant": constant,
        "constant_within_one": _round(always[constant]),
    }


def box_scores(table: pd.DataFrame, threshold: float = 0.5) -> dict[str, Any] | None:
    """Precision and recall of located boxes, matched greedily in the order written.

    Args:
        table: rows whose label holds location tokens.
        threshold: least intersection over union of a match.

    Returns:
        n (rows), boxes, precision, recall, f1; `None` when no label holds a box.
    """
    rows = table[table["answer"].str.contains("<loc", regex=False)]
    if rows.empty:
        return None
    found = matched = wanted = 0
    for label, text in zip(rows["answer"], rows["prediction"], strict=True):
        truth, boxes = read_boxes(label), read_boxes(text)
        found, wanted, free = found + len(boxes), wanted + len(truth), list(truth)
        for category, box in boxes:
            hit = next((t for t in free if t[0] == category and overlap(box, t[1]) >= threshold), None)
            if hit is not None:
                free.remove(hit)
                matched += 1
    return {
        "n": len(rows),
        "boxes": wanted,
        "precision": _round(matched / found) if found else None,
        "recall": _round(matched / wanted) if wanted else None,
        "f1": _round(2 * matched / (found + wanted)) if found + wanted else None,
    }


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2) in the same units."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def percent(value: float | None, span: tuple[float, float] | None = None) -> str:
    """A fraction as "76.2" or "76.2 [73.9, 78.0]", "-" where it is not defined."""
    if value is None:
        return "-"
    text = f"{100 * value:.1f}"
    return text if span is None else f"{text} [{100 * span[0]:.1f}, {100 * span[1]:.1f}]"


def rival_risk(abstention: Mapping[str, Any]) -> str:
    """What always the same answer risks, in brackets; nothing in a report that does not hold it."""
    risk = abstention.get("constant_risk")
    return "" if risk is None else f" (always the commonest answer: {percent(risk)}%)"


def sight(row: Mapping[str, Any]) -> str:
    """Whether a family of `family_table` sees, in words; where that was not asked, its note."""
    if "sees" not in row:
        return str(row.get("note", ""))
    return {True: "sees", False: "*not seeing*", None: "unknown: too few frames"}[row["sees"]]


def format_table(rows: Sequence[Mapping[str, Any]], as_good: Mapping[str, str] | None = None) -> str:
    """The rows of `family_table` as a Markdown table, in percent with 95% intervals.

    Args:
        rows: what `family_table` returns.
        as_good: family -> who does as well without a picture, which stands beside *sees*.

    Returns:
        The table; whether a family sees stands in the last column.
    """
    as_good = as_good or {}
    has_gain = any("gain" in row for row in rows)
    head = ["family", "n", "classes", "accuracy", "balanced", "macro-F1", "AUC", "commonest: acc / bal"]
    head += ["shuffled: acc / bal", "gain over shuffled", ""] if has_gain else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["family"], str(row["n"]), str(row["classes"])]
        for score in ("accuracy", "balanced_accuracy", "macro_f1", "auc"):
            cells.append(percent(row.get(score), row.get(f"{score}_interval")))
        cells.append(
            f"{percent(row.get('commonest_accuracy'))} / {percent(row.get('commonest_balanced_accuracy'))}"
        )
        if has_gain:
            cells.append(
                f"{percent(row.get('shuffled_accuracy'))} / {percent(row.get('shuffled_balanced_accuracy'))}"
            )
            cells.append(percent(row.get("gain"), row.get("gain_interval")))
            others = as_good.get(row["family"]) if row.get("sees") else None
            cells.append(f"sees, {others} do as well" if others else sight(row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
