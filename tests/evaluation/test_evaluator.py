"""The whole way from a tiny model to a report, on one process and two, and from disorderly files."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from launching import ON_CPU
from launching import processes as processes_command
from traffic_vlm.evaluation import alignment, evaluator, report, views
from traffic_vlm.evaluation.metrics import PredictionError
from traffic_vlm.evaluation.predict import DatasetError, load

ROOT = Path(__file__).parents[2]


def launch(*arguments, processes=1):
    command = processes_command(processes)
    command += [str(ROOT / "scripts" / "evaluate.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=ON_CPU, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_the_report_is_complete_and_readable(reported):
    result, output = reported
    assert json.loads((output / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    page = (output / "report.md").read_text(encoding="utf-8")
    for title in (
        "At a glance",
        "Families",
        "Baselines",
        "Consistency",
        "Confidence",
        "Grounding",
        "Slices",
        "Classes",
    ):
        assert f"## {title}" in page
    for picture in ("families", "heads", "faithfulness", "reliability", "risk-coverage", "slices"):
        assert (output / f"{picture}.png").stat().st_size > 5000
    assert result["verdict"]["sentence"] in page
    assert set(result["to_beat"]) < set(result["headline"])
    five = next(row for row in result["families"] if row["family"] == "move_forward (five-way)")
    assert result["to_beat"]["move forward, five-way: accuracy"]["value"] == five["commonest_accuracy"]
    assert "| mass ratio (mean over categories) | " in page
    blind = result["grounding"]["presence"]["mean_over_categories"]["blind_ratio"]["mean"]
    assert result["to_beat"]["mass ratio (mean over categories)"]["value"] == max(1, blind)
    assert result["verdict"]["proven"] is False  # ten painted frames prove nothing
    assert "nan" not in page.lower().replace("commonest", "")


def test_every_baseline_stands_beside_the_model(reported):
    result, _ = reported
    wanted = {
        "label oracle",
        "grey picture",
        "commonest answer in training",
        "question only",
        "attributes only",
    }
    assert set(result["baselines"]) == wanted
    assert all(row["accuracy"] == 1.0 for row in result["baselines"]["label oracle"])
    assert all("gain" in row for row in result["families"] if row["classes"] > 1)
    assert set(result["consistency"]) >= {
        "opposites",
        "yes_ratio",
        "paraphrased",
        "mirrored",
        "adversarial_presence",
    }


def test_the_temperature_comes_from_the_split_that_is_kept_for_it(reported):
    result, _ = reported
    assert result["calibration"]["temperature_fitted_on"] == "tune"


def test_both_readings_of_moving_forward_are_reported(reported):
    result, output = reported
    assert result["all_frames"]["n"] == result["frames"]
    assert "| every frame | 10 |" in (output / "report.md").read_text(encoding="utf-8")


def test_two_processes_report_what_one_reports(reported, checkpoint, dataset, tmp_path):
    _, alone = reported
    launch("--checkpoint", checkpoint, "--dataset", dataset, "--output", tmp_path, processes=2)
    names = sorted(path.name for path in alone.glob("predictions*.parquet"))
    assert names == sorted(path.name for path in tmp_path.glob("predictions*.parquet"))
    for name in names:
        pd.testing.assert_frame_equal(load(alone / name), load(tmp_path / name))
    assert (alone / "report.json").read_text("utf-8") == (tmp_path / "report.json").read_text("utf-8")


def test_any_models_predictions_are_scored_against_the_data_set(dataset, tmp_path):
    table = alignment.question_table(evaluator.open_frames(dataset, "val"))
    file = tmp_path / "theirs.csv"
    given = table.assign(prediction=table["answer"])[["image_id", "question", "prediction"]].iloc[5:]
    stranger = pd.DataFrame({"image_id": ["else"], "question": ["Why?"], "prediction": ["Yes."]})
    pd.concat([given, given.iloc[:3], stranger]).to_csv(file, index=False)
    result = evaluator.evaluate_predictions(file, tmp_path / "out", dataset)
    assert result["alignment"] == {"missing": 5, "extra": 1, "duplicate": 3}
    assert sum(row["unparsed"] for row in result["families"] if "five-way" not in row["family"]) == 5
    assert result["calibration"] is None
    assert result["verdict"]["sentence"].endswith("it was not measured.")
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "5 missing, 1 extra, 3 duplicate" in page


def test_another_models_predictions_stand_beside_the_same_baselines(dataset, tmp_path):
    table = alignment.question_table(evaluator.open_frames(dataset, "val"))
    file, output = tmp_path / "theirs.parquet", tmp_path / "out"
    table.assign(prediction="Yes.")[["image_id", "question", "prediction"]].to_parquet(file)
    result = evaluator.evaluate_predictions(file, output, dataset)
    assert set(result["baselines"]) == {
        "label oracle", "commonest answer in training", "question only", "attributes only",
    }  # fmt: skip
    assert (output / "training-questions.parquet").is_file()
    bare = table.assign(prediction="Yes.")[["image_id", "family", "answer", "prediction"]]
    bare.to_parquet(file)
    result = evaluator.evaluate_predictions(file, output)  # nothing of the first data set is left
    assert set(result["baselines"]) == {"label oracle"}


def test_ids_and_answers_that_look_like_numbers_stay_text(tmp_path):
    file = tmp_path / "theirs.csv"
    file.write_text("image_id,question,prediction\n007,How many cars?,2\n", encoding="utf-8")
    assert load(file).iloc[0].tolist() == ["007", "How many cars?", "2"]


def test_contradicting_predictions_are_refused(dataset):
    frames = evaluator.open_frames(dataset, "val")
    table = alignment.question_table(frames).assign(prediction="Yes.")
    other = table.iloc[:1].assign(prediction="No.")
    with pytest.raises(PredictionError, match="different predictions"):
        alignment.align(pd.concat([table, other]), frames)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predictions", "missing.csv"], "no such predictions file"),
        (["--checkpoint", "nowhere", "--dataset", "nowhere"], "no such data set"),
        ([], "give --dataset"),
    ],
)
def test_the_command_ends_in_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluator.main([*arguments, "--output", "out"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


def test_what_asks_a_model_is_refused_beside_predictions(capsys):
    for option in (["--mirror"], ["--frames", "3"], ["--write-calibration"], ["--constrained"]):
        with pytest.raises(SystemExit):
            evaluator.main(["--predictions", "answers.csv", *option])
        assert f"{option[0]} is for asking a model" in capsys.readouterr().err


def test_calibration_is_fitted_to_answers_as_users_get_them(capsys):
    for option in (["--mirror"], ["--frames", "3"], ["--constrained"]):
        with pytest.raises(SystemExit):
            evaluator.main(["--dataset", "d", "--write-calibration", *option])
        assert f"leave out {option[0]}" in capsys.readouterr().err


def test_every_table_that_an_evaluation_writes_is_known_as_its_own(reported):
    _, output = reported
    written = {path.stem.removeprefix("predictions") for path in output.glob("predictions*.parquet")}
    assert {"", "-shuffled", "-tune"} <= written <= set(views.SUFFIXES)


def test_scoring_leaves_other_models_answers_alone(dataset, tmp_path):
    table = alignment.question_table(evaluator.open_frames(dataset, "val"))
    bare = table.assign(prediction="Yes.")[["image_id", "family", "answer", "prediction"]]
    names = ["predictions_theirs.parquet", "predictions-run2.parquet", "predictions-shuffled.parquet"]
    for name in names:
        bare.to_parquet(tmp_path / name)
    evaluator.evaluate_predictions(tmp_path / names[0], tmp_path)
    assert (tmp_path / names[1]).is_file()
    assert not (tmp_path / names[2]).exists(), "of an evaluation that was here"


def test_a_split_that_is_not_there_is_named(dataset):
    with pytest.raises(DatasetError, match="'nowhere'"):
        evaluator.open_frames(dataset, "nowhere")


def grounded(above, ratio, difference, above_blind=(0.1, 0.2)):
    spans = {"above_centre": above, "ratio": ratio, "above_blind": above_blind, "ratio_above_blind": (1, 2)}
    everything = {name: {"mean": np.mean(span), "interval": span} for name, span in spans.items()}
    drop = {"n": 9, "difference": {"mean": np.mean(difference), "interval": difference}}
    return {"presence": {"all": everything}, "drop": drop}


@pytest.mark.parametrize(
    ("case", "proven", "says"),
    [
        (grounded((0.1, 0.2), (3, 4), (0.1, 0.2)), True, "prove grounding: the pointing game"),
        (grounded((-0.1, 0.2), (3, 4), (0.1, 0.2)), False, "not shown that the pointing game is above"),
        (grounded((0.1, 0.2), (0.9, 4), (-0.1, 0.2)), False, "mass ratio is above 1; nor that blanking"),
        (
            grounded((0.1, 0.2), (3, 4), (0.1, 0.2), (-0.1, 0.2)),
            False,
            "not shown that the pointing game is above the blind map's. (Shown is",
        ),
        (grounded((0.1, 0.2), (3, 4), (0.0, 0.2)), False, "not shown that blanking the evidence"),
        (None, False, "it was not measured"),
    ],
)
def test_the_verdict_follows_its_rule(case, proven, says):
    verdict = report.verdict(case)
    assert verdict["proven"] is proven
    assert says in verdict["sentence"]
    assert verdict["sentence"].startswith(
        "The visualisations prove" if proven else "The visualisations do not prove"
    )
