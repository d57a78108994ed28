"""Figures of a report, in colours that any colour vision can tell apart (Okabe and Ito's)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 130,
}


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def _spans(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """(2, rows) distances of interval ends from the scores, in percent; 0 where there is no interval."""
    ends = [row.get(f"{name}_interval") or (row[name], row[name]) for row in rows]
    values = np.array([row[name] for row in rows])
    return np.abs(np.array(ends).T - values) * 100


def families(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Balanced accuracy of every family with its interval, beside shuffled pictures and chance.

    Args:
        rows: from `metrics.family_table`.
        path: picture to write.
    """
    rows = [row for row in rows if row.get("balanced_accuracy") is not None]
    rows = sorted(rows, key=lambda row: row["balanced_accuracy"])
    if not rows:
        return
    at = np.arange(len(rows))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8, 0.24 * len(rows) + 1.4))
        constant = [
            (i, 100 * row["commonest_balanced_accuracy"]) for i, row in enumerate(rows) if "commonest" in row
        ]
        axes.plot(
            [x for _, x in constant],
            [i for i, _ in constant],
            "|",
            color=GREY,
            ms=9,
            label="commonest answer",
        )
        seen = [(i, 100 * row["shuffled_balanced_accuracy"]) for i, row in enumerate(rows) if "gain" in row]
        if seen:
            axes.plot(
                [x for _, x in seen],
                [i for i, _ in seen],
                "o",
                mfc="none",
                color=VERMILION,
                label="pictures shuffled",
            )
        values = [100 * row["balanced_accuracy"] for row in rows]
        axes.errorbar(
            values,
            at,
            xerr=_spans(rows, "balanced_accuracy"),
            fmt="o",
            ms=4,
            color=BLUE,
            lw=1.2,
            label="model, 95% interval by frame",
        )
        axes.set_yticks(at, [row["family"].replace("_", " ") for row in rows], fontsize=8)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlim(0, 102)
        axes.set_xlabel("balanced accuracy, %")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
        _save(figure, path)


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]], title: str, path: Path) -> None:
    """A confusion matrix, coloured by the share of each row, with counts.

    Args:
        labels: names of rows (truth) and columns (decision).
        counts: rows of counts.
        title: above the picture.
        path: picture to write.
    """
    table = np.array(counts, dtype=float)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        size = 1.6 + 0.75 * len(labels)
        figure, axes = plt.subplots(figsize=(size + 0.8, size))
        axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
        for i in range(len(labels)):
            for j in range(len(labels)):
                colour = "black" if share[i, j] > 0.45 else "white"
                axes.text(
                    j,
                    i,
                    f"{int(table[i, j])}\n{share[i, j]:.0%}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=8,
                )
        axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("answered")
        axes.set_ylabel("label")
        axes.set_title(title, fontsize=11)
        _save(figure, path)


def reliability(groups: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Reliability diagrams, one panel a group, the number of answers in each bin below.

    Args:
        groups: title -> rows from `calibration.reliability`.
        path: picture to write.
    """
    with plt.rc_context(STYLE):
        figure, all_axes = plt.subplots(
            2,
            len(groups),
            figsize=(3.6 * len(groups), 4.4),
            sharex=True,
            sharey="row",
            squeeze=False,
            height_ratios=[3, 1],
        )
        for column, (title, rows) in enumerate(groups.items()):
            upper, lower = all_axes[:, column]
            upper.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
            upper.plot([r["confidence"] for r in rows], [r["accuracy"] for r in rows], "o-", color=BLUE, ms=4)
            upper.set_ylim(0, 1.02)
            upper.set_title(title, fontsize=10)
            lower.bar(
                [(r["low"] + r["high"]) / 2 for r in rows], [r["n"] for r in rows], width=0.05, color=BLUE
            )
            lower.set_xlabel("confidence")
            lower.set_xlim(0, 1.02)
        all_axes[0, 0].set_ylabel("part that is right")
        all_axes[1, 0].set_ylabel("answers")
        figure.tight_layout()
        _save(figure, path)


def risk_coverage(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Risk against coverage of several groups of questions.

    Args:
        curves: name -> coverage and risk, at most five.
        path: picture to write.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6, 4))
        lines = zip(
            curves.items(), (BLUE, VERMILION, GREEN, ORANGE, GREY), ("-", "--", "-.", ":", "-"), strict=False
        )
        for (name, (coverage, risk)), colour, style in lines:
            axes.plot(100 * coverage, 100 * risk, style, color=colour, label=name, lw=1.8)
        highest = 100 * max(float(risk.max()) for _, risk in curves.values())
        axes.set_yticks([1, 5, *range(10, max(int(highest) + 10, 11), 10)])  # a 0 would touch the 1
        axes.set_xlabel("coverage: questions answered, %")
        axes.set_ylabel("risk: answers that are wrong, %")
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")
        _save(figure, path)


def heads(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Mass ratio, pointing game, sink mass and entropy of every layer and head.

    Args:
        rows: from `grounding.by_head`.
        path: picture to write.
    """
    layers, count = 1 + max(row["layer"] for row in rows), 1 + max(row["head"] for row in rows)
    panels = (
        ("ratio", "mass ratio (1 = even)"),
        ("pointing", "pointing game"),
        ("sink_mass", "sink mass"),
        ("entropy", "entropy (1 = even)"),
    )
    with plt.rc_context({**STYLE, "axes.grid": False}):
        size = (len(panels) * (0.62 * count + 1.1), 0.5 * layers + 1.7)
        figure, all_axes = plt.subplots(1, len(panels), figsize=size)
        for axes, (name, title) in zip(all_axes, panels, strict=True):
            table = np.zeros((layers, count))
            for row in rows:
                table[row["layer"], row["head"]] = row[name]
            axes.imshow(table, cmap="cividis", vmin=0, aspect="auto")
            for i, j in np.ndindex(table.shape):
                colour = "black" if table[i, j] > 0.45 * table.max() else "white"
                axes.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", color=colour, fontsize=8)
            axes.set_title(title, fontsize=10)
            axes.set_xticks(range(count))
            axes.set_yticks(range(layers))
            axes.set_xlabel("head")
        all_axes[0].set_ylabel("cross-attention layer")
        figure.tight_layout()
        _save(figure, path)


def curves(by_method: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Deletion and insertion curves of several kinds of maps.

    Args:
        by_method: name -> result of `faithfulness.curves`, at most five.
        path: picture to write.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
        styles = zip(
            by_method.items(), (BLUE, GREEN, ORANGE, GREY, VERMILION), ("o", "s", "^", "x", "d"), strict=False
        )
        for (name, result), colour, marker in styles:
            x = 100 * np.array(result["steps"])
            for axes, kind in ((left, "deletion"), (right, "insertion")):
                label = f"{name} ({result[f'{kind}_area']:.3f})"
                axes.plot(x, result[kind], marker=marker, ms=4, color=colour, label=label)
        left.set_title("strongest patches deleted: lower is more faithful", fontsize=10)
        right.set_title("only strongest patches shown: higher is more faithful", fontsize=10)
        left.set_ylabel("probability of the clean decision")
        for axes in (left, right):
            axes.set_xlabel("patches, %")
            axes.set_ylim(0, 1.02)
            axes.legend(fontsize=8, title="area under the curve", title_fontsize=8)
        figure.tight_layout()
        _save(figure, path)


def slices(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Accuracy of every slice with its interval, a group a kind of slice.

    Args:
        rows: from `slices.slice_table`.
        path: picture to write.
    """
    if not rows:
        return
    positions, labels, at = [], [], 0.0
    for i, row in enumerate(rows):
        at += 1.6 if i and rows[i - 1]["slice"] != row["slice"] else 1.0
        positions.append(-at)
        kind = row["slice"].replace("timeofday", "time of day")
        labels.append(f"{kind}: {row['value']}  (n = {row['n']})")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.26 * at + 1))
        values = [100 * row["accuracy"] for row in rows]
        axes.errorbar(values, positions, xerr=_spans(rows, "accuracy"), fmt="o", ms=4, color=BLUE, lw=1.2)
        axes.set_yticks(positions, labels, fontsize=8)
        axes.set_ylim(-at - 0.8, positions[0] + 0.8)
        axes.set_xlabel("accuracy over all questions, %, with 95% interval by frame")
        _save(figure, path)


def sensitivity(table: Mapping[str, Mapping[int, float]], clean: float, label: str, path: Path) -> None:
    """A score against severity, one small panel a corruption.

    Args:
        table: corruption -> severity -> score, a fraction.
        clean: the score on clean pictures.
        label: what the score is.
        path: picture to write.
    """
    columns = 5
    count = -(-len(table) // columns)
    with plt.rc_context(STYLE):
        figure, all_axes = plt.subplots(
            count, columns, figsize=(11, 1.75 * count + 0.5), sharex=True, sharey=True, squeeze=False
        )
        for axes, (name, scores) in zip(all_axes.flat, table.items(), strict=False):
            severity = sorted(scores)
            axes.plot(
                [0, *severity], [100 * clean, *(100 * scores[s] for s in severity)], "o-", ms=3, color=BLUE
            )
            axes.axhline(100 * clean, color=GREY, lw=0.8, ls="--")
            axes.set_title(name.replace("_", " "), fontsize=9)
            axes.set_xticks([0, *severity])
        for axes in list(all_axes.flat)[max(len(table) - columns, 0) : len(table)]:
            axes.tick_params(labelbottom=True)  # the lowest panel of every column
        for axes in list(all_axes.flat)[len(table) :]:
            axes.set_visible(False)
        figure.supxlabel("severity (0 = clean)", fontsize=10)
        figure.supylabel(label, fontsize=10)
        figure.tight_layout()
        _save(figure, path)
