"""The grounding of a checkpoint on a data set: maps of many questions, scored, compared and tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from tqdm import tqdm

from . import faithfulness, grounding, maps
from .metrics import as_table, decide, frame_weights, interval, kinds_of
from .predict import FRAMES_PER_BLOCK, View, save
from .sharing import share_out
from .views import group_of

#: Rows for what needs every layer, gradients, or many passes through the encoder.
MOST_HEAD_ROWS = 1200
MOST_TESTED_ROWS = 240
MOST_CURVE_ROWS = 64
NOT_THINGS = ("lane", "")


def rows_with_evidence(table: pd.DataFrame) -> pd.DataFrame:
    """Decided predictions whose label rests on boxes of things (a lane's box is no thing to point at)."""
    table = as_table(table)
    table = decide(table, kinds_of(table))
    has_boxes = table["evidence"].map(lambda boxes: boxes is not None and len(boxes) > 0)
    category = table["evidence_category"].fillna("").astype(str)
    return table[has_boxes & ~category.isin(NOT_THINGS)].reset_index(drop=True)


def sample(table: pd.DataFrame, most: int, seed: int = 0) -> pd.DataFrame:
    """At most so many rows, evenly over the categories, in the table's order."""
    if len(table) <= most:
        return table
    shuffled = table.sample(frac=1, random_state=seed)
    turn = shuffled.groupby("evidence_category").cumcount()
    chosen = turn.sort_values(kind="stable").index[:most]
    return table.loc[sorted(chosen)]


def maps_of(
    method: Callable[[Any, dict[str, torch.Tensor]], np.ndarray],
    model: Any,
    processor: Any,
    view: View,
    rows: pd.DataFrame,
    name: str = "",
) -> np.ndarray:
    """One map a row, made on all processes.

    Args:
        method: one of `maps.METHODS`, or `maps.head_maps`.
        model, processor: the checkpoint.
        view: frame's index -> picture and row.
        rows: questions with `frame_index`, sorted by it.
        name: shown with the progress.

    Returns:
        (rows, ..., grid height, grid width) float32.
    """

    def work(frames: Sequence[int]) -> np.ndarray:
        block = rows[rows["frame_index"].isin(frames)]
        inputs = dict(processor(text=block["question"].tolist(), return_tensors="pt"))
        inputs |= dict(processor.image_processor([view(int(i))[0] for i in frames], return_tensors="pt"))
        slot = {frame: i for i, frame in enumerate(frames)}
        inputs["image_index"] = torch.tensor([slot[i] for i in block["frame_index"]])
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        return method(model, inputs).astype(np.float32)

    shown = sorted(rows["frame_index"].unique())
    starts = range(0, len(shown), FRAMES_PER_BLOCK)
    return np.concatenate(share_out(work, [shown[s : s + FRAMES_PER_BLOCK] for s in starts], name))


def macro(rows: pd.DataFrame, column: str, samples: int = 1000) -> dict[str, Any]:
    """Mean of a score over categories, each counting once, with its interval by frame.

    Args:
        rows: scored rows with `evidence_category`.
        column: name of the score.
        samples: number of bootstrap samples.

    Returns:
        mean and interval.
    """
    names, frame = np.unique(rows["image_id"].astype(str), return_inverse=True)
    weights = frame_weights(len(names), samples)
    means, drawn = [], []
    for _, part in rows.groupby("evidence_category"):
        at, values = frame[rows.index.get_indexer(part.index)], part[column].to_numpy(float)
        sums, counts = (np.bincount(at, w, minlength=len(names)) for w in (values, np.ones(len(values))))
        with np.errstate(invalid="ignore"):
            drawn.append((weights @ sums) / (weights @ counts))
        means.append(values.mean())
    span = interval(np.mean(drawn, axis=0), len(names))  # NaN where a sample lacks one of the categories
    return {"mean": round(float(np.mean(means)), 6), "interval": span}


def look(model: Any, processor: Any, view: View, table: pd.DataFrame, output: Path) -> dict[str, Any] | None:
    """Measure the grounding of the answers to a split; every process has to call this.

    Args:
        model, processor: the checkpoint.
        view: frame's index -> picture and row.
        table: predictions for that view.
        output: folder of the report; the scores of every map go to `grounding.parquet` there.

    Returns:
        presence (over presence questions that are rightly yes, or without any over every question with
        evidence: all together, by category, and the mean over categories), groups (every other kind of
        question), heads, sink_mass, methods, curves and drop;
        `None` where no question has evidence.
    """
    rows = rows_with_evidence(table)
    if rows.empty:
        return None
    rows = grounding.scored(rows, maps_of(maps.evidence_maps, model, processor, view, rows, "evidence maps"))
    here = rows[rows["family"].str.startswith("presence") & (rows["truth"] == "yes")]
    here = here if len(here) else rows
    keep = ["image_id", "question", "family", "evidence_category", "prediction", "correct"]
    keep += grounding.SCORES
    if PartialState().is_main_process:
        save(rows[keep], output / "grounding.parquet")
    groups = rows.groupby(rows["family"].map(group_of))
    result: dict[str, Any] = {
        "presence": {
            "all": grounding.summarise(here),
            "mean_over_categories": {c: macro(here, c) for c in (*grounding.SCORES, *grounding.LEADS)},
            "by_category": {
                str(c): grounding.summarise(part) for c, part in here.groupby("evidence_category")
            },
        },
        "groups": {str(name): grounding.summarise(part) for name, part in groups},
    }
    result |= _compare(model, processor, view, sample(here, MOST_HEAD_ROWS))
    right = here[here["correct"]]
    if len(right):
        result["drop"] = _drop(model, processor, view, sample(right, MOST_TESTED_ROWS))
        result["curves"] = _curves(model, processor, view, sample(right, MOST_CURVE_ROWS))
    return result


def _compare(model: Any, processor: Any, view: View, rows: pd.DataFrame) -> dict[str, Any]:
    """Every head, and the kinds of maps side by side, on the same rows."""
    bare = rows.drop(columns=[*grounding.SCORES, *grounding.LEADS])
    methods, sinks = {}, 0.0
    for name, method in maps.METHODS.items():
        attention = maps_of(method, model, processor, view, bare, f"{name} maps")
        methods[name] = grounding.summarise(grounding.scored(bare, attention))
        if name == "evidence":
            sinks = grounding.sink_mass(attention)
    heads = maps_of(maps.head_maps, model, processor, view, bare, "maps of all heads")
    even = grounding.SINK_PATCHES / (heads.shape[-1] * heads.shape[-2])
    return {
        "heads": grounding.by_head(bare, heads),
        "sink_mass": {"evidence": round(sinks, 6), "even": round(even, 6), "patches": grounding.SINK_PATCHES},
        "methods": methods,
    }


def _drop(model: Any, processor: Any, view: View, rows: pd.DataFrame) -> dict[str, Any]:
    """What blanking the evidence costs the right answer, against as much elsewhere."""
    probability = faithfulness.DecisionProbability(model, processor)
    pictures = [view(int(i))[0] for i in rows["frame_index"]]
    found = faithfulness.evidence_drop(
        probability, pictures, rows["question"].tolist(), rows["evidence"].tolist()
    )
    if not len(found["row"]):
        return {"n": 0}
    frames = rows["image_id"].astype(str).to_numpy()[found["row"]].tolist()
    evidence, elsewhere = found["clean"] - found["evidence"], found["clean"] - found["elsewhere"]
    return {
        "n": len(frames),
        "clean": round(float(found["clean"].mean()), 6),
        "evidence": grounding.mean_with_interval(evidence, frames),
        "elsewhere": grounding.mean_with_interval(elsewhere, frames),
        "difference": grounding.mean_with_interval(evidence - elsewhere, frames),
    }


def _curves(model: Any, processor: Any, view: View, rows: pd.DataFrame) -> dict[str, Any]:
    """Deletion and insertion of every kind of map, of the labelled evidence, and of random maps."""
    probability = faithfulness.DecisionProbability(model, processor)
    pictures, questions = [view(int(i))[0] for i in rows["frame_index"]], rows["question"].tolist()
    kinds = {name: maps_of(method, model, processor, view, rows) for name, method in maps.METHODS.items()}
    shape = kinds["evidence"].shape
    kinds["random"] = faithfulness.random_maps(shape)
    boxes: Sequence[Any] = rows["evidence"].tolist()
    kinds["labelled boxes"] = np.stack([faithfulness.patches_of(b, shape[1:]) for b in boxes])
    hidden = not PartialState().is_local_main_process
    return {
        name: faithfulness.curves(probability, pictures, questions, attention)
        for name, attention in tqdm(kinds.items(), desc="deletion and insertion", unit="map", disable=hidden)
    }
