"""What the report says of families and maps, from numbers that are given."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from traffic_vlm.evaluation import calibration, report
from traffic_vlm.evaluation.glance import comparison_table
from traffic_vlm.evaluation.metrics import family_table, format_table, frame_weights, sight


def answers(n, prediction=None, family="turn_left"):
    labels = ["Yes." if i % 2 else "No." for i in range(n)]
    return [
        {"image_id": f"f{i}", "family": family, "answer": label, "prediction": prediction or label}
        for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize(("frames", "says"), [(4, "unknown: too few frames"), (24, "sees")])
def test_too_few_frames_prove_neither_sight_nor_its_lack(frames, says):
    (row,) = family_table(answers(frames), answers(frames, "No."))
    assert (row["gain"], sight(row)) == (0.5, says)
    assert f"| {says} |" in format_table([row])
    for name in ("accuracy_interval", "balanced_accuracy_interval", "gain_interval"):
        assert (row[name] is None) == (frames < 5)


def test_a_single_frame_has_no_interval_and_does_not_see():
    row = {"image_id": "a", "family": "turn_left", "answer": "Yes."}
    one = [row | {"prediction": "Yes."}, row | {"answer": "No.", "prediction": "No."}]
    (found,) = family_table(one, [r | {"prediction": "No."} for r in one])
    assert (found["gain"], found["gain_interval"], found["sees"]) == (0.5, None, None)


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_a_calibration_error_of_a_few_frames_has_no_interval(frames):
    frame = np.arange(40) % frames
    found = calibration._ece_interval(np.full(40, 0.9), frame == 0, frame, frame_weights(frames))
    assert (found is None) == (frames < 5)


def test_families_that_somebody_without_a_picture_answers_as_well_are_marked():
    seeing, blind = (answers(40, said) + answers(40, said, "turn_right") for said in (None, "No."))
    rows = family_table(seeing, blind)
    result = {
        "families": rows,
        "baselines": {
            "attributes only": [{"family": "turn_left", "balanced_accuracy": 1.0}],
            "question only": [{"family": "turn_right", "balanced_accuracy": 0.99}],
        },
    }
    as_good = report._as_good(result)
    left, right = format_table(rows, as_good).splitlines()[2:]
    assert left.endswith("| sees, attributes do as well |")
    assert right.endswith("| sees |")
    assert "*Do as well*" in "".join(report._details(rows, as_good))
    assert not report._details(rows, {})


def test_nobody_can_say_the_commonest_box():
    box, far = "<loc0100><loc0100><loc0300><loc0300> car", "<loc0600><loc0600><loc0900><loc0900> car"
    made = [
        {"image_id": f"f{i}", "family": "detect_car", "answer": box, "prediction": box if i % 2 else far}
        for i in range(8)
    ]
    (row,) = family_table(made, [r | {"prediction": far} for r in made])
    assert not [name for name in row if name.startswith("commonest")]
    assert "| - / - |" in format_table([row])
    assert (row["classes"], row["gain"]) == (1, 0.5)
    assert not report._details([row], {})  # more than accuracy is defined


def span(low, high):
    return {"mean": (low + high) / 2, "interval": (low, high)}


@pytest.mark.parametrize("drop", [{}, {"drop": {"n": 0}}])
def test_pointing_and_ratio_count_where_nothing_could_be_blanked(drop):
    everything = {"above_centre": span(0.1, 0.2), "ratio": span(3, 4)}
    verdict = report.verdict({"presence": {"all": everything}, **drop})
    assert verdict["proven"] is False
    assert "nor that blanking the evidence" in verdict["sentence"]
    assert "nor that the mass ratio is above the blind map's" in verdict["sentence"], "earlier have none"
    assert "Shown is that the pointing game is above the centre" in verdict["sentence"]


@pytest.mark.parametrize(
    ("group", "title"), [("presence", "presence, all"), ("count", "every question with evidence, all")]
)
def test_maps_are_named_after_the_questions_that_they_belong_to(group, title):
    scores = {name: span(0, 1) for name in ("ratio", "pointing", "centre", "above_centre", "entropy")}
    scores["n"] = 9
    found = {"presence": {"all": scores, "by_category": {"car": scores}}, "groups": {group: scores}}
    found |= {"sink_mass": {"patches": 4, "evidence": 0.1, "even": 0.1}, "methods": {}}
    page = report._grounding_lines(found, [])
    assert sum(line.startswith(f"| {title} | 9 |") for line in page) == 1


def test_two_reports_stand_side_by_side(tmp_path):
    path = Path(__file__).resolve().parents[2] / "checkpoints" / "traffic-vlm" / "training" / "report.json"
    after = json.loads(path.read_text(encoding="utf-8"))
    before = copy.deepcopy(after)
    weather = next(row for row in before["families"] if row["family"] == "weather")
    weather["accuracy"] -= 0.1
    before["calibration"]["ece"] += 0.02
    del before["counting"]["count_car"]
    before["asked"], after["asked"] = {"mirror": True}, {"mirror": False}
    for name, content in (("before", before), ("after", after)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    command = [
        sys.executable,
        path.parents[3] / "scripts" / "compare_reports.py",
        tmp_path / "before",
        tmp_path / "after",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tmp_path / "five").write_text("5", encoding="utf-8")
    refused = subprocess.run([*command[:-1], tmp_path / "five"], capture_output=True, text=True)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "holds no report" in refused.stderr
    assert "Not asked alike: --mirror True before, False after." in said
    lines = {line.split(" | ")[0]: line for line in comparison_table(before, after).splitlines()}
    assert lines["| weather: accuracy"].endswith("| +10.0 |")
    assert lines["| calibration error after temperature"].endswith("| -2.0 |")
    assert lines["| light state: balanced accuracy"].endswith("| +0.0 |")
    counted = lines["| cars counted to within one (one to five)"]
    assert "| not measured |" in counted
    assert counted.endswith("|  |")
