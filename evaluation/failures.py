"""The worst answers on one page that opens from disk, with what they have in common and labels to doubt.

Reads the folder that the evaluation leaves. An error is worst where the model was surest. Every picture
carries the evidence map, the labelled evidence, and how faithful the map is for that very answer.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from tqdm import tqdm
from traffic_vlm.processing.bdd100k.mirror import mirror_text

from . import faithfulness, maps
from .answers import UNCLEAR, read
from .command import REPORT, add_inputs, new_parser, run_command
from .looking import maps_of
from .metrics import as_table, decide, kinds_of
from .overlay import draw_heat
from .predict import DatasetError, View, clean, fingerprint, load, load_model, open_frames
from .slices import evidence_distance, evidence_size, number_of_objects
from .views import ASKED, group_of

THUMBNAIL = 400
LEAST_ROWS = 30
#: A label is doubted where the model is this sure and says the same in other words and in the mirror.
SURE = 0.95
DOUBT = "Labels to doubt"
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1320px;padding:1rem;color:#1c1c1c}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(400px,100%),1fr));gap:1rem}
figure{margin:0;border:1px solid #ccc;border-radius:6px;overflow:hidden}
img{width:100%;display:block}
figcaption{padding:.5rem .7rem}
table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left}
.said{color:#a83200}
.label{color:#005f8f}
.small{color:#555;font-size:.85em}
nav a{margin-right:1rem}
"""
INTRODUCTION = """White boxes are the labelled evidence; the heat is where the model looked. Deletion: the
probability of the answer while the map's strongest patches go (low is faithful); insertion: while only they
are shown (high is faithful)."""


@dataclass
class Page:
    """What stands on the page: section title -> rows of the table, and the causes."""

    sections: dict[str, pd.DataFrame]
    causes: list[dict[str, Any]]
    clusters: list[dict[str, Any]]


def errors_of(table: pd.DataFrame) -> pd.DataFrame:
    """Decided predictions with the slices that failures are sorted by.

    Args:
        table: predictions of the evaluation.

    Returns:
        Rows with a readable label, plus group, size, distance and crowd.
    """
    table = decide(as_table(table), kinds_of(as_table(table)))
    table = table[(table["truth"] != UNCLEAR) & (table["kind"] != "text")].copy()
    table["group"] = table["family"].map(group_of)
    table["evidence size"] = table["evidence"].map(evidence_size)
    table["evidence distance"] = table["evidence"].map(evidence_distance)
    table["objects"] = table["num_objects"].map(number_of_objects)
    return table


def check_frames(table: pd.DataFrame, frames: Sequence[Mapping[str, Any]], problem: str) -> None:
    """Refuse predictions about other frames than those whose pictures would be shown.

    Args:
        table: predictions with image_id and frame_index.
        frames: the split.
        problem: beginning of the message.

    Raises:
        DatasetError: if a prediction's frame is not the one at its place in the split.
    """
    columns = frames.select_columns(["image_id"]) if hasattr(frames, "select_columns") else frames
    held = {index: str(row["image_id"]) for index, row in enumerate(columns)}
    for index, image_id in zip(table["frame_index"], table["image_id"].astype(str), strict=True):
        if held.get(index) != image_id:
            there = held.get(index, "not there")
            raise DatasetError(
                f"{problem}: its frame {index} is {there}, not {image_id}; give the --dataset and --split "
                "that were evaluated"
            )


def mark_occluded(table: pd.DataFrame, frames: Sequence[Mapping[str, Any]]) -> pd.Series:
    """Whether the evidence of each row is labelled as occluded: all of it, "yes"; none, "no"; else `None`."""
    known: dict[str, dict[tuple[float, ...], bool]] = {}
    columns = frames.select_columns(["image_id", "objects"]) if hasattr(frames, "select_columns") else frames
    for row in columns:
        things = row.get("objects") or []
        boxes = {
            tuple(np.round(o["box"], 4)): o.get("occluded") for o in things if o.get("occluded") is not None
        }
        known[str(row["image_id"])] = boxes

    def mark(image_id: Any, evidence: Any) -> str | None:
        if evidence is None or not len(evidence):
            return None
        states = {known.get(str(image_id), {}).get(tuple(np.round(box, 4))) for box in evidence}
        return {True: "yes", False: "no"}.get(states.pop()) if len(states) == 1 else None  # type: ignore[arg-type]

    return pd.Series(
        [mark(i, e) for i, e in zip(table["image_id"], table["evidence"], strict=True)], index=table.index
    )


def doubted(table: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> pd.Series:
    """Rows whose label may be wrong: a sure answer that stays the same in other words and in the mirror.

    Args:
        table: decided predictions.
        others: predictions of the views "paraphrased" and "mirrored"; without both nothing is doubted.

    Returns:
        (rows,) bool.
    """
    if not {"paraphrased", "mirrored"} <= set(others):
        return pd.Series(False, index=table.index)
    key = ["image_id", "question_index"]
    same = ~table["correct"] & (table["confidence"] >= SURE)
    for name in ("paraphrased", "mirrored"):
        found = (
            table[key].merge(others[name][[*key, "prediction"]], on=key, how="left")["prediction"].fillna("")
        )
        texts = [mirror_text(text) if name == "mirrored" else text for text in found]
        decisions = [read(text, kind) for text, kind in zip(texts, table["kind"], strict=True)]
        same &= pd.Series(decisions, index=table.index) == table["decision"]
    return same


def causes(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What errors have in common: slices in which a group of questions fails more often than elsewhere.

    Args:
        table: decided predictions with slices.

    Returns:
        group, slice, value, n, error, error_elsewhere and excess (errors beyond the rate elsewhere), most
        first.
    """
    found = []
    columns = (
        "weather",
        "timeofday",
        "scene",
        "source",
        "evidence size",
        "evidence distance",
        "objects",
        "occluded",
    )
    for group, rows in table.groupby("group"):
        for column in (c for c in columns if c in rows):
            for value, part in rows.groupby(column):
                rest = rows[rows[column].notna() & (rows[column] != value)]
                if len(part) < LEAST_ROWS or len(rest) < LEAST_ROWS:
                    continue
                error, other = 1 - part["correct"].mean(), 1 - rest["correct"].mean()
                excess = (error - other) * len(part)
                if excess > 1:
                    cause = {"group": group, "slice": column, "value": value, "n": len(part)}
                    found.append(cause | {"error": error, "error_elsewhere": other, "excess": excess})
    return sorted(found, key=lambda cause: -cause["excess"])


def clusters(table: pd.DataFrame, most: int = 12) -> list[dict[str, Any]]:
    """Confusions that account for most errors: the same group, the same label, the same wrong answer.

    Args:
        table: decided predictions.
        most: how many.

    Returns:
        group, truth, decision, n, share (of all errors) and confidence (mean), most first.
    """
    errors = table[~table["correct"]]
    keys = ["group", "truth", "decision"]
    found = errors.groupby(keys)["confidence"].agg(["size", "mean"]).reset_index()
    found = found.sort_values(["size", *keys], ascending=[False, True, True, True]).head(most)
    return [
        {
            **{k: row[k] for k in keys},
            "n": int(row["size"]),
            "share": row["size"] / len(errors),
            "confidence": row["mean"],
        }
        for _, row in found.iterrows()
    ]


def choose(table: pd.DataFrame, is_doubted: pd.Series, most: int) -> Page:
    """Pick the rows of the page.

    Args:
        table: decided predictions with slices.
        is_doubted: from `doubted`.
        most: rows in the first section; half of it in each of the others.

    Returns:
        The page.
    """
    errors = table[~table["correct"] & ~is_doubted].sort_values("confidence", ascending=False, kind="stable")
    worst = errors.drop_duplicates(["image_id", "group"])
    part = max(most // 2, 1)
    sections = {"Surest errors": worst.head(most)}
    by_group = worst.groupby("group").head(2).sort_values(["group", "confidence"], ascending=[True, False])
    sections["By kind of question"] = by_group
    slices = {
        "At night": ("timeofday", "night"),
        "In the rain": ("weather", "rainy"),
        "Small evidence": ("evidence size", "under 0.2%"),
        "Occluded evidence": ("occluded", "yes"),
    }
    for title, (column, value) in slices.items():
        if column in worst:
            sections[title] = worst[worst[column] == value].head(part)
    suspects = (
        table[is_doubted].sort_values("confidence", ascending=False).drop_duplicates(["image_id", "group"])
    )
    sections[DOUBT] = suspects.head(part)
    return Page(
        {title: rows for title, rows in sections.items() if len(rows)}, causes(table), clusters(table)
    )


def _picture(
    picture: Image.Image, attention: np.ndarray | None, boxes: Sequence[Sequence[float]] | None
) -> str:
    """The overlay as text that a page can hold."""
    drawn = picture.convert("RGB") if attention is None else draw_heat(picture, attention)
    drawn = drawn.resize(
        (THUMBNAIL, round(THUMBNAIL * drawn.height / drawn.width)), Image.Resampling.BILINEAR
    )
    draw = ImageDraw.Draw(drawn)
    for x1, y1, x2, y2 in [] if boxes is None else boxes:
        corners = (x1 * drawn.width, y1 * drawn.height, x2 * drawn.width, y2 * drawn.height)
        draw.rectangle(corners, outline="black", width=3)
        draw.rectangle(corners, outline="white", width=1)
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _figure(row: pd.Series, source: str, scores: str) -> str:
    """One failure."""
    names = ("question", "prediction", "answer", "image_id", "family", "rule")
    text = {name: html.escape(str(row[name])) for name in names}
    places = [row[c] for c in ("weather", "timeofday", "scene", "evidence size") if pd.notna(row[c])]
    where = html.escape(", ".join(map(str, places)))
    return (
        f'<figure><img loading="lazy" alt="{text["question"]}" src="{source}">'
        f"<figcaption><b>{text['question']}</b><br>"
        f'<span class="said">{text["prediction"] or "(nothing)"} ({row["confidence"]:.0%} sure)</span> '
        f'<span class="label">label: {text["answer"]}</span><br>'
        f'<span class="small">{text["family"]}, rule: {text["rule"]}; {where}; {text["image_id"]}<br>'
        f"{html.escape(scores)}</span></figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows
    )
    return "<table><tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + f"</tr>{cells}</table>"


def render(page: Page, figures: Mapping[Any, str], title: str) -> str:
    """The page as HTML.

    Args:
        page: what stands on it.
        figures: index of a row -> its figure.
        title: shown above.

    Returns:
        A document that needs nothing but itself.
    """
    sections = [(f"s{i}", name, rows) for i, (name, rows) in enumerate(page.sections.items())]
    links = "".join(f'<a href="#{at}">{html.escape(name)} ({len(rows)})</a>' for at, name, rows in sections)
    name = html.escape(title)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width"><title>{name}</title>',
        f"<style>{STYLE}</style>",
        f"<h1>{name}</h1><p>{INTRODUCTION}</p><nav>{links}</nav>",
        "<h2>Most errors are these</h2>",
        _table(
            ["questions", "label", "answered", "errors", "of all", "mean confidence"],
            [
                (c["group"], c["truth"], c["decision"], c["n"], f"{c['share']:.0%}", f"{c['confidence']:.0%}")
                for c in page.clusters
            ],
        ),
        "<h2>Where questions fail more often than elsewhere</h2>",
        _table(
            ["questions", "where", "n", "wrong there", "wrong elsewhere", "errors in excess"],
            [
                (
                    c["group"], f"{c['slice']}: {c['value']}", c["n"], f"{c['error']:.0%}",
                    f"{c['error_elsewhere']:.0%}", f"{c['excess']:.0f}",
                )
                for c in page.causes[:20]
            ],
        ) if page.causes else f"<p>Nowhere, among slices of at least {LEAST_ROWS} questions.</p>",
    ]  # fmt: skip
    for at, name, rows in sections:
        parts.append(f'<h2 id="{at}">{html.escape(name)}</h2>')
        if name == DOUBT:
            parts.append(
                "<p>Sure, and the same in other words and in the mirror: the label may be wrong.</p>"
            )
        parts.append('<div class="grid">')
        parts += [figures[index] for index in rows.index]
        parts.append("</div>")
    return "\n".join(parts) + "\n</html>\n"


def _figures(model: Any, processor: Any, view: View, rows: pd.DataFrame) -> dict[Any, str]:
    """Index of each row -> its figure, with its evidence map and how faithful that is."""
    rows = rows.sort_values("frame_index", kind="stable")
    attention: Sequence[np.ndarray | None] = [None] * len(rows)
    if model.config.uses_cross_attention:
        attention = list(maps_of(maps.evidence_maps, model, processor, view, rows, "evidence maps"))
    probability = faithfulness.DecisionProbability(model, processor)
    figures = {}
    progress = tqdm(rows.iterrows(), total=len(rows), desc="drawing", unit="picture")
    for (index, row), heat in zip(progress, attention, strict=True):
        picture, scores = view(int(row["frame_index"]))[0], "no map: the model has no cross-attention"
        if heat is not None:
            (found,) = faithfulness.areas(probability, picture, row["question"], heat[None])
            scores = f"faithfulness: {faithfulness.describe(found)}"
        figures[index] = _figure(row, _picture(picture, heat, row["evidence"]), scores)
    return figures


def write(report: Path, checkpoint: Path, dataset: Path, split: str, most: int = 24) -> Path:
    """Write `failures.html` beside a report.

    Args:
        report: folder that the evaluation wrote.
        checkpoint: the model that was evaluated.
        dataset, split: what it was evaluated on.
        most: rows in the first section.

    Returns:
        The page.

    Raises:
        DatasetError: if the folder holds no predictions of this checkpoint and data set with confidences.
    """
    table = load(report / "predictions.parquet")
    if "confidence" not in table or "frame_index" not in table:
        raise DatasetError(
            f"{report}: predictions without confidence or frame; run scripts/evaluate.py --checkpoint"
        )
    if not (report / ASKED).is_file():
        raise DatasetError(
            f"{report}: no checkpoint gave these answers; run scripts/evaluate.py --checkpoint"
        )
    asked = json.loads((report / ASKED).read_text(encoding="utf-8"))
    if asked["weights"] != fingerprint(checkpoint):
        raise DatasetError(
            f"{report}: these answers are not of {checkpoint} as it is now; name their --checkpoint, or run "
            "scripts/evaluate.py again"
        )
    others = {
        name: load(path)
        for name in ("paraphrased", "mirrored")
        if (path := report / f"predictions-{name}.parquet").is_file()
    }
    frames = open_frames(dataset, split)
    check_frames(table, frames, f"{report}: the predictions are not about split {split!r} of {dataset}")
    table = errors_of(table)
    table["occluded"] = mark_occluded(table, frames)
    page = choose(table, doubted(table, others), most)
    rows = pd.concat([*page.sections.values(), table.iloc[:0]])
    model, processor = load_model(checkpoint)
    drawn = _figures(model, processor, clean(frames), rows[~rows.index.duplicated()])
    path = report / "failures.html"
    path.write_text(render(page, drawn, f"Failures on {split}"), encoding="utf-8", newline="\n")
    return path


def main(arguments: list[str] | None = None, description: str | None = __doc__) -> int:
    """The command line of scripts/failures.py.

    Args:
        arguments: by default those of the process.
        description: shown by `--help`.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    parser = new_parser(description)
    add_inputs(parser)
    parser.add_argument(
        "--report", type=Path, default=REPORT, help="folder of the evaluation (default: %(default)s)"
    )
    parser.add_argument("--most", type=int, default=24, metavar="N", help="failures in the first section")
    args = parser.parse_args(arguments)
    return run_command(lambda: str(write(args.report, args.checkpoint, args.dataset, args.split, args.most)))
