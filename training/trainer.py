"""The training loop: frames in, a checkpoint out, resumable at any step.

Everything random in step s is drawn from (seed, s): which frames, which questions, how they are changed,
which units drop out. A run that was killed goes on from its last complete state and ends with the weights it
would have had.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm
from traffic_vlm.evaluation.metrics import format_table
from traffic_vlm.modeling import TrafficVLMConfig, TrafficVLMForConditionalGeneration
from traffic_vlm.modeling.grounding import grounding_loss, patch_loss
from traffic_vlm.processing.bdd100k.families import FAMILIES
from traffic_vlm.processing.tokenization_traffic_vlm import TrafficVLMTokenizer, train_tokenizer
from transformers import PreTrainedTokenizerBase

from .augmentation import erase, normalise, photometric
from .checkpoints import load_state, save_state
from .collator import PATCH_LABELS, Batch, Collator
from .losses import answer_loss, answer_tokens, known_patches, rows_with_evidence, scored_positions
from .optimizer import AveragedWeights, MasterWeights, build_optimizer, rate_scale, set_rate
from .packing import PackedSplit, is_packed, open_packed, pack_split
from .recipe import Recipe, RecipeError, dump_recipe
from .record import write_record
from .sampling import FrameBatches, QuestionWeights, frame_weights
from .validation import validate

RARE = 0.03
"""Assumed share of patches that a label touches: the patch head starts from this answer (Lin et al. 2017,
section 4.1)."""


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
        long_every: int,
    ) -> None:
        self.batches, self.collator, self.start = batches, collator, start
        self.rank, self.world, self.micro, self.long_every = rank, world, micro, long_every

    def __iter__(self) -> Iterator[list[Batch]]:
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for step, indices in self.batches.from_step(self.start):
            if (step - self.start) % workers == turn:
                mine = indices[self.rank :: self.world]
                parts = np.array_split(mine, math.ceil(len(mine) / self.micro))
                yield [self.collator(step, part, step % self.long_every == 0) for part in parts]


class Trainer:
    """One run of a recipe.

    Args:
        recipe: What to do.

    Raises:
        RecipeError, DataError, StateError: If recipe, data or saved state cannot be used.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.output = Path(recipe.run.output)
        self.accelerator = Accelerator(
            mixed_precision="no" if recipe.run.precision == "bf16_masters" else recipe.run.precision,
            log_with=recipe.run.trackers or None,
            project_dir=str(self.output),
            dataloader_config=DataLoaderConfiguration(dispatch_batches=False),
        )
        set_seed(recipe.run.seed)
        self.output.mkdir(parents=True, exist_ok=True)
        config = read_model_config(recipe)
        with self.accelerator.main_process_first():
            self.packed = pack_recipe(recipe)
        self.split = open_packed(self.packed, "train")
        self.tokenizer = prepare_tokenizer(recipe, self.split, self.output)
        config.text_config.vocab_size = math.ceil(len(self.tokenizer) / 64) * 64
        self.network = build_model(config, recipe)
        self.patches = tuple(config.vision_config.grid_size)
        self.masters = MasterWeights(self.network) if recipe.run.precision == "bf16_masters" else None
        self.optimizer = build_optimizer(self.masters or self.network, recipe.optim)
        self.average = (
            AveragedWeights(self.masters or self.network, recipe.optim.ema) if recipe.optim.ema else None
        )
        model = torch.compile(self.network) if recipe.optim.compile else self.network
        self.model, self.optimizer = self.accelerator.prepare(model, self.optimizer)
        self.accelerator.register_for_checkpointing(*filter(None, (self.average, self.masters)))
        self.batches = self._frame_batches()
        self.total = math.ceil(recipe.optim.epochs * self.batches.num_frames / recipe.optim.batch_size)
        self.position: dict[str, Any] = {"step": 0, "best": None, "waited": 0, "seconds": 0.0}
        self.stop_requested = False

    def _frame_batches(self) -> FrameBatches:
        names = [row["image_id"] for row in self.split.rows]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        frame_of_row = np.array([numbers[name] for name in names])
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
            TrainingError: When the loss is not a number; the last good state stays on disk.
        """
        saved = load_state(self.accelerator, self.output / "states")
        if saved:
            self.position = saved
            self.accelerator.print(f"resuming at step {saved['step']} of {self.total}")
        self._start_log()
        before = signal.signal(signal.SIGTERM, self._request_stop)
        try:
            self._loop()
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.stop_requested:
            self.accelerator.print(
                f"stopped at step {self.position['step']}; the same command goes on from here"
            )
            return self.output
        return self._finish()

    def _loop(self) -> None:
        recipe, position = self.recipe, self.position
        loader = iter(self._loader(position["step"]))
        bar = tqdm(
            total=self.total,
            initial=position["step"],
            unit="step",
            disable=not self.accelerator.is_local_main_process,
        )
        started, before = time.perf_counter(), position["seconds"]
        while self._progress() < 1 and not self.stop_requested:
            waiting = time.perf_counter()
            micro_batches = next(loader)
            ready = time.perf_counter()
            losses = self._step(micro_batches)
            position["step"] += 1
            position["seconds"] = before + time.perf_counter() - started
            losses["seconds"], losses["wait"] = time.perf_counter() - waiting, ready - waiting
            self._log(losses, bar)
            if position["step"] % recipe.run.save_every == 0 or self.stop_requested:
                save_state(self.accelerator, self.output / "states", position)
            if (
                recipe.run.validate_every
                and position["step"] % recipe.run.validate_every == 0
                and self._validate()
            ):
                self.accelerator.print(
                    f"no better {recipe.run.metric} for {position['waited']} tables: stopping early"
                )
                break
        bar.close()
        if not self.stop_requested:
            save_state(self.accelerator, self.output / "states", position)

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
        )
        collator = Collator(
            self.split,
            weights,
            self.tokenizer,
            self.patches,
            data.questions_per_image,
            data.mirror,
            data.max_row_tokens,
            self.recipe.run.seed,
            math.prod(self.patches) if self.network.config.uses_prefix else 0,
        )
        world = self.accelerator.num_processes
        micro = optim.micro_batch_size or math.ceil(optim.batch_size / world)
        stream = StepStream(
            self.batches, collator, start, self.accelerator.process_index, world, micro, data.long_every
        )
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
        parts = torch.zeros(3, device=self.accelerator.device)
        for number, batch in enumerate(micro_batches):
            last = number == len(micro_batches) - 1
            with self.accelerator.accumulate() if last else self.accelerator.no_sync(self.model):
                losses = self._losses(batch, generator) / divisors
                # Processes average their gradients; the divisors are sums over all of them, so the mean is
                # undone here.
                loss = (losses * self._weights(losses)).sum() * self.accelerator.num_processes
                self.accelerator.backward(loss)
            parts += losses.detach()
        if self.masters:
            self.masters.take_gradients()
        moved = self.masters.masters.values() if self.masters else self.model.parameters()
        norm = self.accelerator.clip_grad_norm_(list(moved), optim.clip)
        values = {"answers": parts[0], "patches": parts[1], "grounding": parts[2], "gradient_norm": norm}
        values = {name: float(value) for name, value in values.items()}
        if not all(math.isfinite(value) for value in values.values()):
            broken = ", ".join(name for name, value in values.items() if not math.isfinite(value))
            raise TrainingError(
                f"step {step}: {broken} is not a finite number. The last good state is in "
                f"{self.output / 'states'}; a lower optim.learning_rate or optim.clip helps."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.masters:
            self.masters.give_weights()
        if self.average:
            self.average.update(self.masters or self.network)
        return values

    def _divisors(self, micro_batches: list[Batch]) -> torch.Tensor:
        """What the three loss sums are divided by, over all micro-batches and processes: `(3,)`."""
        own = [
            torch.stack(
                [
                    answer_tokens(batch.labels, batch.row_weights),
                    known_patches(batch.patch_labels).float(),
                    rows_with_evidence(batch.evidence).float(),
                ]
            )
            for batch in micro_batches
        ]
        return self.accelerator.reduce(torch.stack(own).sum(0), "sum").clamp(min=1)

    def _losses(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """Sums of answer, patch and grounding loss of a micro-batch, `(3,)`."""
        data, loss = self.recipe.data, self.recipe.loss
        images = photometric(normalise(batch.pixel_values), data.photometric, generator)
        images = images.to(self.network.dtype)
        if data.erase:
            free = ((batch.patch_labels == 1).any(-1) | (batch.patch_labels < 0).any(-1)).logical_not()
            images = erase(images, free.view(-1, *self.patches), data.erase, generator)
        grounded = self.network.config.grounding_heads
        output = self.model(
            input_ids=batch.input_ids,
            pixel_values=images,
            grounding_positions=batch.grounding_positions if grounded else None,
            logits_to_keep=scored_positions(batch.labels),
            use_cache=False,
        )
        answers = answer_loss(
            output.logits, batch.labels, batch.row_weights, loss.label_smoothing, loss.focal_gamma
        )
        patches = grounding = answers.new_zeros(())
        if output.patch_logits is not None:
            patches = patch_loss(output.patch_logits.float(), batch.patch_labels) * known_patches(
                batch.patch_labels
            )
        if grounded:
            grounding = grounding_loss(output.grounding_maps, batch.evidence) * rows_with_evidence(
                batch.evidence
            )
        return torch.stack([answers, patches, grounding])

    def _weights(self, like: torch.Tensor) -> torch.Tensor:
        loss, progress = self.recipe.loss, self._progress()
        grounding = loss.grounding_weight + (loss.grounding_final - loss.grounding_weight) * progress
        return like.new_tensor([1.0, loss.patch_weight, grounding])

    def _validate(self) -> bool:
        """Writes a table, keeps the best checkpoint; True when patience is over."""
        run, position = self.recipe.run, self.position
        table, summary = self.table(run.validate_split, run.validate_frames)
        self.accelerator.print("\n" + format_table(table))
        self._write({"step": position["step"], "kind": "table", "summary": summary, "families": table})
        score = summary[run.metric]
        self.accelerator.log(
            {f"tune/{name}": value for name, value in summary.items()}, step=position["step"]
        )
        if position["best"] is None or score > position["best"]:
            position.update(best=score, waited=0)
            self._export(self.output / "best", table, summary)
        else:
            position["waited"] += 1
        return bool(run.patience) and position["waited"] >= run.patience

    def table(self, split: str, frames: int | None) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """The table of the averaged weights on a split, see `validation.validate`."""
        packed = open_packed(self.packed, split)
        chosen = list(range(len(packed)))[:frames]
        self.network.eval()
        with self._averaged(), self.accelerator.autocast():
            return validate(
                self.network, self.tokenizer, packed, chosen, show_progress=self.accelerator.is_main_process
            )

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.weights(self.network) if self.average else nullcontext()

    def _finish(self) -> Path:
        table, summary = self.table(self.recipe.run.validate_split, None)
        self.accelerator.print("\n" + format_table(table))
        self._write({"step": self.position["step"], "kind": "final", "summary": summary, "families": table})
        if self.position["best"] is None or not (self.output / "best").is_dir():
            self._export(self.output / "best", table, summary)
        self._export(self.output / "last", table, summary)
        self.accelerator.end_training()
        return self.output / "last"

    def _export(self, folder: Path, table: list[dict[str, Any]], summary: dict[str, float]) -> None:
        """Writes a loadable checkpoint with its training record, half precision, beside its place and
        renamed."""
        if not self.accelerator.is_main_process:
            return
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        with self._averaged():
            write_record(
                part, self.network, self.tokenizer, self.recipe, self.position, table, summary, self.output
            )
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)

    def _start_log(self) -> None:
        if self.accelerator.is_main_process:
            (self.output / "recipe.yaml").write_text(dump_recipe(self.recipe), encoding="utf-8")
        if self.recipe.run.trackers:
            self.accelerator.init_trackers("traffic-vlm")

    def _log(self, values: dict[str, float], bar: tqdm) -> None:
        step, run = self.position["step"], self.recipe.run
        rate = self.recipe.optim.batch_size / values["seconds"]
        bar.update()
        bar.set_postfix(
            loss=f"{values['answers']:.3f}", patches=f"{values['patches']:.4f}", rate=f"{rate:.0f}/s"
        )
        if step % run.log_every == 0:
            gates = [
                float(p.detach().float().tanh().abs().mean())
                for n, p in self.network.named_parameters()
                if "gate" in n.rsplit(".", 1)[-1]
            ]
            entry = {
                **values,
                "rate": self.optimizer.param_groups[-1]["lr"],
                "frames_per_second": rate,
                "questions_per_second": rate * self.recipe.data.questions_per_image,
                "gate": float(np.mean(gates)) if gates else 0.0,
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


def _leave_sigterm_to_main(_: int) -> None:
    """A cluster sends SIGTERM to the whole process group; a loader that died of it would take the last save
    along."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def hash_of(seed: int, step: int, rank: int) -> int:
    """One number for (seed, step, process), the same on every machine."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])


def spell_out(setting: dict[str, float], divide: bool = False) -> dict[str, float]:
    """A setting by group or family name, spelt out by family; a family's own entry wins.

    Args:
        setting: Values by name.
        divide: Whether the families of a group share its value instead of each having it.

    Raises:
        RecipeError: For a name that is neither a family nor a group.
    """
    sizes = Counter(family.group for family in FAMILIES.values())
    unknown = [name for name in setting if name not in sizes and name not in FAMILIES]
    if unknown:
        raise RecipeError(
            f"data: {unknown[0]!r} is neither a family nor a group of families ({', '.join(sorted(sizes))})."
        )
    values = {
        name: setting[family.group] / (sizes[family.group] if divide else 1)
        for name, family in FAMILIES.items()
        if family.group in setting
    }
    return values | {name: value for name, value in setting.items() if name in FAMILIES}


def read_model_config(recipe: Recipe) -> TrafficVLMConfig:
    """Reads the model's configuration of a recipe, refusing a file that is not one."""
    path = Path(recipe.model.config)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        config = TrafficVLMConfig(**values)
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(f"{path}: not a model configuration ({str(error).splitlines()[0]}).") from error
    if recipe.loss.patch_weight:
        config.num_patch_labels = len(PATCH_LABELS)
    return config


def pack_recipe(recipe: Recipe) -> Path:
    """Packs the splits of a recipe that are not packed yet.

    Returns:
        The packed folder: the data set itself where it is one already.
    """
    data, splits = recipe.data, ("train", recipe.run.validate_split)
    if all(is_packed(data.dataset, split) for split in splits):
        return Path(data.dataset)
    height, width = read_model_config(recipe).vision_config.image_size
    name = f"packed-{width}x{height}" + (f"-v{data.variants}" if data.variants else "")
    folder = Path(data.packed) if data.packed else Path(data.dataset) / name
    for split in splits:
        if not is_packed(folder, split):
            variants = data.variants if split == "train" else 0
            pack_split(data.dataset, split, folder, (height, width), variants, data.max_zoom, recipe.run.seed)
    return folder


def prepare_tokenizer(recipe: Recipe, split: PackedSplit, output: Path) -> PreTrainedTokenizerBase:
    """The recipe's tokenizer, or one trained on the training questions and kept in the run's folder."""
    folder = Path(recipe.model.tokenizer) if recipe.model.tokenizer else output / "tokenizer"
    if (folder / "tokenizer.json").is_file():
        return TrafficVLMTokenizer.from_pretrained(folder)
    if recipe.model.tokenizer:
        raise RecipeError(f"{folder}: no tokenizer.json here. Leave model.tokenizer empty to train one.")
    texts = {text for row in split.rows for q in row["questions"] for text in (q["question"], q["answer"])}
    tokenizer = train_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_model(config: TrafficVLMConfig, recipe: Recipe) -> TrafficVLMForConditionalGeneration:
    """The network with its starting weights."""
    if recipe.model.init_from:
        model = TrafficVLMForConditionalGeneration.from_pretrained(
            recipe.model.init_from, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
        )
    else:
        model = TrafficVLMForConditionalGeneration(config)
        if config.num_patch_labels:
            torch.nn.init.constant_(model.patch_head.classifier.bias, math.log(RARE / (1 - RARE)))
    model.set_attn_implementation(recipe.optim.attention)
    if recipe.model.freeze_vision:
        model.model.vision_tower.requires_grad_(False)
    return model


def main() -> None:
    """`python -m training.trainer`: the plan's spelling of scripts/train.py."""
    import runpy

    runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "train.py"), run_name="__main__")


if __name__ == "__main__":
    main()
