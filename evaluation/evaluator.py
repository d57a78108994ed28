"""One folder with everything that can be said about a checkpoint, or about a file of predictions.

```
OUT/predictions.parquet        one row a question, what the model said
OUT/predictions-VIEW.parquet   the same questions about shuffled, grey, mirrored, ... pictures
OUT/report.json, report.md     every number; the same for people
OUT/*.png                      figures
```

`predict_views` asks the model, `score` reads the tables it leaves; `python scripts/evaluate.py` does one
after the other.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from PIL import Image

from . import baselines, calibration, consistency, figures, looking, report, views
from .metrics import (
    FIVE_WAY_FAMILY,
    PredictionError,
    as_table,
    box_scores,
    class_report,
    count_within_one,
    decide,
    family_table,
    frame_weights,
    kinds_of,
    with_five_way,
)
from .predict import DatasetError, answer_sets, clean, load, load_model, open_frames, predict, save
from .slices import slice_table
from .views import group_of

#: Too long to be asked of every view: their words are scored on clean pictures alone.
CLEAN_ONLY = ("detect", "describe", "out_of_scope")


def _short(family: str) -> bool:
    return not family.startswith(CLEAN_ONLY)


def predict_views(
    checkpoint: Path,
    dataset: Path,
    split: str,
    output: Path,
    most_frames: int | None = None,
    constrained: bool = False,
) -> None:
    """Ask a checkpoint everything that the report needs and leave the answers as Parquet files.

    Args:
        checkpoint: folder of the model.
        dataset: folder of the data set.
        split: the split that is reported.
        output: folder for the tables.
        most_frames: how many frames of each split, all by default.
        constrained: whether answers are chosen among the family's labels instead of generated.

    Raises:
        DatasetError: if data set or checkpoint cannot be used.
    """
    state = PartialState()
    frames = open_frames(dataset, split)
    model, processor = load_model(checkpoint)
    count = min(len(frames), most_frames or len(frames))
    labels, shown = answer_sets(frames), clean(frames)
    asked: dict[str, tuple[Any, int, dict[str, Any]]] = {
        "": (shown, count, {}),
        "-shuffled": (views.shuffled(shown, count), count, {}),
        "-mirrored": (views.mirrored(shown), count, {"families": _short}),
        "-paraphrased": (views.paraphrased(shown), count, {"families": _short}),
    }
    train = _optional(dataset, "train")
    if train is not None:
        together = views.companions(train)
        asked["-adversarial"] = (views.adversarial(shown, together), count, {})
        labels = {**labels, views.ADVERSARIAL: ["No.", "Yes."]}
    tune = _optional(dataset, "tune")
    if tune is not None and split != "tune":
        asked["-tune"] = (clean(tune), min(len(tune), most_frames or len(tune)), {"families": _short})
    tables = {}
    for name, (view, number, options) in asked.items():
        title = f"asking {name.strip('-') or split}"
        tables[name] = predict(
            model, processor, view, number, labels, constrained=constrained, name=title, **options
        )
    tables["-grey"] = _ask_grey(model, processor, tables[""], labels, constrained)
    if state.is_main_process:
        for name, table in tables.items():
            save(table, output / f"predictions{name}.parquet")
        if train is not None:
            save(baselines.question_rows(train), output / "training-questions.parquet")
    if getattr(model.config, "uses_cross_attention", True):  # a blind model has no maps
        found = looking.look(model, processor, shown, tables[""], output)
        if state.is_main_process:
            _write_json(found, output / "grounding.json")
    state.wait_for_everyone()


def _ask_grey(
    model: Any, processor: Any, table: pd.DataFrame, labels: Mapping[str, Sequence[str]], constrained: bool
) -> pd.DataFrame:
    """The answers about a grey picture: it is always the same, so every wording is asked once."""
    key, most = ["question", "family"], 256
    rows = table[table["family"].map(_short)]
    wordings = rows[key].drop_duplicates().to_dict("records")
    groups = [wordings[start : start + most] for start in range(0, len(wordings), most)]
    picture = Image.new("RGB", (512, 288), views.GREY)
    answered = predict(
        model,
        processor,
        lambda index: (picture, {"image_id": "grey", "questions": groups[index]}),
        len(groups),
        labels,
        constrained=constrained,
        block=1,
        name="asking grey",
    )
    said = ["prediction", "confidence", "confidences", "score_yes"]
    return rows.drop(columns=said).merge(answered[[*key, *said]], on=key, how="left", validate="many_to_one")


def _optional(dataset: Path, split: str) -> Any:
    """A split, or `None` where the data set has none of that name."""
    try:
        return open_frames(dataset, split)
    except DatasetError:
        return None


def score(output: Path, name: str = "") -> dict[str, Any]:
    """Score the tables in a folder and write report and figures beside them.

    Args:
        output: folder with `predictions.parquet` and what else `predict_views` left there.
        name: what is reported, shown in the title.

    Returns:
        The report as it stands in `report.json`.

    Raises:
        PredictionError: if the predictions cannot be scored.
    """
    table = as_table(load(output / "predictions.parquet"))
    others = {
        path.stem.removeprefix("predictions-"): load(path)
        for path in sorted(output.glob("predictions-*.parquet"))
    }
    kinds = kinds_of(table)
    decided = with_five_way(decide(table, kinds))
    rows = family_table(table, others.get("shuffled"))
    result: dict[str, Any] = {
        "name": name,
        "rows": len(table),
        "frames": int(table["image_id"].nunique()),
        "families": rows,
        "classes": {str(f): class_report(part) for f, part in decided.groupby("family")},
        "counting": {
            str(f): within
            for f, part in decided.groupby("family")
            if (within := count_within_one(part)) is not None
        },
        "boxes": {str(f): b for f, part in decided.groupby("family") if (b := box_scores(part)) is not None},
        "baselines": _baselines(table, rows, others, output),
        "consistency": _consistency(decide(table, kinds), others, kinds),
        "slices": slice_table(decide(table, kinds)),
        "grounding": _read_json(output / "grounding.json"),
    }
    result["calibration"], pictures = _calibration(decide(table, kinds), others, kinds)
    result["headline"] = report.headline(result)
    result["verdict"] = report.verdict(result["grounding"])
    _draw(result, pictures, output)
    _write_json(result, output / "report.json")
    (output / "report.md").write_text(report.markdown(result), encoding="utf-8", newline="\n")
    return result


def _baselines(
    table: pd.DataFrame, rows: Sequence[Mapping[str, Any]], others: Mapping[str, pd.DataFrame], output: Path
) -> dict[str, list[dict[str, Any]]]:
    """Scores of every baseline that the folder has the means for: name -> rows of `family_table`."""
    tables = {"label oracle": baselines.oracle(table)}
    if "grey" in others:
        tables["grey picture"] = others["grey"]
    path = output / "training-questions.parquet"
    if path.is_file():
        train = load(path)
        tables["commonest answer in training"] = baselines.commonest(train, table)
        tables["question only"] = baselines.question_only(train, table)
        if set(baselines.ATTRIBUTES) <= set(table.columns):
            tables["attributes only"] = baselines.attributes_only(train, table)
    keep = ("family", "n", "accuracy", "balanced_accuracy", "macro_f1", "exact")
    return {
        name: [{k: row[k] for k in keep if k in row} for row in family_table(other, samples=2)]
        for name, other in tables.items()
    }


def _consistency(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Everything of `consistency` that the folder has tables for."""
    result: dict[str, Any] = {
        "opposites": consistency.opposites(table),
        "yes_ratio": consistency.yes_ratio(table),
    }
    for name in ("paraphrased", "mirrored"):
        if name in others and "question_index" in table:
            other = decide(as_table(others[name]), kinds)
            result[name] = consistency.agreement(table, other, is_mirrored=name == "mirrored")
    if "adversarial" in others:
        asked = as_table(others["adversarial"])
        result["adversarial_presence"] = family_table(asked)[0]
        result["adversarial_yes_ratio"] = consistency.yes_ratio(decide(asked))["all"]
    return result


def _calibration(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame], kinds: Mapping[str, str]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Calibration, and what its figures need; `None` where predictions have no confidence."""
    rows = calibration.scorable(table)
    if rows.empty:
        return None, {}
    temperature, tuned = 1.0, None
    if "tune" in others:
        other = as_table(others["tune"])
        tuned = calibration.scorable(decide(other, {**kinds_of(other), **kinds}))
        temperature = calibration.fit_temperature(tuned)
    frames = {name: i for i, name in enumerate(sorted(rows["image_id"].astype(str).unique()))}
    rows = rows.assign(frame=rows["image_id"].astype(str).map(frames))
    confidence, raw = calibration.at_temperature(rows, temperature), rows["confidence"].to_numpy(float)
    groups: dict[str, list[str]] = {"all": sorted(rows["family"].unique())}
    for family in groups["all"]:
        groups.setdefault(group_of(family), []).append(family)
    groups["safety"] = [f for g in calibration.SAFETY_GROUPS for f in groups.get(g, [])]
    weights, correct = frame_weights(len(frames)), rows["correct"].to_numpy()
    result: dict[str, Any] = {
        "temperature": temperature,
        "temperature_fitted_on": "tune" if tuned is not None else None,
        "ece_before": calibration.expected_calibration_error(raw, correct),
        "ece": calibration.expected_calibration_error(confidence, correct),
        "groups": calibration.summarise(rows, confidence, weights, groups),
        "reliability": calibration.reliability(confidence, correct),
    }
    safe = rows["family"].isin(groups["safety"]).to_numpy()
    if tuned is not None and safe.any():
        chosen = tuned[tuned["family"].isin(groups["safety"])]
        result["abstention"] = calibration.abstention(
            chosen, calibration.at_temperature(chosen, temperature), rows[safe], confidence[safe]
        )
    pictures = {
        "reliability": {
            "temperature 1": calibration.reliability(raw, correct),
            f"temperature {temperature:.2f}": result["reliability"],
        },
        "curves": {
            title: calibration.risk_coverage(confidence[inside], correct[inside])
            for title, inside in (
                ("all questions", np.ones(len(rows), dtype=bool)),
                ("safety questions", safe),
            )
            if inside.any()
        },
    }
    return result, pictures


def _draw(result: Mapping[str, Any], pictures: Mapping[str, Any], output: Path) -> None:
    """All figures that the numbers allow."""
    figures.families(result["families"], output / "families.png")
    figures.slices(result["slices"], output / "slices.png")
    name = f"{FIVE_WAY_FAMILY} (five-way)"
    if name in result["classes"]:
        table = result["classes"][name]["confusion"]
        figures.confusion(
            table["labels"], table["counts"], "Can I move forward?", output / "move-forward.png"
        )
    if pictures:
        figures.reliability(pictures["reliability"], output / "reliability.png")
        figures.risk_coverage(pictures["curves"], output / "risk-coverage.png")
    grounding = result["grounding"]
    if grounding:
        figures.heads(grounding["heads"], output / "heads.png")
    if grounding and "curves" in grounding:
        figures.curves(grounding["curves"], output / "faithfulness.png")


def align(table: pd.DataFrame, frames: Any) -> tuple[pd.DataFrame, dict[str, int]]:
    """Bring any model's predictions into the order of a data set.

    A question without a prediction is scored as unanswered, which is wrong: leaving out the hard ones
    cannot pay. Predictions for questions that the split does not hold are dropped. Of equal duplicates one
    stays.

    Args:
        table: predictions with image_id, question and prediction.
        frames: the split.

    Returns:
        One row a question of the split, and how many were missing, extra and duplicate.

    Raises:
        PredictionError: if a column is missing or two predictions for one question differ.
    """
    key = ["image_id", "question"]
    lacking = [column for column in (*key, "prediction") if column not in table.columns]
    if lacking:
        raise PredictionError(f"predictions lack the column(s) {lacking}; needed are {[*key, 'prediction']}")
    table = table.assign(image_id=table["image_id"].astype(str))
    extra_columns = [c for c in ("confidence", "confidences", "score_yes") if c in table.columns]
    given = table[[*key, "prediction", *extra_columns]]
    copies = given.duplicated([*key, "prediction"])
    given = given[~copies]
    clash = given.duplicated(key)
    if clash.any():
        first = given[clash].iloc[0]
        raise PredictionError(
            f"{int(clash.sum())} question(s) have different predictions, the first is {first['question']!r} "
            f"about {first['image_id']}; keep one of each"
        )
    wanted = question_table(frames)
    joined = wanted.merge(given, on=key, how="left", indicator=True)
    found = wanted.merge(given, on=key, how="inner")
    counts = {
        "missing": int((joined["_merge"] == "left_only").sum()),
        "extra": len(given) - len(found[key].drop_duplicates()),
        "duplicate": int(copies.sum()),
    }
    return joined.drop(columns="_merge"), counts


def question_table(frames: Any) -> pd.DataFrame:
    """The questions of a split with their labels and the frame's attributes, one row a question."""
    columns = frames
    if hasattr(frames, "remove_columns"):
        columns = frames.remove_columns([c for c in ("image", "drivable") if c in frames.column_names])
    rows = []
    for index, row in enumerate(columns):
        shared = {k: row.get(k) for k in ("image_id", "source", "weather", "timeofday", "scene")}
        shared["num_objects"] = None if row.get("objects") is None else len(row["objects"])
        rows += [
            {**shared, **q, "frame_index": index, "question_index": i} for i, q in enumerate(row["questions"])
        ]
    return pd.DataFrame(rows).assign(image_id=lambda table: table["image_id"].astype(str))


def _write_json(value: Any, path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    part.replace(path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def evaluate_checkpoint(
    checkpoint: Path,
    dataset: Path,
    split: str,
    output: Path,
    most_frames: int | None = None,
    constrained: bool = False,
) -> dict[str, Any] | None:
    """Predict and score; arguments and errors as in `predict_views` and `score`.

    Returns:
        The report on the main process, `None` on others.
    """
    start = time.perf_counter()
    output.mkdir(parents=True, exist_ok=True)
    if PartialState().is_main_process:
        for stale in (*output.glob("predictions*.parquet"), output / "grounding.json"):
            stale.unlink(missing_ok=True)
    PartialState().wait_for_everyone()
    predict_views(checkpoint, dataset, split, output, most_frames, constrained)
    if not PartialState().is_main_process:
        return None
    result = score(output, f"{checkpoint.name} on {split}")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return result


def evaluate_predictions(
    predictions: Path, output: Path, dataset: Path | None = None, split: str = "val"
) -> dict[str, Any]:
    """Score a file of predictions of any model.

    Args:
        predictions: Parquet, CSV, JSON or JSON lines; with a data set it needs image_id, question and
            prediction, without one also family and answer.
        output: folder of the report.
        dataset: the data set whose questions were answered; adds labels and checks that each is answered
            once.
        split: its split.

    Returns:
        The report, with `alignment` (missing, extra and duplicate predictions) where there was a data set.

    Raises:
        PredictionError: if the predictions cannot be scored.
        DatasetError: if a file cannot be read.
    """
    table, counts = load(predictions), None
    if dataset is not None:
        table, counts = align(table, open_frames(dataset, split))
    output.mkdir(parents=True, exist_ok=True)
    for stale in (*output.glob("predictions*.parquet"), output / "grounding.json"):
        if stale.resolve() != predictions.resolve():
            stale.unlink(missing_ok=True)
    save(as_table(table), output / "predictions.parquet")
    result = score(output, predictions.stem)
    if counts is not None:
        result["alignment"] = counts
        _write_json(result, output / "report.json")
        (output / "report.md").write_text(report.markdown(result), encoding="utf-8", newline="\n")
    return result


def main(arguments: list[str] | None = None, description: str | None = __doc__) -> int:
    """The command line of scripts/evaluate.py.

    Args:
        arguments: by default those of the process.
        description: shown by `--help`.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--checkpoint", type=Path, default=Path("checkpoints/traffic-vlm"), help="folder of the model"
    )
    source.add_argument(
        "--predictions", type=Path, metavar="FILE", help="score these instead of asking a model"
    )
    parser.add_argument("--dataset", type=Path, help="folder made by scripts/build_dataset.py")
    parser.add_argument("--split", default="val")
    parser.add_argument("--output", type=Path, default=Path("evaluation-report"), help="folder of the report")
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N frames of each split")
    parser.add_argument("--constrained", action="store_true", help="choose among the family's answers")
    args = parser.parse_args(arguments)
    try:
        if args.predictions:
            result: dict[str, Any] | None = evaluate_predictions(
                args.predictions, args.output, args.dataset, args.split
            )
        elif args.dataset is None:
            raise DatasetError("give --dataset (and --checkpoint), or --predictions")
        else:
            result = evaluate_checkpoint(
                args.checkpoint, args.dataset, args.split, args.output, args.frames, args.constrained
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if result is not None:
        print(f"{args.output / 'report.md'}: {result['verdict']['sentence']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
