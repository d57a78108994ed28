"""A training recipe: one YAML file, typed and checked, with `key=value` overrides.

A recipe has five sections (`model`, `data`, `loss`, `optim`, `run`). Unknown or misspelt keys are refused
with the nearest right name, values are converted to the type that the section declares.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHANGES = ("jpeg", "rain", "fog", "dusk")
TRACKERS = ("tensorboard", "wandb", "trackio")
ANSWER_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "gain")
CAPTION_METRICS = ("frame_to_caption", "caption_to_frame", "retrieval")
METRICS = {"answers": ANSWER_METRICS, "consistent_answers": ANSWER_METRICS, "captions": CAPTION_METRICS}
"""Objective -> columns of its summary."""
RANGES: dict[tuple[str, float, float, str], tuple[str, ...]] = {
    ("[", 1, math.inf, "]"): (
        *("data.questions_per_image", "data.long_every", "optim.batch_size"),
        *("run.validate_frames", "run.save_every", "run.log_every"),
    ),
    ("[", 0, math.inf, "]"): (
        *("data.variants", "data.workers", "data.limit_frames", "data.max_row_tokens"),
        *("optim.micro_batch_size", "run.seed", "run.validate_every", "run.patience", "run.overlays"),
    ),
    ("[", 0, math.inf, ")"): (
        *("data.balance", "data.family_balance", "data.family_share", "data.frame_balance"),
        *("loss.focal_gamma", "loss.patch_weight", "loss.patch_final", "loss.consistency_weight"),
        *("loss.grounding_weight", "loss.grounding_final"),
        *("optim.encoder_scale", "optim.projector_scale", "optim.weight_decay"),
    ),
    ("(", 0, math.inf, ")"): ("optim.epochs", "optim.max_minutes", "optim.learning_rate"),
    ("(", 0, math.inf, "]"): ("optim.clip",),  # at 0 nothing would move; infinity clips nothing
    ("[", 0, 1, "]"): (
        *("data.mirror", "data.rephrase", "data.erase", "data.changes", "data.paste", "data.join"),
        "optim.min_scale",
    ),
    ("[", 0, 1, ")"): ("loss.label_smoothing", "optim.beta2", "optim.warmup", "optim.ema"),
    ("(", 0, 1, "]"): ("optim.decay",),
    ("[", 0, 0.5, "]"): ("data.max_zoom",),
    # From two thirds on a count's neighbours would be taught more often than the count.
    ("[", 0, 2 / 3, ")"): ("data.count_smoothing",),
    # Above 2 colours may turn into their opposites, and a red light would be none.
    ("[", 0, 2, "]"): ("data.photometric",),
}
"""Interval -> the settings whose value, or each of whose values, must lie in it. As in mathematics a square
bracket takes its end in and a round one leaves it out."""


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the key or file and what to change."""


@dataclass
class ModelSection:
    """What is trained.

    Attributes:
        config: JSON file with the fields of `TrafficVLMConfig`.
        tokenizer: Folder with the tokenizer. None takes that of `init_from` where all parts are taken and
            one is there, since its embeddings belong to its words; else it trains one on the questions of the
            training split.
        init_from: Folder of a checkpoint whose weights are the start; None starts from random weights.
            Weights that do not fit are left out and named; where most do not, the run is refused.
        init_parts: Parts of that checkpoint that are taken, by name, such as `vision_tower`; empty takes all.
        freeze_vision: Whether the vision encoder keeps its weights.
    """

    config: str = "configs/models/small.json"
    tokenizer: str | None = None
    init_from: str | None = None
    init_parts: list[str] = field(default_factory=list)
    freeze_vision: bool = False


@dataclass
class DataSection:
    """What it is trained on.

    Attributes:
        dataset: Data set folder made by scripts/build_dataset.py, or a folder that `pack_split` made of
            one.
        packed: Where the packed frames go; None puts them beside the data set.
        questions_per_image: Questions asked of each frame in a step (K).
        variants: Shifted and zoomed copies of every training frame beside the original, their questions
            asked anew of the moved scene so that no answer turns false. A third of the draws is the original.
        max_zoom: Largest share of width or height that such a copy cuts away, 0 to 0.5.
        paste: Share of those copies into which rare things of other frames are pasted (see pasting.py).
        join: Share of those copies that are joined with another frame of the same time of day and weather
            (see joining.py).
        mirror: Probability that a frame is mirrored, its words with it.
        rephrase: Probability that a question is asked in words drawn anew from its family's training
            phrasings, so that a frame is not always asked in the same words.
        count_smoothing: Probability that a count from one to five is taught as one more or one less: a soft
            label, since a count that is wrong by one is nearly right.
        photometric: Strength of the light, colour, blur and noise changes; 0 switches them off, 1 is the
            usual, 2 the most.
        changes: Share of the frames by kind of change: `jpeg`, and `rain`, `fog`, `dusk`, which leave frames
            alone that are asked about weather or light.
        erase: Probability that a small rectangle without evidence is painted over.
        balance: Exponent a of the weight (1 / frequency of the answer in its group) ** a by which questions
            are drawn: 0 keeps the natural mix, 1 draws all answers of a group equally often.
        family_balance: Other exponents for single families.
        family_share: Relative share of single families; 1 for those not named.
        frame_balance: Families by whose answers frames are drawn, with an exponent as in `balance`: frames
            with a rare answer come more often.
        max_row_tokens: Rows longer than this are asked only in every `long_every`-th step, there as much
            oftener, so that a few long answers do not pad all short ones.
        long_every: See `max_row_tokens`.
        limit_frames: Use only so many training frames; None uses all. What is pasted and joined may still
            come from the others.
        workers: Loader processes.
        streaming: Read training frames as they come instead of packing them; `dataset` may then be a
            repository on the Hub. Without copies (`variants`), `frame_balance` and with one loader process.
    """

    dataset: str = "data/bdd100k_questions"
    packed: str | None = None
    questions_per_image: int = 8
    variants: int = 0
    max_zoom: float = 0.15
    paste: float = 0.0
    join: float = 0.0
    mirror: float = 0.5
    rephrase: float = 0.0
    count_smoothing: float = 0.0
    photometric: float = 1.0
    changes: dict[str, float] = field(default_factory=dict)
    erase: float = 0.0
    balance: float = 0.75
    family_balance: dict[str, float] = field(default_factory=dict)
    family_share: dict[str, float] = field(default_factory=dict)
    frame_balance: dict[str, float] = field(default_factory=dict)
    max_row_tokens: int = 24
    long_every: int = 6
    limit_frames: int | None = None
    workers: int = 1
    streaming: bool = False


@dataclass
class LossSection:
    """What is learnt, and the weights of the parts of the loss.

    Attributes:
        objective: `answers`; `consistent_answers`, where each frame also stands mirrored in its batch and
            questions come with their opposites, so that answers that contradict each other cost something;
            or `captions`: the encoder's own pre-training, SigLIP's loss over frames and captions made of
            `data.questions_per_image` questions with their answers. The settings below are not for captions.
        label_smoothing: Share of the target probability spread over the vocabulary.
        focal_gamma: Focal exponent on answer tokens (Lin et al. 2017, eq. 4); 0 is plain cross-entropy.
        patch_weight: Weight of the patch loss (binary cross-entropy averaged over labels and patches, hence
            the large number).
        patch_final: Its weight at the end of training; it moves linearly between the two. None keeps it.
        grounding_weight: Weight of the grounding loss at the start of training.
        grounding_final: Weight of the grounding loss at the end; it moves linearly between the two.
        consistency_weight: Weight of the loss of `consistent_answers`.
    """

    objective: str = "answers"
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    patch_weight: float = 30.0
    patch_final: float | None = None
    grounding_weight: float = 0.1
    grounding_final: float = 0.1
    consistency_weight: float = 1.0


@dataclass
class OptimSection:
    """How it is trained.

    Attributes:
        optimizer: `adamw`, or `muon`: matrices between hidden states are moved by Muon (Jordan et al. 2024,
            https://kellerjordan.github.io/posts/muon/), the rest by AdamW.
        batch_size: Frames a step over all processes and accumulated micro-batches.
        micro_batch_size: Frames a process puts through the network at once; None is `batch_size` over the
            processes.
        epochs: Passes over the training frames.
        max_minutes: Planned length in minutes; where given, the schedule follows the clock instead of the
            step count, so that a run ends on time on any machine. Not exactly repeatable; None follows the
            steps.
        learning_rate: Peak rate of the decoder, in 1/step.
        encoder_scale: The encoder's rate as a share of `learning_rate`.
        projector_scale: The projector's and the cross-attention gates' rate likewise.
        weight_decay: Decoupled weight decay of matrices; never on norms, biases, embeddings and gates.
        beta2: AdamW's second coefficient.
        warmup: Share of the run with rising rate.
        schedule: `cosine`, or `wsd` (warm-up, stable, linear decay over the last `decay` of the run).
        decay: See `schedule`.
        min_scale: Rate at the end as a share of the peak.
        clip: Largest gradient norm; `.inf` clips nothing.
        ema: Decay of the averaged weights a step; 0 keeps none.
        compile: Whether the network goes through torch.compile. It did not pay on the CPU that was measured;
            on a GPU nobody has measured it.
        attention: Attention backend for training. `eager` is twice as fast as `sdpa` in the backward pass on
            CPU.
    """

    optimizer: str = "adamw"
    batch_size: int = 48
    micro_batch_size: int | None = None
    epochs: float = 12.0
    max_minutes: float | None = None
    learning_rate: float = 1e-3
    encoder_scale: float = 1.0
    projector_scale: float = 1.0
    weight_decay: float = 0.05
    beta2: float = 0.98
    warmup: float = 0.05
    schedule: str = "cosine"
    decay: float = 0.2
    min_scale: float = 0.01
    clip: float = 1.0
    ema: float = 0.998
    compile: bool = False
    attention: str = "eager"


@dataclass
class RunSection:
    """Where and how often.

    Attributes:
        output: Run folder: states, best and last checkpoint, logs, resolved recipe.
        seed: Seed of everything random in the run.
        precision: `no`, `bf16`, `fp16` (autocast), or `bf16_masters` (all of the network in bfloat16,
            float32 copies for the optimiser). `auto` is bf16 or fp16 on a GPU, and on a CPU the faster of
            `no` and `bf16_masters` in a short probe; a run that goes on keeps what it began with.
        validate_split: Split for the tables during training; never the validation frames.
        validate_every: Steps between tables; 0 makes one at the end only.
        validate_frames: Frames of that split used during training; None uses all.
        save_every: Steps between saved states.
        patience: Tables without a better `metric` before training stops; 0 never stops early.
        metric: Column of the objective's summary (`METRICS`) that decides which checkpoint is best.
        trackers: Where the curves go: any of `tensorboard`, `wandb`, `trackio`; a JSONL file is always
            written.
        log_every: Steps between lines in the curves.
        overlays: Frames drawn with each table, with the question, the answer and where the model looked.
        push_to_hub: Repository on the Hub (`owner/name`) that every best checkpoint is uploaded to; private.
    """

    output: str = "runs/first_light"
    seed: int = 0
    precision: str = "auto"
    validate_split: str = "tune"
    validate_every: int = 500
    validate_frames: int | None = 200
    save_every: int = 250
    patience: int = 0
    metric: str = "balanced_accuracy"
    trackers: list[str] = field(default_factory=list)
    log_every: int = 20
    overlays: int = 4
    push_to_hub: str | None = None


@dataclass
class Recipe:
    """All of a training run in one value; see the sections."""

    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    loss: LossSection = field(default_factory=LossSection)
    optim: OptimSection = field(default_factory=OptimSection)
    run: RunSection = field(default_factory=RunSection)

    def __post_init__(self) -> None:
        self._check_names()
        self._check_ranges()
        self._check_combinations()

    def _check_names(self) -> None:
        if self.optim.schedule not in ("cosine", "wsd"):
            raise RecipeError(f"optim.schedule is {self.optim.schedule!r}: use 'cosine' or 'wsd'.")
        for key, chosen, known in (
            ("run.precision", self.run.precision, ("auto", "no", "bf16", "fp16", "bf16_masters")),
            ("optim.optimizer", self.optim.optimizer, ("adamw", "muon")),
            ("loss.objective", self.loss.objective, tuple(METRICS)),
            # Of no objective where that one is unknown, which is refused just before.
            ("run.metric", self.run.metric, METRICS.get(self.loss.objective, ())),
            *(("data.changes", name, CHANGES) for name in self.data.changes),
            *(("run.trackers", name, TRACKERS) for name in self.run.trackers),
        ):
            if chosen not in known:
                raise RecipeError(f"{key} is {chosen!r}: use {' or '.join(map(repr, known))}.")

    def _check_combinations(self) -> None:
        data = self.data
        if data.streaming and (data.variants or data.frame_balance or data.workers > 1 or data.limit_frames):
            raise RecipeError(
                "data.streaming: frames come in the order of the stream; set data.variants=0, "
                "data.workers=1, and leave data.frame_balance and data.limit_frames empty."
            )
        if self.loss.objective == "captions" and self.optim.micro_batch_size:
            raise RecipeError(
                "optim.micro_batch_size: the loss over captions compares all frames of a process with each "
                "other; leave it empty and make optim.batch_size smaller instead."
            )
        for key, share in (("data.paste", data.paste), ("data.join", data.join)):
            if share and not round(data.variants * share):
                raise RecipeError(
                    f"{key} is {share}, of data.variants={data.variants} copies: that is "
                    f"not one. Make more copies or set {key}=0."
                )

    def _check_ranges(self) -> None:
        for interval, keys in RANGES.items():
            for key in keys:
                section, _, name = key.partition(".")
                value = getattr(getattr(self, section), name)
                values = value if isinstance(value, dict) else {"": value}
                for entry, number in values.items():
                    if number is not None:
                        _refuse_outside(interval, f"{key}.{entry}".rstrip("."), number)
        if self.data.paste + self.data.join > 1:
            raise RecipeError("data.paste and data.join are more than 1 together: no copy is both.")

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as nested plain values, ready for YAML or JSON."""
        return dataclasses.asdict(self)


def _refuse_outside(interval: tuple[str, float, float, str], key: str, value: float) -> None:
    """Raises RecipeError for a value outside its interval (see `RANGES`), which NaN always is."""
    opens, low, high, closes = interval
    is_above = value > low if opens == "(" else value >= low
    is_below = value < high if closes == ")" else value <= high
    if is_above and is_below:
        return
    bounds = f"above {low:g}" if opens == "(" else f"at least {low:g}"
    if high < math.inf:
        bounds += f" and below {high:g}" if closes == ")" else f" and at most {high:g}"
    elif closes == ")":
        bounds += " and finite"
    raise RecipeError(f"{key} is {value}: it must be {bounds}.")


def load_recipe(path: str | Path, overrides: typing.Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies overrides.

    Args:
        path: YAML file with any of the sections; what it leaves out has its default.
        overrides: Strings such as `optim.learning_rate=5e-4`; values are read as YAML.

    Returns:
        The checked recipe.

    Raises:
        RecipeError: For a missing or unreadable file, an unknown key, or a value of the wrong type or range.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe. The ones that come along are in configs/train/.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}).") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections ({', '.join(_names(Recipe))}).")
    for override in overrides:
        key, equals, text = override.partition("=")
        section, dot, name = key.partition(".")
        if not equals or not dot:
            raise RecipeError(f"{override!r}: an override is written section.key=value.")
        values.setdefault(section, {})
        if not isinstance(values[section], dict):
            raise RecipeError(f"{path}: section {section!r} is not a mapping.")
        try:
            values[section][name] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:  # the latter for what looks like a date and is none
            raise RecipeError(
                f"{override!r}: the value is not readable as YAML ({str(error).splitlines()[0]}). Close its "
                "brackets, or put it in quotes."
            ) from error
    return _build(Recipe, values, "")


def dump_recipe(recipe: Recipe) -> str:
    """Returns the recipe as YAML text that `load_recipe` reads back to the same recipe."""
    return yaml.safe_dump(json.loads(json.dumps(recipe.to_dict())), sort_keys=False, allow_unicode=True)


def _names(section: type) -> list[str]:
    return [f.name for f in dataclasses.fields(section)]


def _build(section: type, values: dict[str, Any], prefix: str) -> Any:
    """Makes a section from plain values, refusing what it does not declare."""
    types = typing.get_type_hints(section)
    built = {}
    for key, value in values.items():
        if key not in types:
            near = difflib.get_close_matches(str(key), types, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(types)}."
            raise RecipeError(f"unknown key {prefix}{key}: {hint}")
        if dataclasses.is_dataclass(types[key]):
            if not isinstance(value, dict):
                raise RecipeError(
                    f"{prefix}{key} is a section: give it keys ({', '.join(_names(types[key]))})."
                )
            built[key] = _build(types[key], value, f"{prefix}{key}.")
        else:
            built[key] = _convert(types[key], value, f"{prefix}{key}")
    return section(**built)


def _convert(kind: Any, value: Any, name: str) -> Any:
    """Converts a YAML value to a declared type; YAML reads 1e-3 as text, which is why numbers pass through
    float()."""
    options = (
        [k for k in typing.get_args(kind) if k is not type(None)]
        if type(None) in typing.get_args(kind)
        else [kind]
    )
    if value is None:
        if len(options) == 1 and options[0] is kind:
            raise RecipeError(f"{name} must not be empty.")
        return None
    target = options[0]
    try:
        if target is bool:
            if not isinstance(value, bool):
                raise TypeError
            return value
        if target in (int, float):
            if isinstance(value, bool) or (target is int and float(value) != int(float(value))):
                raise TypeError
            return target(float(value))
        if target is str:
            return "no" if value is False else str(value)  # YAML 1.1 reads a bare `no` as false
        if typing.get_origin(target) is list:
            return [str(item) for item in (value if isinstance(value, list) else [value])]
        return {str(key): float(item) for key, item in value.items()}
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        expected = getattr(target, "__name__", str(target))
        raise RecipeError(f"{name} is {value!r}: expected {expected}.") from error
