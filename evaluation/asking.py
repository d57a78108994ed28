"""Everything that a report needs to have asked of a checkpoint: the clean split, and other views of it.

Every view's answers go to a Parquet file of their own, which `scoring` reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from . import baselines, looking, views
from .averaging import average
from .command import processes, write_text
from .predict import (
    DatasetError,
    NothingToAsk,
    View,
    answer_sets,
    clean,
    fingerprint,
    load_model,
    open_frames,
    predict,
    save,
    temperature_column,
)

#: Too long to be asked of every view: their words are scored on clean pictures alone.
CLEAN_ONLY = ("detect", "describe", "out_of_scope")
Ask = Callable[..., pd.DataFrame]


def short(family: str) -> bool:
    """Whether the answers of a family are short enough to be asked of every view."""
    return not family.startswith(CLEAN_ONLY)


def asker(
    model: Any, processor: Any, labels: Mapping[str, Sequence[str]], constrained: bool, mirror: bool
) -> Ask:
    """A function that asks a view, and with `mirror` its mirror image too.

    Args:
        model, processor: the checkpoint.
        labels: family -> its possible answers.
        constrained: whether answers are chosen among these.
        mirror: whether every answer is averaged with that to the mirrored frame and question.

    Returns:
        A function of a view, a number of frames and what else `predict.predict` takes.
    """

    def ask(view: View, number: int, name: str, **options: Any) -> pd.DataFrame:
        given: dict[str, Any] = {"constrained": constrained, **options}
        table = predict(model, processor, view, number, labels, name=name, **given)
        if not mirror:
            return table
        other = predict(
            model, processor, views.mirrored(view), number, labels, name=f"{name}, mirrored", **given
        )
        return average(table, other, temperature_column(model))

    return ask


def views_of(
    shown: View, count: int, train: Any, tune: Any, most_frames: int | None
) -> dict[str, tuple[View, int, dict[str, Any]]]:
    """What is asked: suffix of the file -> view, number of frames, and options of `predict`.

    Args:
        shown: the split as it is.
        count: how many of its frames.
        train: the training split, for what usually stands together; `None` leaves that view out.
        tune: the split for temperature and threshold; `None` leaves it out.
        most_frames: how many frames of the tuning split, all by default.
    """
    asked: dict[str, tuple[View, int, dict[str, Any]]] = {
        "": (shown, count, {}),
        "-shuffled": (views.shuffled(shown, count), count, {}),
        "-mirrored": (views.mirrored(shown), count, {"families": short}),
        "-paraphrased": (views.paraphrased(shown), count, {"families": short}),
        "-forerunner": (views.forerunner(shown), count, {}),
    }
    if train is not None:
        asked["-adversarial"] = (views.adversarial(shown, views.companions(train)), count, {})
    if tune is not None:
        asked["-tune"] = (clean(tune), min(len(tune), most_frames or len(tune)), {"families": short})
    return asked


def predict_views(
    checkpoint: Path,
    dataset: Path,
    split: str,
    output: Path,
    most_frames: int | None = None,
    constrained: bool = False,
    mirror: bool = False,
) -> None:
    """Ask a checkpoint everything that the report needs and leave the answers as Parquet files.

    Args:
        checkpoint: folder of the model.
        dataset: folder of the data set.
        split: the split that is reported.
        output: folder for the tables; those of an earlier evaluation go when all answers are there.
        most_frames: how many frames of each split, all by default.
        constrained: whether answers are chosen among the family's labels instead of generated.
        mirror: whether answers are averaged with those to the mirrored frames.

    Raises:
        DatasetError: if data set or checkpoint cannot be used.
    """
    state = processes()
    frames = open_frames(dataset, split)
    model, processor = load_model(checkpoint)
    count = min(len(frames), most_frames or len(frames))
    shown, train = clean(frames), optional(dataset, "train")
    tune = optional(dataset, "tune") if split != "tune" else None
    labels = {**answers_known(frames, tune, train), views.ADVERSARIAL: ["No.", "Yes."]}
    ask = asker(model, processor, labels, constrained, mirror)
    tables = {}
    for suffix, (view, number, options) in views_of(shown, count, train, tune, most_frames).items():
        if mirror and suffix == "-mirrored":  # the average of both agrees with itself
            continue
        with nullcontext() if not suffix else suppress(NothingToAsk):
            tables[suffix] = ask(view, number, f"asking {suffix.strip('-') or split}", **options)
    # Grey is its own mirror image, and its questions have no label to average by.
    tables["-grey"] = ask_grey(asker(model, processor, labels, constrained, mirror=False), tables[""])
    if state.is_main_process:
        clear(output)
        asked = {"weights": fingerprint(checkpoint), "constrained": constrained, "mirror": mirror}
        write_text(output / views.ASKED, json.dumps(asked | {"frames": most_frames}, indent=1))
        for suffix, table in tables.items():
            save(table, output / f"predictions{suffix}.parquet")
        if train is not None:
            save(baselines.question_rows(train), output / baselines.TRAINING_QUESTIONS)
    if model.config.uses_cross_attention:  # a blind model has no maps
        found = looking.look(model, processor, shown, tables[""], output)
        if state.is_main_process:
            write_text(output / "grounding.json", json.dumps(found, indent=1, ensure_ascii=False))
    state.wait_for_everyone()


def clear(output: Path, keep: Path | None = None) -> None:
    """Remove what an earlier evaluation left, so that no table of another model or data set is scored.

    To be called when everything that takes its place is there: what cannot be replaced is not lost.

    Args:
        output: folder of the tables.
        keep: a file that stays.
    """
    tables = [f"predictions{suffix}.parquet" for suffix in views.SUFFIXES]
    for name in (*tables, views.ASKED, "grounding.json", "grounding.parquet", baselines.TRAINING_QUESTIONS):
        if keep is None or (output / name).resolve() != keep.resolve():
            (output / name).unlink(missing_ok=True)


def ask_grey(ask: Ask, table: pd.DataFrame) -> pd.DataFrame:
    """The answers about a grey picture: it is always the same, so every wording is asked once.

    Args:
        ask: from `asker`, without its mirror.
        table: predictions about the clean split.

    Returns:
        Its rows of short families, with what was answered about the grey picture.
    """
    key, most = ["question", "family"], 256
    rows = table[table["family"].map(short)]
    wordings = rows[key].drop_duplicates().to_dict("records")
    groups = [wordings[start : start + most] for start in range(0, len(wordings), most)]
    picture = Image.new("RGB", (512, 288), views.GREY)
    answered = ask(
        lambda index: (picture, {"image_id": "grey", "questions": groups[index]}),
        len(groups),
        "asking grey",
        block=1,
    )
    said = ["prediction", "confidence", "confidences", "score_yes"]
    return rows.drop(columns=said).merge(answered[[*key, *said]], on=key, how="left", validate="many_to_one")


def answers_known(reported: Any, *others: Any) -> dict[str, list[str]]:
    """The answers of each family that constrained answers are chosen among.

    Which of them occur in the reported split must not be known: they are the last other split's that has the
    family, and the reported one's own only where no other has it.

    Args:
        reported: frames of the reported split.
        others: frames of other splits, or `None`; of later ones the answers win.

    Returns:
        family -> its answers, as `answer_sets`.
    """
    known = answer_sets(reported)
    for other in others:
        known |= answer_sets(other) if other is not None else {}
    return known


def optional(dataset: Path, split: str) -> Any:
    """A split, or `None` where the data set has none of that name."""
    try:
        return open_frames(dataset, split)
    except DatasetError:
        return None
