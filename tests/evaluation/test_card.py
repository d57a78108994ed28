"""The card's sentences and tables follow the report and the record, whatever these hold."""

import json
from pathlib import Path

import pytest
from traffic_vlm.evaluation.card import (
    averaged,
    failures,
    results,
    stage_files,
    stage_table,
    stages_of,
    trained_on,
)
from traffic_vlm.evaluation.glance import LEAST_POSITIVES, glance, glance_table, headline, to_beat

ROOT = Path(__file__).parents[2]


def test_what_lies_below_chance_is_not_what_must_be_beaten():
    """Shuffled pictures may give less than always the same answer does."""
    report = json.loads((ROOT / "checkpoints/traffic-vlm/training/report.json").read_text(encoding="utf-8"))
    light = next(row for row in report["families"] if row["family"] == "light_state")
    light["shuffled_balanced_accuracy"] = 0.45
    assert to_beat(report)["light state: balanced accuracy"] == {"by": "shuffled or one answer", "value": 0.5}
    light["shuffled_balanced_accuracy"] = 0.55
    assert to_beat(report)["light state: balanced accuracy"]["value"] == 0.55


def family(name, accuracy, usual, sees=True, **more):
    """A row of the report."""
    row = {"family": name, "kind": "yes/no", "n": 100, "commonest": "yes", "commonest_accuracy": usual}
    row |= {"commonest_balanced_accuracy": 0.5, "sees": sees, "gain": 0.25}
    for score in ("accuracy", "balanced_accuracy", "macro_f1"):
        row |= {score: accuracy, f"{score}_interval": [accuracy - 0.1, accuracy + 0.1]}
        row[f"shuffled_{score}"] = 0.5
    return row | more


@pytest.fixture
def report():
    rows = [
        family("move_forward (five-way)", 0.75, 0.5, kind="five-way"),
        family("turn_left", 0.90, 0.95),
        family("presence_bus", 0.60, 0.90, auc=0.7),
        family("presence_train", 0.70, 0.65, sees=False, auc=0.6),
        family("detect_car", 0.09, 0.05, kind="boxes", commonest="none"),
        {"family": "unread", "kind": "count", "n": 3, "note": "no label of this family could be read"},
    ]
    support = {"presence_bus": LEAST_POSITIVES, "presence_train": LEAST_POSITIVES - 1}
    agree = {"all": {"rate": 0.8, "interval": [0.75, 0.85]}}
    spread = {"mean": 0.3, "interval": [0.2, 0.4]}
    return {
        "frames": 100,
        "families": rows,
        "classes": {name: {"classes": {"yes": {"support": n}}} for name, n in support.items()},
        "counting": {
            "count_car": {
                "within_one": 0.6, "low": 0.5, "high": 0.7, "constant": 4, "constant_within_one": 0.8
            }
        },
        "boxes": {"detect_car": {"f1": 0.09}, "detect_bus": {"f1": 0.0}, "detect_train": {"f1": None}},
        "consistency": {
            "opposites": agree, "opposites_shuffled": 0.6, "paraphrased": agree, "mirrored": agree
        },
        "grounding": {
            "presence": {"mean_over_categories": {
                "above_centre": spread, "ratio": {"mean": 15.5, "interval": [14.0, 17.0]},
                "above_blind": spread, "blind_ratio": {"mean": 2.5, "interval": [2.0, 3.0]},
            }},
            "drop": {"evidence": spread, "elsewhere": {"mean": -0.003, "interval": [-0.01, 0.01]}},
        },
        "all_frames": family("move_forward (five-way)", 0.7, 0.6) | {"shuffled_macro_f1": None},
        "calibration": {
            "ece": 0.02, "ece_before": 0.03, "groups": [{"group": "all", "ece_interval": [0.01, 0.025]}]
        },
        "verdict": {"proven": True, "sentence": "It is proven."},
    }  # fmt: skip


def line(text, name):
    """The row of a table that begins with a name."""
    return next(row for row in text.splitlines() if row.startswith(f"| {name}"))


def test_every_interval_of_the_report_is_shown_in_its_unit(report):
    text = glance_table(report)
    for name, measured in {
        "move forward, five-way: accuracy": "75.0% [65.0, 85.0]",
        "cars counted to within one": "60.0% [50.0, 70.0]",
        "opposite pairs": "80.0% [75.0, 85.0]",
        "paraphrases": "80.0% [75.0, 85.0]",
        "mirrored frames": "80.0% [75.0, 85.0]",
        "yes/no families: gain": "25.0 points",
        "pointing game above the centre": "30.0 points [20.0, 40.0]",
        "pointing game above the blind map": "30.0 points [20.0, 40.0]",
        "mass ratio": "15.50 [14.00, 17.00]",
        "probability lost when the evidence is blanked": "30.0 points [20.0, 40.0]",
        "calibration error": "2.0 points [1.0, 2.5]",
        "families that see": "4",
    }.items():
        assert f"| {measured} |" in line(text, name)


def test_every_number_has_a_rival_or_says_why_not(report):
    text = glance_table(report)
    assert line(text, "probability lost").endswith("| -0.3 points (as much blanked elsewhere) |")
    assert text.count("-0.3 points") == 1
    assert line(text, "mass ratio").endswith("| 2.50 (blind map) |")
    report["grounding"]["presence"]["mean_over_categories"]["blind_ratio"]["mean"] = 0.5
    assert line(glance_table(report), "mass ratio").endswith("| 1.00 (even map) |")
    for name in ("paraphrases", "mirrored frames"):
        assert line(text, name).endswith("| no rival: a constant answer would reach 100% |")
        assert not any(number.startswith(name) for number in to_beat(report))
    assert "presence (1 categories)" in text
    assert f"at least {LEAST_POSITIVES} of the frames" in text
    # Always the commonest of two answers, 60%: F1 of 0.75 and 0.
    assert line(text, "move forward, five-way, every frame: macro-F1").endswith("| 37.5% (commonest) |")


def test_what_fails_to_beat_its_rival_is_a_known_failure(report):
    assert [n.name for n in glance(report) if n.is_behind] == ["cars counted to within one (one to five)"]
    first, second, third, fourth = failures(report).splitlines()
    assert "cars counted to within one (one to five) 60.0% [50.0, 70.0], to beat 80.0% (always 4)." in first
    # The farthest below first; what is above, and what no constant could answer, is not named.
    assert second.endswith(": `presence_bus` 60.0 (90.0), `turn_left` 90.0 (95.0).")
    assert "2 of 5" in second
    assert third.endswith(": `presence_train`.")
    assert "at most 9.0%, at half overlap (`detect_car`)." in fourth


def test_calibration_that_got_worse_is_behind(report):
    report["calibration"]["ece"] = 0.04
    assert "calibration error after temperature 4.0 points" in failures(report).splitlines()[0]
    report["calibration"]["ece"] = None
    assert "calibration" not in failures(report)
    assert headline(report)["calibration error after temperature"] is None


def test_what_an_answer_safe_is_worth_is_a_known_failure(report):
    every = {"n": 200, "rate": 0.055, "wrong_yes": 0.4, "coverage": 1.0}
    report["calibration"] |= {
        "groups": [{"group": "safety", "false_safe_all": every}],
        "abstention": {"threshold": 0.5, "coverage": 0.99, "risk": 0.08, "target_risk": 0.1},
    }
    *_, answered, threshold = failures(report).splitlines()
    assert "5.5% of the 200 questions about what is unsafe get *safe*, and 40.0% of all answers" in answered
    assert "99.0% of the safety questions are answered, at a risk of 8.0%; it was chosen for 10%" in threshold
    assert headline(report)["unsafe but answered safe, all answers"] == 0.055


def test_nothing_that_fails_is_said_in_words(report):
    report |= {"families": report["families"][:1], "counting": {}, "boxes": {}}
    assert [row.rsplit(": ", 1)[1] for row in failures(report).splitlines()] == ["none."] * 3


def test_results_name_their_column_and_doubt_their_verdicts(report):
    text = results(report)
    assert "| sees the picture |" in text
    assert line(text, "turn left").endswith("| yes |")
    assert "Each of these 5 verdicts rests on one 95% interval, so a few may be chance." in text


def run(step, **more):
    return {"step": step, "training_seconds": 60.0 * step, **more}


def test_weights_between_two_stages_are_called_so():
    assert averaged({}) == ""
    found = {"share": 0.75, "summary": {"accuracy": 0.784, "gain": 0.25}}
    told = averaged({"averaged": found})
    assert "0.75 times the last stage's plus 0.25 times" in told
    assert told.endswith("chosen on the tuning slice.\n")
    tried = [{"share": share} for share in (0.75, 0.5, 1.0)]
    assert averaged({"averaged": found | {"tried": tried}}).endswith(", among it and 0.5, 1.\n")
    record = run(2, started_from=run(1, averaged=found))
    rows = stage_table(stages_of(record)).splitlines()[2:]
    assert len(rows) == 3
    assert rows[1] == "|  | 0.75 of stage 1 and 0.25 of what it began with |  |  |  | 78.4 | - | - | 25.0 |"


@pytest.mark.parametrize("stages", [1, 2, 6])
def test_stages_are_as_many_as_the_record_tells(stages):
    record = run(1)
    for step in range(2, stages + 1):
        record = run(step, device="CPU, 2 threads", summary={"accuracy": 0.5}, started_from=record)
    rows = stage_table(stages_of(record)).splitlines()[2:]
    assert len(rows) == stages == len(stage_files(stages))
    assert rows[-1].startswith(f"| {stages} | `recipe.yaml` | {stages} | {stages} |")
    if stages > 1:
        assert rows[0] == "| 1 | `recipe-first.yaml` | 1 | 1 | - | - | - | - | - |"
        assert rows[1].endswith("| 2 | 2 | CPU, 2 threads | 50.0 | - | - | - |")


def test_foreign_weights_are_no_stage():
    assert len(stages_of(run(3, started_from={"folder": "siglip", "parts": ["vision"]}))) == 1


def test_frames_are_told_where_the_record_knows_them():
    assert trained_on(run(1)) == ""
    assert "4,708 distinct frames" in trained_on(run(1, training_frames=4708))
