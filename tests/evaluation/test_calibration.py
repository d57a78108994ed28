"""Calibration and abstention on answers whose truth is known by construction."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from traffic_vlm.evaluation import calibration as c
from traffic_vlm.evaluation.metrics import PredictionError, frame_weights
from traffic_vlm.evaluation.predict import TEMPERATURES


def sure(n=20000, true_temperature=1.0, seed=0):
    """Binary answers that are right exactly as often as their confidence at `true_temperature` says."""
    rng = np.random.default_rng(seed)
    logit = np.abs(rng.normal(0, 2, n))
    correct = rng.random(n) < 1 / (1 + np.exp(-logit / true_temperature))
    at = 1 / (1 + np.exp(-logit[:, None] / np.array(TEMPERATURES)))
    return pd.DataFrame(
        {"correct": correct, "confidences": list(at), "confidence": at[:, TEMPERATURES.index(1.0)]}
    )


def test_calibrated_answers_have_no_error_and_overconfident_ones_have():
    table = sure()
    confidence, correct = table["confidence"].to_numpy(), table["correct"].to_numpy()
    assert c.expected_calibration_error(confidence, correct) < 0.015
    assert c.expected_calibration_error(np.ones(len(table)), correct) == pytest.approx(
        1 - correct.mean(), abs=1e-6
    )
    assert sum(row["n"] for row in c.reliability(confidence, correct)) == len(table)


@pytest.mark.parametrize("temperature", [0.8, 1.0, 2.2])
def test_the_temperature_is_found_again(temperature):
    table = sure(true_temperature=temperature)
    fitted = c.fit_temperature(table)
    assert fitted == pytest.approx(temperature, rel=0.1)
    confidence = c.at_temperature(table, fitted)
    assert c.expected_calibration_error(confidence, table["correct"].to_numpy()) < 0.015


def test_another_models_confidence_is_taken_as_it_is():
    table = sure(100).drop(columns="confidences")
    assert c.fit_temperature(table) == 1.0
    assert (c.at_temperature(table, 3.0) == table["confidence"]).all()


def test_risk_coverage_by_hand():
    confidence = np.array([0.9, 0.8, 0.8, 0.6, 0.5])
    correct = np.array([True, True, False, True, False])
    coverage, risk = c.risk_coverage(confidence, correct)
    assert coverage.tolist() == [0.2, 0.6, 0.8, 1.0]  # the two of equal confidence cannot be parted
    assert risk == pytest.approx([0, 1 / 3, 1 / 4, 2 / 5])
    assert c.coverage_at(confidence, correct, 0.26) == 0.8
    assert c.coverage_at(confidence, correct, 0.0) == 0.2
    assert c.coverage_at(confidence, ~correct, 0.0) == 0.0
    assert c.threshold_for(confidence, correct, 0.26) == 0.6
    assert c.threshold_for(confidence, np.zeros(5, bool), 0.26) is None


def test_false_safe_counts_only_what_should_be_refused():
    said = {"truth": ["no", "no", "yes", "no"], "decision": ["yes", "no", "yes", "yes"], "frame": range(4)}
    table = pd.DataFrame(said)
    assert c.false_safe(table, np.array([0.9, 0.8, 0.7, 0.1]), 0.75) == {
        "n": 2,
        "unsafe": 0.666667,
        "rate": 0.5,
        "rate_interval": None,  # of two frames
        "wrong_yes": 0.5,
        "wrong_yes_interval": None,
        "coverage": 0.75,
    }
    every = c.false_safe(table, np.array([0.9, 0.8, 0.7, 0.1]), 1.0)
    assert (every["n"], every["rate"], every["wrong_yes"]) == (3, 0.666667, 0.666667)
    assert c.false_safe(table[2:3], np.array([0.9]))["rate"] is None
    assert c.false_safe(table[1:2], np.array([0.9]))["wrong_yes"] is None
    many = pd.concat([table] * 50, ignore_index=True).assign(frame=np.arange(200) % 100)
    found = c.false_safe(many, np.full(200, 0.9), 1.0)
    for name in ("rate", "wrong_yes"):
        low, high = found[f"{name}_interval"]
        assert 0.5 < low < found[name] < high < 0.8


def test_which_of_equally_sure_answers_stands_first_means_nothing():
    said = {"truth": ["no"] * 8, "decision": ["yes"] * 4 + ["no"] * 4, "frame": range(8)}
    table, confidence = pd.DataFrame(said), np.full(8, 0.9)
    found = c.false_safe(table, confidence, 0.5)
    assert found == c.false_safe(table[::-1], confidence, 0.5)
    assert (found["rate"], found["coverage"]) == (0.5, 1.0)


def test_a_threshold_is_chosen_on_one_split_and_reported_on_another():
    tune, table = (sure(4000, seed=seed).assign(truth=["no"] * 3000 + ["yes"] * 1000) for seed in (1, 2))
    result = c.abstention(tune, tune["confidence"].to_numpy(), table, table["confidence"].to_numpy(), 0.1)
    assert result["risk"] == pytest.approx(0.1, abs=0.03)
    assert result["constant_risk"] == 0.25, "of whoever always says no"
    assert 0 < result["coverage"] < 1
    assert 0 < result["wrongly_refused"] < 1
    hopeless = tune.assign(correct=False)
    assert (
        c.abstention(hopeless, tune["confidence"].to_numpy(), table, table["confidence"].to_numpy())[
            "coverage"
        ]
        == 0
    )
    with pytest.raises(PredictionError):
        c.abstention(tune[:0], np.array([]), table, table["confidence"].to_numpy())


def test_what_was_fitted_is_written_where_answers_read_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "traffic_vlm"}', encoding="utf-8")
    found = {"temperature": 0.9, "temperature_fitted_on": "tune", "abstention": {"threshold": 0.7}}
    c.write(found, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written == {
        "model_type": "traffic_vlm",
        "confidence_temperature": 0.9,
        "abstain_threshold": 0.7,
    }
    for refused in (
        None,
        found | {"temperature_fitted_on": None},
        found | {"abstention": {"threshold": None}},
    ):
        with pytest.raises(PredictionError, match="was not written"):
            c.write(refused, tmp_path)
    del found["abstention"]  # no safety question was asked
    c.write(found | {"temperature": 0.8}, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written == {"model_type": "traffic_vlm", "confidence_temperature": 0.8}


def test_the_default_checkpoint_answers_with_what_its_report_fitted():
    folder = Path(__file__).parents[2] / "checkpoints" / "traffic-vlm"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    report = json.loads((folder / "training" / "report.json").read_text(encoding="utf-8"))["calibration"]
    assert report["temperature_fitted_on"] == "tune"
    assert config["confidence_temperature"] == pytest.approx(report["temperature"], abs=5e-4)
    assert config["abstain_threshold"] == pytest.approx(report["abstention"]["threshold"], abs=5e-4)


def test_groups_that_are_too_small_are_left_out():
    table = sure(60).assign(
        family=["turn_left"] * 50 + ["weather"] * 10, frame=np.arange(60) % 30, truth="no", decision="no",
        has_confidence=True,
    )  # fmt: skip
    groups = {"turn": ["turn_left"], "weather": ["weather"]}
    (row,) = c.summarise(table, table["confidence"].to_numpy(), frame_weights(30), groups)
    assert row["group"] == "turn"
    assert set(row["coverage"]) == {"1%", "5%", "10%"}
    assert row["false_safe"]["rate"] == 0.0
    low, high = row["ece_interval"]
    assert low <= high


def test_samples_without_a_groups_frames_are_left_out_without_a_warning():
    table = sure(30).assign(family="weather", frame=np.arange(30) % 5, has_confidence=True)
    weights = frame_weights(30)
    assert (weights[:, :5].sum(1) == 0).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (row,) = c.summarise(table, table["confidence"].to_numpy(), weights, {"weather": ["weather"]})
    assert row["ece_interval"][0] <= row["ece_interval"][1]


def test_no_rows_have_no_temperature_and_no_error():
    nothing = sure(3)[:0]
    assert c.fit_temperature(nothing) == 1.0
    assert c.at_temperature(nothing, 2.0).shape == (0,)
    assert c.expected_calibration_error(np.array([]), np.array([], dtype=bool)) is None
