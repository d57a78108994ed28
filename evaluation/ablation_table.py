"""The table of ablations: scores of every run beside the full recipe's, paired by frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .answers import UNCLEAR
from .metrics import (
    bootstrap_auc,
    classes_of,
    decide,
    frame_confusions,
    frame_weights,
    interval,
    kinds_of,
    scores,
)
from .predict import load

FULL = "full"
LEAST_PER_CLASS = 10
SCORES = ("balanced_accuracy", "auc")


def bootstrap(table: pd.DataFrame, frames: Sequence[str], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Means over families of balanced accuracy and of AUC: the value itself, then its bootstrap samples.

    Args:
        table: predictions of one run.
        frames: ids of all frames, in the order of the weights.
        weights: from `frame_weights`.

    Returns:
        score -> (1 + samples,).
    """
    table = decide(table, kinds_of(table))
    place = {name: i for i, name in enumerate(frames)}
    table = table.assign(frame=table["image_id"].astype(str).map(place))
    found: dict[str, list[np.ndarray]] = {"balanced_accuracy": [], "auc": []}
    for _, rows in table[table["truth"] != UNCLEAR].groupby("family"):
        rows = rows[rows["truth"].map(rows["truth"].value_counts()) >= LEAST_PER_CLASS]
        if rows["truth"].nunique() < 2:
            continue
        kind, at = str(rows["kind"].iloc[0]), rows["frame"].to_numpy()
        classes = classes_of(rows["truth"], kind)
        confusion = frame_confusions(rows["truth"], rows["decision"], at, len(frames), classes)
        drawn = scores(np.tensordot(weights, confusion, axes=1))["balanced_accuracy"]
        found["balanced_accuracy"].append(np.r_[scores(confusion.sum(0))["balanced_accuracy"], drawn])
        if kind == "yes/no" and rows["score_yes"].notna().all():
            positive = (rows["truth"] == "yes").to_numpy()
            area, areas = bootstrap_auc(positive, rows["score_yes"].to_numpy(float), at, weights)
            found["auc"].append(np.r_[area, areas])
    return {name: np.nanmean(parts, axis=0) for name, parts in found.items() if parts}


def compare(runs: Mapping[str, Sequence[Path]]) -> list[dict[str, Any]]:
    """Scores of finished runs beside the full recipe's, means over seeds.

    Args:
        runs: name of an ablation -> folders of its runs, one a seed; `FULL` is among them.

    Returns:
        One row an ablation: name, parameters, minutes, ratio, and for either score its value, interval,
        change from the full recipe, the change's interval, and the change of every seed.
    """
    answered = {
        name: [load(folder / "predictions.parquet") for folder in folders] for name, folders in runs.items()
    }
    frames = sorted(answered[FULL][0]["image_id"].astype(str).unique())
    weights, rows = frame_weights(len(frames)), []
    drawn = {}
    for name, tables in answered.items():
        parts = [bootstrap(table, frames, weights) for table in tables]
        drawn[name] = {score: np.stack([part[score] for part in parts]) for score in parts[0]}
    for name, folders in runs.items():
        results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in folders]
        row: dict[str, Any] = {
            "name": name,
            "parameters": results[0]["parameters"],
            "minutes": round(sum(result["training_seconds"] for result in results) / 60 / len(results), 2),
            "ratio": _mean_ratio(results),
        }
        for score, values in drawn[name].items():
            row |= {
                f"{score}{key}": value
                for key, value in _beside(values, drawn[FULL][score], len(frames)).items()
            }
        rows.append(row)
    return rows


def _mean_ratio(results: Sequence[Mapping[str, Any]]) -> float | None:
    found = [result["ratio"]["mean"] for result in results if "ratio" in result]
    return round(float(np.mean(found)), 4) if found else None


def _beside(values: np.ndarray, full: np.ndarray, num_frames: int) -> dict[str, Any]:
    """A score and its change from the full recipe: values and samples, each (seeds, 1 + samples)."""
    mean, change = values.mean(0), (values - full).mean(0)
    by_seed = (values - full)[:, 0]
    return {
        "": round(float(mean[0]), 6),
        "_interval": interval(mean[1:], num_frames),
        "_change": round(float(change[0]), 6),
        "_change_interval": interval(change[1:], num_frames),
        "_change_by_seed": [round(float(value), 6) for value in by_seed],
    }


def verdict(row: Mapping[str, Any]) -> str:
    """What taking a part out does, by rule: an interval of the change that excludes zero, in either score."""
    spans = [row.get(f"{score}_change_interval") for score in SCORES]
    known = [span for span in spans if span is not None]
    if row["name"] == FULL or not known:
        return "" if row["name"] == FULL else "not measured"
    worse, better = any(high < 0 for _, high in known), any(low > 0 for low, _ in known)
    if worse and better:
        return "worse and better"
    return "worse without" if worse else "better without" if better else "no difference shown"


def _cell(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    """A fraction in percent with its interval."""
    value, span = row.get(name), row.get(f"{name}_interval")
    if value is None:
        return "-"
    text = f"{100 * value:{sign}.1f}"
    return text if span is None else f"{text} [{', '.join(f'{100 * end:{sign}.1f}' for end in span)}]"


def markdown(rows: Sequence[Mapping[str, Any]], removed: Mapping[str, str], what: str, seeds: int) -> str:
    """The table and what it is of, as a page.

    Args:
        rows: from `compare`.
        removed: name of an ablation -> what it takes out.
        what: recipe, steps and frames, in a sentence.
        seeds: how many seeds.

    Returns:
        Markdown text.
    """
    others = "another seed" if seeds == 1 else "other seeds (`ablations.json` has the change of each)"
    lines = [
        "# Ablations",
        "",
        what,
        "",
        "Scores are means over the key families of questions, in percent, with 95% intervals by resampling",
        "frames. A change is paired with the full recipe frame by frame; the last column says what its",
        f"interval shows. The intervals do not cover what {others} would do.",
        "",
        "| taken out | balanced accuracy | change | AUC | change | mass ratio | parameters | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [removed[row["name"]]]
        for score in SCORES:
            cells += [_cell(row, score), "" if row["name"] == FULL else _cell(row, f"{score}_change", "+")]
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.1f}"
        cells += [ratio, f"{row['parameters']:,}", verdict(row)]
        lines.append("| " + " | ".join(cells) + " |")
    left = [text for name, text in removed.items() if name not in {row["name"] for row in rows}]
    lines += ["", f"Not run: {'; '.join(left)}."] if left else []
    return "\n".join(lines) + "\n"
