"""Which number format a run computes in, where the recipe leaves that open (`run.precision: auto`)."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from accelerate.utils.environment import parse_flag_from_env

from .checkpoints import begun_recipe

PRECISIONS = ("no", "bf16", "fp16", "bf16_masters")
WORTHWHILE = 1.1
"""bfloat16 must be this much faster in products: around them, copies between formats cost something."""


def settle_precision(wanted: str, output: Path) -> str:
    """The precision of a run: what is wanted, or for `auto` the fastest here.

    A run that goes on keeps what it began with, also on another machine; all processes get the same.

    Args:
        wanted: `run.precision`.
        output: The run's folder, whose `recipe.yaml` says what it began with.

    Raises:
        StateError: If that is damaged.
    """
    if wanted != "auto":
        return wanted
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    choice = [began_with(output) or fastest_precision(state.device)] if state.is_main_process else [""]
    return str(broadcast_object_list(choice)[0])


def began_with(output: Path) -> str | None:
    """The precision in a run's resolved recipe; None where there is no run yet."""
    precision = (begun_recipe(output) or {}).get("run", {}).get("precision")
    return precision if precision in PRECISIONS else None


def fastest_precision(device: torch.device) -> str:
    """`bf16`, or `fp16` before Ampere, on a GPU; on a CPU what a short probe says."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16_masters" if bfloat16_gain() >= WORTHWHILE else "no"


def bfloat16_gain(seconds: float = 0.025) -> float:
    """How many times faster a product of an encoder's size is in bfloat16 than in float32.

    Processors without bfloat16 units emulate it, a hundred times slower.

    Args:
        seconds: Length of the probe in each format.
    """
    rates = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(512, 192, dtype=dtype), torch.ones(192, 768, dtype=dtype)
        a @ b
        count, start = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - start < seconds:
            a @ b
            count += 1
        rates.append(count / (time.perf_counter() - start))
    return rates[1] / rates[0]
