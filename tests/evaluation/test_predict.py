"""Prediction: every question once, the same in any block, and views that change what they say they change."""

import math

import numpy as np
import pandas as pd
import pytest
from traffic_vlm.evaluation import asking, views
from traffic_vlm.evaluation import predict as p
from traffic_vlm.evaluation.answers import read
from traffic_vlm.processing.bdd100k.scene import CATEGORIES


@pytest.fixture(scope="module")
def table(tiny, frames):
    return p.predict(*tiny, p.clean(frames), len(frames), p.answer_sets(frames))


def test_every_question_is_answered_once_in_order(table, frames):
    asked = [(row["image_id"], q["question"], q["family"]) for row in frames for q in row["questions"]]
    assert list(table[["image_id", "question", "family"]].itertuples(index=False, name=None)) == asked
    assert table["confidence"].between(0, 1).all()


def test_score_yes_belongs_to_yes_no_families_alone(table):
    is_number = table["score_yes"].notna()
    assert is_number[table["family"].str.startswith("presence")].all()
    assert not is_number[table["family"].isin(["weather", "count_car"])].any()


def test_an_answer_in_yes_or_no_agrees_with_its_score(tiny, frames):
    chosen = p.predict(*tiny, p.clean(frames), 4, p.answer_sets(frames), constrained=True)
    chosen = chosen[chosen["score_yes"].notna()]
    says_yes = [read(text, "yes/no") == "yes" for text in chosen["prediction"]]
    assert (np.array(says_yes) == (chosen["score_yes"] > 0.5)).all()
    labels = p.answer_sets(frames)
    assert all(row.prediction in labels[row.family] for row in chosen.itertuples())


def test_blocks_do_not_change_an_answer(tiny, frames, table):
    again = p.predict(*tiny, p.clean(frames), len(frames), p.answer_sets(frames), block=3)
    assert (again["prediction"] == table["prediction"]).mean() > 0.99
    assert np.allclose(again["confidence"], table["confidence"], atol=1e-3)


def test_a_shuffled_view_keeps_questions_and_moves_every_picture(frames):
    clean = p.clean(frames)
    view = views.shuffled(clean, len(frames))
    for index in range(len(frames)):
        assert view(index)[1]["image_id"] == frames[index]["image_id"]
        assert view(index)[0].tobytes() != clean(index)[0].tobytes()


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_a_derangement_leaves_nothing_in_place(n):
    order = views.derangement(n, seed=4)
    assert sorted(order) == list(range(n))
    assert n == 1 or all(order[i] != i for i in range(n))


def test_a_mirrored_view_mirrors_picture_words_and_boxes(frames):
    clean = p.clean(frames)
    view = views.mirrored(clean)
    picture, row = view(0)
    assert np.array_equal(np.asarray(picture)[:, ::-1], np.asarray(clean(0)[0]))
    for before, after in zip(frames[0]["questions"], row["questions"], strict=True):
        assert ("left" in before["question"]) == ("right" in after["question"])
        for old, new in zip(before["evidence"], after["evidence"], strict=True):
            assert new == pytest.approx([1 - old[2], old[1], 1 - old[0], old[3]])


def test_paraphrases_are_held_out_and_keep_the_answer(frames):
    _, row = views.paraphrased(p.clean(frames))(0)
    assert [q["answer"] for q in row["questions"]] == [q["answer"] for q in frames[0]["questions"]]
    assert all(".h" in q["template"] for q in row["questions"])


def test_adversarial_questions_are_balanced_and_true(frames):
    together = views.companions(frames)
    assert together[CATEGORIES.index("car"), CATEGORIES.index("car")] == sum(
        any(o["category"] == "car" for o in row["objects"]) for row in frames
    )
    view = views.adversarial(p.clean(frames), together)
    for index, frame in enumerate(frames):
        questions = view(index)[1]["questions"]
        held = {o["category"] for o in frame["objects"]}
        for question in questions:
            category = question["template"].split(".")[0].removeprefix("presence_").replace("_", " ")
            assert question["answer"] == ("Yes." if category in held else "No.")
        answers = [q["answer"] for q in questions]
        assert answers.count("Yes.") <= answers.count("No.") <= 3


def test_every_wording_is_asked_once_about_a_grey_picture(tiny, frames, table):
    grey = asking.ask_grey(asking.asker(*tiny, p.answer_sets(frames), False, False), table)
    asked = table[~table["family"].str.startswith(("detect", "describe", "out_of_scope"))]
    columns = ["image_id", "question", "answer"]
    assert grey[columns].values.tolist() == asked[columns].values.tolist()
    assert (grey.groupby(["question", "family"])["prediction"].nunique() == 1).all()


def test_the_longest_answers_have_room(tiny, frames):
    labels = p.answer_sets(frames)
    lengths = {family: p.answer_length(tiny[1], answers) for family, answers in labels.items()}
    assert lengths["presence_car"] == p.LENGTHS[0]
    for family, answers in labels.items():
        longest = max(len(tiny[1].tokenizer(a, add_special_tokens=False)["input_ids"]) for a in answers)
        assert longest + 1 <= lengths[family]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".json"])
def test_predictions_of_any_model_are_read(tmp_path, suffix):
    table = pd.DataFrame({"image_id": ["a"], "family": ["f"], "answer": ["None"], "prediction": ["No."]})
    path = tmp_path / f"predictions{suffix}"
    writers = {".parquet": table.to_parquet, ".csv": lambda x: table.to_csv(x, index=False)}
    lines = suffix == ".jsonl"
    writers.get(suffix, lambda x: table.to_json(x, orient="records", lines=lines))(path)
    assert p.load(path).astype(str).values.tolist() == table.values.tolist()


@pytest.mark.parametrize("name", ["missing.parquet", "wrong.txt", "broken.parquet"])
def test_unreadable_predictions_end_in_one_line(tmp_path, name):
    path = tmp_path / name
    if name != "missing.parquet":
        path.write_text("this is not a table", encoding="utf-8")
    with pytest.raises(p.DatasetError, match=name) as error:
        p.load(path)
    assert "\n" not in str(error.value)


def test_a_data_set_that_is_not_there_ends_in_one_line(tmp_path):
    with pytest.raises(p.DatasetError, match="no such data set"):
        p.open_frames(tmp_path / "none", "val")
    with pytest.raises(p.DatasetError, match="not a checkpoint folder"):
        p.load_model(tmp_path)


def test_a_checkpoint_on_disk_answers_as_the_model_in_memory(checkpoint, frames, table):
    model, processor = p.load_model(checkpoint)
    again = p.predict(model, processor, p.clean(frames), len(frames), p.answer_sets(frames))
    assert again["prediction"].tolist() == table["prediction"].tolist()
    assert not math.isnan(again["confidence"].sum())


def test_a_family_without_known_labels_is_answered_freely(tiny, frames):
    labels = p.answer_sets(frames)
    del labels["weather"]
    chosen = p.predict(*tiny, p.clean(frames), 2, labels, constrained=True)
    asked = [q["family"] for row in frames[:2] for q in row["questions"]]
    assert chosen["family"].tolist() == asked
    assert "weather" in asked


def test_what_may_be_answered_is_not_learnt_from_the_reported_split():
    def split(**answers):
        asked = [{"family": name, "answer": one} for name, some in answers.items() for one in some]
        return [{"questions": asked}]

    reported = split(light_state=["Red."], place=["A tunnel."])
    tune, train = split(light_state=["Red.", "Green."]), split(weather=["Clear."])
    assert asking.answers_known(reported, tune, train) == {
        "light_state": ["Green.", "Red."],
        "place": ["A tunnel."],  # which nobody else was asked
        "weather": ["Clear."],
    }
    assert asking.answers_known(reported, None, None)["light_state"] == ["Red."]
