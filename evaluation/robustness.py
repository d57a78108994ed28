"""How answers and grounding hold up when the picture gets worse.

Every corruption is a view of the same frames and questions, so that each number stands beside the clean
one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from . import figures, grounding, maps, views
from .command import REPORT, add_inputs, new_parser, processes, run_command, write_text
from .corruptions import ALL, COMMON, SEVERITIES, corrupt
from .faithfulness import blank, elsewhere
from .looking import maps_of, rows_with_evidence
from .metrics import decide, kinds_of, percent
from .predict import View, answer_sets, clean, fingerprint, load_model, open_frames, predict

KEY_FAMILIES = (
    "move_forward",
    "lane_clear",
    "turn",
    "vehicle_near",
    "presence",
    "light_state",
    "weather",
    "time_of_day",
)
#: These move the scene, so that the labelled boxes no longer say where things are.
MOVING = ("crop", "horizon_shift")
OCCLUSIONS = ("occluded_evidence", "occluded_elsewhere")
LEAST_PER_CLASS = 5
Change = Callable[[Image.Image, dict[str, Any], int], Image.Image]


def is_key(family: str) -> bool:
    """Whether a family is asked about corrupted pictures."""
    return views.group_of(family) in KEY_FAMILIES


def occlude(
    picture: Image.Image, row: Mapping[str, Any], severity: int, seed: int, around: bool
) -> Image.Image:
    """Blank a part of every labelled object, or as much of the frame around them.

    All objects, not only those that a question is about: all questions about a frame share one picture. A
    part is left alone where as much finds no room elsewhere, so that both cover equally much.

    Args:
        picture: the frame.
        row: its row, with `objects`.
        severity: 1 to 5, fifths of each object's width.
        seed: of the side that is blanked, and of the places around.
        around: blank elsewhere instead.

    Returns:
        A new picture.
    """
    rng = np.random.default_rng(seed)
    objects = [tuple(thing["box"]) for thing in row.get("objects") or []]
    parts = []
    for x1, y1, x2, y2 in objects:
        width = (x2 - x1) * severity / 5
        left = x1 if rng.random() < 0.5 else x2 - width
        parts.append((left, y1, left + width, y2))
    moved = elsewhere(parts, rng, avoid=objects)
    pairs = [(part, place) for part, place in zip(parts, moved, strict=True) if place is not None]
    return blank(picture, [place if around else part for part, place in pairs])


def change(name: str, severity: int) -> Change:
    """A function of picture, row and index that spoils a picture.

    Args:
        name: one of `corruptions.ALL` or `OCCLUSIONS`.
        severity: 1 to 5.

    Returns:
        What `views.edited` takes.
    """
    if name in OCCLUSIONS:
        around = name == "occluded_elsewhere"
        return lambda picture, row, index: occlude(picture, row, severity, index, around)
    return lambda picture, row, index: corrupt(picture, name, severity, seed=index)


def balanced(table: pd.DataFrame) -> float | None:
    """Mean balanced accuracy over the families that have enough rows of every class they are scored on."""
    table = decide(table, kinds_of(table))
    recall = table.groupby(["family", "truth"])["correct"].agg(["mean", "size"]).reset_index()
    recall = recall[recall["size"] >= LEAST_PER_CLASS]
    several = recall.groupby("family").filter(lambda rows: len(rows) > 1)
    return float(several.groupby("family")["mean"].mean().mean()) if len(several) else None


def _looks(model: Any, processor: Any, view: View, table: pd.DataFrame) -> dict[str, float | None]:
    """Mass ratio and pointing game on the presence questions whose label is yes."""
    rows = rows_with_evidence(table)
    rows = rows[rows["family"].str.startswith("presence") & (rows["truth"] == "yes")]
    if rows.empty or not model.config.uses_cross_attention:
        return {"ratio": None, "pointing": None}
    found = grounding.scored(rows, maps_of(maps.evidence_maps, model, processor, view, rows))
    return {
        "ratio": round(float(found["ratio"].mean()), 6),
        "pointing": round(float(found["pointing"].mean()), 6),
    }


def measure(
    checkpoint: Path,
    dataset: Path,
    split: str,
    output: Path,
    most_frames: int = 100,
    names: Sequence[str] = (*ALL, *OCCLUSIONS),
    severities: Sequence[int] = SEVERITIES,
) -> dict[str, Any] | None:
    """Ask the key questions about clean and about spoiled pictures; what is finished is not asked again.

    Args:
        checkpoint, dataset, split: as for the evaluation.
        output: folder of sensitivity.json, sensitivity.md and figures.
        most_frames: how many frames, from the first on.
        names: which corruptions.
        severities: which severities.

    Returns:
        clean and each corruption's scores (balanced_accuracy, ratio, pointing) by severity, and
        mean_corruption_error; `None` on other processes than the first.

    Raises:
        DatasetError: if data set or checkpoint cannot be used.
    """
    state = processes()
    frames = open_frames(dataset, split)
    model, processor = load_model(checkpoint)
    count, labels, shown = min(len(frames), most_frames), answer_sets(frames), clean(frames)

    def score(view: View, title: str, moves: bool) -> dict[str, float | None]:
        table = predict(model, processor, view, count, labels, families=is_key, name=title)
        looks = {"ratio": None, "pointing": None} if moves else _looks(model, processor, view, table)
        accuracy = balanced(table)
        return {"balanced_accuracy": None if accuracy is None else round(accuracy, 6), **looks}

    asked = {"weights": fingerprint(checkpoint), "dataset": str(dataset), "split": split, "frames": count}
    result = _finished(output / "sensitivity.json", asked)
    state.wait_for_everyone()  # all have read before one writes
    if result["clean"] is None:
        result["clean"] = score(shown, "clean", False)
    for name in names:
        scores = result["corrupted"].setdefault(name, {})
        for severity in (s for s in severities if s not in scores):
            view = views.edited(shown, change(name, severity))
            scores[severity] = score(view, f"{name} {severity}", name in MOVING)
            if state.is_main_process:
                write_text(output / "sensitivity.json", json.dumps(result, indent=1, ensure_ascii=False))
    if not state.is_main_process:
        return None
    result["mean_corruption_error"] = corruption_errors(result)
    write_text(output / "sensitivity.json", json.dumps(result, indent=1, ensure_ascii=False))
    write_text(output / "sensitivity.md", markdown(result, _draw(result, output)))
    return result


def _finished(path: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What an interrupted run of the same measurement has left; nothing of another's."""
    result: dict[str, Any] = {**asked, "clean": None, "corrupted": {}}
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if all(found.get(name) == value for name, value in asked.items()):
        result["clean"] = found["clean"]
        result["corrupted"] = {
            name: {int(severity): scores for severity, scores in by_severity.items()}
            for name, by_severity in found["corrupted"].items()
        }
    return result


def corruption_errors(result: Mapping[str, Any]) -> dict[str, Any]:
    """Corruption errors relative to the clean error, in the manner of Hendrycks and Dietterich (2019).

    Theirs divides by another network's error; here the divisor is the same model's on clean pictures, so 1
    means that nothing is lost.

    Args:
        result: clean and corrupted scores.

    Returns:
        by_corruption (mean over severities), and mean over those of the fifteen common kinds that were
        measured; `None` where the clean error is not defined or zero.
    """
    clean_score = result["clean"].get("balanced_accuracy")
    if clean_score is None or clean_score >= 1:
        return {"by_corruption": {}, "mean": None}
    by_corruption = {}
    for name, scores in result["corrupted"].items():
        errors = [1 - s["balanced_accuracy"] for s in scores.values() if s["balanced_accuracy"] is not None]
        if errors:
            by_corruption[name] = round(float(np.mean(errors)) / (1 - clean_score), 6)
    common = [value for name, value in by_corruption.items() if name in COMMON]
    return {"by_corruption": by_corruption, "mean": round(float(np.mean(common)), 6) if common else None}


def mean_in_words(errors: Mapping[str, Any]) -> str:
    """The mean of `corruption_errors`, and over how many of the common kinds it was taken."""
    if errors["mean"] is None:
        return "mean corruption error not measured"
    count = sum(name in COMMON for name in errors["by_corruption"])
    return f"mean corruption error over {count} of the {len(COMMON)} common kinds: {errors['mean']:.2f}"


def markdown(result: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The result as a page: one line a corruption, its severities beside the clean score.

    Args:
        result: what stands in `sensitivity.json`.
        pictures: names of the files that are beside the page.

    Returns:
        Markdown text.
    """
    errors = result["mean_corruption_error"]
    severities = sorted({int(s) for scores in result["corrupted"].values() for s in scores})
    head = [
        "balanced accuracy, %",
        "clean",
        *(f"severity {s}" for s in severities),
        "corruption error",
        "mass ratio at the end",
    ]
    lines = [
        "# Sensitivity",
        "",
        f"Key questions about {result['frames']} frames. The corruption error is the mean error",
        "",
    ]
    lines[-2] += " over severities divided by the clean error: 1 means that nothing is lost."
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    base = result["clean"]
    for name, scores in result["corrupted"].items():
        cells = [percent(scores[s]["balanced_accuracy"]) if s in scores else "-" for s in severities]
        last = scores[max(scores)]["ratio"]
        error = errors["by_corruption"].get(name)
        cells += ["-" if error is None else f"{error:.2f}", "-" if last is None else f"{last:.1f}"]
        lines.append(
            "| " + " | ".join([name.replace("_", " "), percent(base["balanced_accuracy"]), *cells]) + " |"
        )
    ratio = "" if base["ratio"] is None else f" Clean mass ratio: {base['ratio']:.1f}."
    mean = mean_in_words(errors)
    lines += ["", f"{mean[0].upper()}{mean[1:]}.{ratio}"]
    if any(name in OCCLUSIONS for name in result["corrupted"]):
        lines += [
            "",
            "Occluded evidence: a part of every labelled object is blanked, whatever the question; occluded "
            "elsewhere: as much of the frame around them. A part for which there is no room stays in both.",
        ]
    lines += [line for name in pictures for line in ("", f"![]({name})")]
    return "\n".join(lines) + "\n"


def _draw(result: Mapping[str, Any], output: Path) -> list[str]:
    """A figure of small panels for the answers and one for the grounding; the names of those drawn."""
    drawn = []
    for score, label in (("balanced_accuracy", "balanced accuracy, %"), ("pointing", "pointing game, %")):
        base = result["clean"].get(score)
        table = {
            name: {int(s): v[score] for s, v in scores.items()}
            for name, scores in result["corrupted"].items()
            if all(v[score] is not None for v in scores.values())
        }
        if base is not None and table:
            name = "sensitivity-accuracy.png" if score == "balanced_accuracy" else "sensitivity-grounding.png"
            figures.sensitivity(table, base, label, output / name)
            drawn.append(name)
    return drawn


def main(arguments: list[str] | None = None, description: str | None = __doc__) -> int:
    """The command line of scripts/sensitivity.py.

    Args:
        arguments: by default those of the process.
        description: shown by `--help`.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    parser = new_parser(description)
    add_inputs(parser)
    parser.add_argument(
        "--output", type=Path, default=REPORT, help="folder of the report (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="only the first N frames")
    parser.add_argument(
        "--only", nargs="+", default=[*ALL, *OCCLUSIONS], choices=[*ALL, *OCCLUSIONS], metavar="KIND"
    )
    parser.add_argument(
        "--severities", nargs="+", type=int, default=SEVERITIES, choices=SEVERITIES, metavar="S"
    )
    args = parser.parse_args(arguments)

    def work() -> str | None:
        result = measure(
            args.checkpoint, args.dataset, args.split, args.output, args.frames, args.only, args.severities
        )
        if result is None:
            return None
        return f"{args.output / 'sensitivity.md'}: {mean_in_words(result['mean_corruption_error'])}"

    return run_command(work)
