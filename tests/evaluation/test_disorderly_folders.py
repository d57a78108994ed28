"""Scoring what is not in order: folders that hold something already, and files that lack what others have."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest
from traffic_vlm.evaluation import alignment, evaluator
from traffic_vlm.evaluation.metrics import PredictionError
from traffic_vlm.evaluation.predict import TEMPERATURES, load, save
from traffic_vlm.evaluation.scoring import score

QUESTION = {"question": "q", "family": "turn_left", "answer": "Yes."}


def answered(family="turn_left", right=30, wrong=10, **columns):
    """Yes/no questions, one a frame: the right answers sure, the wrong ones less."""
    rows = [
        {
            "image_id": f"f{i:03}", "family": family, "question": f"{family}?",
            "answer": ("Yes.", "No.")[i % 2], "prediction": ("Yes.", "No.")[(i + (i >= right)) % 2],
            "confidence": 0.9 if i < right else 0.6,
        }
        for i in range(right + wrong)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


def with_temperatures(table):
    return table.assign(confidences=[[c] * len(TEMPERATURES) for c in table["confidence"]])


def page_of(folder):
    return (folder / "report.md").read_text(encoding="utf-8")


def test_a_mistyped_checkpoint_costs_nothing(dataset, tmp_path, capsys):
    save(answered(), tmp_path / "predictions.parquet")
    arguments = ["--checkpoint", tmp_path / "nowhere", "--dataset", dataset, "--output", tmp_path]
    assert evaluator.main([str(argument) for argument in arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")  # below the bars of the data set
    assert len(load(tmp_path / "predictions.parquet")) == 40


def test_a_folder_is_scored_again_with_its_views(tmp_path):
    save(answered(), tmp_path / "predictions.parquet")
    save(answered(prediction="Yes."), tmp_path / "predictions-shuffled.parquet")
    for _ in range(2):
        result = evaluator.evaluate_predictions(tmp_path / "predictions.parquet", tmp_path)
        assert result["families"][0]["shuffled_accuracy"] == 0.5
    other = tmp_path / "other.parquet"
    save(answered(), other)
    assert "gain" not in evaluator.evaluate_predictions(other, tmp_path)["families"][0]
    assert not (tmp_path / "predictions-shuffled.parquet").exists()  # it was of another model


def test_what_does_not_fit_the_views_replaces_nothing(dataset, tmp_path):
    questions = alignment.question_table(evaluator.open_frames(dataset, "val")).assign(prediction="Yes.")
    own, asked = tmp_path / "predictions.parquet", questions[questions["frame_index"] < 3]
    for path in (own, tmp_path / "predictions-shuffled.parquet"):
        save(asked, path)
    with pytest.raises(PredictionError, match="do not answer the same questions"):
        evaluator.evaluate_predictions(own, tmp_path, dataset)
    assert len(load(own)) == len(asked)


def test_leaving_out_the_hard_questions_does_not_pay(tmp_path):
    table = answered()
    hard = table["confidence"] < 0.9
    left_out = table.assign(
        prediction=table["prediction"].mask(hard), confidence=table["confidence"].mask(hard)
    )
    for name, given in (("all", table), ("some", left_out)):
        save(with_temperatures(given) if name == "all" else given, tmp_path / name / "predictions.parquet")
    everything, some = (score(tmp_path / name)["calibration"] for name in ("all", "some"))
    for found in (everything, some):
        assert found["groups"][0]["coverage"]["10%"] == 0.75
        assert found["groups"][0]["n"] == 40
    assert (everything["without_confidence"], some["without_confidence"]) == (0, 10)
    assert some["ece"] == some["groups"][0]["ece"] == pytest.approx(0.1)  # of the answers that were given
    assert "10 questions have no confidence" in page_of(tmp_path / "some")


def test_missing_rows_have_no_temperatures_either():
    frames = [{"image_id": i, "questions": [QUESTION]} for i in "ab"]
    given = pd.DataFrame({"image_id": ["a"], "question": ["q"], "prediction": ["Yes."], "confidence": [0.8]})
    joined, counts = alignment.align(with_temperatures(given), frames)
    assert counts == {"missing": 1, "extra": 0, "duplicate": 0}
    rows = evaluator.calibration.scorable(joined.assign(kind="yes/no", truth="yes", correct=[True, False]))
    assert evaluator.calibration.at_temperature(rows, 1.3).tolist() == pytest.approx([0.8, 0.0])
    assert rows["has_confidence"].tolist() == [True, False]


@pytest.mark.parametrize(("family", "fitted"), [("presence_car", "tune"), ("describe", None)])
def test_a_tuning_split_without_safety_questions_ends_no_report(tmp_path, family, fitted):
    save(with_temperatures(answered()), tmp_path / "predictions.parquet")
    save(with_temperatures(answered(family)), tmp_path / "predictions-tune.parquet")
    found = score(tmp_path)["calibration"]
    assert found["temperature_fitted_on"] == fitted
    assert "abstention" not in found
    assert ("No threshold was chosen" in page_of(tmp_path)) is (fitted is not None)
    assert ("not fitted" in page_of(tmp_path)) is (fitted is None)


def test_a_split_without_questions_and_a_file_about_another_are_refused():
    with pytest.raises(PredictionError, match="frames but no questions"):
        alignment.question_table([{"image_id": "a", "questions": []}])
    frames = [{"image_id": "a", "questions": [QUESTION]}]
    given = pd.DataFrame({"image_id": ["b"], "question": ["q"], "prediction": ["Yes."]})
    with pytest.raises(PredictionError, match="none of the predictions"):
        alignment.align(given, frames)


def test_a_list_is_no_prediction(tmp_path):
    frames = [{"image_id": "a", "questions": [QUESTION]}]
    file = tmp_path / "theirs.json"
    file.write_text('[{"image_id": "a", "question": "q", "prediction": ["Yes."]}]', encoding="utf-8")
    joined, _ = alignment.align(load(file), frames)
    assert joined["prediction"].tolist() == [""]


def test_copies_are_found_without_a_data_set(tmp_path):
    file, table = tmp_path / "theirs.csv", answered()
    pd.concat([table, table[:3]]).to_csv(file, index=False)
    result = evaluator.evaluate_predictions(file, tmp_path / "out")
    assert (result["rows"], result["alignment"]) == (40, {"duplicate": 3})
    assert "Predictions: 3 duplicate." in page_of(tmp_path / "out")
    pd.concat([table, table[:1].assign(prediction="No.")]).to_csv(file, index=False)
    with pytest.raises(PredictionError, match="different predictions"):
        evaluator.evaluate_predictions(file, tmp_path / "out")
    table.drop(columns="question").to_csv(file, index=False)
    evaluator.evaluate_predictions(file, tmp_path / "out")
    assert "twice was not checked" in page_of(tmp_path / "out")


def test_only_pictures_that_are_drawn_stand_on_the_page(tmp_path):
    for name in ("families.png", "heads.png", "sensitivity-accuracy.png"):
        (tmp_path / name).write_bytes(b"of another report")
    save(answered()[::2], tmp_path / "predictions.parquet")  # one class: no balanced accuracy to draw
    score(tmp_path)
    linked = re.findall(r"!\[\]\((.+?)\)", page_of(tmp_path))
    assert "families.png" not in linked
    assert "reliability.png" in linked
    assert {path.name for path in tmp_path.glob("*.png")} == {*linked, "sensitivity-accuracy.png"}


def test_other_processes_than_the_first_score_nothing(tmp_path, monkeypatch):
    save(answered(), tmp_path / "theirs.parquet")
    monkeypatch.setattr(evaluator, "processes", lambda: SimpleNamespace(is_main_process=False))
    assert evaluator.evaluate_predictions(tmp_path / "theirs.parquet", tmp_path / "out") is None
    assert not (tmp_path / "out").exists()
