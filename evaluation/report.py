"""The report in words: headline numbers, the verdict on grounding, and a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .metrics import FIVE_WAY_FAMILY, format_table, percent

LANE_AND_SAFETY = ("lane_clear_", "turn_", "change_lane_")
LEAST_POSITIVES = 30
SHUFFLED = "shuffled"
WEIGHED = ("macro_precision", "weighted_precision", "weighted_f1")


def _mean(rows: Sequence[Mapping[str, Any]], score: str) -> float | None:
    """Mean of a score over the rows that have it."""
    known = [row[score] for row in rows if row.get(score) is not None]
    return round(sum(known) / len(known), 6) if known else None


Glance = tuple[str, float | None, str, float | None]


def headline(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that a reader looks for first.

    Args:
        result: the report's other parts.

    Returns:
        name -> fraction (or ratio, or count), `None` where it could not be measured.
    """
    return {name: value for name, value, _, _ in _glance(result)}


def to_beat(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the headline numbers must beat: name -> by (mostly who does not look) and value."""
    return {
        name: {"by": rival, "value": beaten}
        for name, value, rival, beaten in _glance(result)
        if value is not None and beaten is not None
    }


def _glance(result: Mapping[str, Any]) -> list[Glance]:
    """The headline numbers: name, value, the rival, and what that reaches."""
    return [*_scores_at_a_glance(result), *_checks_at_a_glance(result)]


def _scores_at_a_glance(result: Mapping[str, Any]) -> list[Glance]:
    """How right the answers are."""
    rows = {row["family"]: row for row in result["families"]}
    five, every = rows.get(f"{FIVE_WAY_FAMILY} (five-way)", {}), result.get("all_frames") or {}
    time, weather, light = (rows.get(name, {}) for name in ("time_of_day", "weather", "light_state"))
    lanes = [row for family, row in rows.items() if family.startswith(LANE_AND_SAFETY)]
    presence = [
        row
        for family, row in rows.items()
        if family.startswith("presence_")
        and result["classes"][family]["classes"].get("yes", {}).get("support", 0) >= LEAST_POSITIVES
    ]
    cars = result["counting"].get("count_car", {})
    balanced, blind, most = "balanced_accuracy", "shuffled_balanced_accuracy", "commonest_accuracy"
    lane, asked = "lane clear, turn, change lane", f"presence ({len(presence)} categories)"
    forward = "move forward, five-way"
    return [
        (f"{forward}: accuracy", five.get("accuracy"), "commonest", five.get(most)),
        (f"{forward}: macro-F1", five.get("macro_f1"), SHUFFLED, five.get("shuffled_macro_f1")),
        (f"{lane}: balanced accuracy", _mean(lanes, balanced), SHUFFLED, _mean(lanes, blind)),
        (f"{asked}: balanced accuracy", _mean(presence, balanced), SHUFFLED, _mean(presence, blind)),
        (f"{asked}: AUC", _mean(presence, "auc"), "chance", 0.5),
        (f"{forward}, every frame: accuracy", every.get("accuracy"), "commonest", every.get(most)),
        (f"{forward}, every frame: macro-F1", every.get("macro_f1"), "", None),
        ("time of day: accuracy", time.get("accuracy"), "commonest", time.get(most)),
        ("weather: accuracy", weather.get("accuracy"), "commonest", weather.get(most)),
        ("light state: balanced accuracy", light.get(balanced), SHUFFLED, light.get(blind)),
        (
            "cars counted to within one (one to five)", cars.get("within_one"),
            f"always {cars.get('constant')}", cars.get("constant_within_one"),
        ),
    ]  # fmt: skip


def _checks_at_a_glance(result: Mapping[str, Any]) -> list[Glance]:
    """Whether the answers come from the picture, agree with each other, and know how sure they may be."""
    rows, agree = result["families"], result["consistency"]
    calibration, grounding = result.get("calibration") or {}, result.get("grounding") or {}
    over_categories = grounding.get("presence", {}).get("mean_over_categories", {})
    drop = grounding.get("drop", {})
    lost, elsewhere = (drop.get(name, {}).get("mean") for name in ("evidence", "elsewhere"))
    ece, ece_before = calibration.get("ece"), calibration.get("ece_before")
    safety: Mapping[str, Any] = next((g for g in calibration.get("groups", []) if g["group"] == "safety"), {})
    yes_no = [row for row in rows if row.get("kind") == "yes/no" and "gain" in row]

    def rate(name: str) -> float | None:
        found: float | None = agree.get(name, {}).get("all", {}).get("rate")
        return found

    def mean(name: str) -> float | None:
        found: float | None = over_categories.get(name, {}).get("mean")
        return found

    return [
        ("families that see", sum(bool(row.get("sees")) for row in rows), "", None),
        ("families that do not", sum(row.get("sees") is False for row in rows), "", None),
        ("yes/no families: gain over shuffled pictures", _mean(yes_no, "gain"), "", None),
        ("opposite pairs: both right", rate("opposites"), SHUFFLED, agree.get("opposites_shuffled")),
        ("paraphrases: same answer", rate("paraphrased"), "", None),
        ("mirrored frames: mirrored answer", rate("mirrored"), "", None),
        ("pointing game above the centre (mean over categories)", mean("above_centre"), "", None),
        ("mass ratio (mean over categories)", mean("ratio"), "even map", 1.0 if over_categories else None),
        ("probability lost when the evidence is blanked", lost, "elsewhere", elsewhere),
        ("probability lost when as much is blanked elsewhere", elsewhere, "", None),
        ("calibration error after temperature", ece, "before", ece_before),
        ("false safe at half coverage", safety.get("false_safe", {}).get("rate"), "", None),
    ]  # fmt: skip


def verdict(grounding: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether the visualisations prove grounding, by rule.

    Proof is: pointing game above the centre baseline, mass ratio above 1, and a larger drop when the evidence
    is blanked than when as much is blanked elsewhere, each with its whole 95% interval.

    Args:
        grounding: from `looking.look`, `None` where nothing could be measured.

    Returns:
        proven (bool), and sentence.
    """
    if not grounding or not grounding.get("drop", {}).get("n"):
        return {
            "proven": False,
            "sentence": "The visualisations do not prove grounding: it was not measured.",
        }
    everything, drop = grounding["presence"]["all"], grounding["drop"]
    tests = {
        "the pointing game is above the centre baseline": (everything["above_centre"], 0.0),
        "the mass ratio is above 1": (everything["ratio"], 1.0),
        "blanking the evidence costs more than blanking as much elsewhere": (drop["difference"], 0.0),
    }
    passed = [
        name for name, (v, bar) in tests.items() if v["interval"] is not None and v["interval"][0] > bar
    ]
    failed = [name for name in tests if name not in passed]
    if not failed:
        return {"proven": True, "sentence": f"The visualisations prove grounding: {'; '.join(passed)}."}
    shown = f" (Shown is that {'; '.join(passed)}.)" if passed else ""
    missing = f"it is not shown that {'; nor that '.join(failed)}.{shown}"
    return {"proven": False, "sentence": f"The visualisations do not prove grounding: {missing}"}


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def _number(name: str, value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if "mass ratio" in name else f"{100 * value:.1f}%"


def _rival(name: str, rivals: Mapping[str, Mapping[str, Any]]) -> str:
    return f"{rivals[name]['by']}: {_number(name, rivals[name]['value'])}" if name in rivals else ""


def markdown(result: Mapping[str, Any]) -> str:
    """The report as a page.

    Args:
        result: what stands in `report.json`.

    Returns:
        Markdown text.
    """
    lines = [f"# Evaluation: {result['name'] or 'predictions'}", ""]
    lines += [
        f"{result['rows']} questions about {result['frames']} frames. Scores are in percent, with 95% "
        "intervals by resampling frames. An answer that cannot be read is wrong.",
        "",
    ]
    if "alignment" in result:
        lines += [
            "Predictions: " + ", ".join(f"{n} {name}" for name, n in result["alignment"].items()) + ".",
            "",
        ]
    lines += ["## At a glance", ""]
    lines += _table(
        ["what", "measured", "to beat"],
        [(name, _number(name, v), _rival(name, result["to_beat"])) for name, v in result["headline"].items()],
    )
    lines += [f"**{result['verdict']['sentence']}**", ""]
    lines += ["## Families", "", format_table(result["families"]), "", "![](families.png)", ""]
    lines += _details(result["families"])
    lines += _five_way_lines(result)
    lines += _counting_lines(result["counting"])
    lines += _baseline_lines(result)
    lines += _consistency_lines(result["consistency"])
    if result["calibration"]:
        lines += _calibration_lines(result["calibration"])
    if result["grounding"]:
        lines += _grounding_lines(result["grounding"])
    slices = [
        (
            r["slice"],
            r["value"],
            r["n"],
            percent(r["accuracy"], r["accuracy_interval"]),
            percent(r["balanced_accuracy"]),
            percent(r.get("shuffled_balanced_accuracy")),
        )
        for r in result["slices"]
    ]
    lines += ["## Slices", ""]
    lines += _table(
        ["slice", "value", "n", "accuracy", "balanced accuracy of yes/no families", "shuffled"], slices
    )
    lines += ["![](slices.png)", ""]
    lines += _class_lines(result["classes"])
    lines += _wording_lines(result["families"])
    return "\n".join(lines).rstrip() + "\n"


def _details(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is unusual about families: answers that could not be read, one class, not seeing."""
    blind = [row["family"] for row in rows if row.get("sees") is False]
    unread = [f"{row['family']} ({row['unparsed']} of {row['n']})" for row in rows if row["unparsed"]]
    single = [row["family"] for row in rows if row["classes"] < 2]
    lines = []
    if blind:
        lines.append(f"*Not seeing* (gain over shuffled pictures within its interval): {', '.join(blind)}.")
    if unread:
        lines.append(f"Answers that could not be read: {', '.join(unread)}.")
    if single:
        lines.append(f"One class alone, where only accuracy is defined: {', '.join(single)}.")
    return [part for line in lines for part in (line, "")]


def _five_way_lines(result: Mapping[str, Any]) -> list[str]:
    """Both readings of *Can I move forward?*: where the labels decide, and about every frame."""
    name = f"{FIVE_WAY_FAMILY} (five-way)"
    own = next((row | result["classes"][name] for row in result["families"] if row["family"] == name), None)
    rows = [
        (
            reading, row["n"], percent(row["accuracy"], row.get("accuracy_interval")),
            percent(row.get("macro_f1"), row.get("macro_f1_interval")),
            ", ".join(f"{label} {percent(c['f1'])}" for label, c in row["classes"].items()),
        )
        for reading, row in (("decidable frames", own), ("every frame", result.get("all_frames")))
        if row and row.get("accuracy") is not None
    ]  # fmt: skip
    if not rows:
        return []
    note = (
        "On *every frame* a light of unknown colour is not red, as in earlier work; by the rules here such a"
    )
    head = ["reading", "n", "accuracy", "macro-F1", "F1 of each class"]
    return [
        "## Can I move forward?, in five ways",
        "",
        f"{note} frame is undecidable.",
        "",
        *_table(head, rows),
    ]


def _counting_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Counts from one to five, beside the number that is best to say always."""
    rows = [
        (
            family, c["n"],
            percent(c["within_one"], None if c["low"] is None else (c["low"], c["high"])),
            percent(c["without_more"]), f"{c['constant']}: {percent(c['constant_within_one'])}",
            percent(c.get("shuffled_within_one")),
        )
        for family, c in found.items()
    ]  # fmt: skip
    if not rows:
        return []
    note = "*More than five* stands for six, which is within one of five; the next column leaves that out."
    head = ["one to five", "n", "right to within one", "without more than five", "best constant", "shuffled"]
    return ["## Counting", "", note, "", *_table(head, rows)]


def _wording_lines(families: Sequence[Mapping[str, Any]]) -> list[str]:
    """Equal as text, equal as normalised text, and equal as decision."""
    rows = [
        (
            row["family"],
            *(percent(row.get(name)) for name in ("exact", "normalised", "accuracy", *WEIGHED)),
        )
        for row in families
    ]  # fmt: skip
    head = ["family", "exact", "normalised", "decision", *(name.replace("_", " ") for name in WEIGHED)]
    return ["## Words and decisions", "", *_table(head, rows)]


def _baseline_lines(result: Mapping[str, Any]) -> list[str]:
    found = result["baselines"]
    if not found:
        return []
    by_name = {name: {row["family"]: row for row in rows} for name, rows in found.items()}
    head = ["family, balanced accuracy", "model", "shuffled", *by_name]
    rows = [
        [
            row["family"],
            percent(row["balanced_accuracy"]),
            percent(row.get("shuffled_balanced_accuracy")),
            *(percent(b.get(row["family"], {}).get("balanced_accuracy")) for b in by_name.values()),
        ]
        for row in result["families"]
        if row.get("balanced_accuracy") is not None
    ]
    note = "Question-only and attributes-only are logistic classifiers, weighted to balance."
    return ["## Baselines", "", note, "", *_table(head, rows)]


def _consistency_lines(found: Mapping[str, Any]) -> list[str]:
    lines = ["## Consistency", ""]
    pairs = [
        (topic, r["n"], percent(r["rate"], r["interval"]), percent(r["at_least_one"]), percent(r["same"]))
        for topic, r in found.get("opposites", {}).items()
    ]
    if pairs:
        head = ["opposite pairs", "n", "both right", "at least one right", "same word to opposite questions"]
        lines += _table(head, pairs)
    for name in ("paraphrased", "mirrored"):
        if found.get(name):
            rows = [
                (f, r["n"], percent(r["rate"], r["interval"]), percent(r["both_right"]))
                for f, r in found[name].items()
            ]
            lines += _table([f"{name}", "n", "same decision", "both right"], rows)
    asked = found.get("adversarial_presence")
    if asked:
        ratio = found["adversarial_yes_ratio"]
        lines += [
            "Presence of what usually accompanies what is there (POPE, adversarial): accuracy "
            f"{percent(asked['accuracy'], asked['accuracy_interval'])}, balanced "
            f"{percent(asked.get('balanced_accuracy'))}, says yes to {percent(ratio['predicted'])} where "
            f"{percent(ratio['true'])} are.",
            "",
        ]
    yes = [(f, r["n"], percent(r["predicted"]), percent(r["true"])) for f, r in found["yes_ratio"].items()]
    return lines + (_table(["yes ratio", "n", "says yes, %", "is yes, %"], yes) if yes else [])


def _calibration_lines(found: Mapping[str, Any]) -> list[str]:
    fitted = found["temperature_fitted_on"]
    where = f"fitted on the split {fitted!r}" if fitted else "not fitted: there is no split for it"
    lines = ["## Confidence", ""]
    lines += [
        f"Temperature {found['temperature']} ({where}). Expected calibration error "
        f"{percent(found['ece_before'])} before, {percent(found['ece'])} after.",
        "",
    ]
    rows = [
        (
            g["group"], g["n"], percent(g["accuracy"]), percent(g["ece"], g["ece_interval"]),
            *(percent(v) for v in g["coverage"].values()),
            percent(g["false_safe"]["rate"]) if "false_safe" in g else "",
        )
        for g in found["groups"]
    ]  # fmt: skip
    head = [
        "group",
        "n",
        "accuracy",
        "ECE",
        "coverage at 1% risk",
        "5%",
        "10%",
        "false safe at half coverage",
    ]
    lines += _table(head, rows)
    if "abstention" in found:
        a = found["abstention"]
        lines += [
            f"Safety questions: no threshold reaches {a['target_risk']:.0%} risk on the tuning split."
            if a["threshold"] is None
            else f"Safety questions: abstaining below a confidence of {a['threshold']:.3f} (chosen on the "
            f"tuning split for {a['target_risk']:.0%} risk) answers {percent(a['coverage'])}% at a risk of "
            f"{percent(a['risk'])}% and gives up {percent(a['wrongly_refused'])}% of the right answers.",
            "",
        ]
    return [*lines, "![](reliability.png)", "", "![](risk-coverage.png)", ""]


def _span(value: Mapping[str, Any], digits: int = 2) -> str:
    text = f"{value['mean']:.{digits}f}"
    return (
        text
        if value["interval"] is None
        else f"{text} [{value['interval'][0]:.{digits}f}, {value['interval'][1]:.{digits}f}]"
    )


def _grounding_lines(found: Mapping[str, Any]) -> list[str]:
    presence = found["presence"]
    head = ["questions", "n", "mass ratio", "pointing game", "centre", "above centre", "entropy"]
    names = ("ratio", "pointing", "centre", "above_centre", "entropy")
    groups = {"presence, all": presence["all"]}
    groups |= {f"presence: {name}": value for name, value in presence["by_category"].items()}
    groups |= {name.replace("_", " "): value for name, value in found["groups"].items() if name != "presence"}
    lines = [
        "## Grounding",
        "",
        "Mass ratio: attention on the evidence over what an even map puts there. Pointing game:",
        "",
    ]
    lines[-2] += (
        " the strongest patch lies within 15 pixels (at 512) of the evidence; beside it the picture's centre."
    )
    lines += _table(head, [(g, v["n"], *(_span(v[n]) for n in names)) for g, v in groups.items()])
    sinks = found["sink_mass"]
    lines += [
        f"Sinks: the {sinks['patches']} most attended patches hold {percent(sinks['evidence'])}% of the "
        f"evidence map (even: {percent(sinks['even'])}%).",
        "",
    ]
    methods = [(name, *(_span(v[n]) for n in names)) for name, v in found["methods"].items()]
    lines += _table(["kind of map, same rows", *head[2:]], methods)
    if found.get("drop", {}).get("n"):
        d = found["drop"]
        lines += [
            f"Blanking the evidence of {d['n']} right answers takes {_span(d['evidence'], 3)} off their "
            f"probability of {d['clean']:.3f}; blanking as much elsewhere takes "
            f"{_span(d['elsewhere'], 3)}; the difference is "
            f"{_span(d['difference'], 3)}.",
            "",
        ]
    if "curves" in found:
        areas = [(name, c["deletion_area"], c["insertion_area"]) for name, c in found["curves"].items()]
        lines += _table(
            ["kind of map", "deletion area (lower is better)", "insertion area (higher is better)"], areas
        )
    return [*lines, "![](heads.png)", "", "![](faithfulness.png)", ""]


def _class_lines(classes: Mapping[str, Any]) -> list[str]:
    rows = [
        (family, name, c["support"], percent(c["precision"]), percent(c["recall"]), percent(c["f1"]))
        for family, found in classes.items()
        for name, c in found["classes"].items()
        if len(found["classes"]) <= 12
    ]
    return [
        "## Classes",
        "",
        *_table(["family", "class", "n", "precision", "recall", "F1"], rows),
        "![](move-forward.png)",
        "",
    ]
