"""Opposite questions and mirrored frames stand together, and contradictions cost something."""

import numpy as np
import pytest
import torch
from traffic_vlm.processing.bdd100k.mirror import mirror_text
from traffic_vlm.processing.tokenization_traffic_vlm import train_tokenizer
from traffic_vlm.training.collator import Collator
from traffic_vlm.training.consistency import (
    PairCollator,
    are_opposite,
    consistency_loss,
    opposites,
    with_opposites,
)
from traffic_vlm.training.losses import scored_positions
from traffic_vlm.training.objectives import AnswerObjective
from traffic_vlm.training.recipe import LossSection, Recipe
from traffic_vlm.training.sampling import QuestionWeights


def question(family, text, answer, pair=None):
    return {"family": family, "question": text, "answer": answer, "pair_id": pair, "evidence": []}


QUESTIONS = [
    question("lane_clear_left", "Is the left lane clear?", "Yes, it is clear.", "a/left"),
    question("lane_blocked_left", "Is the left lane blocked?", "No, it is clear.", "a/left"),
    question("lane_blocked_left", "Is my left lane taken?", "No, it is clear.", "a/left"),
    question("weather", "What is the weather?", "Rainy."),
    question("place", "Where is this?", "On the right."),
    question("presence_bus", "Is there a bus?", "No.", "a/bus"),
    question("absence_bus", "Are there no buses?", "Yes.", "a/bus"),
]


class Frames:
    """Two frames with the same questions, in the place of a packed split."""

    rows = [{"questions": QUESTIONS, "objects": None, "drivable": None}] * 2
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tokenizer():
    texts = {text for q in QUESTIONS for text in (q["question"], q["answer"])}
    return train_tokenizer(texts | set(map(mirror_text, texts)))


def test_an_opposite_is_of_one_pair_and_another_family():
    assert are_opposite(QUESTIONS[0], QUESTIONS[1])
    assert not are_opposite(QUESTIONS[1], QUESTIONS[2])  # the same asked in other words
    assert not are_opposite(QUESTIONS[3], QUESTIONS[4])  # neither has an opposite
    assert opposites([QUESTIONS[i] for i in (0, 3, 6, 1, 5)]) == [(0, 3), (2, 4)]


def test_opposites_take_the_last_places_and_their_questions_weight():
    chosen, weights = np.array([0, 5, 3, 4]), np.array([1.0, 2.0, 3.0, 4.0])
    everything = np.ones(7, dtype=bool)
    asked, weighed = with_opposites(QUESTIONS, chosen, weights, everything)
    assert asked.tolist() == [0, 5, 1, 6]
    assert weighed.tolist() == [1.0, 2.0, 1.0, 2.0]
    short = everything & (np.arange(7) != 1) & (np.arange(7) != 6)
    assert with_opposites(QUESTIONS, chosen, weights, short)[0].tolist() == [0, 5, 3, 2]
    alone = np.array([3, 4, 0, 5])
    assert with_opposites(QUESTIONS, alone, weights, everything)[0].tolist() == [3, 4, 0, 5]


def test_each_frame_stands_in_the_batch_as_it_is_and_mirrored(tokenizer):
    collator = PairCollator(Frames(), QuestionWeights(Frames.rows), tokenizer, (2, 3), 4, 0.5, 99, seed=1)
    batch = collator(3, np.array([1, 0]))
    assert torch.equal(batch.pixel_values[2:], batch.pixel_values[:2].flip(-1))
    lines = [text.split("\n") for text in tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True)]
    answers = {q["question"]: q["answer"] for q in QUESTIONS}
    kinds = set()
    for one, other in batch.pairs.tolist():
        if other == one + 8:  # the same question about the mirrored frame
            kinds.add("mirrored")
            assert [mirror_text(text) for text in lines[one]] == lines[other]
        else:
            kinds.add("opposite")
            texts = [lines[row][0] if row < 8 else mirror_text(lines[row][0]) for row in (one, other)]
            assert one // 4 == other // 4  # of one frame
            assert {answers[text].split(",")[0].rstrip(".") for text in texts} == {"Yes", "No"}
    assert kinds == {"mirrored", "opposite"}
    plain = Collator(Frames(), QuestionWeights(Frames.rows), tokenizer, (2, 3), 4, 0.0, 99, seed=1)
    assert torch.equal(plain(3, np.array([1, 0])).pixel_values, batch.pixel_values[:2])
    alone = PairCollator(Frames(), QuestionWeights(Frames.rows), tokenizer, (2, 3), 1, 0.5, 99, seed=1)
    pairs = alone(3, np.array([1, 0])).pairs  # one question a frame leaves no room for its opposite
    assert torch.equal(pairs, torch.tensor([[0, 2], [1, 3]]))


def test_contradictions_cost_and_agreement_does_not():
    labels = torch.full((4, 4), -100)
    labels[0, 2], labels[1, 1:3], labels[2, 3], labels[3, 2] = 5, torch.tensor([7, 1]), 5, 7
    count = int(scored_positions(labels).sum())
    first = {0: 0, 1: 1, 2: 3, 3: 4}  # where each row's decision stands among the scored tokens
    logits = torch.zeros(count, 9)
    pairs = torch.tensor([[0, 1], [2, 3]])
    assert consistency_loss(logits, labels, pairs) == 0  # all answers as likely
    logits[first[0], 5] = logits[first[1], 7] = 3.0
    assert consistency_loss(logits, labels, pairs) == pytest.approx(0, abs=1e-6)  # both as sure
    logits[2] = torch.randn(9)  # what follows a decision does not matter
    assert consistency_loss(logits, labels, pairs) == pytest.approx(0, abs=1e-6)
    logits[first[3], 5] = 3.0  # of the second pair one denies what the other leaves open
    right = torch.softmax(logits, -1)
    expected = float(right[first[2], 5] - right[first[3], 7]) ** 2
    assert expected > 0.001
    assert consistency_loss(logits, labels, pairs).item() == pytest.approx(expected, rel=1e-5)
    assert consistency_loss(logits, labels, pairs[:0]) == 0


def test_a_run_learns_not_to_contradict_itself(make_recipe):
    from traffic_vlm.training.trainer import Trainer

    options = ("loss.objective=consistent_answers", "optim.epochs=5")
    values = {}
    for name, more in (
        ("free", ("loss.consistency_weight=0",)),
        ("held", ("loss.consistency_weight=50",)),
        ("in parts", ("loss.consistency_weight=50", "optim.micro_batch_size=3")),
    ):
        trainer = Trainer(make_recipe(*options, *more, output="consistent"))
        batches = next(iter(trainer._loader(0)))
        assert sum(len(batch.pixel_values) for batch in batches) == 2 * 8
        values[name] = []
        for _ in range(1 if name == "in parts" else 15):
            values[name].append(trainer._step(batches))
            trainer.position["step"] += 1
    for part, value in values["in parts"][0].items():
        assert value == pytest.approx(values["held"][0][part], rel=1e-3, abs=1e-6)
    assert values["held"][-1]["consistency"] < 0.7 * values["free"][-1]["consistency"]
    assert values["held"][-1]["answers"] < values["held"][0]["answers"]


def test_weights_move_between_their_ends():
    recipe = Recipe(
        loss=LossSection(patch_weight=30, patch_final=10, grounding_weight=0.0, grounding_final=1.0)
    )
    objective = AnswerObjective(recipe, torch.nn.Identity())
    assert objective.weights(0.25) == [1.0, 25.0, 0.25]
    recipe.loss.patch_final = None
    assert objective.weights(0.25) == [1.0, 30.0, 0.25]
