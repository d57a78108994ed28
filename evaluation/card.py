"""The model card and the README's results, written from a checkpoint's own report: no number is typed by
hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .glance import glance, glance_table
from .metrics import percent, rival_risk

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SHOWN = (
    "move_forward (five-way)",
    "move_forward",
    "lane_clear_left",
    "lane_clear_mine",
    "lane_clear_right",
    "turn_left",
    "turn_right",
    "presence_pedestrian",
    "presence_truck",
    "presence_traffic_light",
    "vehicle_near_ahead",
    "light_state",
    "weather",
    "time_of_day",
)
# Column of the report -> the Hub's name of the metric, ours, and the arguments that tell them apart.
HUB_METRICS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "accuracy": ("accuracy", "accuracy (%)", None),
    "balanced_accuracy": ("balanced_accuracy", "balanced accuracy (%)", None),
    "macro_f1": ("f1", "macro-F1 (%)", {"average": "macro"}),
}
MEANS = ("accuracy", "balanced_accuracy", "macro_f1", "gain")
ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
)


class CardError(ValueError):
    """A report that a card cannot be made from; the message names the file."""


def read_report(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads `training/report.json` and `training/record.json` of a checkpoint.

    Raises:
        CardError: If one is missing or not JSON.
    """
    found = []
    for name in ("report.json", "record.json"):
        path = checkpoint / "training" / name
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise CardError(f"{path}: cannot be read ({error}). Make it with scripts/evaluate.py.") from error
    return found[0], found[1]


def results(report: Mapping[str, Any]) -> str:
    """The table of the README: some families beside their baselines, as Markdown.

    Args:
        report: What scripts/evaluate.py wrote.
    """
    rows = {row["family"]: row for row in report["families"]}
    lines = [
        f"{report['frames']} frames, a part of BDD100K's validation split, which training has not seen; in "
        "percent with 95% intervals by frame. *Commonest* always says the family's commonest answer; "
        "*shuffled* is the same model shown another frame. A family *sees the picture* where its "
        "balanced accuracy is above that of *shuffled* and of any constant answer with its whole interval.",
        "",
        "| question | n | accuracy | balanced accuracy | commonest: accuracy / balanced "
        "| shuffled: accuracy / balanced | sees the picture |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in SHOWN:
        row = rows.get(family)
        if row is None or "gain" not in row:
            continue
        lines.append("| " + " | ".join(_cells(row)) + " |")
    five = rows.get("move_forward (five-way)")
    if five:
        blind = five.get("shuffled_macro_f1")
        beside = f" (shuffled: {percent(blind)})" if blind is not None else ""
        lines += ["", f"Five-way macro-F1: {percent(five['macro_f1'], five['macro_f1_interval'])}{beside}."]
    verdicts = [row["sees"] for row in report["families"] if "sees" in row]
    seen = [verdict for verdict in verdicts if verdict is not None]
    unknown = len(verdicts) - len(seen)
    few = f", {unknown} have too few frames to tell" if unknown else ""
    lines += [
        "",
        f"{sum(seen)} families of questions see the picture, {len(seen) - sum(seen)} are not shown to{few}. "
        f"Each of these {len(seen)} verdicts rests on one 95% interval, so a few may be chance. "
        f"{report['verdict']['sentence']}",
    ]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """A family in the README's table."""
    return [
        row["family"].replace("_", " "),
        str(row["n"]),
        percent(row["accuracy"], row["accuracy_interval"]),
        percent(row["balanced_accuracy"], row["balanced_accuracy_interval"]),
        f"{percent(row['commonest_accuracy'])} / {percent(row['commonest_balanced_accuracy'])}",
        f"{percent(row['shuffled_accuracy'])} / {percent(row['shuffled_balanced_accuracy'])}",
        "yes" if row["sees"] else "*not shown*",
    ]


def front_matter(report: Mapping[str, Any]) -> str:
    """The card's YAML for the Hub, with a `model-index` of the reported numbers."""
    rows = {row["family"]: row for row in report["families"]}
    evaluations = [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type="bdd100k-questions",
            dataset_name=f"BDD100K questions: {family}",
            dataset_config=family,  # results that share name, configuration and split become one on the Hub
            dataset_split="val",
            metric_type=kind,
            metric_name=f"{family}: {name}",
            metric_args=arguments,
            metric_value=round(100 * rows[family][metric], 2),
        )
        for family in SHOWN
        if family in rows
        for metric, (kind, name, arguments) in HUB_METRICS.items()
        if metric in rows[family]
    ]
    data = ModelCardData(
        model_name="TrafficVLM",
        language="en",
        license="other",
        license_name="bdd100k",
        license_link="https://doc.bdd100k.com/license.html",
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["autonomous-driving", "visual-question-answering", "bdd100k", "custom_code"],
        eval_results=evaluations,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def render_card(template: str, report: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Fills the model card's template.

    Args:
        template: Text with `$parameters`, `$results` and the other names below.
        report: The checkpoint's evaluation.
        record: The checkpoint's training record.
    """
    runs = stages_of(record)
    temperature = (report.get("calibration") or {}).get("temperature", 1.0)
    values = {
        "parameters": f"{record['parameters'] / 1e6:.1f}M",
        "frames": report["frames"],
        "trained_on": trained_on(record),
        "minutes": f"{sum(run['training_seconds'] for run in runs) / 60:.0f}",
        "steps": sum(run["step"] for run in runs),
        "number_of_stages": len(runs),
        "stages": stage_table(runs),
        "averaged": averaged(record),
        "seed": record["seed"],
        "revision": record["git_revision"] or "unknown",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "results": results(report),
        "headline": glance_table(report),
        "failures": failures(report),
        "temperature": f"{temperature:.2f}",
    }
    return front_matter(report) + Template(template).substitute(values)


def failures(report: Mapping[str, Any]) -> str:
    """What the report shows to fail, as a Markdown list."""
    rows = report["families"]
    behind = [f"{n.name} {n.measured()}, to beat {n.to_beat()}" for n in glance(report) if n.is_behind]
    usual = below_commonest(rows)
    blind = [f"`{row['family']}`" for row in rows if row.get("sees") is False]
    boxes = [(f["f1"], name) for name, f in report.get("boxes", {}).items() if f["f1"] is not None]
    found = [
        ("Headline numbers that are worse than what they must beat", "; ".join(behind)),
        (
            f"Families whose accuracy is below that of always saying their commonest answer, {len(usual)} of "
            f"{sum('commonest' in row for row in rows)}, the farthest below first (in percent, the commonest "
            "answer's in brackets)",
            ", ".join(usual),
        ),
        ("Families that are not shown to see the picture", ", ".join(blind)),
    ]
    if boxes:
        f1, family = max(boxes)
        best = f"an F1 of at most {percent(f1)}%, at half overlap (`{family}`)"
        found.append(("Boxes given in words", best))
    if report.get("calibration"):
        found += safety(report["calibration"])
    return "\n".join(f"- {title}: {text or 'none'}." for title, text in found)


def safety(calibration: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an answer *safe* is worth, where the report says so: title and text."""
    group: Mapping[str, Any] = next((g for g in calibration.get("groups", []) if g["group"] == "safety"), {})
    every, found = group.get("false_safe_all", {}), []
    if every.get("rate") is not None:
        text = f"{percent(every['rate'])}% of the {every['n']} questions about what is unsafe get *safe*"
        if every["wrong_yes"] is not None:
            text += f", and {percent(every['wrong_yes'])}% of all answers *safe* are wrong"
        found.append(("Safety questions", text))
    chosen = calibration.get("abstention") or {}
    if chosen.get("threshold") is not None:
        text = (
            f"{percent(chosen['coverage'])}% of the safety questions are answered, at a risk of "
            f"{percent(chosen['risk'])}%{rival_risk(chosen)}; it was chosen for {chosen['target_risk']:.0%}"
        )
        found.append(("At the shipped threshold of abstention", text))
    return found


def below_commonest(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The families that always saying the commonest answer would serve better, the farthest below first."""
    short = [(row["accuracy"] - row["commonest_accuracy"], row) for row in rows if "commonest" in row]
    return [
        f"`{row['family']}` {percent(row['accuracy'])} ({percent(row['commonest_accuracy'])})"
        for gap, row in sorted(short, key=lambda pair: float(pair[0]))
        if gap < 0
    ]


def trained_on(record: Mapping[str, Any]) -> str:
    """How many frames training saw, as a sentence; empty where the record does not say."""
    frames = record.get("training_frames")
    return f"It was trained on {frames:,} distinct frames. " if frames else ""


def averaged(record: Mapping[str, Any]) -> str:
    """Which weights are shipped, where they lie between two stages; empty where they are the last stage's."""
    found = record.get("averaged")
    if not found:
        return ""
    share = found["share"]
    others = [f"{one['share']:g}" for one in found.get("tried", []) if one["share"] != share]
    return (
        f"\nThe weights shipped are {share:g} times the last stage's plus {1 - share:g} times those that it "
        "began with (`scripts/average.py`; Wortsman et al. 2022, arXiv 2109.01903), a share that was chosen "
        "on the tuning slice" + (f", among it and {', '.join(others)}.\n" if others else ".\n")
    )


def stages_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of all stages of a training, the last one first."""
    runs = [record]
    while "step" in runs[-1].get("started_from", {}):  # not so where it began with weights from elsewhere
        runs.append(runs[-1]["started_from"])
    return runs


def stage_files(stages: int) -> list[str]:
    """What the files of each stage are called after *recipe* and *log*; the last one's have no ordinal."""
    return [*(f"-{ordinal}" for ordinal in ORDINALS[: stages - 1]), ""]


def means_of(run: Mapping[str, Any]) -> list[str]:
    """A run's means on the tuning slice as cells."""
    return [percent(run.get("summary", {}).get(name)) for name in MEANS]


def stage_table(runs: list[Mapping[str, Any]]) -> str:
    """Length, device and the means over all families on the tuning slice, a row a stage, as Markdown.

    Where a stage was followed by an averaging, the averaged weights have a row of their own.
    """
    lines = [
        "| stage | recipe | steps | minutes | device | accuracy | balanced accuracy | macro-F1 "
        "| gain over shuffled, points |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    files = stage_files(len(runs))
    for number, (run, file) in enumerate(zip(reversed(runs), files, strict=True), start=1):
        cells = [str(number), f"`recipe{file}.yaml`", str(run["step"]), f"{run['training_seconds'] / 60:.0f}"]
        cells += [run.get("device", "-"), *means_of(run)]
        lines.append("| " + " | ".join(cells) + " |")
        if between := run.get("averaged"):
            mixed = (
                f"{between['share']:g} of stage {number} and {1 - between['share']:g} of what it began with"
            )
            lines.append("| " + " | ".join(["", mixed, "", "", "", *means_of(between)]) + " |")
    return "\n".join(lines)


def fill_readme(readme: str, report: Mapping[str, Any]) -> str:
    """Puts the results between the README's markers.

    Raises:
        CardError: If the markers are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise CardError(f"README.md: the markers {BEGIN} and {END} are missing.")
    return f"{before}{BEGIN}\n{results(report)}\n{END}{after}"
