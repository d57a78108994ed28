"""The training loop: frames in, a checkpoint out, resumable at any step.

Everything random in step s is drawn from (seed, s): which frames, which questions, how they are changed,
which units drop out. A run that was killed goes on from its last complete state and ends with the weights it
would have had, unless its recipe follows the clock (`optim.max_minutes`).
"""

from __future__ import annotations

import json
import math
import os
import runpy
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # `python -m training.trainer`, before imports that may need an extra
    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "train.py"), run_name="__main__")

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.utils import set_seed
from huggingface_hub import HfApi
from safetensors import SafetensorError
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm
from traffic_vlm.evaluation.metrics import format_table

from .augmentation import erase, normalise, photometric
from .checkpoints import load_state, refuse_other_recipe, save_state
from .collator import PATCH_LABELS, Batch, Collator
from .objectives import OBJECTIVES
from .optimizer import AveragedWeights, MasterWeights, build_optimizer, rate_scale, set_rate
from .packing import open_packed
from .precision import settle_precision
from .publishing import HTTPError, first_line, model_publication, publish
from .recipe import Recipe, RecipeError, dump_recipe
from .record import device_name, git_revision, versions, write_record
from .sampling import FrameBatches, QuestionWeights, draw_chances, frame_weights
from .setup import (
    build_model,
    fit_to_tokenizer,
    pack_recipe,
    prepare_tokenizer,
    read_model_config,
    refuse_unknown_families,
    spell_out,
)
from .sharding import ShardedState, shard, wants_shards, whole
from .streaming import StreamedSplit, StreamedSteps
from .watching import cut_log, draw_examples, gates, memory_gib, rates
from .weather import change

SMOOTHING = 0.98
"""Decay a step of the loss that is watched for divergence."""
DIVERGED = 3.0
"""A smoothed loss this many times above its lowest has diverged; balanced batches vary by far less."""
LOADER_PATIENCE = 300
"""Seconds that a loader process goes on after SIGTERM, for the step that is under way and its state."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


class StepStream(IterableDataset):
    """Micro-batches of this process for every step from one on; loader processes take steps in turn."""

    def __init__(
        self,
        batches: FrameBatches,
        collator: Collator,
        start: int,
        rank: int,
        world: int,
        micro: int,
    ) -> None:
        self.batches, self.collator, self.start = batches, collator, start
        self.rank, self.world, self.micro = rank, world, micro

    def __iter__(self) -> Iterator[list[Batch]]:
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for step, indices in self.batches.from_step(self.start):
            if (step - self.start) % workers == turn:
                mine = indices[self.rank :: self.world]
                parts = np.array_split(mine, math.ceil(len(mine) / self.micro))
                yield [self.collator(step, part) for part in parts]


class Trainer:
    """One run of a recipe.

    Args:
        recipe: What to do.

    Raises:
        RecipeError, DataError, StateError: If recipe, data or saved state cannot be used.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.output = Path(recipe.run.output)
        recipe.run.precision = settle_precision(recipe.run.precision, self.output)
        self.recipe = recipe
        self.accelerator = make_accelerator(recipe)
        set_seed(recipe.run.seed)
        self.output.mkdir(parents=True, exist_ok=True)
        config = read_model_config(recipe)
        refuse_unknown_families(recipe.data.frame_balance)  # before the frames are packed, which takes long
        with self.accelerator.main_process_first():
            self.packed = pack_recipe(recipe)
        self.split = (
            StreamedSplit(self.packed) if recipe.data.streaming else open_packed(self.packed, "train")
        )
        with self.accelerator.main_process_first():
            self.tokenizer = prepare_tokenizer(recipe, self.split, self.output)
        fit_to_tokenizer(config, self.tokenizer)
        self.network = build_model(config, recipe)
        self.objective = OBJECTIVES[recipe.loss.objective](recipe, self.network)
        # Before averages and copies are made, so that these are on the device too.
        self.module = self.objective.module.to(self.accelerator.device)
        sharded = wants_shards(self.accelerator, recipe)
        if sharded:
            self.module = shard(self.network, self.accelerator)
        self.patches = tuple(config.vision_config.grid_size)
        self.masters = MasterWeights(self.module) if recipe.run.precision == "bf16_masters" else None
        self.optimizer = build_optimizer(self.masters or self.module, recipe.optim)
        # Pieces are never shown but through an average, if need be of the last step alone.
        averages = recipe.optim.ema or sharded
        self.average = AveragedWeights(self.masters or self.module, recipe.optim.ema) if averages else None
        self.model = torch.compile(self.module) if recipe.optim.compile else self.module
        if not sharded:
            self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        pieces = ShardedState(self.module, self.optimizer) if sharded else None
        self.accelerator.register_for_checkpointing(*filter(None, (self.average, self.masters, pieces)))
        self.batches = self._frame_batches()
        self.total = math.ceil(recipe.optim.epochs * self.batches.num_frames / recipe.optim.batch_size)
        self.position: dict[str, Any] = {
            "step": 0,
            "best": None,
            "waited": 0,
            "seconds": 0.0,
            "smooth": None,
            "lowest": None,
            "table": 0,
        }
        self.stop_requested = False  # what SIGTERM sets in this process
        self.stopping = False  # what all processes have agreed on

    def _frame_of_row(self) -> np.ndarray:
        """`(rows,)` which frame a row of the training split shows; copies share its number."""
        names = [row["image_id"] for row in self.split.rows]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return np.array([numbers[name] for name in names])

    def _frame_batches(self) -> FrameBatches:
        frame_of_row = self._frame_of_row()
        if self.recipe.data.limit_frames:  # copies stand together, so that these are the file's first rows
            frame_of_row = frame_of_row[frame_of_row < self.recipe.data.limit_frames]
        weights = [
            frame_weights(self.split.rows, family, exponent)
            for family, exponent in self.recipe.data.frame_balance.items()
        ]
        return FrameBatches(
            frame_of_row,
            self.recipe.optim.batch_size,
            self.recipe.run.seed,
            np.prod(weights, axis=0) if weights else None,
        )

    def train(self) -> Path:
        """Trains to the end of the recipe, from the newest complete state if there is one.

        Returns:
            The folder of the exported checkpoint.

        Raises:
            TrainingError: When the loss is not a number or grows, or when something cannot be written; the
                last good state stays on disk.
        """
        refuse_other_recipe(self.output, self.recipe)
        self.accelerator.wait_for_everyone()  # all have read the recipe that the first will write anew
        saved = load_state(self.accelerator, self.output / "states")
        if saved:
            self.position.update({"table": saved["step"], **saved})
            minutes, far = self.recipe.optim.max_minutes, f"of {self.total}"
            if minutes:
                far = f"after {self.position['seconds'] / 60:.0f} of {minutes:g} minutes"
            self.accelerator.print(f"resuming at step {saved['step']} {far}")
        before = signal.signal(signal.SIGTERM, self._request_stop)
        try:
            self._start_log()
            self._loop()
            if not self.stopping:
                return self._finish()
        except (OSError, SafetensorError) as error:
            where, why = getattr(error, "filename", None), getattr(error, "strerror", None)
            # That of a loader process has its whole traceback in the message, and what went wrong at the end.
            why = why or str(error).strip().rpartition("\n")[2]
            raise TrainingError(
                f"{where or self.output}: cannot be written or read ({why}). "
                f"The states in {self.output / 'states'} are intact: mend that and start the same "
                "command again."
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)
        self.accelerator.print(f"stopped at step {self.position['step']}; the same command goes on from here")
        return self.output

    def _loop(self) -> None:
        recipe, position = self.recipe, self.position
        loader = iter(self._loader(position["step"]))
        bar = tqdm(
            total=None if recipe.optim.max_minutes else self.total,
            initial=position["step"],
            unit="step",
            disable=not self.accelerator.is_local_main_process,
        )
        started, before = time.perf_counter(), position["seconds"]
        while not self.stopping:
            # Before the next step, not after the last: a state saved at this step knows nothing of the table
            # yet, and a run that goes on from it makes the table again.
            if self._table_is_due():
                self._validate()
            if self._is_over():
                break
            waiting = time.perf_counter()
            micro_batches = next(loader)
            ready = time.perf_counter()
            losses = self._step(micro_batches)
            position["step"] += 1
            position["seconds"] = before + time.perf_counter() - started
            self._agree()
            losses["seconds"], losses["wait"] = time.perf_counter() - waiting, ready - waiting
            self._log(losses, bar)
            if position["step"] % recipe.run.save_every == 0 and not self.stopping:
                save_state(self.accelerator, self.output / "states", position)
        bar.close()
        save_state(self.accelerator, self.output / "states", position)

    def _agree(self) -> None:
        """Gives all processes the clock of the first, and stops all after this step if one was asked to.

        Each has its own clock and hears of a signal at its own time; one that stopped alone would leave the
        others waiting for ever.
        """
        self.stopping = self.stop_requested
        if self.accelerator.num_processes > 1:
            own = [self.position["seconds"], float(self.stop_requested)]
            everyone = self.accelerator.gather(torch.tensor([own], device=self.accelerator.device))
            self.position["seconds"], self.stopping = float(everyone[0, 0]), bool(everyone[:, 1].any())

    def _table_is_due(self) -> bool:
        every, step = self.recipe.run.validate_every, self.position["step"]
        return bool(every) and step % every == 0 and self.position["table"] != step

    def _is_over(self) -> bool:
        """Whether the run has had its length, or its patience is at an end."""
        return self._progress() >= 1 or 0 < self.recipe.run.patience <= self.position["waited"]

    def _progress(self) -> float:
        """Share of the run that is over: by the clock when the recipe gives minutes, else by steps."""
        if self.recipe.optim.max_minutes:
            return self.position["seconds"] / (60 * self.recipe.optim.max_minutes)
        return self.position["step"] / self.total

    def _loader(self, start: int) -> DataLoader:
        data, optim = self.recipe.data, self.recipe.optim
        weights = QuestionWeights(
            self.split.rows,
            data.balance,
            spell_out(data.family_balance),
            spell_out(data.family_share, divide=True),
            draw_chances(self._frame_of_row()),
        )
        collator = self.objective.collator(
            self.split,
            weights,
            self.tokenizer,
            self.patches,
            data.questions_per_image,
            data.mirror,
            data.max_row_tokens,
            self.recipe.run.seed,
            math.prod(self.patches) if self.network.config.uses_prefix else 0,
            data.rephrase,
            data.count_smoothing,
            data.long_every,
        )
        world = self.accelerator.num_processes
        micro = optim.micro_batch_size or math.ceil(optim.batch_size / world)
        rank = self.accelerator.process_index
        stream: IterableDataset = StepStream(self.batches, collator, start, rank, world, micro)
        if data.streaming:
            size = tuple(self.network.config.vision_config.image_size)
            stream = StreamedSteps(data.dataset, collator, size, start, rank, world, optim.batch_size, micro)
        options: dict[str, Any] = {"prefetch_factor": 2} if data.workers else {}
        return DataLoader(
            stream,
            batch_size=None,
            num_workers=data.workers,
            worker_init_fn=_leave_sigterm_to_main,
            **options,
        )

    def _step(self, micro_batches: list[Batch]) -> dict[str, float]:
        """One step of the optimiser over all micro-batches of all processes."""
        step, optim = self.position["step"], self.recipe.optim
        self.model.train()
        generator = torch.Generator().manual_seed(
            hash_of(self.recipe.run.seed, step, self.accelerator.process_index)
        )
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        set_rate(self.optimizer, optim.learning_rate * rate_scale(self._progress(), optim))
        micro_batches = [batch.to(self.accelerator.device) for batch in micro_batches]
        divisors = self._divisors(micro_batches)
        parts = torch.zeros(len(self.objective.parts), device=self.accelerator.device)
        weights = parts.new_tensor(self.objective.weights(self._progress()))
        for number, batch in enumerate(micro_batches):
            last = number == len(micro_batches) - 1
            with self.accelerator.accumulate() if last else self.accelerator.no_sync(self.model):
                images = self._images(batch, generator)
                losses = self.objective.losses(self.model, batch, images) / divisors
                # Processes average their gradients; the divisors are sums over all of them, so the mean is
                # undone here.
                loss = (losses * weights).sum() * self.accelerator.num_processes
                self.accelerator.backward(loss)
            parts += losses.detach()
        if self.masters:
            self.masters.take_gradients()
        moved = self.masters.masters.values() if self.masters else self.model.parameters()
        norm = self.accelerator.clip_grad_norm_(list(moved), optim.clip)
        parts = self.accelerator.reduce(parts, "sum")
        values = {
            **dict(zip(self.objective.parts, parts.tolist(), strict=True)),
            "gradient_norm": float(whole(norm)),
        }
        self._refuse_divergence(values)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.masters:
            self.masters.give_weights()
        if self.average:
            self.average.update(self.masters or self.module)
        return values

    def _refuse_divergence(self, values: dict[str, float]) -> None:
        """Raises TrainingError when a loss is no number, or has grown far above its lowest."""
        position, states = self.position, self.output / "states"
        where = f"The last good state is in {states}; a lower optim.learning_rate or optim.clip helps."
        # In fp16 a gradient may overflow: the scaler leaves such a step out and scales the next one less.
        overflow = {"gradient_norm"} if self.accelerator.scaler else set()
        broken = ", ".join(n for n, value in values.items() if not math.isfinite(value) and n not in overflow)
        if broken:
            raise TrainingError(f"step {position['step']}: {broken} is not a finite number. {where}")
        loss = values[self.objective.parts[0]]
        smooth = loss if position["smooth"] is None else position["smooth"]
        position["smooth"] = SMOOTHING * smooth + (1 - SMOOTHING) * loss
        position["lowest"] = min(position["smooth"], position["lowest"] or math.inf)
        if position["smooth"] > DIVERGED * position["lowest"] + 0.1:
            raise TrainingError(
                f"step {position['step']}: the loss has grown from {position['lowest']:.3f} to "
                f"{position['smooth']:.3f}. {where}"
            )

    def _divisors(self, micro_batches: list[Batch]) -> torch.Tensor:
        """What the loss sums are divided by, over all micro-batches and processes: `(parts,)`."""
        own = torch.stack([self.objective.divisors(batch) for batch in micro_batches]).sum(0)
        return self.accelerator.reduce(own, "sum").clamp(min=1)

    def _images(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """The frames of a micro-batch, changed and normalised, `(frames, 3, height, width)`."""
        data = self.recipe.data
        images = photometric(normalise(batch.pixel_values), data.photometric, generator)
        if data.changes:
            images = change(images, data.changes, batch.keeps_weather, generator)
        if data.erase and isinstance(batch, Batch):  # a caption has no labels that say where nothing is
            # Where lanes are unknown nothing is asked about them, and no patch is scored by them.
            things = batch.patch_labels[..., : PATCH_LABELS.index("direct lane")]
            labelled = (batch.patch_labels == 1).any(-1) | (things < 0).any(-1)
            evidence = batch.evidence.view(len(labelled), -1, labelled.shape[1]).any(1)
            free = (labelled | evidence).logical_not().view(-1, *self.patches)
            images = erase(images, free, data.erase, generator)
        return images.to(self.network.dtype)

    def _validate(self) -> None:
        """Writes a table, keeps the best checkpoint."""
        run, position = self.recipe.run, self.position
        table, summary = self.table(run.validate_split, run.validate_frames)
        self._show(table, summary)
        self._write({"step": position["step"], "kind": "table", "summary": summary, "families": table})
        score = summary[run.metric]
        self.accelerator.log(
            {f"tune/{name}": value for name, value in summary.items()}, step=position["step"]
        )
        position["table"] = position["step"]
        if position["best"] is None or score > position["best"]:
            position.update(best=score, waited=0)
            self._export(self.output / "best", table, summary)
        else:
            position["waited"] += 1
        self._draw_examples()
        if 0 < run.patience <= position["waited"]:
            self.accelerator.print(f"no better {run.metric} for {run.patience} tables: stopping early")

    def table(self, split: str, frames: int | None) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """The table of the averaged weights on a split, see `validation.validate`."""
        packed = open_packed(self.packed, split)
        chosen = list(range(len(packed)))[:frames]
        self.objective.module.eval()
        with self._averaged(), self.accelerator.autocast():
            return self.objective.table(self.tokenizer, packed, chosen, self.accelerator.is_main_process)

    def _show(self, table: list[dict[str, Any]], summary: dict[str, float]) -> None:
        means = ", ".join(f"{name} {value:.3f}" for name, value in summary.items())
        self.accelerator.print(f"\n{format_table(table)}\n{means}" if table else f"\n{means}")

    def _draw_examples(self) -> None:
        """Writes `overlays/step-N.png`: answers of the averaged weights, and where they looked."""
        run = self.recipe.run
        if not (run.overlays and "answers" in self.objective.parts):
            return
        path = self.output / "overlays" / f"step-{self.position['step']:07d}.png"
        self.network.eval()
        with torch.no_grad(), self._averaged(), self.accelerator.autocast():
            if self.accelerator.is_main_process:
                split = open_packed(self.packed, run.validate_split)
                draw_examples(self.network, self.tokenizer, split, run.overlays, path)

    def _averaged(self) -> AbstractContextManager[None]:
        """Gives the network the averaged weights for a while. All processes must: each may hold a piece."""
        return self.average.weights(self.objective.module) if self.average else nullcontext()

    def _finish(self) -> Path:
        table, summary = self.table(self.recipe.run.validate_split, None)
        self._show(table, summary)
        self._write({"step": self.position["step"], "kind": "final", "summary": summary, "families": table})
        if self.position["best"] is None or not (self.output / "best").is_dir():
            self._export(self.output / "best", table, summary)
        else:
            self._push(self.output / "best")  # what an earlier push did not get through
        self._export(self.output / "last", table, summary)
        self._draw_examples()
        self.accelerator.end_training()
        return self.output / "last"

    def _export(self, folder: Path, table: list[dict[str, Any]], summary: dict[str, float]) -> None:
        """Writes a loadable checkpoint with its training record, half precision, beside its place and
        renamed."""
        part = folder.with_name(folder.name + ".part")
        facts = (self.recipe, self.position, self.batches.num_frames, table, summary, self.output)
        with self._averaged():
            if self.accelerator.is_main_process:
                shutil.rmtree(part, ignore_errors=True)
                write_record(part, self.network, self.tokenizer, *facts)
        if self.accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
            if folder.name == "best":
                self._push(folder)

    def _push(self, folder: Path) -> None:
        """Uploads what the repository lacks of a checkpoint; a failure is said and training goes on."""
        repo = self.recipe.run.push_to_hub
        if not repo or not self.accelerator.is_main_process:
            return
        try:
            api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
            print(publish(api, model_publication(repo, folder, folder / "README.md"), public=False, tag=None))
        except (HTTPError, OSError, ValueError) as error:
            print(
                f"warning: {repo}: not uploaded ({first_line(error)}); the next upload sends what is missing"
            )

    def _start_log(self) -> None:
        if self.accelerator.is_main_process:
            part = self.output / "recipe.yaml.part"
            part.write_text(dump_recipe(self.recipe), encoding="utf-8")
            part.replace(self.output / "recipe.yaml")
            cut_log(self.output / "log.jsonl", self.position["step"], self.position["table"])
            start = {"step": self.position["step"], "kind": "start", "seed": self.recipe.run.seed}
            facts = {"device": device_name(), "versions": versions(), "git_revision": git_revision()}
            self._write(start | facts)
        if self.recipe.run.trackers:
            self.accelerator.init_trackers("traffic-vlm")

    def _log(self, values: dict[str, float], bar: tqdm) -> None:
        step, run = self.position["step"], self.recipe.run
        rate = self.recipe.optim.batch_size / values["seconds"]
        bar.update()
        told = {"loss": f"{values[self.objective.parts[0]]:.3f}", "rate": f"{rate:.0f}/s"}
        if self.recipe.optim.max_minutes:
            told["minutes"] = f"{self.position['seconds'] / 60:.0f}/{self.recipe.optim.max_minutes:g}"
        bar.set_postfix(told)
        if step % run.log_every == 0:
            entry = {
                **values,
                "rate": self.recipe.optim.learning_rate * rate_scale(self._progress(), self.recipe.optim),
                **rates(self.optimizer),
                "frames_per_second": rate,
                "questions_per_second": rate * self.recipe.data.questions_per_image,
                **gates(self.module),
                **memory_gib(),
            }
            self._write(
                {"step": step, "kind": "step", **{name: round(value, 6) for name, value in entry.items()}}
            )
            self.accelerator.log({f"train/{name}": value for name, value in entry.items()}, step=step)

    def _write(self, entry: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.output / "log.jsonl").open("a", encoding="utf-8", newline="\n") as lines:
                lines.write(json.dumps(entry) + "\n")

    def _request_stop(self, *_: Any) -> None:
        self.stop_requested = True


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Accelerate for a recipe.

    Raises:
        RecipeError: For a precision, tracker or way of launching that is not to be had here.
    """
    try:
        accelerator = Accelerator(
            mixed_precision="no" if recipe.run.precision == "bf16_masters" else recipe.run.precision,
            log_with=recipe.run.trackers or None,
            project_dir=recipe.run.output,
            dataloader_config=DataLoaderConfiguration(dispatch_batches=False),
        )
    except (ValueError, ImportError) as error:
        raise RecipeError(f"run.precision or run.trackers: {first_line(error)}") from error
    if recipe.optim.batch_size % accelerator.num_processes:
        raise RecipeError(
            f"optim.batch_size is {recipe.optim.batch_size}: make it a multiple of "
            f"{accelerator.num_processes}, the number of processes, so that each has as many frames."
        )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise RecipeError("training does not use DeepSpeed: launch with a profile of configs/launch/.")
    return accelerator


def _leave_sigterm_to_main(_: int) -> None:
    """A cluster sends SIGTERM to the whole process group; a loader that died of it would take the last save
    along. It ends some time later, since `multiprocessing` sends the same signal at the exit and waits."""
    alarm = getattr(signal, "alarm", None)  # not on Windows, where that is no signal
    signal.signal(signal.SIGTERM, (lambda *_: alarm(LOADER_PATIENCE)) if alarm else signal.SIG_IGN)


def hash_of(seed: int, step: int, rank: int) -> int:
    """One number for (seed, step, process), the same on every machine."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])
