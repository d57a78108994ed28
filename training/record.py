"""The exported checkpoint: weights, tokenizer, processor, code, and a record of how it was made."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from traffic_vlm.evaluation.metrics import format_table
from traffic_vlm.processing.image_processing_traffic_vlm import TrafficVLMImageProcessor
from traffic_vlm.processing.pipeline_traffic_vlm import save_checkpoint
from traffic_vlm.processing.processing_traffic_vlm import TrafficVLMProcessor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .collator import PATCH_LABELS
from .recipe import Recipe, dump_recipe

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "safetensors", "numpy", "pillow")


def write_record(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    position: dict[str, Any],
    frames: int,
    table: list[dict[str, Any]],
    summary: dict[str, float],
    run: Path,
) -> None:
    """Writes a folder that `from_pretrained` loads, with `training/` beside the weights.

    Args:
        folder: Where; made anew.
        model: The network with the weights to ship; saved in bfloat16, which has float32's range in half the
            bytes, and loaded in float32 where nobody asks for another, since many CPUs are slow in bfloat16.
        tokenizer: Its tokenizer.
        recipe: The resolved recipe.
        position: Step and seconds of training.
        frames: How many different frames the run trains on; moved copies of one are no others.
        table: Rows of `family_table` on the tuning slice.
        summary: Their means.
        run: The run's folder, for the curves.
    """
    model.config.patch_labels = list(PATCH_LABELS)
    height, width = model.config.vision_config.image_size
    image_processor = TrafficVLMImageProcessor(size={"height": height, "width": width})
    placeholders = model.config.vision_config.num_patches if model.config.uses_prefix else 0
    processor = TrafficVLMProcessor(image_processor, tokenizer, image_seq_length=placeholders)
    # Converting copies: what shares its memory with another weight, and is not saved for that, would be.
    tied = model.all_tied_weights_keys
    weights = {
        name: value.detach().to(torch.bfloat16)
        for name, value in model.state_dict().items()
        if name not in tied
    }
    save_checkpoint(folder, model, processor, state_dict=weights)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))  # with the dtype of training
    text = json.dumps(written | {"dtype": "float32"}, indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    record = folder / "training"
    record.mkdir(exist_ok=True)
    (record / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    facts = {
        "step": position["step"],
        "training_seconds": round(position["seconds"], 1),
        "training_frames": frames,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": recipe.run.seed,
        "device": device_name(),
        "git_revision": git_revision(),
        "versions": versions(),
        "split": recipe.run.validate_split,
        "summary": summary,
        **started_from(recipe),
        "families": table,
    }
    (record / "record.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if table:
        (record / "table.md").write_text(format_table(table) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(short_card(facts, table), encoding="utf-8")
    if (run / "log.jsonl").is_file():
        shutil.copyfile(run / "log.jsonl", record / "log.jsonl")


def started_from(recipe: Recipe) -> dict[str, Any]:
    """What the checkpoint that a run began with says of itself, under `started_from`; empty without one."""
    if not recipe.model.init_from:
        return {}
    folder = Path(recipe.model.init_from)
    facts: dict[str, Any] = {"folder": folder.as_posix(), "parts": recipe.model.init_parts or "all"}
    path = folder / "training" / "record.json"
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        facts |= {name: value for name, value in earlier.items() if name != "families"}
    return {"started_from": facts}


def short_card(facts: dict[str, Any], table: list[dict[str, Any]]) -> str:
    """The card of a run's checkpoint: how it was made, and its table on the tuning slice."""
    means = ", ".join(f"{name} {value:.3f}" for name, value in facts["summary"].items())
    return (
        "---\nlicense: other\nlibrary_name: transformers\npipeline_tag: image-text-to-text\n"
        "tags: [traffic, bdd100k, vision-language-model]\n---\n\n"
        "# TrafficVLM, a training run's checkpoint\n\n"
        f"{facts['parameters'] / 1e6:.2f}M parameters after {facts['step']} steps "
        f"({facts['training_seconds'] / 60:.0f} minutes) and {facts['training_frames']} distinct frames "
        f"on {facts['device']}, seed {facts['seed']}, "
        f"revision {facts['git_revision'] or 'unknown'}. Recipe, curves and versions are in `training/`.\n\n"
        f"On the split `{facts['split']}`, which training never saw and settings may have been "
        f"chosen on: {means}.\n\nNot for driving: the answers are those of a research model. "
        "The weights may be used as the data may that they were trained on: see the licence there.\n"
        + (f"\n{format_table(table)}\n" if table else "")
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name() -> str:
    """The GPU's name, or the number of threads and the kind of processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"


def git_revision() -> str | None:
    """The checkout's revision, `+` behind it when files differ from it; None outside a checkout."""
    try:
        where = Path(__file__).parent
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=where, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision.stdout.strip() + ("+" if dirty.stdout.strip() else "")
