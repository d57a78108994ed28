"""Scores against scikit-learn, intervals that mean something, and tables that are not what they should be."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from traffic_vlm.evaluation.metrics import (
    PredictionError,
    as_table,
    bootstrap_auc,
    box_scores,
    class_report,
    count_within_one,
    decide,
    family_table,
    format_table,
    frame_confusions,
    frame_weights,
    interval,
    overlap,
    scores,
)


def rows(n_frames=60, seed=0, skill=0.8, family="presence"):
    """Two yes/no questions a frame, answered right with probability `skill`."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n_frames):
        for j in range(2):
            truth = "Yes." if rng.random() < 0.3 else "No."
            right = rng.random() < skill
            prediction = truth if right else ("No." if truth == "Yes." else "Yes.")
            score = rng.uniform(0.5, 1) if prediction == "Yes." else rng.uniform(0, 0.5)
            made.append(
                dict(
                    image_id=f"f{i}",
                    family=family,
                    question=f"q{j}",
                    answer=truth,
                    prediction=prediction,
                    score_yes=score,
                )
            )
    return made


def test_scores_equal_scikit_learn():
    rng = np.random.default_rng(1)
    classes = ["a", "b", "c", "d"]
    truth = rng.choice(classes[:3], 200)
    decision = rng.choice([*classes, "unclear"], 200)
    present = ["a", "b", "c"]
    confusion = frame_confusions(truth, decision, np.zeros(200, int), 1, present).sum(0)
    ours = scores(confusion)
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(truth, decision))
    assert ours["balanced_accuracy"] == pytest.approx(
        sk.recall_score(truth, decision, labels=present, average="macro")
    )
    for average in ("macro", "weighted"):
        for name, score in (("f1", sk.f1_score), ("precision", sk.precision_score)):
            wanted = score(truth, decision, labels=present, average=average, zero_division=0)
            assert ours[f"{average}_{name}"] == pytest.approx(wanted)


def test_a_class_that_a_bootstrap_sample_lacks_is_left_out():
    confusion = np.array([[3, 1, 0], [0, 0, 0]])
    assert scores(confusion)["balanced_accuracy"] == 0.75


def test_auc_equals_scikit_learn_with_ties_and_with_weights():
    rng = np.random.default_rng(2)
    positive, score = rng.random(300) < 0.3, rng.integers(0, 12, 300) / 12
    frames = np.arange(300) // 3
    weights = frame_weights(100, 50, 0)
    area, areas = bootstrap_auc(positive, score, frames, weights)
    assert area == pytest.approx(sk.roc_auc_score(positive, score))
    assert areas[7] == pytest.approx(sk.roc_auc_score(positive, score, sample_weight=weights[7][frames]))


def test_intervals_are_by_frame():
    """Two copies of every question of a frame add no information: the interval must not shrink."""
    once = rows(80)
    width = np.diff(family_table(once)[0]["accuracy_interval"])
    width_twice = np.diff(
        family_table(once + [dict(r, question=r["question"] + "'") for r in once])[0]["accuracy_interval"]
    )
    assert width_twice == pytest.approx(width)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(60):
        low, high = family_table(rows(60, seed, skill=0.7), samples=300)[0]["accuracy_interval"]
        hits += low <= 0.7 <= high
    assert hits >= 50


def test_a_sample_that_lacks_a_class_has_no_mean_over_classes():
    """Two of forty frames are foggy and missed: no sample can be right about every class."""
    made = [
        {"image_id": f"f{i}", "family": "weather", "answer": "Clear.", "prediction": "Clear."}
        for i in range(40)
    ]
    for row in made[:2]:
        row["answer"] = "Foggy."
    (row,) = family_table(made)
    assert row["balanced_accuracy"] == 0.5
    assert row["balanced_accuracy_interval"] == (0.5, 0.5)


def test_who_only_says_there_is_none_does_not_see():
    """It is said oftener of the right frames than of others', but never is a box right."""
    none, box = "There is none.", "<loc0100><loc0100><loc0300><loc0300> bus"
    wrong = "<loc0600><loc0600><loc0900><loc0900> bus"
    made = [
        {"image_id": f"f{i}", "family": "detect_bus", "answer": box if i % 4 == 0 else none}
        for i in range(80)
    ]
    own = [row | {"prediction": wrong if row["answer"] == box else none} for row in made]
    other = [row | {"prediction": wrong if i % 4 == 1 else none} for i, row in enumerate(made)]
    (row,) = family_table(own, other)
    assert row["gain_interval"][0] > 0
    assert row["sees"] is False
    assert (row["commonest"], row["commonest_accuracy"]) == ("none", 0.75)
    (row,) = family_table([r | {"prediction": r["answer"]} for r in made], other)
    assert row["sees"] is True


def test_the_same_seed_gives_the_same_numbers_in_any_row_order():
    table = pd.DataFrame(rows())
    assert family_table(table) == family_table(table.sample(frac=1, random_state=3))
    assert family_table(table, seed=1)[0]["accuracy_interval"] != family_table(table)[0]["accuracy_interval"]


def test_a_model_that_sees_and_one_that_does_not():
    seeing, blind = rows(skill=0.95), rows(skill=0.5, seed=0)
    for row in blind:
        row["prediction"] = "No."
    table = pd.DataFrame(seeing)
    swapped = table.assign(prediction="No.")
    (row,) = family_table(table, swapped)
    assert row["sees"]
    assert row["gain"] == pytest.approx(row["balanced_accuracy"] - 0.5)
    assert row["gain_interval"][0] > 0
    assert "*not seeing*" not in format_table([row])
    (row,) = family_table(pd.DataFrame(blind), swapped.assign(answer=[r["answer"] for r in blind]))
    assert not row["sees"]
    assert "*not seeing*" in format_table([row])


def test_commonest_answer_is_the_baseline():
    (row,) = family_table([dict(r, prediction="No.") for r in rows()])
    assert row["accuracy"] == row["commonest_accuracy"]
    assert row["balanced_accuracy"] == row["commonest_balanced_accuracy"] == 0.5
    assert row["commonest"] == "no"


def test_move_forward_is_read_in_five_ways_beside_yes_and_no():
    labels = [
        "Yes, the way is clear.",
        "No, a red light.",
        "No, a person is in the way.",
        "No, a vehicle is in the way.",
    ]
    made = [
        dict(
            image_id=str(i),
            family="move_forward",
            answer=labels[i % 4],
            prediction=labels[i % 4] if i % 3 else labels[1],
        )
        for i in range(24)
    ]
    two, five = family_table(made)
    assert (two["family"], two["classes"]) == ("move_forward", 2)
    assert (five["family"], five["classes"]) == ("move_forward (five-way)", 4)
    truth = [m["answer"] for m in made]
    assert five["macro_f1"] == pytest.approx(
        sk.f1_score(truth, [m["prediction"] for m in made], average="macro"), abs=1e-6
    )
    assert two["accuracy"] > five["accuracy"]


def test_one_class_unparsed_and_abstained_are_reported_without_a_warning():
    made = [
        dict(image_id=str(i), family="f", answer="Yes.", prediction=p)
        for i, p in enumerate(["", "I cannot tell", "Yes"])
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (row,) = family_table(made)
        text = format_table([row])
    assert (row["unparsed"], row["abstained"], row["classes"]) == (1, 1, 1)
    assert row["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert "balanced_accuracy" not in row
    assert "one class" in row["note"]
    assert "| - |" in text


ROW = {"image_id": "a", "family": "f", "answer": "yes", "prediction": "no"}


def test_confidences_of_a_file_are_numbers_and_may_be_missing():
    table = as_table([ROW | {"confidence": c} for c in ("0.25", "", None, 1)])
    assert table["confidence"].tolist()[::3] == [0.25, 1.0]
    assert table["confidence"].isna().tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "no predictions"),
        ([{"image_id": "a", "family": "f", "answer": "yes"}], "lack the column"),
        ([{"image_id": None, "family": "f", "answer": "yes", "prediction": "no"}], "no image_id"),
        ([{"image_id": "a", "family": "f", "answer": None, "prediction": "no"}], "no answer"),
        ([{"image_id": "a", "family": "f", "answer": " ", "prediction": "no"}], "no answer"),
        ([{"image_id": "a", "family": "", "answer": "yes", "prediction": "no"}], "no family"),
        ([ROW | {"confidence": 93}], "no probability from 0 to 1, the first is '93'"),
        ([ROW | {"confidence": 0.3}, ROW | {"confidence": "high"}], "the first is 'high'"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(made, message):
    with pytest.raises(PredictionError, match=message) as error:
        as_table(made)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("label", "denials"),
    [("Yes, it is clear.", "unclear"), ("Yes, there are none.", "unclear"), ("Yes.", "no")],
)
def test_a_sentence_that_denies_things_is_no_no_where_yes_means_that_nothing_is_there(label, denials):
    said = [
        "No cars are there.",
        "There are no cars.",
        "Nothing is there.",
        "No, a car is there.",
        "No.",
        "Yes.",
    ]
    table = decide(as_table([ROW | {"answer": label, "prediction": text} for text in said]))
    assert table["decision"].tolist() == [*[denials] * 3, "no", "no", "yes"]


def test_families_may_be_numbers():
    table = decide(as_table([ROW | {"family": 1}, ROW | {"family": 2}]))
    assert table["family"].tolist() == ["1", "2"]


def test_a_shuffled_table_of_other_questions_is_refused():
    with pytest.raises(PredictionError, match="do not answer the same questions"):
        family_table(rows(20), rows(19))


def test_class_report_has_a_column_for_answers_outside_the_classes():
    table = decide(as_table([
        dict(image_id="a", family="f", answer="Yes.", prediction="Yes."),
        dict(image_id="b", family="f", answer="No.", prediction="potato"),
    ]))  # fmt: skip
    report = class_report(table)
    assert report["confusion"] == {
        "labels": ["yes", "no", "(other)"],
        "counts": [[1, 0, 0], [0, 0, 1], [0, 0, 0]],
    }
    assert report["classes"]["no"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_counts_within_one_leave_out_none_and_many():
    pairs = [
        ("One.", "Two."),
        ("Three.", "Five."),
        ("Five.", "More than five."),
        ("None.", "Four."),
        ("Two.", "no idea"),
    ]
    table = decide(as_table([
        dict(image_id=str(i), family="count", answer=a, prediction=p) for i, (a, p) in enumerate(pairs * 2)
    ]))  # fmt: skip
    found = count_within_one(table)
    assert (found["n"], found["within_one"], found["without_more"]) == (8, 0.5, 0.25)
    assert found["low"] <= 0.5 <= found["high"]
    assert count_within_one(table[table["truth"] == "0"]) is None


def test_a_constant_stands_beside_counts_within_one():
    labels = ["Three.", "Four.", "Four.", "Five.", "One.", "More than five."]
    table = decide(as_table([
        dict(image_id=str(i), family="count", answer=a, prediction="More than five.")
        for i, a in enumerate(labels)
    ]))  # fmt: skip
    found = count_within_one(table)
    assert (found["constant"], found["constant_within_one"]) == (4, 0.8)
    assert (found["within_one"], found["without_more"]) == (0.2, 0.0)


def test_numbers_in_a_file_are_answers_and_not_silence():
    rows = [
        dict(image_id=str(i), family="count", answer=a, prediction=p)
        for i, (a, p) in enumerate([("Two.", 2), ("Three.", 3.0), ("One.", float("nan")), ("Four.", None)])
    ]
    (row,) = family_table(rows)
    assert (row["accuracy"], row["unparsed"]) == (0.5, 2)
    (row,) = family_table([dict(image_id="a", family="f", answer="Yes.", prediction=True)])
    assert row["accuracy"] == 1.0


def test_exact_normalised_and_decided_answers_are_three_scores():
    predictions = ["Yes, a car.", "yes, a car", "Yes.", "No."]
    (row,) = family_table(
        [
            dict(image_id=str(i), family="f", answer="Yes, a car.", prediction=p)
            for i, p in enumerate(predictions)
        ]
    )
    assert (row["exact"], row["normalised"], row["accuracy"]) == (0.25, 0.5, 0.75)


def test_boxes_match_by_category_and_overlap():
    box, shifted, far = (
        "<loc0000><loc0000><loc0512><loc0512>",
        "<loc0000><loc0064><loc0512><loc0576>",
        "<loc0600><loc0600><loc0700><loc0700>",
    )
    table = as_table(
        [
            dict(
                image_id="a",
                family="detect",
                answer=f"{box} car ; {far} car",
                prediction=f"{shifted} car ; {far} bus",
            )
        ]
    )
    assert box_scores(table) == {"n": 1, "boxes": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert decide(table)[["truth", "decision", "correct"]].values.tolist() == [["here", "here", True]]
    missed = decide(table.assign(prediction=f"{far} bus"))
    assert missed[["truth", "decision", "correct"]].values.tolist() == [["here", "elsewhere", False]]
    assert overlap((0, 0, 1, 1), (1, 0, 2, 1)) == 0
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)


def test_an_interval_of_nothing_is_none():
    assert interval(np.full(10, np.nan)) is None


def test_an_empty_probability_of_yes_is_none_and_a_wrong_one_is_refused():
    made = [ROW | {"image_id": str(i), "answer": a, "score_yes": s} for i, (a, s) in enumerate(
        [("yes", "0.5"), ("no", ""), ("no", "0.1")]
    )]  # fmt: skip
    (row,) = family_table(made)
    assert row["classes"] == 2
    assert "auc" not in row
    (row,) = family_table([made[0], made[2]])
    assert row["auc"] == 1.0
    with pytest.raises(PredictionError, match="score_yes are no probability from 0 to 1, the first is '3'"):
        as_table([ROW | {"score_yes": 3}])
