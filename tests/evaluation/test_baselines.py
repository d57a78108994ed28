"""Baselines know what they were given and no more."""

import numpy as np
import pandas as pd
from traffic_vlm.evaluation import baselines as b
from traffic_vlm.evaluation.metrics import family_table


def made(n=400, seed=0):
    rng = np.random.default_rng(seed)
    time = rng.choice(["daytime", "night"], n)
    leaky = np.where(rng.random(n) < 0.5, "Is there really a car?", "Is there a car?")
    odd = np.arange(n) % 2 == 1
    is_yes = np.where(odd, leaky == "Is there really a car?", time == "night")
    return pd.DataFrame({
        "image_id": [f"f{i}" for i in range(n)],
        "family": np.where(odd, "leaks", "dark"),
        "question": leaky,
        "answer": np.where(is_yes, "Yes.", "No."),
        "prediction": "No.",
        "weather": None,
        "timeofday": time,
        "scene": "highway",
    })  # fmt: skip


def balanced(predictions):
    return {row["family"]: row["balanced_accuracy"] for row in family_table(predictions, samples=20)}


def test_each_baseline_finds_what_its_input_gives_away():
    train, table = made(seed=1), made(seed=2)
    words = balanced(b.question_only(train, table))
    assert words["leaks"] == 1.0
    assert abs(words["dark"] - 0.5) < 0.15
    attributes = balanced(b.attributes_only(train, table))
    assert attributes["dark"] == 1.0
    assert abs(attributes["leaks"] - 0.5) < 0.15
    assert set(balanced(b.commonest(train, table)).values()) == {0.5}
    assert set(balanced(b.oracle(table)).values()) == {1.0}


def test_yes_and_no_and_the_five_ways_are_decided_apart():
    """Of those who ask "May I?" most hear yes, though the no of a person is never said to others."""
    made = [("Yes, the way is clear.", "May I?")] * 28 + [("Yes, the way is clear.", "Should I?")] * 12
    made += [("No, a person is in the way.", "May I?"), ("No, a red light.", "Should I?")] * 20
    made += [("No, a vehicle is in the way.", "Should I?")] * 20
    table = pd.DataFrame(made, columns=["answer", "question"]).assign(family="move_forward", prediction="")
    table["image_id"] = table.index.astype(str)
    two, five = family_table(b.question_only(table, table), samples=2)
    assert two["balanced_accuracy"] == round((28 / 40 + 40 / 60) / 2, 6)  # over texts, nobody would hear yes
    assert five["balanced_accuracy"] == 0.5  # all persons, all of red and vehicle's one, none that is safe
    two, five = family_table(b.commonest(table, table), samples=2)
    assert two["accuracy"] == 0.6  # no, though no text is as frequent as that of yes
    assert five["accuracy"] == 0.4


def test_a_family_without_training_rows_is_left_unanswered():
    train, table = made(seed=1), made(seed=2)
    for baseline in (b.commonest, b.question_only, b.attributes_only):
        predictions = baseline(train[train["family"] == "dark"], table)
        assert set(predictions.loc[predictions["family"] == "leaks", "prediction"]) == {""}


def test_rows_of_a_split_come_without_its_pictures(frames):
    rows = b.question_rows(frames, most_frames=5)
    assert set(rows.columns) == {"family", "question", "answer", "weather", "timeofday", "scene"}
    assert len(rows) == sum(len(frames[i]["questions"]) for i in range(0, 10, 2))
