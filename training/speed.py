"""How fast training steps are on this machine: the part of scripts/benchmark.py that needs the engine."""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

from .estimate import TRAINING_PASSES, estimate
from .recipe import Recipe
from .trainer import Trainer
from .watching import memory_gib


def measure_steps(recipe: Recipe, steps: int, warm_up: int = 2) -> dict[str, Any]:
    """Trains some steps.

    Args:
        recipe: What to train.
        steps: How many steps are timed.
        warm_up: Steps before those.

    Returns:
        Medians over steps: `seconds`, `frames` and `questions` a second, `flops` a second (by the formula of
        `estimate`), `wait` (share of all time spent waiting for the loader); `memory`, GiB after each quarter
        of the steps; `epochs` that the steps were; `precision`.
    """
    trainer = Trainer(dataclasses.replace(recipe, run=dataclasses.replace(recipe.run)))
    loader, times, waits, memory = iter(trainer._loader(0)), [], [], []
    for step in range(warm_up + steps):
        start = time.perf_counter()
        batches = next(loader)
        waits.append(time.perf_counter() - start)
        trainer._step(batches)
        times.append(time.perf_counter() - start)
        trainer.position["step"] += 1
        if step >= warm_up and (step - warm_up + 1) % max(1, steps // 4) == 0:
            memory.append(memory_gib()["memory_gib"])
    seconds = statistics.median(times[warm_up:])
    frames = recipe.optim.batch_size / seconds
    cost = estimate(trainer.network.config, recipe)
    return {
        "seconds": seconds,
        "frames": frames,
        "questions": frames * recipe.data.questions_per_image,
        "flops": TRAINING_PASSES * cost.forward * frames,
        "wait": sum(waits[warm_up:]) / sum(times[warm_up:]),
        "memory": memory,
        "epochs": steps * recipe.optim.batch_size / trainer.batches.num_frames,
        "precision": trainer.recipe.run.precision,
    }


def describe_speed(recipe: Recipe, steps: int, peak_tflops: float | None) -> str:
    """Speed of a recipe, and of one question a frame against it, in words.

    Args:
        recipe: What to train.
        steps: Steps timed of each.
        peak_tflops: The device's peak in the run's number format, for the utilisation; None leaves that out.
    """
    many = measure_steps(recipe, steps)
    alone = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, questions_per_image=1),
        run=dataclasses.replace(recipe.run, output=str(Path(recipe.run.output).with_name("one_question"))),
    )
    one = measure_steps(alone, steps)
    count = recipe.data.questions_per_image
    lines = [
        f"{many['seconds']:.2f} s a step of {recipe.optim.batch_size} frames in precision "
        f"{many['precision']}, {many['frames']:.1f} frames/s (median of {steps} steps)",
        f"{many['questions']:.0f} questions/s with {count} a frame, {one['questions']:.0f} with one: "
        f"{many['questions'] / one['questions']:.1f} times",
        f"waiting for data: {many['wait']:.2%} of the time",
        f"memory: {', '.join(f'{value:.2f}' for value in many['memory'])} GiB after each quarter of "
        f"{many['epochs']:.1f} epochs",
        f"{many['flops'] / 1e9:.1f} GFLOP/s in products, by the formula of training/estimate.py",
    ]
    if peak_tflops:
        lines[-1] += f": {many['flops'] / peak_tflops / 1e12:.1%} of a peak of {peak_tflops:g} TFLOP/s"
    return "\n".join(lines)
