"""Saved states: written beside their place and renamed, so that a state is complete or not there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator
from safetensors import SafetensorError

from .recipe import Recipe, dump_recipe

#: What may differ when a run goes on: how it is computed, watched and ended, not what it learns, nor what
#: decides which of its checkpoints is best.
MAY_CHANGE = (
    "data.packed",
    "data.workers",
    "optim.micro_batch_size",
    "optim.epochs",
    "optim.max_minutes",
    "optim.compile",
    "optim.attention",
    "run.output",
    "run.validate_every",
    "run.validate_frames",
    "run.save_every",
    "run.patience",
    "run.trackers",
    "run.log_every",
    "run.overlays",
    "run.push_to_hub",
)


class StateError(RuntimeError):
    """A state that could not be written or read; the message says what to do."""


def save_state(accelerator: Accelerator, folder: Path, position: dict[str, Any], keep: int = 2) -> None:
    """Saves everything that training needs to go on.

    Args:
        accelerator: Holds model, optimiser and what was registered for checkpointing.
        folder: The run's `states/`.
        position: Plain values: step, best score, and so on.
        keep: Complete states that stay.

    Raises:
        StateError: If the disk is full or not writable; earlier states are untouched.
    """
    final = folder / f"step-{position['step']:07d}"
    part = folder / f"{final.name}.part"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(part), safe_serialization=True)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (part / "position.json").write_text(json.dumps(position), encoding="utf-8")
            _sync(part)
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
            for old in complete_states(folder)[:-keep]:
                shutil.rmtree(old)
    except (OSError, RuntimeError, SafetensorError) as error:
        # On a full disk torch's writer raises RuntimeError, and safetensors' an error of its own.
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
        raise StateError(
            f"{part}: the state of step {position['step']} could not be written ({error}). The states before "
            "it are intact: free some disk space and start the same command again."
        ) from error


def complete_states(folder: Path) -> list[Path]:
    """The complete states of a run, oldest first; a half-written one is never among them."""
    return sorted(
        path
        for path in folder.glob("step-*")
        if path.suffix != ".part" and (path / "position.json").is_file()
    )


def load_state(accelerator: Accelerator, folder: Path) -> dict[str, Any] | None:
    """Loads the newest complete state.

    Returns:
        Its position, or None when there is no state yet.

    Raises:
        StateError: If the state is damaged or does not fit the model of this recipe.
    """
    states = complete_states(folder)
    if not states:
        return None
    try:
        position = json.loads((states[-1] / "position.json").read_text(encoding="utf-8"))
        accelerator.load_state(str(states[-1]))
        return {**position, "step": int(position["step"])}
    except (RuntimeError, ValueError, TypeError, KeyError, OSError, SafetensorError) as error:
        # A missing key is that of another optimiser's state.
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise StateError(
            f"{states[-1]}: damaged, or does not fit this recipe ({reason}). Delete it to go on from the "
            "state before it, or give another run.output."
        ) from error


def begun_recipe(folder: Path) -> dict[str, dict[str, Any]] | None:
    """The settings that a run began with, by section; None where there is no run yet.

    Raises:
        StateError: If the run's `recipe.yaml` is damaged.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        return None
    try:
        begun = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {section: dict(begun[section]) for section in Recipe().to_dict()}
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        reason = f"no section {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise StateError(
            f"{path}: damaged ({reason}). Put the recipe there that the run was begun with (its checkpoints "
            "keep it as training/recipe.yaml), or delete the run's folder to start anew."
        ) from error


def refuse_other_recipe(folder: Path, recipe: Recipe) -> None:
    """Refuses to go on with a run of another recipe: what that learnt would pass for this one's.

    Args:
        folder: The run's, with its `recipe.yaml` and its `states/`; nothing is asked where there are none.
        recipe: What is to be trained now, with its precision settled.

    Raises:
        StateError: If a setting differs that is not in `MAY_CHANGE`, or the run's recipe is damaged.
    """
    before = begun_recipe(folder) if complete_states(folder / "states") else None
    if before is None:
        return
    now = yaml.safe_load(dump_recipe(recipe))
    for section, values in now.items():
        for name, value in values.items():
            begun = before[section].get(name, value)  # a setting that is newer than the run
            if begun != value and f"{section}.{name}" not in MAY_CHANGE:
                raise StateError(
                    f"{folder}: this run was begun with {section}.{name}={begun}, not {value}. Give another "
                    "run.output, or delete the folder to start anew."
                )


def _sync(folder: Path) -> None:
    """Asks the system to put the files on the disk before the rename makes them the truth."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
