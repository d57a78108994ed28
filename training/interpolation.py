"""Between the weights that a run began with and those it ended with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from traffic_vlm.evaluation.metrics import format_table
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration
from traffic_vlm.modeling.vision import interpolate_positions
from traffic_vlm.processing.tokenization_traffic_vlm import TrafficVLMTokenizer

from .packing import open_packed
from .setup import POSITIONS
from .validation import validate

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Tried:
    """What the split `tune` says of one share.

    Attributes:
        share: See `interpolate`.
        means: Means over families, see `validation.validate`.
        table: Table by family, as Markdown.
    """

    share: float
    means: dict[str, float]
    table: str


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
    refuse_existing(output)
    between = weights_between(before, after, share)
    part = output.with_name(output.name + ".part")  # a copy with the wrong weights would look complete
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(after, part, ignore=shutil.ignore_patterns(WEIGHTS))
    save_file(between, part / WEIGHTS, metadata={"format": "pt"})
    card = part / "README.md"
    if card.is_file():
        told = f"These weights lie between two stages, {share:g} of the way; scores above are the latter's.\n"
        card.write_text(f"{card.read_text(encoding='utf-8')}\n{told}", encoding="utf-8")
    _note(part, {"share": share})
    part.rename(output)


def refuse_existing(output: Path) -> None:
    """Raises ValueError when a folder to be written is there already."""
    if output.exists():
        raise ValueError(f"{output}: is there already. Delete it or name another folder.")


def refuse_wrong(share: float) -> None:
    """Raises ValueError for a share that is not between 0 and 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share is {share}: it must lie between 0 and 1.")


def weights_between(before: Path, after: Path, share: float) -> dict[str, torch.Tensor]:
    """The weights that `interpolate` writes, in the precision of `after` and for frames of its size.

    Raises:
        ValueError: If the share is not between 0 and 1, or the networks differ.
    """
    refuse_wrong(share)
    first, last = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    grids = [TrafficVLMConfig.from_pretrained(folder).vision_config.grid_size for folder in (before, after)]
    if grids[0] != grids[1] and POSITIONS in first:
        first[POSITIONS] = interpolate_positions(first[POSITIONS], *grids)
    shapes = ({name: weight.shape for name, weight in weights.items()} for weights in (first, last))
    if next(shapes) != next(shapes):
        raise ValueError(f"{before}: holds another network than {after}.")
    return {
        name: torch.lerp(first[name].float(), weight.float(), share).to(weight.dtype)
        for name, weight in last.items()
    }


def choose_share(before: Path, after: Path, shares: Sequence[float], packed: Path) -> list[Tried]:
    """Asks the split `tune` of weights at every share, as a run does at its end.

    With several processes each asks a part of the frames.

    Args:
        before: Checkpoint that the run began with.
        after: Checkpoint that it ended with.
        shares: Which shares; see `interpolate`.
        packed: Packed folder that holds the split at the checkpoints' image size.

    Returns:
        What came of each, the best mean balanced accuracy over families (as a run keeps its best) first.

    Raises:
        ValueError: As `weights_between`, and if the packed frames have another size.
        DataError: If the split is not there.
    """
    for share in shares:
        refuse_wrong(share)
    split = open_packed(packed, "tune")
    frames = list(range(len(split)))
    model = TrafficVLMForConditionalGeneration.from_pretrained(after, dtype=torch.float32).eval()
    wanted = tuple(model.config.vision_config.image_size)
    if tuple(split.image_size) != wanted:
        sizes = (f"{width}x{height}" for height, width in (split.image_size, wanted))
        raise ValueError("{}: holds frames of {}; the checkpoint takes {}.".format(packed, *sizes))
    tokenizer = TrafficVLMTokenizer.from_pretrained(after)
    tried = []
    for share in shares:
        # Not strictly: tied weights are stored once.
        model.load_state_dict(weights_between(before, after, share), strict=False)
        show = PartialState().is_local_main_process
        table, means = validate(model, tokenizer, split, frames, show_progress=show)
        tried.append(Tried(share, means, format_table(table)))
    return sorted(tried, key=lambda one: -one.means["balanced_accuracy"])


def keep_answers(checkpoint: Path, tried: Sequence[Tried]) -> None:
    """Puts the table of the first of `choose_share` and the means of all into `training/` of a checkpoint."""
    (checkpoint / "training").mkdir(exist_ok=True)
    (checkpoint / "training" / "table.md").write_text(tried[0].table + "\n", encoding="utf-8")
    all_means = [{"share": one.share, **one.means} for one in tried]
    _note(checkpoint, {"summary": tried[0].means, "tried": all_means})


def _note(checkpoint: Path, facts: dict[str, object]) -> None:
    """Adds facts to the entry `averaged` of a checkpoint's training record, where it has one."""
    path = checkpoint / "training" / "record.json"
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        record["averaged"] = record.get("averaged", {}) | facts
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
