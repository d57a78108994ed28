"""What the command lines of this folder share: a parser, one line for what the user can mend, whole files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "traffic-vlm"
REPORT = Path("outputs/report")


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's or a script's docstring as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_inputs(parser: argparse.ArgumentParser, dataset_needed: bool = True) -> None:
    """Add `--checkpoint`, `--dataset` and `--split`, which most of the commands take."""
    parser.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="folder of the model (default: %(default)s)"
    )
    parser.add_argument(
        "--dataset", type=Path, required=dataset_needed, help="folder made by scripts/build_dataset.py"
    )
    parser.add_argument("--split", default="val")


def run_command(
    work: Callable[[], str | None], expected: tuple[type[Exception], ...] = (ValueError, OSError)
) -> int:
    """Do a command's work and print what it has to say.

    Args:
        work: does it; returns what is printed, `None` on processes that have nothing to say.
        expected: errors that the user can mend; they end in one line instead of a traceback.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    try:
        said = work()
    except expected as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        print(f"error: {text[0]}", file=sys.stderr)
        return 2
    if said:
        print(said)
    return 0


def processes() -> PartialState:
    """The processes of this run: those of Accelerate or torchrun, on CPU where ACCELERATE_USE_CPU says so.

    To be called before anything else asks for them: the first call decides. Without an accelerator the CPU
    has to be named, or each of several processes takes itself for the only one. One that is done waits for
    the others as long as they need: torch's own patience, ten or thirty minutes, would end the run.
    """
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu, timeout=timedelta(days=7))


def write_text(path: Path, text: str) -> None:
    """Write a text file with a newline at its end; nothing is there until everything is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
    part.replace(path)
