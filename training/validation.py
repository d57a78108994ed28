"""Tables during training: ask a slice of frames, with their own pictures and with each other's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm
from traffic_vlm.evaluation.metrics import family_table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .augmentation import normalise
from .packing import PackedSplit
from .recipe import ANSWER_METRICS

FRAMES_AT_ONCE = 8


@torch.no_grad()
def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    split: PackedSplit,
    frames: list[int],
    shift: int = 0,
    places: Sequence[int] | None = None,
    families: set[str] | None = None,
    max_new_tokens: int = 32,
    show_progress: bool = False,
) -> list[dict[str, Any]]:
    """Greedy answers to the questions of some frames.

    Args:
        model: The network, in evaluation mode.
        tokenizer: Its tokenizer.
        split: Packed frames.
        frames: Which of them.
        shift: Shows each frame's questions the picture of the frame so many places further on; 0 its own.
        places: Places in `frames` to ask about; None asks about all.
        families: Families to ask; None asks all.
        max_new_tokens: Longest answer.
        show_progress: Whether to draw a bar.

    Returns:
        One dict a question, as `evaluation.metrics.family_table` takes them.
    """
    predictions: list[dict[str, Any]] = []
    places = range(len(frames)) if places is None else places
    for start in tqdm(
        range(0, len(places), FRAMES_AT_ONCE), desc="asking", unit="batch", disable=not show_progress
    ):
        chunk = [int(place) for place in places[start : start + FRAMES_AT_ONCE]]
        pictures = np.stack([split.frames[frames[(place + shift) % len(frames)]] for place in chunk])
        asked = [
            (image, split.rows[frames[place]]["image_id"], question)
            for image, place in enumerate(chunk)
            for question in split.rows[frames[place]]["questions"]
            if families is None or question["family"] in families
        ]
        if not asked:
            continue
        inputs = inputs_of(
            model, tokenizer, pictures, [(image, question["question"]) for image, _, question in asked]
        )
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for (_, image_id, question), answer in zip(asked, answers, strict=True):
            predictions.append({"image_id": image_id, **question, "prediction": answer.strip()})
    return predictions


def inputs_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pictures: np.ndarray,
    asked: list[tuple[int, str]],
) -> dict[str, torch.Tensor]:
    """Inputs of the model for questions about some frames.

    Args:
        model: The network.
        tokenizer: Its tokenizer.
        pictures: `(frames, height, width, 3)` uint8.
        asked: Frame and question of each row.

    Returns:
        Padded prompts, pixels and `image_index`, on the model's device.
    """
    # Where patches stand in front of the text, each has a placeholder.
    places = [tokenizer.image_token_id] * model.config.vision_config.num_patches * model.config.uses_prefix
    ids = tokenizer([question + "\n" for _, question in asked])["input_ids"]
    # As many rows as pictures, all about the first, would be taken for one row a picture (`undo_joining`).
    pictures = pictures[: max(image for image, _ in asked) + 1]
    texts = tokenizer.pad({"input_ids": [places + prompt for prompt in ids]}, return_tensors="pt")
    inputs = {
        "input_ids": texts["input_ids"],
        "attention_mask": texts["attention_mask"],
        "pixel_values": normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2)).to(model.dtype),
        "image_index": torch.tensor([image for image, _ in asked]),
    }
    return {name: value.to(model.device) for name, value in inputs.items()}


def validate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    split: PackedSplit,
    frames: list[int],
    families: set[str] | None = None,
    show_progress: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Table by family and its summary.

    Processes share the frames out, each frame to one of them, and all get the table of all frames.

    Returns:
        The rows of `family_table`, with the shuffled-picture columns, and the means of `ANSWER_METRICS` over
        families that have both answers; gain is over shuffled pictures.
    """
    state = PartialState()
    mine = np.array_split(np.arange(len(frames)), state.num_processes)[state.process_index].tolist()
    arguments = {"places": mine, "families": families, "show_progress": show_progress}
    own = gather_object(predict(model, tokenizer, split, frames, **arguments))
    shuffled = gather_object(predict(model, tokenizer, split, frames, shift=1, **arguments))
    table = family_table(own, shuffled, samples=200)
    judged = [row for row in table if row.get("balanced_accuracy") is not None and row["classes"] > 1]
    summary = {
        name: float(np.mean([row[name] for row in judged])) if judged else 0.0 for name in ANSWER_METRICS
    }
    return table, summary
