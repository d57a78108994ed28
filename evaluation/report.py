"""The report in words: the verdict on grounding, and a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .baselines import MOST_DECISIONS
from .glance import glance_table
from .metrics import FIVE_WAY_FAMILY, format_table, percent, rival_risk

WEIGHED = ("macro_precision", "weighted_precision", "weighted_f1")


def verdict(grounding: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether the visualisations prove grounding, by rule.

    Proof is: pointing game above the centre baseline, mass ratio above 1, both above those of the blind map
    (`grounding.blind_maps`), and a larger drop when the evidence is blanked than when as much is blanked
    elsewhere, each with its whole 95% interval.

    Args:
        grounding: from `looking.look`, `None` where nothing could be measured.

    Returns:
        proven (bool), and sentence.
    """
    if not grounding:
        return {
            "proven": False,
            "sentence": "The visualisations do not prove grounding: it was not measured.",
        }
    everything, unmeasured = grounding["presence"]["all"], {"interval": None}
    drop = grounding.get("drop", {}).get("difference", unmeasured)
    tests = {
        "the pointing game is above the centre baseline": (everything["above_centre"], 0.0),
        "the pointing game is above the blind map's": (everything.get("above_blind", unmeasured), 0.0),
        "the mass ratio is above 1": (everything["ratio"], 1.0),
        "the mass ratio is above the blind map's": (everything.get("ratio_above_blind", unmeasured), 0.0),
        "blanking the evidence costs more than blanking as much elsewhere": (drop, 0.0),
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


def markdown(result: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The report as a page.

    Args:
        result: what stands in `report.json`.
        pictures: names of the files that are beside the page.

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
        lines += [_alignment_line(result["alignment"]), ""]
    lines += ["## At a glance", "", glance_table(result), ""]
    lines += [f"**{result['verdict']['sentence']}**", ""]
    as_good = _as_good(result)
    lines += ["## Families", "", format_table(result["families"], as_good), ""]
    lines += _shown(pictures, "families.png")
    lines += _details(result["families"], as_good)
    lines += _five_way_lines(result)
    lines += _counting_lines(result["counting"])
    lines += _baseline_lines(result)
    lines += _consistency_lines(result["consistency"])
    if result["calibration"]:
        lines += _calibration_lines(result["calibration"], pictures)
    if result["grounding"]:
        lines += _grounding_lines(result["grounding"], pictures)
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
    lines += _shown(pictures, "slices.png")
    lines += _class_lines(result["classes"], pictures)
    lines += _wording_lines(result["families"])
    return "\n".join(lines).rstrip() + "\n"


def _shown(pictures: Sequence[str], *names: str) -> list[str]:
    """Those of the pictures that are there."""
    return [line for name in names if name in pictures for line in (f"![]({name})", "")]


def _alignment_line(counts: Mapping[str, int | None]) -> str:
    """How many predictions were missing, extra and duplicate, or that it could not be told."""
    if counts["duplicate"] is None:
        return "Whether a question is answered twice was not checked: that needs a column `question`."
    return "Predictions: " + ", ".join(f"{n} {name}" for name, n in counts.items()) + "."


def _as_good(result: Mapping[str, Any]) -> dict[str, str]:
    """Families that somebody without a picture answers as well: family -> who, as `format_table` takes it."""
    found: dict[str, list[str]] = {}
    model = {row["family"]: row.get("balanced_accuracy") for row in result["families"]}
    for name, rival in (("question only", "the question's words"), ("attributes only", "attributes")):
        for row in result["baselines"].get(name, []):
            own, theirs = model.get(row["family"]), row.get("balanced_accuracy")
            if own is not None and theirs is not None and theirs >= own:
                found.setdefault(row["family"], []).append(rival)
    return {family: " and ".join(rivals) for family, rivals in found.items()}


def _details(rows: Sequence[Mapping[str, Any]], as_good: Mapping[str, str]) -> list[str]:
    """What is unusual about families: answers that could not be read, one class, not seeing."""
    blind = [row["family"] for row in rows if row.get("sees") is False]
    unread = [f"{row['family']} ({row['unparsed']} of {row['n']})" for row in rows if row["unparsed"]]
    single = [row["family"] for row in rows if row.get("note") == "one class"]
    lines = []
    if blind:
        lines.append(
            "*Not seeing* (balanced accuracy not above that of shuffled pictures or of a constant answer "
            f"with its whole interval): {', '.join(blind)}."
        )
    if any(row.get("sees") and row["family"] in as_good for row in rows):
        lines.append(
            "*Do as well*: a classifier of the question's words alone, or of the frame's labelled weather, "
            "time of day and scene alone, reaches at least the same balanced accuracy. Where a question asks "
            "for one of these attributes, that attribute is its label."
        )
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
    note = (
        "Question-only and attributes-only are logistic classifiers over a family's decisions, weighted to "
        f"balance; where there are more than {MOST_DECISIONS} they say the commonest."
    )
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


def _calibration_lines(found: Mapping[str, Any], pictures: Sequence[str]) -> list[str]:
    fitted = found["temperature_fitted_on"]
    where = f"fitted on the split {fitted!r}" if fitted else "not fitted: there is no split for it"
    lines = ["## Confidence", ""]
    lines += [
        f"Temperature {found['temperature']} ({where}). Expected calibration error "
        f"{percent(found['ece_before'])} before, {percent(found['ece'])} after.",
        "",
    ]
    if found["without_confidence"]:
        lines += [
            f"{found['without_confidence']} questions have no confidence: they count as least sure in the "
            "coverage, and the calibration error is of the others.",
            "",
        ]
    rows = [
        (
            g["group"], g["n"], percent(g["accuracy"]), percent(g["ece"], g["ece_interval"]),
            *(percent(v) for v in g["coverage"].values()),
            *(
                percent(g[name][share]) if name in g else ""
                for name, share in (
                    ("false_safe", "rate"), ("false_safe_all", "rate"), ("false_safe_all", "wrong_yes")
                )
            ),
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
        "unsafe answered safe: surer half",
        "all",
        "safe that is unsafe: all",
    ]
    lines += _table(head, rows)
    lines += [
        "*Unsafe answered safe* is the part of the unsafe cases, among the surer half of the answers and "
        "among all; *safe that is unsafe* is the part of the answers *safe* that are wrong.",
        "",
    ]
    if "abstention" in found:
        a = found["abstention"]
        lines += [
            f"Safety questions: no threshold reaches {a['target_risk']:.0%} risk on the tuning split."
            if a["threshold"] is None
            else f"Safety questions: abstaining below a confidence of {a['threshold']:.3f} (chosen on the "
            f"tuning split for {a['target_risk']:.0%} risk) answers {percent(a['coverage'])}% at a risk of "
            f"{percent(a['risk'])}%{rival_risk(a)} and gives up {percent(a['wrongly_refused'])}% of the "
            "right answers.",
            "",
        ]
    elif fitted:
        lines += ["No threshold was chosen: reported and tuning split do not both ask safety questions.", ""]
    return [*lines, *_shown(pictures, "reliability.png", "risk-coverage.png")]


def _span(value: Mapping[str, Any], digits: int = 2) -> str:
    text = f"{value['mean']:.{digits}f}"
    return (
        text
        if value["interval"] is None
        else f"{text} [{value['interval'][0]:.{digits}f}, {value['interval'][1]:.{digits}f}]"
    )


def _grounding_lines(found: Mapping[str, Any], pictures: Sequence[str]) -> list[str]:
    presence = found["presence"]
    shown = {
        "mass ratio": "ratio", "blind map": "blind_ratio", "pointing game": "pointing", "centre": "centre",
        "above centre": "above_centre", "blind map's pointing": "blind_pointing",
        "above blind map": "above_blind", "entropy": "entropy",
    }  # fmt: skip
    names = [name for name in shown.values() if name in presence["all"]]  # earlier reports had fewer
    head = ["questions", "n", *(title for title, name in shown.items() if name in names)]
    asked = "presence" if "presence" in found["groups"] else "every question with evidence"
    groups = {f"{asked}, all": presence["all"]}
    groups |= {f"{asked}: {name}": value for name, value in presence["by_category"].items()}
    groups |= {name.replace("_", " "): value for name, value in found["groups"].items() if name != "presence"}
    lines = [
        "## Grounding",
        "",
        "Mass ratio: attention on the evidence over what an even map puts there. Pointing game: the "
        "strongest patch lies within 15 pixels (at 512) of the evidence; beside it the picture's centre. "
        "Blind map: the mean of the maps of the same question about other frames, what is known without "
        "looking.",
        "",
    ]
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
    return [*lines, *_shown(pictures, "heads.png", "faithfulness.png")]


def _class_lines(classes: Mapping[str, Any], pictures: Sequence[str]) -> list[str]:
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
        *_shown(pictures, "move-forward.png"),
    ]
