from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic_vlm.training.sampling import (
    LARGEST_LOSS_WEIGHT,
    FrameBatches,
    QuestionWeights,
    answer_key,
    draw_chances,
    frame_weights,
    inclusion_probabilities,
)


@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=40), st.integers(1, 4))
def test_inclusion_probabilities_add_up_and_follow_the_weights(weights, count):
    weights = np.array(weights)
    probabilities = inclusion_probabilities(weights, count)
    assert np.isclose(probabilities.sum(), count)
    assert (probabilities <= 1 + 1e-9).all()
    free = probabilities < 1
    assert free.any(), "fewer are wanted than there are"
    ratios = probabilities[free] / weights[free]
    assert np.allclose(ratios, ratios[0])


def rows_with(answers):
    return [
        {"questions": [{"family": "a", "question": "Is it?", "answer": answer}, *other_questions()]}
        for answer in answers
    ]


def other_questions():
    return [{"family": "b", "question": f"What {i}?", "answer": str(i)} for i in range(6)]


def test_full_balance_gives_both_answers_the_same_weight():
    rows = rows_with(["Yes."] * 28 + ["No."] * 12)
    weights = QuestionWeights(rows, balance=1.0)
    rng = np.random.default_rng(0)
    total = Counter()
    for _ in range(200):
        for frame, row in enumerate(rows):
            chosen, loss_weights = weights.draw(frame, 3, rng)
            for question, weight in zip(chosen, loss_weights, strict=True):
                if question == 0:
                    total[row["questions"][0]["answer"]] += weight
    assert abs(total["Yes."] / total["No."] - 1) < 0.1


def test_no_balance_keeps_the_natural_mix():
    rows = rows_with(["Yes."] * 90 + ["No."] * 10)
    weights = QuestionWeights(rows, balance=0.0)
    assert np.isclose(weights.weights[0][0], weights.weights[99][0])


def test_a_rare_answer_counts_for_no_more_than_the_cut():
    rows = rows_with(["Yes."] * 99 + ["No."])
    _, loss_weights = QuestionWeights(rows, balance=1.0).draw(99, 3, np.random.default_rng(0))
    assert loss_weights.max() == LARGEST_LOSS_WEIGHT


def test_no_question_comes_twice_when_there_are_enough():
    rows = rows_with(["Yes.", "No."])
    weights = QuestionWeights(rows)
    for seed in range(50):
        chosen, _ = weights.draw(0, 5, np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == 5


def test_a_frame_with_few_questions_repeats_them_and_shares_their_weight():
    weights = QuestionWeights(rows_with(["Yes.", "No."]))
    allowed = np.array([True, True, False, False, False, False, False])
    chosen, loss_weights = weights.draw(0, 4, np.random.default_rng(0), allowed)
    assert Counter(chosen.tolist()) == {0: 2, 1: 2}
    assert (loss_weights > 0).all()


def test_boxes_are_one_answer_however_many_there_are():
    boxes = [f"<loc{8 * i:04d}><loc0000><loc1023><loc1023> car" for i in range(20)]
    rows = [
        {"questions": [{"family": "detect_car", "question": "?", "answer": a}]}
        for a in [*boxes, *["None."] * 20]
    ]
    weights = QuestionWeights(rows, balance=1.0).weights
    assert np.allclose(np.concatenate(weights), weights[0][0])


def test_a_frame_that_asks_only_what_has_no_share_teaches_nothing():
    rows = [{"questions": [{"family": "a", "question": "?", "answer": "No."}]}, *rows_with(["Yes.", "No."])]
    weights = QuestionWeights(rows, family_share={"a": 0.0})
    chosen, loss_weights = weights.draw(0, 3, np.random.default_rng(0))
    assert (chosen.tolist(), loss_weights.tolist()) == ([0, 0, 0], [0, 0, 0])


def test_batches_go_on_from_any_step():
    batches = FrameBatches(np.repeat(np.arange(7), 3), batch_size=4, seed=1)
    whole = [indices for _, indices in islice(batches.from_step(0), 12)]
    for start in (1, 5, 11):
        resumed = [indices for _, indices in islice(batches.from_step(start), 12 - start)]
        assert all((a == b).all() for a, b in zip(whole[start:], resumed, strict=True))


def test_an_epoch_shows_each_frame_once_in_one_of_its_copies():
    batches = FrameBatches(np.repeat(np.arange(5), 3), batch_size=5, seed=0)
    epochs = [batches.epoch(number) for number in range(20)]
    assert all(sorted((epoch // 3).tolist()) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert {int(row) for epoch in epochs for row in epoch} == set(range(15))


def test_a_third_of_an_epoch_is_frames_as_they_are():
    batches = FrameBatches(np.repeat(np.arange(50), 9), batch_size=5, seed=0)
    drawn = np.concatenate([batches.epoch(number) for number in range(40)])
    assert np.mean(drawn % 9 == 0) == pytest.approx(1 / 3, abs=0.05)
    assert np.mean(drawn % 9 == 8) == pytest.approx(1 / 12, abs=0.03)


def test_chances_are_those_of_an_epoch():
    frame_of_row = np.array([0, 0, 0, 1, 2, 2])
    chances = draw_chances(frame_of_row)
    assert np.allclose(chances, [1 / 3, 1 / 3, 1 / 3, 1, 1 / 3, 2 / 3])
    batches = FrameBatches(np.repeat(np.arange(40), 5), batch_size=5, seed=0)
    drawn = np.bincount(np.concatenate([batches.epoch(number) for number in range(300)]), minlength=200)
    assert np.allclose(drawn.reshape(40, 5).mean(0) / 300, draw_chances(np.repeat([0], 5)), atol=0.02)


def test_what_copies_are_not_asked_has_its_share_all_the_same():
    """Copies are asked less about the street: counted as often as frames, they would take its share away."""
    frames, copies = rows_with(["Yes.", "No.", "No.", "No."]), [{"questions": other_questions()}] * 12
    rows = [row for i in range(4) for row in (frames[i], *copies[3 * i : 3 * i + 3])]
    chances = draw_chances(np.repeat(np.arange(4), 4))
    weights = QuestionWeights(rows, balance=1.0, chances=chances).weights
    shares = Counter()
    for row, chance, values in zip(rows, chances, weights, strict=True):
        for question, value in zip(row["questions"], values, strict=True):
            shares[question["family"], question["answer"] if question["family"] == "a" else ""] += (
                chance * value
            )
    assert shares["a", "Yes."] == pytest.approx(0.5)
    assert shares["a", "No."] == pytest.approx(0.5)
    assert shares["b", ""] == pytest.approx(1)


def test_what_waits_for_its_step_is_drawn_as_often():
    weights = QuestionWeights(rows_with(["Yes.", "No."]), balance=0.0)
    rng, every, total = np.random.default_rng(0), 4, Counter()
    for step in range(4000):
        factors = np.ones(7)
        factors[1] = every if step % every == 0 else 0
        for question, weight in zip(*weights.draw(0, 2, rng, factors), strict=True):
            total[int(question)] += weight
    others = [total[question] for question in range(2, 7)]
    assert total[1] / np.mean(others) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("family", "answer", "key"),
    [
        ("turn_left", "Yes, the left lane is clear.", "Yes"),
        ("command_turn_left", "Not safe, a vehicle is there.", "Not safe"),
        ("command_turn_left", "Safe.", "Safe"),
        ("move_forward", "No, a red light.", "No, a red light."),
        ("weather", "Rainy.", "Rainy."),
    ],
)
def test_a_decision_is_one_answer_whatever_its_reason(family, answer, key):
    assert answer_key({"family": family, "answer": answer}) == key


def test_frames_with_a_rare_answer_are_drawn_more_often():
    answers = ["No, a vehicle."] * 90 + ["No, an obstacle."] * 10
    rows = [{"questions": [{"family": "move_forward", "answer": answer}]} for answer in answers]
    rows.append({"questions": []})
    weights = frame_weights(rows, "move_forward", 0.5)
    assert weights[-1] == 1.0  # unknown is neither rare nor common
    assert weights[95] / weights[0] == pytest.approx(3.0)
    batches = FrameBatches(np.arange(len(rows)), 8, seed=0, weights=weights)
    drawn = np.bincount(np.concatenate([batches.epoch(e) for e in range(50)]), minlength=len(rows))
    assert drawn.sum() == 50 * len(rows)  # an epoch keeps its length
    assert drawn[90:100].mean() / drawn[:90].mean() == pytest.approx(3.0, rel=0.1)


def test_without_weights_an_epoch_draws_every_frame_once():
    assert sorted(FrameBatches(np.arange(37), 8, seed=3).epoch(5)) == list(range(37))


@pytest.mark.parametrize("kind", ["pasted", "joined"])
def test_frames_that_show_parts_of_others_are_balanced_by_themselves(kind):
    """Else a seam would say "Yes", and frames without one would teach "No" oftener than was asked for."""
    rows = rows_with(["Yes."] * 10 + ["No."] * 90 + ["Yes."] * 70 + ["No."] * 30)
    rows[100:] = [{**row, kind: True} for row in rows[100:]]
    first = np.array([weights[0] for weights in QuestionWeights(rows, balance=1.0).weights])
    assert first[:10].sum() == pytest.approx(first[10:100].sum())
    assert first[100:170].sum() == pytest.approx(first[170:].sum())
