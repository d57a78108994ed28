"""The data set's rows: one a frame, with its picture stored once and all its questions in a list.

`flatten` gives one row a question, `balanced` a choice of those rows in which no answer is the commonest,
`weighted` all of them with weights under which no answer is, in any phrasing.
"""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Image, IterableDataset, Value
from PIL import Image as PILImage

from .answers import answer_class
from .decisions import forerunner_class
from .families import ask_all
from .labels import Problems
from .phrasings import SLIPS
from .release import Record, scene
from .scene import Scene

TUNE_PERCENT = 8

# Lists are written as list literals, which mean the same to datasets 3, 4 and 5.
BOX = [Value("float32")]
QUESTION = {
    "question": Value("string"),
    "answer": Value("string"),
    "family": Value("string"),
    "template": Value("string"),
    "evidence": [BOX],
    "evidence_category": Value("string"),
    "rule": Value("string"),
    "pair_id": Value("string"),
}
FRAME = {
    "image": Image(),
    "image_id": Value("string"),
    "split": Value("string"),
    "source": Value("string"),
    "weather": Value("string"),
    "timeofday": Value("string"),
    "scene": Value("string"),
}
OBJECT = {
    "category": Value("string"),
    "box": BOX,
    "occluded": Value("bool"),
    "truncated": Value("bool"),
    "light": Value("string"),
}
FEATURES = Features(
    {
        **FRAME,
        "objects": [OBJECT],
        "drivable": Image(),
        "forerunner": Value("string"),
        "questions": [QUESTION],
    }
)
"""One row a frame. The category of an object is one of `CATEGORIES`, or "other person" or "other vehicle",
which stand for any of their kind. `drivable` is a 160x90 PNG of 0 direct, 1 alternative, 2 background, or
null; `forerunner` is the frame's class by `decisions.forerunner_class`, or null where objects are not
labelled."""


@dataclass(frozen=True)
class Filters:
    """Which frames to keep; an empty tuple keeps all. A frame whose value is unknown does not pass.

    Attributes:
        weather: Values of weather.
        timeofday: Values of the time of day.
        scene: Values of the place.
        category: Categories of which at least one thing must be in the frame.
    """

    weather: tuple[str, ...] = ()
    timeofday: tuple[str, ...] = ()
    scene: tuple[str, ...] = ()
    category: tuple[str, ...] = ()

    def keep(self, frame: Scene) -> bool:
        """Whether a scene passes."""
        return (
            (not self.weather or frame.weather in self.weather)
            and (not self.timeofday or frame.timeofday in self.timeofday)
            and (not self.scene or frame.scene in self.scene)
            and (not self.category or bool(frame.of(*self.category)))
        )


PRESETS = {"clear-daytime": Filters(weather=("clear",), timeofday=("daytime",))}
"""Named filters; "clear-daytime" is the selection to begin with."""


def filters_of(preset: str | None) -> Filters:
    """The filters of a preset, none of them without one; ValueError for a name that is not in `PRESETS`."""
    if preset and preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is unknown: use {' or '.join(PRESETS)}.")
    return PRESETS[preset] if preset else Filters()


@dataclass
class Tally:
    """What a number of rows held.

    Attributes:
        frames: Output split -> frames.
        answers: (split, family, answer) -> rows.
        undecided: (split, family, reason) -> questions left out.
        problems: Kind of bad record -> number.
        rejected: What is not in the data set and why.
    """

    frames: Counter = field(default_factory=Counter)
    answers: Counter = field(default_factory=Counter)
    undecided: Counter = field(default_factory=Counter)
    problems: Counter = field(default_factory=Counter)
    rejected: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Adds another tally's numbers."""
        for name in ("frames", "answers", "undecided", "problems"):
            getattr(self, name).update(getattr(other, name))
        self.rejected.extend(other.rejected)

    def complaints(self) -> str:
        """What was wrong, in one line: "4 filtered out, 1 skipped frame: no picture"."""
        return ", ".join(f"{number} {kind}" for kind, number in sorted(self.problems.items())) or "no record"


def tune_split(image_id: str) -> bool:
    """Whether a training frame is kept out of training, for tuning: a fixed 8% by the hash of its name."""
    return int(hashlib.sha256(image_id.encode()).hexdigest()[:8], 16) % 100 < TUNE_PERCENT


def output_splits(name: str, split: str) -> tuple[str, ...]:
    """Where a frame goes: train or tune; validation frames are asked again in other words: "paraphrase"."""
    if split == "train":
        return ("tune",) if tune_split(Path(name).stem) else ("train",)
    return (split, "paraphrase") if split == "val" else (split,)


def frame_row(
    record: Record, target: str, seed: int, source: str, filters: Filters, tally: Tally
) -> dict[str, Any] | None:
    """A record as one row of the data set, or `None` when it is unusable or filtered out (counted).

    Args:
        record: A frame's labels and where its picture is.
        target: The output split.
        seed: Fixes the phrasings.
        source: "bdd100k" or "synthetic".
        filters: Which frames to keep.
        tally: Where everything is counted.
    """
    # "paraphrase" reads the frames of "val" once more: what is wrong with them is counted already.
    problems = Problems() if target == "paraphrase" else Problems(tally.problems, tally.rejected)
    found = scene(record, problems, source)
    if found is None:
        return None
    if not filters.keep(found):
        problems.counts["filtered out"] += 1
        return None
    encoded = read_picture(record.image, problems)
    if encoded is None:
        return None
    return scene_row(found, encoded, target, seed, tally)


def read_picture(path: Path, problems: Problems) -> bytes | None:
    """The bytes of a picture that decodes to its end; otherwise `None`, counted and listed."""
    try:
        data = path.read_bytes()
    except OSError:
        problems.skipped("no picture", path.name)
        return None
    if not data:
        problems.skipped("empty picture file", path.name)
        return None
    try:
        with PILImage.open(io.BytesIO(data)) as image:
            # An eighth of the size is enough to see that the file is whole, and eight times as fast.
            image.draft("L", (image.width // 8, image.height // 8))
            image.load()
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        problems.skipped("unreadable picture", path.name, str(error)[:80])
        return None
    return data


def scene_row(found: Scene, encoded: bytes, target: str, seed: int, tally: Tally) -> dict[str, Any]:
    """A scene and its picture as one row of the data set.

    Args:
        found: The scene.
        encoded: Its picture's file, byte for byte.
        target: The output split; "paraphrase" asks in the held-out words, "train" and "tune" make typing
            slips.
        seed: Fixes the phrasings.
        tally: Where answers and undecided questions are counted.
    """
    slips = SLIPS if target in ("train", "tune") else 0.0
    asked = ask_all(found, seed, heldout=target == "paraphrase", slips=slips)
    tally.frames[target] += 1
    for family_reason, number in asked.undecided.items():
        tally.undecided[(target, *family_reason)] += number
    for row in asked.rows:
        tally.answers[target, row.family, row.answer] += 1
    objects = None
    if found.objects is not None:
        objects = [{name: getattr(thing, name) for name in OBJECT} for thing in found.objects]
    return {
        "image": {"bytes": encoded, "path": found.image_path.name if found.image_path else None},
        "image_id": found.image_id,
        "split": target,
        "source": found.source,
        "weather": found.weather,
        "timeofday": found.timeofday,
        "scene": found.scene,
        "objects": objects,
        "drivable": None if found.drivable is None else {"bytes": encode_grid(found.drivable), "path": None},
        "forerunner": forerunner_class(found),
        "questions": [asdict(row) for row in asked.rows],
    }


def encode_grid(grid: np.ndarray) -> bytes:
    """A drivable grid as PNG."""
    buffer = io.BytesIO()
    PILImage.fromarray(grid).save(buffer, "PNG")
    return buffer.getvalue()


def flatten(frames: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """One row a question instead of one row a frame.

    Pictures are not copied: each row fetches its frame's picture when it is read.

    Args:
        frames: Rows with a `questions` list.

    Returns:
        The same kind of data set with the frame's columns and the question's columns. Of a `Dataset` the
        column "frame" says which row of `frames` a question belongs to, and reading a row adds "image".
    """
    if isinstance(frames, IterableDataset):
        features = Features({**FRAME, **QUESTION})
        others = [name for name in frames.column_names or () if name not in (*FRAME, "questions")]
        raw = frames.cast_column("image", Image(decode=False)).remove_columns(others)
        return raw.map(
            _flatten_batch, batched=True, batch_size=16, remove_columns=["questions"], features=features
        )
    return _flat_table(frames).with_transform(_WithPicture(frames.select_columns("image")))


def _flat_table(frames: Dataset) -> Dataset:
    names = [name for name in FRAME if name != "image"]
    table = frames.select_columns([*names, "questions"]).with_format("arrow")[:]
    lists = table["questions"].combine_chunks()
    parent, rows = pc.list_parent_indices(lists), pc.list_flatten(lists)
    columns = {"frame": parent.cast(pa.int64())}
    columns |= {name: table[name].take(parent) for name in names}
    columns |= {name: pc.struct_field(rows, name) for name in QUESTION}
    features = Features({"frame": Value("int64"), **{name: FRAME[name] for name in names}, **QUESTION})
    return Dataset(pa.table(columns)).cast(features)


@dataclass
class _WithPicture:
    """Adds each row's picture; a class, so that a data set with it can be pickled to worker processes."""

    pictures: Dataset

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        if "frame" not in batch:
            return batch
        decoded = {index: self.pictures[index]["image"] for index in set(batch["frame"])}
        return {"image": [decoded[index] for index in batch["frame"]], **batch}


def _flatten_batch(batch: dict[str, list]) -> dict[str, list]:
    counts = [len(questions) for questions in batch["questions"]]
    frame = {
        name: [value for value, count in zip(batch[name], counts, strict=True) for _ in range(count)]
        for name in FRAME
    }
    rows = [row for questions in batch["questions"] for row in questions]
    return {**frame, **{name: [row[name] for row in rows] for name in QUESTION}}


def answer_weights(counts: dict[str, int], longest: float = 20.0) -> dict[str, float]:
    """Weights under which every answer of a family counts the same; their mean over the rows is about 1.

    Args:
        counts: Answer -> rows.
        longest: Largest ratio of two weights, so that a handful of rare rows does not rule the loss.
    """
    commonest = max(counts.values(), default=1)
    raw = {answer: min(commonest / number, longest) for answer, number in counts.items()}
    mean = sum(raw[answer] * number for answer, number in counts.items()) / max(1, sum(counts.values()))
    return {answer: weight / mean for answer, weight in raw.items()}


def row_weights(
    families: Sequence[str], templates: Sequence[str], answers: Sequence[str], longest: float = 20.0
) -> np.ndarray:
    """Weights under which, within every phrasing of every family, every answer counts the same.

    No row is left out, so that a question and its opposite stay together whatever their phrasings are; a
    choice of rows could not have both without losing most of a small split.

    Args:
        families: Family of each row.
        templates: Phrasing of each row.
        answers: Answer of each row.
        longest: See `answer_weights`: answers rarer than that stay below the others.

    Returns:
        `(rows,)`, with a mean of 1 in each phrasing.
    """
    cells = [
        (family, template, answer_class(answer))
        for family, template, answer in zip(families, templates, answers, strict=True)
    ]
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for family, template, answer in cells:
        counts[family, template][answer] += 1
    weights = {phrasing: answer_weights(found, longest) for phrasing, found in counts.items()}
    return np.array([weights[family, template][answer] for family, template, answer in cells])


def balanced_indices(
    families: Sequence[str], answers: Sequence[str], keys: Sequence[str], seed: int = 0, common: float = 0.02
) -> list[int]:
    """Rows to keep so that within each family the answers are equally frequent.

    Every answer keeps as many rows as the rarest common one has; answers rarer than `common` keep all they
    have. Which rows is decided by the hash of the key, so that a question and its opposite, which share a
    key, stay together.

    Args:
        families: Family of each row.
        answers: Answer of each row.
        keys: Pair of each row, or image and family where it has no opposite.
        seed: Gives another choice.
        common: Share of a family's rows from which an answer is common.

    Returns:
        Indices in ascending order.
    """
    groups: dict[str, dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for index, (family, answer, key) in enumerate(zip(families, answers, keys, strict=True)):
        rank = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).hexdigest()
        groups[family][answer_class(answer)].append((rank, index))
    kept: list[int] = []
    for by_answer in groups.values():
        total = sum(map(len, by_answer.values()))
        sizes = sorted(map(len, by_answer.values()), reverse=True)
        # The second commonest always counts, so that a rare "yes" still faces as few "no".
        target = min(size for place, size in enumerate(sizes) if place < 2 or size >= common * total)
        for rows in by_answer.values():
            kept.extend(index for _, index in sorted(rows)[:target])
    return sorted(kept)


def balanced(flat: Dataset, seed: int = 0) -> Dataset:
    """The rows of a flat data set for which no family has a commonest answer, see `balanced_indices`."""
    columns = flat.with_format(None).select_columns(["family", "answer", "pair_id", "image_id"])[:]
    pairs = zip(columns["pair_id"], columns["image_id"], columns["family"], strict=True)
    keys = [pair or f"{image}/{family}" for pair, image, family in pairs]
    return flat.select(balanced_indices(columns["family"], columns["answer"], keys, seed))


def weighted(flat: Dataset) -> Dataset:
    """A flat data set with the column "weight", see `row_weights`; one split at a time, never across."""
    columns = flat.with_format(None).select_columns(["family", "template", "answer"])[:]
    weights = row_weights(columns["family"], columns["template"], columns["answer"])
    return flat.add_column("weight", weights)  # type: ignore[call-arg]
