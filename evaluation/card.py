"""The model card and the README's results, written from a checkpoint's own report: no number is typed by
hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .metrics import percent

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
RATIOS = ("mass ratio", "families")
MEANS = ("accuracy", "balanced_accuracy", "macro_f1", "gain")


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
        f"{report['frames']} BDD100K validation frames that training has not seen, in percent with 95% "
        "intervals by frame. *Commonest* always says the family's commonest answer; *shuffled* is the same "
        "model shown another frame.",
        "",
        "| question | n | accuracy | balanced accuracy | commonest: accuracy / balanced "
        "| shuffled: accuracy / balanced | |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in SHOWN:
        row = rows.get(family)
        if row is None or "gain" not in row:
            continue
        cells = [
            family.replace("_", " "),
            str(row["n"]),
            percent(row["accuracy"], row["accuracy_interval"]),
            percent(row["balanced_accuracy"], row["balanced_accuracy_interval"]),
            f"{percent(row['commonest_accuracy'])} / {percent(row['commonest_balanced_accuracy'])}",
            f"{percent(row['shuffled_accuracy'])} / {percent(row['shuffled_balanced_accuracy'])}",
            "sees" if row["sees"] else "*not seeing*",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    five = rows.get("move_forward (five-way)")
    if five:
        lines += ["", f"Five-way macro-F1: {percent(five['macro_f1'], five['macro_f1_interval'])}."]
    headline = report["headline"]
    lines += [
        "",
        f"{headline['families that see']} families of questions gain over shuffled pictures with their whole "
        f"interval, {headline['families that do not']} do not. {report['verdict']['sentence']}",
    ]
    return "\n".join(lines)


def headline_table(report: Mapping[str, Any]) -> str:
    """All headline numbers as Markdown, each beside what it must beat."""

    def shown(name: str, value: float | None) -> str:
        if value is None:
            return "not measured"
        if name.startswith(RATIOS):
            return f"{value:g}" if isinstance(value, int) else f"{value:.2f}"
        return f"{100 * value:.1f}%"

    lines = ["| what | value | to beat |", "|---|---|---|"]
    for name, value in report["headline"].items():
        rival = report.get("to_beat", {}).get(name)
        beaten = f"{shown(name, rival['value'])} ({rival['by']})" if rival else ""
        lines.append(f"| {name} | {shown(name, value)} | {beaten} |")
    return "\n".join(lines)


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
    calibration = report.get("calibration") or {}
    runs = stages_of(record)
    not_seeing = [row["family"] for row in report["families"] if row.get("sees") is False]
    values = {
        "parameters": f"{record['parameters'] / 1e6:.1f}M",
        "minutes": f"{sum(run['training_seconds'] for run in runs) / 60:.0f}",
        "steps": sum(run["step"] for run in runs),
        "stages": stage_table(runs),
        "device": record["device"],
        "seed": record["seed"],
        "revision": record["git_revision"] or "unknown",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "results": results(report),
        "headline": headline_table(report),
        "not_seeing": ", ".join(f"`{family}`" for family in not_seeing) or "none",
        "temperature": f"{calibration.get('temperature', 1.0):.2f}",
        "verdict": report["verdict"]["sentence"],
    }
    return front_matter(report) + Template(template).substitute(values)


def stages_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of all stages of a training, the last one first."""
    runs = [record]
    while "started_from" in runs[-1]:
        runs.append(runs[-1]["started_from"])
    return runs


def stage_table(runs: list[Mapping[str, Any]]) -> str:
    """Steps, minutes and the means over all families on the tuning slice, a row a stage, as Markdown."""
    lines = [
        "| stage | steps | minutes | accuracy | balanced accuracy | macro-F1 | gain over shuffled |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, run in enumerate(reversed(runs), start=1):
        means = [run.get("summary", {}).get(name) for name in MEANS]
        cells = ["not measured" if mean is None else percent(mean) for mean in means]
        lines.append(
            f"| {number} | {run['step']} | {run['training_seconds'] / 60:.0f} | {' | '.join(cells)} |"
        )
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
