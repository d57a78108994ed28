"""Averaging over mirrored frames, and the forerunner's reading of every frame."""

import numpy as np
import pandas as pd
import pytest
from traffic_vlm.evaluation import evaluator, views
from traffic_vlm.evaluation import predict as p
from traffic_vlm.evaluation.averaging import average


def table(*rows):
    made = pd.DataFrame(rows, columns=["family", "answer", "prediction", "confidence", "score_yes"])
    return made.assign(confidences=[[c, c / 2] for c in made["confidence"]])


def test_agreement_is_averaged_and_of_two_that_differ_the_surer_is_followed():
    plain = table(
        ("turn_left", "Yes.", "Yes.", 0.9, 0.9),
        ("turn_left", "No.", "Yes.", 0.6, 0.6),
        ("compare_sides", "On the left.", "On the left.", 0.8, np.nan),
    )
    mirrored = table(
        ("turn_left", "Yes.", "Yes.", 0.7, 0.7),
        ("turn_left", "No.", "No.", 0.9, 0.1),
        ("compare_sides", "On the right.", "On the right.", 0.6, np.nan),
    )
    found = average(plain, mirrored, 0)
    assert found["prediction"].tolist() == ["Yes.", "No.", "On the left."]
    assert found["confidence"].tolist() == pytest.approx([0.8, 0.65, 0.7])
    assert found["score_yes"].tolist()[:2] == pytest.approx([0.8, 0.35])
    assert 1 - found["score_yes"][1] == pytest.approx(found["confidence"][1])  # exact for two answers


def test_averaged_answers_are_their_own_mirror_image(tiny, frames):
    labels, clean = p.answer_sets(frames), p.clean(frames)
    asked = [p.predict(*tiny, view, 4, labels) for view in (clean, views.mirrored(clean))]
    there, back = average(*asked, 0), average(*asked[::-1], 0)
    yes_no = there["score_yes"].notna()
    assert np.allclose(there["score_yes"][yes_no], back["score_yes"][yes_no])
    assert np.allclose(there["confidence"], back["confidence"])


def test_the_forerunner_labels_every_annotated_frame(frames):
    row = {
        **frames[0],
        "objects": [{"category": "traffic light", "box": [0.45, 0.2, 0.5, 0.3], "light": None}],
    }
    view = views.forerunner(p.clean([row, {**row, "objects": None}]))
    (asked,) = view(0)[1]["questions"]
    assert asked["family"] == "move_forward"
    assert asked["answer"].startswith("Yes")  # a light of unknown colour is not red
    assert view(1)[1]["questions"] == []
    for category, height, answer in (("traffic light", 0.02, "Yes"), ("pedestrian", 0.3, "No, a person")):
        small = {"category": category, "box": [0.49, 0.5 - height, 0.492, 0.5], "light": None}
        (asked,) = views.forerunner(p.clean([{**row, "objects": [small]}]))(0)[1]["questions"]
        assert asked["answer"].startswith(answer)  # size does not matter
    red = {**row, "objects": [{**row["objects"][0], "light": "red"}]}
    assert "red light" in views.forerunner(p.clean([red]))(0)[1]["questions"][0]["answer"]


def test_a_report_is_averaged_over_mirrored_frames(checkpoint, dataset, tmp_path):
    result = evaluator.evaluate_checkpoint(checkpoint, dataset, "val", tmp_path, mirror=True)
    assert result["name"].endswith("averaged over mirrored frames")
    assert "grey picture" in result["baselines"]
    assert not (tmp_path / "predictions-mirrored.parquet").exists()
