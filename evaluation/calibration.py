"""Whether the confidence can be believed: calibration, temperature, risk against coverage, abstention.

The confidence of an answer is the probability of its decision. A temperature and a threshold of abstention
are fitted on a split of their own (`tune`), never on the one that is reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .answers import ABSTAIN, UNCLEAR
from .command import write_text
from .metrics import PredictionError, interval, mean_with_interval
from .predict import TEMPERATURES

RISKS = (0.01, 0.05, 0.10)
#: A wrong yes to these can hurt somebody.
SAFETY_GROUPS = (
    "lane_clear",
    "turn",
    "change_lane",
    "move_forward",
    "command_forward",
    "command_turn",
    "command_lane",
)
MIN_ROWS = 20


def at_temperature(table: pd.DataFrame, temperature: float) -> np.ndarray:
    """Confidences at a temperature, interpolated between the `TEMPERATURES` at which they are kept.

    Args:
        table: predictions; without a column `confidences` (another model's) those of `confidence` are
            returned.
        temperature: positive.

    Returns:
        (rows,) confidences.
    """
    if "confidences" not in table:
        return table["confidence"].to_numpy(float)
    grid = np.log(TEMPERATURES)
    kept = np.array(table["confidences"].tolist(), dtype=float).reshape(-1, len(grid))
    where = np.clip(np.log(temperature), grid[0], grid[-1])
    right = int(np.clip(np.searchsorted(grid, where), 1, len(grid) - 1))
    share = (where - grid[right - 1]) / (grid[right] - grid[right - 1])
    return (1 - share) * kept[:, right - 1] + share * kept[:, right]


def fit_temperature(table: pd.DataFrame) -> float:
    """The temperature whose confidences best say what is right (Guo et al., 2017, arXiv:1706.04599).

    Args:
        table: decided predictions of the split that is kept for this.

    Returns:
        The temperature of least log loss of "the answer is right" over a fine grid; 1.0 without rows or
        `confidences`.
    """
    if table.empty or "confidences" not in table:
        return 1.0
    correct = table["correct"].to_numpy()
    grid = np.geomspace(TEMPERATURES[0], TEMPERATURES[-1], 105)
    losses = []
    for temperature in grid:
        p = np.clip(at_temperature(table, float(temperature)), 1e-6, 1 - 1e-6)
        losses.append(-np.where(correct, np.log(p), np.log1p(-p)).mean())
    return round(float(grid[int(np.argmin(losses))]), 3)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> list[dict[str, float]]:
    """Mean confidence and accuracy in bins of equal width.

    Args:
        confidence: (rows,) from 0 to 1.
        correct: (rows,) bool.
        bins: number of bins.

    Returns:
        One mapping a non-empty bin: low, high, n, confidence, accuracy.
    """
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    return [
        {
            "low": b / bins,
            "high": (b + 1) / bins,
            "n": int((index == b).sum()),
            "confidence": round(float(confidence[index == b].mean()), 6),
            "accuracy": round(float(correct[index == b].mean()), 6),
        }
        for b in range(bins)
        if (index == b).any()
    ]


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float | None:
    """ECE: mean distance of confidence and accuracy over bins, weighted by rows (Naeini et al., 2015).

    Returns:
        The error, `None` of no rows.
    """
    if not len(confidence):
        return None
    rows = reliability(confidence, correct, bins)
    return round(
        sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(confidence), 6
    )


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Risk of the most confident answers, at every coverage (El-Yaniv and Wiener, 2010).

    Args:
        confidence: (rows,); equal ones are taken together, since no threshold can part them.
        correct: (rows,) bool.

    Returns:
        Coverage and risk, each (steps,), coverage rising to 1.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    last = np.flatnonzero(np.r_[np.diff(sorted_confidence) != 0, True])
    errors = np.cumsum(~correct[order])
    return (last + 1) / len(order), errors[last] / (last + 1)


def coverage_at(confidence: np.ndarray, correct: np.ndarray, risk: float) -> float:
    """The largest part of the questions that can be answered at no more than a risk; 0 where none can."""
    coverage, risks = risk_coverage(confidence, correct)
    allowed = coverage[risks <= risk]
    return float(allowed.max()) if len(allowed) else 0.0


def threshold_for(confidence: np.ndarray, correct: np.ndarray, risk: float) -> float | None:
    """The least confidence that may answer so that the risk stays allowed; `None` if no threshold does."""
    thresholds = np.unique(confidence)[::-1]
    _, risks = risk_coverage(confidence, correct)
    allowed = np.flatnonzero(risks <= risk)
    return float(thresholds[allowed[-1]]) if len(allowed) else None


def false_safe(table: pd.DataFrame, confidence: np.ndarray, coverage: float = 0.5) -> dict[str, Any]:
    """How often *not safe* is answered *safe*, among the most confident answers.

    Args:
        table: decided rows of safety families (their yes means "go"), with the column `frame`.
        confidence: (rows,).
        coverage: the part of the rows, most confident first, that is answered, and all that are as sure as
            the least of them.

    Returns:
        n (answered rows whose truth is no), unsafe (their part of the answered rows), rate (of them answered
        yes) and wrong_yes (part of the answered yes whose truth is no), both with their intervals by frame,
        coverage (what was reached).
    """
    # With the last of them come all that are as sure: which of these stands first in a file means nothing.
    least = np.sort(confidence)[::-1][max(1, round(coverage * len(table))) - 1]
    answered = table[confidence >= least]
    unsafe, said_yes = answered["truth"] == "no", answered["decision"] == "yes"

    covered = round(len(answered) / len(table), 6)
    result = {"n": int(unsafe.sum()), "unsafe": round(float(unsafe.mean()), 6), "coverage": covered}
    for name, part, of in (("rate", said_yes, unsafe), ("wrong_yes", unsafe, said_yes)):
        found: dict[str, Any] = {"mean": None, "interval": None}
        if of.any():
            found = mean_with_interval(part[of].to_numpy(float), answered["frame"][of].tolist())
        result |= {name: found["mean"], f"{name}_interval": found["interval"]}
    return result


def _ece_interval(
    confidence: np.ndarray, correct: np.ndarray, frames: np.ndarray, weights: np.ndarray, bins: int = 15
) -> tuple[float, float] | None:
    """Interval of the ECE over frames; the distances of every bin are sums over frames."""
    index = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = np.zeros((weights.shape[1], bins))
    np.add.at(gaps, (frames, index), confidence - correct)
    count = np.bincount(frames, minlength=weights.shape[1])
    with np.errstate(invalid="ignore"):  # a sample may hold none of a rare group's frames
        samples = np.abs(weights @ gaps).sum(1) / (weights @ count)
    return interval(samples, len(np.unique(frames)))


def summarise(
    table: pd.DataFrame, confidence: np.ndarray, weights: np.ndarray, groups: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Calibration and selective answering of groups of families.

    Args:
        table: decided predictions from `scorable` with the column `frame` (index into the weights' columns).
        confidence: (rows,) at the temperature that is reported.
        weights: bootstrap weights of the frames.
        groups: name -> the families in it.

    Returns:
        One mapping a group with at least `MIN_ROWS` rows: n, accuracy, ece with its interval (of the rows
        that came with a confidence), coverage at `RISKS`, and for the safety groups the false-safe rates at
        half and at full coverage.
    """
    rows = []
    for name, families in groups.items():
        inside = table["family"].isin(families).to_numpy()
        if inside.sum() < MIN_ROWS:
            continue
        part, c = table[inside], confidence[inside]
        correct, sure = part["correct"].to_numpy(), part["has_confidence"].to_numpy()
        row = {
            "group": name,
            "n": int(inside.sum()),
            "accuracy": round(float(correct.mean()), 6),
            "ece": expected_calibration_error(c[sure], correct[sure]),
            "ece_interval": _ece_interval(c[sure], correct[sure], part["frame"].to_numpy()[sure], weights),
            "coverage": {f"{risk:.0%}": round(coverage_at(c, correct, risk), 6) for risk in RISKS},
        }
        if name == "safety" or name in SAFETY_GROUPS:
            row["false_safe"], row["false_safe_all"] = false_safe(part, c), false_safe(part, c, 1.0)
        rows.append(row)
    return rows


def abstention(
    tune: pd.DataFrame,
    tune_confidence: np.ndarray,
    table: pd.DataFrame,
    confidence: np.ndarray,
    risk: float = 0.10,
) -> dict[str, Any]:
    """A threshold chosen on one split, and what it does on another.

    Args:
        tune, tune_confidence: decided predictions of the split that is kept for choosing.
        table, confidence: those that are reported.
        risk: the risk that is aimed at.

    Returns:
        threshold (`None` when no threshold reaches the risk), target_risk, coverage, risk, constant_risk (of
        whoever always gives the commonest answer) and wrongly_refused (the part of right answers that is
        given up) on the reported split.

    Raises:
        PredictionError: if either split has no rows.
    """
    if not len(tune) or not len(table):
        raise PredictionError("there is nothing to choose or to report a threshold on")
    threshold = threshold_for(tune_confidence, tune["correct"].to_numpy(), risk)
    commonest = float(table["truth"].value_counts(normalize=True).iloc[0])
    result: dict[str, Any] = {"threshold": threshold, "target_risk": risk, "constant_risk": 1 - commonest}
    if threshold is None:
        return result | {"coverage": 0.0, "risk": None, "wrongly_refused": 1.0}
    kept, correct = confidence >= threshold, table["correct"].to_numpy()
    return result | {
        "threshold": round(threshold, 6),
        "coverage": round(float(kept.mean()), 6),
        "risk": round(float((~correct[kept]).mean()), 6) if kept.any() else None,
        "wrongly_refused": round(float((correct & ~kept).sum() / max(correct.sum(), 1)), 6),
    }


def scorable(table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose confidence means something: a known truth, and neither boxes nor free sentences.

    Where some rows have a confidence, one without counts with confidence 0, a question that was not answered
    among them: leaving out the hard ones cannot pay in coverage. The calibration error is of the others,
    since a row without a confidence makes no claim that could be wrong, and zeros for wrong answers would
    make the error smaller.

    Args:
        table: decided predictions.

    Returns:
        The rows with the column `has_confidence` (bool); none where no row has a confidence.
    """
    if "confidence" not in table:
        return table.iloc[:0]
    free = table["kind"].isin(["boxes"]) | table["family"].str.startswith(("describe", "out_of_scope"))
    rows = table[~table["truth"].isin([UNCLEAR, ABSTAIN]) & ~free]
    given = rows["confidence"].notna()
    if not given.any():
        return table.iloc[:0]
    rows = rows.assign(has_confidence=given, confidence=rows["confidence"].fillna(0.0))
    if "confidences" in rows and not given.all():
        none = np.zeros(len(TEMPERATURES))
        kept = [c if has else none for c, has in zip(rows["confidences"], given, strict=True)]
        rows["confidences"] = pd.Series(kept, index=rows.index)
    return rows


def write(found: Mapping[str, Any] | None, checkpoint: Path) -> str:
    """Write temperature and threshold of a report into a checkpoint's `config.json`, where answers read them.

    Where no safety question was asked there is no threshold: the temperature is written alone, and an earlier
    threshold, which other weights may have had, goes.

    Args:
        found: the report's `calibration`.
        checkpoint: folder of the model.

    Returns:
        What was written, in a sentence.

    Raises:
        PredictionError: if they were not fitted on the tuning split, or no threshold reaches the risk.
    """
    fitted = (found or {}).get("temperature_fitted_on")
    chosen = (found or {}).get("abstention")
    if found is None or fitted != "tune" or (chosen and chosen["threshold"] is None):
        raise PredictionError(
            f"{checkpoint}: the calibration was not written: it needs a split 'tune' beside the reported "
            "one, on which some threshold reaches the risk that is aimed at"
        )
    settings = {"confidence_temperature": found["temperature"]}
    if chosen:
        settings["abstain_threshold"] = chosen["threshold"]
    path = checkpoint / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("abstain_threshold", None)
    config |= settings
    write_text(path, json.dumps(config, indent=2, sort_keys=True))
    return f"\n{path}: " + ", ".join(f"{name} {value}" for name, value in settings.items())
