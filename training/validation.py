"""Tables during training: ask a slice of frames, with their own pictures and with each other's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from traffic_vlm.evaluation.metrics import family_table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .augmentation import normalise
from .packing import PackedSplit

FRAMES_AT_ONCE = 8


@torch.no_grad()
def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    split: PackedSplit,
    frames: list[int],
    shift: int = 0,
    families: set[str] | None = None,
    max_new_tokens: int = 16,
    show_progress: bool = False,
) -> list[dict[str, Any]]:
    """Greedy answers to the questions of some frames.

    Args:
        model: The network, in evaluation mode.
        tokenizer: Its tokenizer.
        split: Packed frames.
        frames: Which of them.
        shift: Shows each frame's questions the picture of the frame so many places further on; 0 its own.
        families: Families to ask; None asks all.
        max_new_tokens: Longest answer.
        show_progress: Whether to draw a bar.

    Returns:
        One dict a question, as `evaluation.metrics.family_table` takes them.
    """
    predictions: list[dict[str, Any]] = []
    for start in tqdm(
        range(0, len(frames), FRAMES_AT_ONCE), desc="asking", unit="batch", disable=not show_progress
    ):
        chunk = list(range(start, min(start + FRAMES_AT_ONCE, len(frames))))
        pictures = np.stack([split.frames[frames[(place + shift) % len(frames)]] for place in chunk])
        asked = [
            (place - start, split.rows[frames[place]]["image_id"], question)
            for place in chunk
            for question in split.rows[frames[place]]["questions"]
            if families is None or question["family"] in families
        ]
        if not asked:
            continue
        texts = _prompts(model, tokenizer, [question["question"] for _, _, question in asked])
        inputs = {
            "input_ids": texts["input_ids"],
            "attention_mask": texts["attention_mask"],
            "pixel_values": normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2)).to(model.dtype),
            "image_index": torch.tensor([image for image, _, _ in asked]),
        }
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        answers = tokenizer.batch_decode(output[:, texts["input_ids"].shape[1] :], skip_special_tokens=True)
        for (_, image_id, question), answer in zip(asked, answers, strict=True):
            predictions.append({"image_id": image_id, **question, "prediction": answer.strip()})
    return predictions


def _prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[str]
) -> dict[str, torch.Tensor]:
    """Padded prompts; where patches stand in front of the text, with a placeholder for each."""
    places = [tokenizer.image_token_id] * model.config.vision_config.num_patches * model.config.uses_prefix
    ids = tokenizer([question + "\n" for question in questions])["input_ids"]
    return tokenizer.pad({"input_ids": [places + prompt for prompt in ids]}, return_tensors="pt")


def validate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    split: PackedSplit,
    frames: list[int],
    families: set[str] | None = None,
    show_progress: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Table by family and its summary.

    Returns:
        The rows of `family_table`, with the shuffled-picture columns, and the means over families that have
        both answers: accuracy, balanced_accuracy, and gain over shuffled pictures.
    """
    arguments = {"families": families, "show_progress": show_progress}
    own = predict(model, tokenizer, split, frames, **arguments)
    shuffled = predict(model, tokenizer, split, frames, shift=1, **arguments)
    table = family_table(own, shuffled, samples=200)
    judged = [row for row in table if row.get("balanced_accuracy") is not None and row["classes"] > 1]
    summary = {
        name: float(np.mean([row[name] for row in judged])) if judged else 0.0
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "gain")
    }
    return table, summary
