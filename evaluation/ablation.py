"""What each part is worth: the same small recipe, trained again with one thing taken out at a time.

Every run has the same seeds and the same number of steps, and answers the same questions about the same
frames of the tuning split, so that differences are paired by frame. A finished run is not repeated.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import grounding, maps
from .ablation_table import FULL, compare, markdown
from .command import new_parser, run_command, write_text
from .looking import maps_of, rows_with_evidence
from .predict import DatasetError, answer_sets, clean, load_model, open_frames, predict, save
from .robustness import is_key

CONFIG = Path("configs/train/ablation.yaml")
CLOSING_FRAMES = 8


@dataclass(frozen=True)
class Ablation:
    """One thing taken out.

    Attributes:
        removed: what, for the table.
        recipe: overrides of the recipe, `section.key=value`.
        model: changes to the model's configuration, nested like it, or a function from it to them.
        frames: what it is trained on: "mixed" (all), "real" or "synthetic".
    """

    removed: str
    recipe: tuple[str, ...] = ()
    model: Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]] = field(default_factory=dict)
    frames: str = "mixed"


def square(model: Mapping[str, Any]) -> dict[str, Any]:
    """A square input with about as many pixels as the model's own frame."""
    height, width = model["vision_config"]["image_size"]
    patch = model["vision_config"]["patch_size"]
    side = max(round(math.sqrt(height * width) / patch), 1) * patch
    return {"vision_config": {"image_size": [side, side]}}


#: Angles a billion times smaller are no angles: position turns nothing.
NO_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 1e9}
#: tanh(20) is 1 in float32 and its slope is 0: the gate stays open and never moves.
OPEN_GATE = 20.0
BLIND = {"fusion": "none", "grounding_heads": []}
PREFIX = {"fusion": "prefix", "grounding_heads": []}
NO_GROUNDING = ("loss.grounding_weight=0", "loss.grounding_final=0")
NO_PATCHES = ("loss.patch_weight=0",)
NO_BALANCE = ("data.balance=0", "data.family_balance={}")

ABLATIONS: dict[str, Ablation] = {
    FULL: Ablation("nothing"),
    # a blind model has no encoder whose patches could be taught
    "no_cross_attention": Ablation("cross-attention: the decoder is blind", NO_PATCHES, BLIND),
    "prefix": Ablation("cross-attention: patches as a prefix instead", model=PREFIX),
    "no_rope": Ablation("RoPE", model={"text_config": {"rope_parameters": NO_ROPE}}),
    "no_gates": Ablation("gates of the cross-attention", model={"cross_attention_gate_init": OPEN_GATE}),
    "no_grounding_loss": Ablation("grounding loss", NO_GROUNDING),
    "no_patch_loss": Ablation("patch loss", NO_PATCHES),
    "one_question": Ablation("all but one question an image", ("data.questions_per_image=1",)),
    "square": Ablation("the frame's shape: square input", model=square),
    "no_mirror": Ablation("mirrored frames", ("data.mirror=0",)),
    "no_balancing": Ablation("balancing of answers", NO_BALANCE),
    "no_synthetic": Ablation("synthetic frames", frames="real"),
    "no_real": Ablation("real frames", frames="synthetic"),
}


@dataclass(frozen=True)
class Plan:
    """What all runs share.

    Attributes:
        real, synthetic: data sets; either may be missing.
        output: folder of the runs and of the table.
        config: the recipe.
        overrides: changes to it that hold for every run.
        steps: optimiser steps a run.
        seeds: one run each.
        train_frames: how many real frames are trained on, from the first on; all by default.
        frames: how many frames of the tuning split are asked about.
    """

    real: Path | None
    synthetic: Path | None
    output: Path
    config: Path
    overrides: tuple[str, ...] = ()
    steps: int = 400
    seeds: tuple[int, ...] = (0,)
    train_frames: int | None = None
    frames: int = 120

    @property
    def asked(self) -> Path:
        """The data set whose tuning split is asked about: the real one where there is one."""
        folder = self.real or self.synthetic
        if folder is None:
            raise DatasetError("give --real, --synthetic, or both")
        return folder

    def command(self, frames: int) -> str:
        """What somebody types to repeat it, with `D` for data sets."""
        data = [f"--{kind} D" for kind in ("real", "synthetic") if getattr(self, kind) is not None]
        limit = [f"--train-frames {self.train_frames}"] if self.train_frames else []
        options = [f"--config {self.config.as_posix()}", f"--steps {self.steps}"]
        seeds = f"--seeds {' '.join(map(str, self.seeds))}"
        words = ("python scripts/ablate.py", *data, *options, seeds, *limit, f"--frames {frames}")
        return " ".join((*words, *self.overrides))

    def folder(self, name: str, seed: int) -> Path:
        """Where a run lives."""
        return self.output / f"{name}-seed{seed}"


def mix_frames(plan: Plan, kind: str) -> Path:
    """Write the training frames of a kind of run as a data set of their own, once.

    Args:
        plan: what all runs share.
        kind: "mixed", "real" or "synthetic".

    Returns:
        Its folder. The tuning split holds a few frames alone, for the table that training closes with.

    Raises:
        DatasetError: if a data set or a split is not there.
    """
    from datasets import concatenate_datasets

    sources = {"real": plan.real, "synthetic": plan.synthetic}
    used = {
        name: source for name, source in sources.items() if source is not None and kind in ("mixed", name)
    }
    made_of = _hash([kind, plan.train_frames, *map(contents, used.values())])
    folder = plan.output / "frames" / f"{kind}-{made_of}"
    if (folder / "data").is_dir():
        return folder
    parts = []
    for name, source in used.items():
        train: Any = open_frames(source, "train")
        most = len(train) if name == "synthetic" else min(len(train), plan.train_frames or len(train))
        parts.append(train.select(range(most)))
    tune: Any = open_frames(plan.asked, "tune")
    part = folder / "data.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    concatenate_datasets(parts).to_parquet(part / "train-00000-of-00001.parquet")
    closing = tune.select(range(min(CLOSING_FRAMES, len(tune))))
    closing.to_parquet(part / "tune-00000-of-00001.parquet")
    part.rename(folder / "data")
    return folder


def contents(dataset: Path) -> list[Any]:
    """What tells a data set from another in the same place: its files, their sizes and times."""
    files = sorted((dataset / "data").rglob("*.parquet"))
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _hash(wanted: Any) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]


def changed(model: Mapping[str, Any], ablation: Ablation) -> dict[str, Any]:
    """The model's configuration with an ablation's changes, which go one level deep."""
    result = dict(model)
    changes = ablation.model(model) if callable(ablation.model) else ablation.model
    for name, value in changes.items():
        result[name] = {**model.get(name, {}), **value} if isinstance(value, Mapping) else value
    return result


def recipe_of(plan: Plan, ablation: Ablation, seed: int, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The recipe of one run and its model's configuration.

    Raises:
        RecipeError: if the recipe or an override cannot be used.
    """
    from traffic_vlm.training.recipe import load_recipe

    frames = mix_frames(plan, ablation.frames)
    base = load_recipe(plan.config, plan.overrides)
    model = changed(json.loads(Path(base.model.config).read_text(encoding="utf-8")), ablation)
    epochs = plan.steps * base.optim.batch_size / len(open_frames(frames, "train"))
    own = (
        f"model.config={(folder / 'model.json').as_posix()}",
        f"data.dataset={frames.as_posix()}",
        f"optim.epochs={epochs}",
        f"run.output={folder.as_posix()}",
        f"run.seed={seed}",
        "run.validate_split=tune",
        "run.validate_every=0",
    )
    return load_recipe(plan.config, (*plan.overrides, *ablation.recipe, *own)), model


def run(plan: Plan, name: str, seed: int) -> Path:
    """Train one run and ask it, unless that has been done.

    Args:
        plan: what all runs share.
        name: one of `ABLATIONS`.
        seed: of the run.

    Returns:
        Folder with `predictions.parquet` and `result.json`.
    """
    folder = plan.folder(name, seed)
    recipe, model = recipe_of(plan, ABLATIONS[name], seed, folder)
    key = _hash([recipe.to_dict(), model, plan.frames, contents(plan.asked)])
    if _read(folder / "result.json").get("key") == key:
        return folder
    if _read(folder / "started.json").get("key") != key:  # another plan's run: nothing of it fits
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "model.json", json.dumps(model, indent=1))
    write_text(folder / "started.json", json.dumps({"key": key}))
    from traffic_vlm.training.trainer import Trainer

    trained = Trainer(recipe).train()
    if trained == folder:
        raise SystemExit("stopped: the same command goes on from here")
    write_text(folder / "result.json", json.dumps({"key": key, **ask(trained, plan, folder)}, indent=1))
    shutil.rmtree(folder / "states", ignore_errors=True)
    return folder


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def ask(checkpoint: Path, plan: Plan, folder: Path) -> dict[str, Any]:
    """Ask a trained run the key questions about the tuning split.

    Returns:
        parameters, training_seconds, and the mass ratio with its interval where the model has maps;
        the answers go to `predictions.parquet`.
    """
    frames = open_frames(plan.asked, "tune")
    model, processor = load_model(checkpoint)
    view, count = clean(frames), min(plan.frames, len(frames))
    table = predict(model, processor, view, count, answer_sets(frames), families=is_key, name="asking")
    save(table, folder / "predictions.parquet")
    record = _read(checkpoint / "training" / "record.json")
    found: dict[str, Any] = {name: record[name] for name in ("parameters", "training_seconds")}
    rows = rows_with_evidence(table)
    rows = rows[rows["family"].str.startswith("presence") & (rows["truth"] == "yes")]
    if model.config.uses_cross_attention and len(rows):
        scored = grounding.scored(rows, maps_of(maps.evidence_maps, model, processor, view, rows))
        found["ratio"] = grounding.mean_with_interval(
            scored["ratio"].to_numpy(), scored["image_id"].astype(str).tolist()
        )
    return found


def ablate(plan: Plan, names: Sequence[str]) -> list[dict[str, Any]]:
    """Train, ask and compare; writes `ablations.json` and `ablations.md`.

    Args:
        plan: what all runs share.
        names: which of `ABLATIONS`; the full recipe is always among them.

    Returns:
        The rows of `ablation_table.compare`.

    Raises:
        DatasetError, RecipeError: if data or recipe cannot be used.
    """
    names = [name for name in ABLATIONS if name in (FULL, *names)]
    if plan.real is None or plan.synthetic is None:
        names = [name for name in names if ABLATIONS[name].frames == "mixed"]
    todo = [(seed, name) for seed in plan.seeds for name in names]
    for number, (seed, name) in enumerate(todo, start=1):
        print(f"run {number} of {len(todo)}: {name}, seed {seed}", flush=True)
        run(plan, name, seed)
    rows = compare({name: [plan.folder(name, seed) for seed in plan.seeds] for name in names})
    frames = min(plan.frames, len(open_frames(plan.asked, "tune")))
    what = (
        f"`{plan.config.as_posix()}` with one thing taken out at a time, the same steps and seeds for every "
        f"run, all asked about the same {frames} frames of the split `tune`:\n\n    {plan.command(frames)}"
    )
    removed = {name: ablation.removed for name, ablation in ABLATIONS.items()}
    result = {"what": what, "seeds": list(plan.seeds), "rows": rows}
    write_text(plan.output / "ablations.json", json.dumps(result, indent=1))
    write_text(plan.output / "ablations.md", markdown(rows, removed, what, len(plan.seeds)))
    return rows


def main(arguments: list[str] | None = None, description: str | None = __doc__) -> int:
    """The command line of scripts/ablate.py.

    Args:
        arguments: by default those of the process.
        description: shown by `--help`.

    Returns:
        0, or 2 after one line that says what was wrong.
    """
    parser = new_parser(description)
    parser.add_argument("--real", type=Path, metavar="D", help="data set of BDD100K frames")
    parser.add_argument("--synthetic", type=Path, metavar="D", help="data set of rendered frames")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/ablations"), help="folder of runs and table"
    )
    parser.add_argument("--config", type=Path, default=CONFIG, help="recipe (YAML)")
    parser.add_argument("--steps", type=int, default=400, help="optimiser steps a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="one run each")
    parser.add_argument("--only", nargs="+", default=list(ABLATIONS), choices=list(ABLATIONS), metavar="NAME")
    parser.add_argument("--train-frames", type=int, metavar="N", help="only the first N real training frames")
    parser.add_argument("--frames", type=int, default=120, metavar="N", help="frames of the tuning split")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe")
    args = parser.parse_intermixed_args(arguments)

    def work() -> str:
        plan = Plan(
            args.real, args.synthetic, args.output, args.config, tuple(args.overrides), args.steps,
            tuple(args.seeds), args.train_frames, args.frames,
        )  # fmt: skip
        ablate(plan, args.only)
        page = args.output / "ablations.md"
        return page.read_text(encoding="utf-8") + f"\n{page}"

    return run_command(work, (ValueError, OSError, RuntimeError))
