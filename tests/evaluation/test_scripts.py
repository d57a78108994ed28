"""Sensitivity, failures, pictures and the metric module: each once, on the tiny checkpoint."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import evaluate
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from traffic_vlm.evaluation import evaluator, explain, failures, robustness
from traffic_vlm.evaluation.metrics import family_table
from traffic_vlm.evaluation.predict import DatasetError, fingerprint
from traffic_vlm.processing.loading import check_checkpoint
from traffic_vlm.processing.pipeline_traffic_vlm import TrafficQuestionAnsweringPipeline

ROOT = Path(__file__).parents[2]


def test_the_metric_loads_by_path_and_agrees_with_the_table():
    metric = evaluate.load(str(ROOT / "evaluation" / "decision_metric"))
    rows = [
        {"prediction": p, "answer": a, "family": "turn", "image_id": i}
        for p, a, i in (
            ("Not safe.", "No.", "a"),
            ("Yes, go", "No.", "b"),
            ("potato", "Yes.", "c"),
            ("yes", "Yes.", "d"),
        )
    ]
    result = metric.compute(
        predictions=[row["prediction"] for row in rows],
        references=[row["answer"] for row in rows],
        family=[row["family"] for row in rows],
        image_id=[row["image_id"] for row in rows],
    )
    assert result["balanced_accuracy"] == 0.5
    assert result["unparsed"] == 1
    assert result["families"] == family_table(rows)


def test_sensitivity_measures_every_severity_beside_the_clean_score(checkpoint, dataset, tmp_path):
    result = robustness.measure(
        checkpoint, dataset, "val", tmp_path, 4, ("fog", "crop", "occluded_evidence"), (1, 5)
    )
    assert set(result["corrupted"]) == {"fog", "crop", "occluded_evidence"}
    assert result["corrupted"]["crop"][5]["ratio"] is None  # boxes no longer say where things are
    assert result["corrupted"]["fog"][1]["ratio"] > 0
    assert json.loads((tmp_path / "sensitivity.json").read_text(encoding="utf-8"))["frames"] == 4
    page = (tmp_path / "sensitivity.md").read_text(encoding="utf-8")
    assert page.count("| fog |") == 1
    assert robustness.mean_in_words(result["mean_corruption_error"])[1:] in page
    assert "a part of every labelled object is blanked" in page
    drawn = {path.name for path in tmp_path.glob("sensitivity-*.png")}
    assert set(re.findall(r"!\[\]\((.+?)\)", page)) == drawn
    assert "sensitivity-grounding.png" in drawn


def test_an_interrupted_sensitivity_goes_on_where_it_was(checkpoint, dataset, tmp_path, monkeypatch):
    measure = [checkpoint, dataset, "val", tmp_path, 2]
    first = robustness.measure(*measure, ("fog",), (1,))
    asked = []
    real = robustness.predict
    monkeypatch.setattr(robustness, "predict", lambda *a, **k: asked.append(k["name"]) or real(*a, **k))
    second = robustness.measure(*measure, ("fog",), (1, 5))
    assert asked == ["fog 5"]
    assert second["corrupted"]["fog"][1] == first["corrupted"]["fog"][1]
    robustness.measure(*measure[:4], 3, ("fog",), (1,))  # other frames: nothing of it fits
    assert asked == ["fog 5", "clean", "fog 1"]


def test_the_first_process_alone_writes_the_sensitivity(checkpoint, dataset, tmp_path, monkeypatch):
    other = SimpleNamespace(is_main_process=False, wait_for_everyone=lambda: None)
    monkeypatch.setattr(robustness, "processes", lambda: other)
    assert robustness.measure(checkpoint, dataset, "val", tmp_path, 1, ("fog",), (1,)) is None
    assert not list(tmp_path.iterdir())


def test_corruption_error_is_relative_to_the_clean_error():
    scores = {1: {"balanced_accuracy": 0.7}, 5: {"balanced_accuracy": 0.5}}
    result = {
        "clean": {"balanced_accuracy": 0.8},
        "corrupted": {"fog": scores, "night": {1: {"balanced_accuracy": 0.8}}},
    }
    errors = robustness.corruption_errors(result)
    assert errors["by_corruption"] == {"fog": pytest.approx(2.0), "night": pytest.approx(1.0)}
    assert errors["mean"] == pytest.approx(2.0)  # night is none of the fifteen
    assert robustness.mean_in_words(errors).endswith("over 1 of the 15 common kinds: 2.00")
    assert (
        robustness.corruption_errors({"clean": {"balanced_accuracy": None}, "corrupted": {}})["mean"] is None
    )


def test_occlusion_covers_more_with_severity_and_elsewhere_spares_the_objects(frames):
    row = next(row for row in frames if row["objects"])
    picture, clean = row["image"], np.asarray(row["image"], float)
    covered = [
        np.abs(np.asarray(robustness.occlude(picture, row, s, 0, False), float) - clean).sum() for s in (1, 5)
    ]
    assert 0 < covered[0] < covered[1]
    around = np.abs(np.asarray(robustness.occlude(picture, row, 5, 0, True), float) - clean).sum(-1)
    for thing in row["objects"]:
        x1, y1, x2, y2 = thing["box"]
        inside = around[int(y1 * 180) + 1 : int(y2 * 180) - 1, int(x1 * 320) + 1 : int(x2 * 320) - 1]
        assert inside.max() == 0


def test_both_occlusions_cover_equally_much_and_leave_alone_what_finds_no_room():
    noise = np.random.default_rng(0).integers(0, 255, (180, 320, 3), dtype=np.uint8)
    large, small = [0.0, 0.1, 0.75, 0.9], [0.8, 0.5, 0.9, 0.7]
    row = {"objects": [{"box": large}, {"box": small}]}
    evidence, around = (
        (np.asarray(robustness.occlude(Image.fromarray(noise), row, 5, 0, around)) != noise).any(-1)
        for around in (False, True)
    )
    assert not evidence[:, :240].any()
    assert evidence[91:125, 257:287].mean() > 0.95
    assert around.sum() == pytest.approx(evidence.sum(), rel=0.1)
    assert not (around & evidence).any()


def decided(**changes):
    row = {"image_id": "a", "question_index": 0, "family": "presence_car", "question": "Is there a car?"}
    row |= {"answer": "No.", "prediction": "Yes.", "confidence": 0.99, "rule": "r", "evidence": None}
    row |= {"weather": "rainy", "timeofday": "night", "scene": None, "num_objects": 3}
    return {**row, **changes}


def test_a_label_is_doubted_only_if_the_answer_is_sure_and_stays():
    rows = [decided(image_id=i) for i in "abc"] + [
        decided(image_id="d", confidence=0.5),
        decided(image_id="e", answer="Yes."),
    ]
    table = failures.errors_of(pd.DataFrame(rows))
    other = table[["image_id", "question_index", "prediction"]]
    mirrored = other.assign(prediction=["Yes.", "No.", "Yes.", "Yes.", "Yes."])
    others = {"paraphrased": other, "mirrored": mirrored}
    assert failures.doubted(table, others).tolist() == [True, False, True, False, False]
    assert not failures.doubted(table, {"mirrored": mirrored}).any()


def test_causes_are_slices_that_fail_more_often():
    good = [decided(image_id=f"g{i}", prediction="No.", timeofday="daytime") for i in range(40)]
    bad = [decided(image_id=f"b{i}", prediction="Yes." if i < 30 else "No.") for i in range(40)]
    table = failures.errors_of(pd.DataFrame(good + bad))
    (cause, *_) = failures.causes(table)
    assert (cause["group"], cause["slice"], cause["value"]) == ("presence", "timeofday", "night")
    assert cause["excess"] == pytest.approx(30)
    (cluster,) = failures.clusters(table)
    assert (cluster["truth"], cluster["decision"], cluster["n"], cluster["share"]) == ("no", "yes", 30, 1.0)


def test_the_page_of_failures_needs_nothing_but_itself(reported, checkpoint, dataset):
    _, output = reported
    path = failures.write(output, checkpoint, dataset, "val", most=4)
    page = path.read_text(encoding="utf-8")
    assert page.count("<figure>") >= 4
    assert page.count("faithfulness: deletion") == page.count("<figure>")  # no heat map without its score
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<title>Failures on val</title>" in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_failures_of_another_split_are_refused(reported, checkpoint, dataset, capsys):
    _, output = reported
    arguments = ["--report", output, "--checkpoint", checkpoint, "--dataset", dataset, "--split", "train"]
    assert failures.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert "not about split 'train'" in error
    assert "frame 0 is frame2, not frame0" in error
    assert "\n" not in error


def test_maps_are_not_drawn_for_another_models_answers(reported, checkpoint, dataset, tmp_path):
    _, output = reported
    arguments = (dataset, "val", 4)
    shutil.copytree(output, tmp_path / "out")
    asked = json.loads((tmp_path / "out/asked.json").read_text(encoding="utf-8"))
    assert asked == {
        "weights": fingerprint(checkpoint),
        "constrained": False,
        "mirror": False,
        "frames": None,
    }
    shutil.copytree(checkpoint, tmp_path / "other")
    (tmp_path / "other/more.safetensors").write_bytes(b"other weights")
    with pytest.raises(DatasetError, match=r"these answers are not of .*other"):
        failures.write(tmp_path / "out", tmp_path / "other", *arguments)
    (tmp_path / "out/asked.json").unlink()
    with pytest.raises(DatasetError, match="no checkpoint gave these answers"):
        failures.write(tmp_path / "out", checkpoint, *arguments)


def test_pictures_of_one_answer_are_drawn_at_the_frames_size(tiny, frames, tmp_path):
    row = next(row for row in frames if row["objects"])
    boxes = [thing["box"] for thing in row["objects"]]
    result = explain.explain(*tiny, row["image"], "Is there a car?", tmp_path, boxes)
    pipe = TrafficQuestionAnsweringPipeline(model=tiny[0], processor=tiny[1])
    (said,) = pipe(image=row["image"], question="Is there a car?")
    assert (result["answer"], result["confidence"]) == (said["answer"], round(said["confidence"], 4))
    assert set(result["scores"]) == {"evidence", "gradient", "rollout"}
    assert all({"deletion", "insertion", "ratio"} <= set(s) for s in result["scores"].values())
    sheets, overlays = result["pictures"][:5], result["pictures"][5:]
    assert all(Image.open(path).width >= 320 for path in sheets)
    assert len(overlays) >= 3  # the evidence map, a word at least, and the average over the answer
    for path in overlays:  # the frame, untouched in size, and a caption below it
        drawn = Image.open(path)
        assert drawn.width == 360 > row["image"].width
        assert drawn.height > row["image"].height


def test_the_old_spellings_run_from_a_checkout():
    for module in ("evaluation.evaluator", "visualization.attention_viz"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "--checkpoint" in done.stdout


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (explain.main, ["--image", "none.jpg", "--text", "Why?", "--checkpoint", "."], "none.jpg"),
        (robustness.main, ["--dataset", "nowhere"], "nowhere: no such data set"),
        (failures.main, ["--dataset", "nowhere", "--report", "nowhere"], "no such predictions file"),
    ],
)
def test_a_script_that_cannot_work_says_so_in_one_line(
    main, arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (
            explain.main,
            ["--image", "f.jpg", "--text", "Why?", "--box", "100", "50", "300", "200"],
            "fractions",
        ),
        (explain.main, ["--image", "f.jpg", "--text", "Why?", "--box", "0.5", "0", "0.2", "1"], "fractions"),
        (evaluator.main, ["--dataset", "d", "--frames", "-5"], "--frames must be at least 1"),
    ],
)
def test_values_without_a_meaning_are_refused(main, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_misspelt_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name in ("runs/mistyped", "checkpoints/traffic-vln", "mine/mistyped", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="no such checkpoint folder"):
            check_checkpoint(name)
    check_checkpoint("someone/traffic-vlm")
