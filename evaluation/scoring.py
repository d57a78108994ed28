"""From tables of predictions to a report and its figures; knows nothing of models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import baselines, calibration, consistency, figures, glance, report
from .command import write_text
from .metrics import (
    FIVE_WAY_FAMILY,
    as_table,
    box_scores,
    class_report,
    count_within_one,
    decide,
    family_table,
    frame_weights,
    kinds_of,
    with_five_way,
)
from .predict import load
from .slices import slice_table
from .views import ASKED, SUFFIXES, group_of

#: What `_draw` may draw; a figure without numbers is not drawn.
PICTURES = (
    "families.png",
    "slices.png",
    "move-forward.png",
    "reliability.png",
    "risk-coverage.png",
    "heads.png",
    "faithfulness.png",
)


def score(output: Path, name: str = "") -> dict[str, Any]:
    """Score the tables in a folder and write report and figures beside them.

    Args:
        output: folder with `predictions.parquet` and what else `predict_views` left there.
        name: what is reported, shown in the title.

    Returns:
        The report as it stands in `report.json`.

    Raises:
        PredictionError: if the predictions cannot be scored.
    """
    table = as_table(load(output / "predictions.parquet"))
    others = {
        suffix.removeprefix("-"): load(path)
        for suffix in sorted(SUFFIXES)
        if suffix and (path := output / f"predictions{suffix}.parquet").is_file()
    }
    kinds = kinds_of(table)
    decided = with_five_way(decide(table, kinds))
    shuffled = with_five_way(decide(as_table(others["shuffled"]), kinds)) if "shuffled" in others else None
    rows = family_table(table, others.get("shuffled"))
    result: dict[str, Any] = {
        "name": name,
        "asked": _read_json(output / ASKED),
        "rows": len(table),
        "frames": int(table["image_id"].nunique()),
        "families": rows,
        "classes": {str(f): class_report(part) for f, part in decided.groupby("family")},
        "counting": _counting(decided, shuffled),
        "boxes": {str(f): b for f, part in decided.groupby("family") if (b := box_scores(part)) is not None},
        "baselines": _baselines(table, rows, others, output),
        "consistency": _consistency(decide(table, kinds), others, kinds),
        "slices": slice_table(decide(table, kinds), shuffled),
        "grounding": _read_json(output / "grounding.json"),
        "all_frames": _all_frames(others),
    }
    result["calibration"], pictures = _calibration(decide(table, kinds), others, kinds)
    result["headline"], result["to_beat"] = glance.headline(result), glance.to_beat(result)
    result["verdict"] = report.verdict(result["grounding"])
    _draw(result, pictures, output)
    write_report(result, output)
    return result


def write_report(result: Mapping[str, Any], output: Path) -> None:
    """Write `report.json`, and `report.md` with the pictures that are there."""
    drawn = [name for name in PICTURES if (output / name).is_file()]
    write_text(output / "report.json", json.dumps(result, indent=1, ensure_ascii=False))
    write_text(output / "report.md", report.markdown(result, drawn))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _counting(decided: pd.DataFrame, shuffled: pd.DataFrame | None) -> dict[str, Any]:
    """Counts right to within one, beside the same model's about other frames' pictures: family -> numbers."""
    result = {}
    for family, part in decided.groupby("family"):
        found = count_within_one(part)
        if found is not None:
            result[str(family)] = found
            if shuffled is not None:
                blind = count_within_one(shuffled[shuffled["family"] == family])
                found["shuffled_within_one"] = blind["within_one"] if blind else None
    return result


def _all_frames(others: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """The five-way reading of every annotated frame, as the forerunner scores it."""
    if "forerunner" not in others:
        return None
    table = as_table(others["forerunner"])
    decided = with_five_way(decide(table))
    (row,) = [row for row in family_table(table) if row["kind"] == "five-way"]
    return row | class_report(decided[decided["kind"] == "five-way"])


def _baselines(
    table: pd.DataFrame, rows: Sequence[Mapping[str, Any]], others: Mapping[str, pd.DataFrame], output: Path
) -> dict[str, list[dict[str, Any]]]:
    """Scores of every baseline that the folder has the means for: name -> rows of `family_table`."""
    tables = {"label oracle": baselines.oracle(table)}
    if "grey" in others:
        tables["grey picture"] = others["grey"]
    path = output / baselines.TRAINING_QUESTIONS
    if path.is_file():
        train = load(path)
        tables["commonest answer in training"] = baselines.commonest(train, table)
        tables["question only"] = baselines.question_only(train, table)
        if set(baselines.ATTRIBUTES) <= set(table.columns):
            tables["attributes only"] = baselines.attributes_only(train, table)
    keep = ("family", "n", "accuracy", "balanced_accuracy", "macro_f1")
    return {
        name: [{k: row[k] for k in keep if k in row} for row in family_table(other, samples=2)]
        for name, other in tables.items()
    }


def _consistency(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Everything of `consistency` that the folder has tables for."""
    result: dict[str, Any] = {
        "opposites": consistency.opposites(table),
        "opposites_commonest": consistency.both_right(consistency.always_commonest(table)),
        "yes_ratio": consistency.yes_ratio(table),
    }
    for name in ("paraphrased", "mirrored"):
        if name in others and "question_index" in table:
            other = decide(as_table(others[name]), kinds)
            result[name] = consistency.agreement(table, other, is_mirrored=name == "mirrored")
    if "shuffled" in others:
        result["opposites_shuffled"] = consistency.both_right(decide(as_table(others["shuffled"]), kinds))
    if "adversarial" in others:
        asked = as_table(others["adversarial"])
        result["adversarial_presence"] = family_table(asked)[0]
        result["adversarial_yes_ratio"] = consistency.yes_ratio(decide(asked))["all"]
    return result


def _calibration(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame], kinds: Mapping[str, str]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Calibration, and what its figures need; `None` where predictions have no confidence."""
    rows, tuned = calibration.scorable(table), table.iloc[:0]
    if rows.empty:
        return None, {}
    if "tune" in others:
        other = as_table(others["tune"])
        tuned = calibration.scorable(decide(other, {**kinds_of(other), **kinds}))
    temperature = calibration.fit_temperature(tuned)
    frames = {name: i for i, name in enumerate(sorted(rows["image_id"].astype(str).unique()))}
    rows = rows.assign(frame=rows["image_id"].astype(str).map(frames))
    confidence, raw = (calibration.at_temperature(rows, t) for t in (temperature, 1.0))
    groups: dict[str, list[str]] = {"all": sorted(rows["family"].unique())}
    for family in groups["all"]:
        groups.setdefault(group_of(family), []).append(family)
    groups["safety"] = [f for g in calibration.SAFETY_GROUPS for f in groups.get(g, [])]
    weights, correct = frame_weights(len(frames)), rows["correct"].to_numpy()
    sure = rows["has_confidence"].to_numpy()
    result: dict[str, Any] = {
        "temperature": temperature,
        "temperature_fitted_on": None if tuned.empty else "tune",
        "without_confidence": int((~sure).sum()),
        "ece_before": calibration.expected_calibration_error(raw[sure], correct[sure]),
        "ece": calibration.expected_calibration_error(confidence[sure], correct[sure]),
        "groups": calibration.summarise(rows, confidence, weights, groups),
        "reliability": calibration.reliability(confidence[sure], correct[sure]),
    }
    safe = rows["family"].isin(groups["safety"]).to_numpy()
    chosen = tuned[tuned["family"].isin(groups["safety"])]
    if safe.any() and not chosen.empty:
        result["abstention"] = calibration.abstention(
            chosen, calibration.at_temperature(chosen, temperature), rows[safe], confidence[safe]
        )
    pictures = {
        "reliability": {
            "temperature 1": calibration.reliability(raw[sure], correct[sure]),
            f"temperature {temperature:.2f}": result["reliability"],
        },
        "curves": {
            title: calibration.risk_coverage(confidence[inside], correct[inside])
            for title, inside in (
                ("all questions", np.ones(len(rows), dtype=bool)),
                ("safety questions", safe),
            )
            if inside.any()
        },
    }
    return result, pictures


def _draw(result: Mapping[str, Any], pictures: Mapping[str, Any], output: Path) -> None:
    """All figures that the numbers allow; those of an earlier report go."""
    for name in PICTURES:
        (output / name).unlink(missing_ok=True)
    figures.families(result["families"], output / "families.png")
    figures.slices(result["slices"], output / "slices.png")
    name = f"{FIVE_WAY_FAMILY} (five-way)"
    if name in result["classes"]:
        table = result["classes"][name]["confusion"]
        figures.confusion(
            table["labels"], table["counts"], "Can I move forward?", output / "move-forward.png"
        )
    if pictures:
        figures.reliability(pictures["reliability"], output / "reliability.png")
        figures.risk_coverage(pictures["curves"], output / "risk-coverage.png")
    grounding = result["grounding"]
    if grounding:
        figures.heads(grounding["heads"], output / "heads.png")
    if grounding and "curves" in grounding:
        figures.curves(grounding["curves"], output / "faithfulness.png")
