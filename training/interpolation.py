"""Between the weights that a run began with and those it ended with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from traffic_vlm.evaluation.metrics import format_table
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.processing.tokenization_traffic_vlm import TrafficVLMTokenizer

from .packing import open_packed
from .validation import validate

WEIGHTS = "model.safetensors"


def interpolate(before: Path, after: Path, share: float, output: Path) -> None:
    """Writes a checkpoint whose weights lie between those of two (Wortsman et al. 2022, arXiv 2109.01903).

    A run that learns something new forgets a little of what was there; on the line between both lie weights
    that are often better than either. The share is a setting: choose it on a split kept for that.

    Args:
        before: Checkpoint that the run began with.
        after: Checkpoint that it ended with; everything but the weights is copied from here. A calibration in
            its configuration was fitted to its own weights: fit it anew.
        share: 0 gives the weights of `before`, 1 those of `after`.
        output: New folder. Its `training/record.json` gets the entry `averaged`.

    Raises:
        ValueError: If the share is not between 0 and 1, the networks differ, or the folder is there already.
        OSError: If a file cannot be read or written.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share is {share}: it must lie between 0 and 1.")
    if output.exists():
        raise ValueError(f"{output}: is there already. Delete it or name another folder.")
    first, last = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    shapes = ({name: weight.shape for name, weight in weights.items()} for weights in (first, last))
    if next(shapes) != next(shapes):
        raise ValueError(f"{before}: holds another network than {after}.")
    shutil.copytree(after, output)
    between = {
        name: torch.lerp(first[name].float(), weight.float(), share).to(weight.dtype)
        for name, weight in last.items()
    }
    save_file(between, output / WEIGHTS, metadata={"format": "pt"})
    card = output / "README.md"
    if card.is_file():
        told = f"These weights lie between two stages, {share:g} of the way; scores above are the latter's.\n"
        card.write_text(f"{card.read_text(encoding='utf-8')}\n{told}", encoding="utf-8")
    _note(output, {"share": share})


def ask_tune(checkpoint: Path, packed: Path) -> dict[str, float]:
    """Asks the split `tune`, as a run does at its end, and keeps table and means in `training/`.

    Args:
        checkpoint: What `interpolate` wrote.
        packed: Packed folder that holds the split at the checkpoint's image size.

    Returns:
        The means over families, see `validation.validate`.

    Raises:
        DataError: If the split is not there.
    """
    split = open_packed(packed, "tune")
    model = TrafficVLMForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = TrafficVLMTokenizer.from_pretrained(checkpoint)
    table, means = validate(model, tokenizer, split, list(range(len(split))), show_progress=True)
    (checkpoint / "training").mkdir(exist_ok=True)
    (checkpoint / "training" / "table.md").write_text(format_table(table) + "\n", encoding="utf-8")
    _note(checkpoint, {"summary": means})
    return means


def _note(checkpoint: Path, facts: dict[str, object]) -> None:
    """Adds facts to the entry `averaged` of a checkpoint's training record, where it has one."""
    path = checkpoint / "training" / "record.json"
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        record["averaged"] = record.get("averaged", {}) | facts
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
