"""Consistency: what counts as a pair, as the same answer, and as a mirrored one."""

import pytest
from traffic_vlm.evaluation.consistency import (
    agreement,
    always_commonest,
    both_right,
    opposites,
    yes_ratio,
)
from traffic_vlm.evaluation.metrics import as_table, decide


def table(rows):
    keys = ("image_id", "question_index", "family", "answer", "prediction", "pair_id")
    return decide(as_table([dict(zip(keys, row, strict=True)) for row in rows]))


PAIRS = [
    ("a", 0, "presence_car", "Yes.", "Yes.", "a/car"),
    ("a", 1, "absence_car", "No, there is one.", "No, there is one.", "a/car"),
    ("b", 0, "presence_car", "Yes.", "Yes.", "b/car"),
    ("b", 1, "absence_car", "No, there is one.", "Yes, there are none.", "b/car"),
    ("c", 0, "light_red", "No, it is yellow.", "No, it is yellow.", "c/light"),
    ("c", 1, "light_green", "No, it is yellow.", "No, it is yellow.", "c/light"),
    ("d", 0, "presence_car", "No.", "No.", "d/car"),
    ("e", 0, "weather", "Clear.", "Clear.", None),
]


def test_a_pair_is_right_only_if_both_are():
    result = opposites(table(PAIRS))
    assert result["car"]["n"] == 2  # the one of frame d has no partner
    assert result["car"]["rate"] == 0.5
    assert result["car"]["at_least_one"] == 1.0
    assert result["car"]["same"] == 0.5
    assert result["light"]["rate"] == 1.0
    assert result["light"]["same"] is None  # both are no, and rightly
    assert result["all"]["n"] == 3
    assert opposites(table(PAIRS[-1:])) == {}


def test_constant_answers_are_right_about_common_pairs():
    """Of ten frames two have a car: who always denies it is right about the other eight, both ways."""
    rows = []
    for i in range(10):
        answers = ("Yes.", "No, there is one.") if i < 2 else ("No.", "Yes, there are none.")
        for j, (family, answer) in enumerate(zip(("presence_car", "absence_car"), answers, strict=True)):
            rows.append((f"f{i}", j, family, answer, "I cannot tell.", f"f{i}/car"))
    assert both_right(table(rows)) == 0
    assert both_right(always_commonest(table(rows))) == 0.8
    assert both_right(table(PAIRS[-1:])) is None


def test_agreement_compares_decisions_row_by_row():
    first = table(PAIRS)
    second = table(
        [(*row[:4], "Yes." if row[2] == "presence_car" else row[4], row[5]) for row in PAIRS][::-1]
    )
    result = agreement(first, second)
    assert result["presence_car"] == {
        "n": 3,
        "rate": pytest.approx(2 / 3, abs=1e-6),
        "interval": result["presence_car"]["interval"],
        "both_right": pytest.approx(2 / 3, abs=1e-6),
    }
    assert result["absence_car"]["rate"] == 1.0


def test_two_answers_that_cannot_be_read_do_not_agree():
    first = table([(*PAIRS[0][:4], "potato", None), *PAIRS[1:4]])
    assert agreement(first, first)["presence_car"]["rate"] == 0.5
    assert agreement(first, first)["absence_car"]["rate"] == 1.0


def test_mirrored_answers_are_mirrored_back():
    first = table([
        ("a", 0, "compare", "On the left.", "On the left.", None),
        ("b", 0, "compare", "On the right.", "On the right.", None),
    ])  # fmt: skip
    second = table([
        ("a", 0, "compare", "On the right.", "On the right.", None),
        ("b", 0, "compare", "On the left.", "On the right.", None),
    ])  # fmt: skip
    result = agreement(first, second, is_mirrored=True)
    assert result["all"]["rate"] == 0.5


def test_yes_ratio_stands_beside_what_it_should_be():
    result = yes_ratio(table(PAIRS))
    assert result["presence_car"] == {
        "n": 3,
        "predicted": pytest.approx(2 / 3, abs=1e-6),
        "true": pytest.approx(2 / 3, abs=1e-6),
    }
    assert "weather" not in result
    assert yes_ratio(table(PAIRS[-1:])) == {}
