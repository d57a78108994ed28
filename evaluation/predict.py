"""From a model and a data set to a table of predictions: each question once, on one process or on several.

Prediction knows nothing of scores, and scoring (`evaluator`) nothing of models. What is asked is decided by
a *view*: a function from a frame's index to the picture that is shown and the questions that are asked
about it. The clean data set is one view; swapped, grey, mirrored, corrupted pictures and other phrasings
are others (`views`).

Frames go through the model in blocks that are cut before they are handed out to processes, so that every
number is computed in the same batch, and is the same, however many processes there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from PIL import Image
from traffic_vlm.processing.loading import check_checkpoint, first_line, load_checkpoint
from traffic_vlm.processing.tokenization_traffic_vlm import decision_lengths

from .answers import kind_of, read
from .sharing import share_out

View = Callable[[int], tuple[Image.Image, dict[str, Any]]]
FRAME_COLUMNS = ("image_id", "split", "source", "weather", "timeofday", "scene")
QUESTION_COLUMNS = (
    "question",
    "answer",
    "family",
    "template",
    "evidence",
    "evidence_category",
    "rule",
    "pair_id",
)
TEXT_COLUMNS = ("image_id", "question", "family", "answer", "prediction")
#: Temperatures at which every confidence is kept, so that one can be fitted without asking again.
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
OPEN_FAMILIES = ("detect", "describe")
LENGTHS = (6, 12, 32)
FRAMES_PER_BLOCK = 8


class DatasetError(ValueError):
    """A data set that cannot be evaluated; the message names the folder and what to do."""


class NothingToAsk(DatasetError):
    """None of the questions of a view occurs in the split."""


class PackedFrames:
    """A packed training folder as a sequence of rows with pictures (one a frame, no augmented copies).

    Args:
        folder: what `scripts/train.py --pack-only` wrote.
        split: name of the split.
    """

    def __init__(self, folder: str | Path, split: str):
        from traffic_vlm.training.packing import open_packed

        packed = open_packed(folder, split)
        self.frames = packed.frames
        self.rows = [(i, row) for i, row in enumerate(packed.rows) if not row.get("copy")]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        position, row = self.rows[index]
        return {**row, "image": Image.fromarray(np.asarray(self.frames[position]))}


def open_frames(dataset: str | Path, split: str) -> Sequence[dict[str, Any]]:
    """Open one split of a data set, from Parquet or packed.

    Args:
        dataset: folder with `data/*.parquet` (scripts/build_dataset.py), or a packed one.
        split: its split.

    Returns:
        A sequence of rows: `image` (PIL), `image_id`, attributes, and `questions`, a list of mappings.

    Raises:
        DatasetError: if the folder or the split is not there, or holds no frame.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such data set; build one with scripts/build_dataset.py")
    if (folder / split / "packed.json").is_file():
        frames: Any = PackedFrames(folder, split)
    else:
        from datasets import load_dataset

        try:
            frames = load_dataset(str(folder), split=split)
        except (ValueError, FileNotFoundError) as error:
            raise DatasetError(f"{folder}: no split {split!r} ({first_line(error)})") from error
    if len(frames) == 0:
        raise DatasetError(f"{folder}: split {split!r} is empty, there is nothing to evaluate")
    return frames


def load_model(checkpoint: str | Path, device: torch.device | str | None = None) -> tuple[Any, Any]:
    """Load a checkpoint for evaluation.

    Args:
        checkpoint: folder of a TrafficVLM checkpoint.
        device: where to; by default this process's device.

    Returns:
        The model in float32 and evaluation mode, and its processor.

    Raises:
        DatasetError: if the folder holds no checkpoint.
    """
    try:
        check_checkpoint(str(checkpoint))
        model, processor = load_checkpoint(str(checkpoint))
    except (ValueError, FileNotFoundError) as error:
        raise DatasetError(str(error)) from error
    return model.to(device or PartialState().device), processor


def fingerprint(checkpoint: Path) -> str:
    """What tells one checkpoint's weights from another's."""
    digest = hashlib.sha256()
    for path in sorted(checkpoint.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def clean(frames: Sequence[dict[str, Any]]) -> View:
    """The view of the data set as it is."""

    def view(index: int) -> tuple[Image.Image, dict[str, Any]]:
        row = frames[index]
        return row["image"].convert("RGB"), row

    return view


def first_tokens(processor: Any, answers: Iterable[str]) -> dict[int, str] | None:
    """First token of each answer -> the decision it begins, for a family of yes/no questions.

    Args:
        processor: the checkpoint's processor.
        answers: the labels that occur in the family.

    Returns:
        Token id -> "yes" or "no"; `None` where one token can begin both, or the family asks for something
        else.
    """
    answers = set(answers)
    if kind_of(answers) != "yes/no":
        return None
    if not any(answer.startswith(("Safe", "Not safe")) for answer in answers):
        answers |= {"Yes.", "No."}  # a split may hold one of the two alone
    decisions: dict[int, str] = {}
    for answer in answers:
        decision = read(answer, "yes/no")
        token = processor.tokenizer(answer, add_special_tokens=False)["input_ids"][0]
        if decision not in ("yes", "no") or decisions.setdefault(token, decision) != decision:
            return None
    return decisions if len(set(decisions.values())) == 2 else None


def answer_sets(frames: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The labels that occur in each family, sorted: what constrained answers choose from."""
    columns = frames.select_columns(["questions"]) if hasattr(frames, "select_columns") else frames
    found: dict[str, set[str]] = {}
    for row in columns:
        for question in row["questions"]:
            found.setdefault(question["family"], set()).add(question["answer"])
    return {family: sorted(answers) for family, answers in sorted(found.items())}


def _is_open(family: str) -> bool:
    """Whether the answers of a family are places or sentences of their own, too many to choose from."""
    return family.startswith(OPEN_FAMILIES)


def answer_length(processor: Any, answers: Iterable[str]) -> int:
    """How many tokens an answer of a family may have: the least of `LENGTHS` with room for its labels."""
    texts = list(answers) or [""]
    longest = max(map(len, processor.tokenizer(texts, add_special_tokens=False)["input_ids"])) + 2
    return next((most for most in LENGTHS if most >= longest), LENGTHS[-1])


@torch.inference_mode()
def _encode(model: Any, processor: Any, pictures: list[Image.Image]) -> dict[str, torch.Tensor]:
    """The pictures as the model takes them: encoded once, however many batches of questions follow."""
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"].to(model.device)
    if not model.config.uses_vision:
        return {"pixel_values": pixels}
    return {"image_hidden_states": model.get_image_features(pixels).pooler_output}


def _inputs(
    model: Any, processor: Any, images: dict[str, torch.Tensor], rows: list[dict]
) -> dict[str, torch.Tensor]:
    """The model's inputs for rows that name their picture by `slot`."""
    inputs = dict(processor(text=[row["question"] for row in rows], return_tensors="pt"))
    slots = [row["slot"] for row in rows]
    inputs["image_index"] = torch.tensor(slots)
    # As many rows as pictures, all about the first, would be taken for one row a picture (`undo_joining`).
    images = {name: value[: max(slots) + 1] for name, value in images.items()}
    return images | {name: value.to(model.device) for name, value in inputs.items()}


@torch.inference_mode()
def _answer(
    model: Any, processor: Any, images: dict[str, torch.Tensor], rows: list[dict], max_new_tokens: int
) -> tuple[list[str], list[list[float]], torch.Tensor]:
    """Generate greedily.

    Returns:
        Answers, their decisions' confidences at `TEMPERATURES`, and the log-probabilities of every first
        token (rows, vocab_size) at temperature 1.
    """
    inputs = _inputs(model, processor, images, rows)
    out = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = out.sequences[:, inputs["input_ids"].shape[1] :]
    length = torch.tensor(decision_lengths(processor.tokenizer, tokens.tolist()), device=tokens.device)
    inside = torch.arange(tokens.shape[1], device=tokens.device) < length[:, None]
    # Most decisions are one token: the vocabulary is gone through there alone, once a temperature.
    logits = torch.stack(out.logits, dim=1)[inside].float()
    chosen, row_of = tokens[inside], inside.nonzero()[:, 0]
    at = [(logits / t).log_softmax(-1).gather(-1, chosen[:, None])[:, 0] for t in TEMPERATURES]
    confidence = torch.zeros(len(tokens), len(at), device=tokens.device)
    confidence = confidence.index_add(0, row_of, torch.stack(at, dim=-1)).exp()
    answers = [text.strip() for text in processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    first = out.logits[0].float().log_softmax(-1).cpu()
    return answers, confidence.cpu().double().round(decimals=6).tolist(), first


@torch.inference_mode()
def _choose(
    model: Any, processor: Any, images: dict[str, torch.Tensor], rows: list[dict], candidates: list[list[str]]
) -> torch.Tensor:
    """Log-probabilities (rows, most candidates) of each row's candidates, -inf where it has fewer."""
    inputs = _inputs(model, processor, images, rows)
    tokenizer = processor.tokenizer
    encoded = {
        text: [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for text in {text for texts in candidates for text in texts}
    }
    return (
        model.score_answers(inputs, [[encoded[text] for text in texts] for texts in candidates]).float().cpu()
    )


def predict(
    model: Any,
    processor: Any,
    view: View,
    num_frames: int,
    answers: Mapping[str, Sequence[str]],
    *,
    constrained: bool = False,
    families: Callable[[str], bool] | None = None,
    block: int = FRAMES_PER_BLOCK,
    name: str = "asking",
) -> pd.DataFrame:
    """Ask a model every question of a view.

    Args:
        model, processor: what `load_model` returns.
        view: frame's index -> picture and row.
        num_frames: how many frames the view has.
        answers: family -> its possible labels (`answer_sets`).
        constrained: choose among the family's labels instead of generating freely; families that locate or
            describe, and those without known labels, are always generated.
        families: which families to ask, by name; all by default.
        block: frames a batch.
        name: shown with the progress.

    Returns:
        One row a question, in the order of the data set, the same on every process: `FRAME_COLUMNS`,
        `QUESTION_COLUMNS`, `num_objects`, `prediction`, `confidence` (of the decision, at the checkpoint's
        temperature), `confidences` (at `TEMPERATURES`) and `score_yes` (probability of yes against no; NaN
        for other families).
    """
    starts = range(0, num_frames, block)
    tokens = {family: first_tokens(processor, labels) for family, labels in answers.items()}
    lengths = {family: answer_length(processor, labels) for family, labels in answers.items()}

    def work(start: int) -> list[dict[str, Any]]:
        indices = range(start, min(start + block, num_frames))
        return _predict_block(
            model, processor, view, indices, answers, tokens, lengths, constrained, families
        )

    table = pd.DataFrame([row for rows in share_out(work, starts, name) for row in rows])
    if table.empty:
        raise NothingToAsk("none of the questions to ask occurs in the split")
    column = temperature_column(model)
    table["confidence"] = [values[column] for values in table["confidences"]]
    return table


def temperature_column(model: Any) -> int:
    """Which of `TEMPERATURES` is nearest to the one that the checkpoint asks for, 1 where it names none."""
    wanted = 1.0
    for place in (model.config, getattr(model, "generation_config", None)):
        wanted = float(getattr(place, "confidence_temperature", None) or wanted)
    return int(np.argmin(np.abs(np.array(TEMPERATURES) - wanted)))


def _predict_block(
    model: Any,
    processor: Any,
    view: View,
    indices: Iterable[int],
    answers: Mapping[str, Sequence[str]],
    tokens: Mapping[str, dict[int, str] | None],
    lengths: Mapping[str, int],
    constrained: bool,
    families: Callable[[str], bool] | None,
) -> list[dict[str, Any]]:
    """The rows of a few frames."""
    pictures, rows = [], []
    for slot, index in enumerate(indices):
        picture, frame = view(index)
        pictures.append(picture)
        shared = {column: frame.get(column) for column in FRAME_COLUMNS}
        objects = frame.get("objects")
        shared |= {"frame_index": index, "slot": slot}
        shared["num_objects"] = None if objects is None else len(objects)
        for number, question in enumerate(frame["questions"]):
            if families is None or families(question["family"]):
                asked = {column: question.get(column) for column in QUESTION_COLUMNS}
                rows.append({**shared, **asked, "question_index": number, "score_yes": float("nan")})
    images = _encode(model, processor, pictures)
    closed = [row for row in rows if constrained and row["family"] in answers and not _is_open(row["family"])]
    if closed:
        _fill_chosen(model, processor, images, closed, answers)
    free = [row for row in rows if "prediction" not in row]
    # A batch runs until its longest answer ends, so answers of like length go together.
    for most in LENGTHS:
        part = [row for row in free if lengths.get(row["family"], LENGTHS[-1]) == most]
        if part:
            _fill_generated(model, processor, images, part, tokens, most)
    for row in rows:
        del row["slot"]
    return rows


def _fill_generated(
    model: Any, processor: Any, images: dict, part: list[dict], tokens: Mapping, max_new_tokens: int
) -> None:
    """Write free answers into rows."""
    texts, confidences, first = _answer(model, processor, images, part, max_new_tokens)
    for row, text, confidence, log_probs in zip(part, texts, confidences, first, strict=True):
        row["prediction"], row["confidences"] = text, confidence
        decisions = tokens.get(row["family"])
        if decisions:
            row["score_yes"] = _score_yes(log_probs, decisions)


def _score_yes(log_probs: torch.Tensor, decisions: Mapping[int, str]) -> float:
    """Probability of yes among the first tokens that begin a yes or a no."""
    yes, no = ([token for token, side in decisions.items() if side == wanted] for wanted in ("yes", "no"))
    difference = log_probs[yes].logsumexp(0) - log_probs[no].logsumexp(0)
    return round(float(difference.double().sigmoid()), 6)


def _fill_chosen(model: Any, processor: Any, images: dict, part: list[dict], answers: Mapping) -> None:
    """Write constrained answers into rows: the likeliest decision, in its likeliest words."""
    candidates = [list(answers[row["family"]]) for row in part]
    scores = _choose(model, processor, images, part, candidates).double()
    for row, texts, log_probs in zip(part, candidates, scores, strict=True):
        kind = kind_of(texts)
        read_as = [read(text, kind) for text in texts]
        decisions = sorted(set(read_as))
        members = torch.tensor([[reading == decision for reading in read_as] for decision in decisions])
        spread = torch.stack([(log_probs[: len(texts)] / t).softmax(0) for t in TEMPERATURES])
        by_decision = spread @ members.double().T  # (temperatures, decisions)
        best = int(by_decision[TEMPERATURES.index(1.0)].argmax())
        row["prediction"] = texts[
            int(log_probs[: len(texts)].masked_fill(~members[best], -torch.inf).argmax())
        ]
        row["confidences"] = by_decision[:, best].round(decimals=6).tolist()
        if kind == "yes/no" and "yes" in decisions:
            share = by_decision[TEMPERATURES.index(1.0), decisions.index("yes")]
            row["score_yes"] = round(float(share), 6)


def save(table: pd.DataFrame, path: Path) -> None:
    """Write predictions as Parquet; nothing is there until everything is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    table.to_parquet(part, index=False)
    part.replace(path)


def load(path: str | Path) -> pd.DataFrame:
    """Read predictions of any model from Parquet, CSV, JSON or JSON lines.

    Args:
        path: file with at least the columns `metrics.REQUIRED`.

    Returns:
        The table.

    Raises:
        DatasetError: if the file is not there, of an unknown kind, or cannot be read.
    """
    path = Path(path)
    readers: dict[str, Callable[..., pd.DataFrame]] = {
        ".parquet": pd.read_parquet,
        # Ids and answers may look like numbers and are text: 007 is not 7.
        ".csv": lambda p: pd.read_csv(p, keep_default_na=False, dtype=dict.fromkeys(TEXT_COLUMNS, str)),
        ".jsonl": lambda p: pd.read_json(p, lines=True, dtype=False),
        ".json": lambda p: pd.read_json(p, dtype=False),
    }
    if not path.is_file():
        raise DatasetError(f"{path}: no such predictions file")
    if path.suffix not in readers:
        raise DatasetError(f"{path}: predictions must be one of {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path}: not readable as {path.suffix[1:]} ({first_line(error)})") from error
