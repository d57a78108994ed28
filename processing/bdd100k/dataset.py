"""From a release folder to a Parquet dataset: one row a frame, with its picture and all its questions."""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from . import release_2020
from .families import FAMILIES, ask_all
from .labels import Problems
from .scene import Scene

FRAMES_A_SHARD = 1000
ROWS_A_GROUP = 100
"""Parquet row groups of some 5 MB, so that streaming starts soon and the viewer works."""
TUNE_PERCENT = 8
SLIPS = 0.04

BOX = List(Value("float32"), length=4)
QUESTION = {
    "question": Value("string"),
    "answer": Value("string"),
    "family": Value("string"),
    "template": Value("string"),
    "evidence": List(BOX),
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
FEATURES = Features(
    {
        **FRAME,
        "objects": List(
            {
                "category": Value("string"),
                "box": BOX,
                "occluded": Value("bool"),
                "truncated": Value("bool"),
                "light": Value("string"),
            }
        ),
        "drivable": Image(),
        "questions": List(QUESTION),
    }
)
"""One row a frame. `drivable` is a 160x90 PNG of 0 direct, 1 alternative, 2 background, or null."""


@dataclass(frozen=True)
class BuildOptions:
    """What decides the bytes of a build.

    Attributes:
        seed: Fixes every phrasing.
        source: "bdd100k" or "synthetic".
        splits: Splits of the release to read.
    """

    seed: int = 0
    source: str = "bdd100k"
    splits: tuple[str, ...] = ("train", "val")


@dataclass
class Job:
    """One shard's work: raw records of one output split."""

    split: str
    index: int
    records: list[tuple[dict[str, Any], str]]
    root: Path
    options: BuildOptions
    output: Path

    @property
    def path(self) -> Path:
        """The finished shard, before the number of shards is known."""
        return self.output / f"{self.split}-{self.index:05d}.parquet"


@dataclass
class Tally:
    """What a shard held."""

    frames: Counter = field(default_factory=Counter)
    answers: Counter = field(default_factory=Counter)
    undecided: Counter = field(default_factory=Counter)
    problems: Counter = field(default_factory=Counter)
    rejected: list[dict[str, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Adds another shard's numbers."""
        for name in ("frames", "answers", "undecided", "problems"):
            getattr(self, name).update(getattr(other, name))
        self.rejected.extend(other.rejected)


def tune_split(image_id: str) -> bool:
    """Whether a training frame is kept out of training, for tuning: a fixed 8% by the hash of its name."""
    return int(hashlib.sha256(image_id.encode()).hexdigest()[:8], 16) % 100 < TUNE_PERCENT


def output_splits(name: str, split: str) -> tuple[str, ...]:
    """Where a frame goes: train or tune; validation frames are asked again in other words: "paraphrase"."""
    if split == "train":
        return ("tune",) if tune_split(Path(name).stem) else ("train",)
    return (split, "paraphrase") if split == "val" else (split,)


def jobs(root: Path, output: Path, options: BuildOptions, problems: Problems) -> Iterator[Job]:
    """Streams the release's records into shards; memory holds one unfinished shard for each output split."""
    open_jobs: dict[str, Job] = {}
    for split in options.splits:
        seen: set[str] = set()
        for record in release_2020.records(release_2020.label_file(root, split)):
            name = record.get("name") if isinstance(record, dict) else None
            if not isinstance(name, str) or not name:
                problems.skipped("record without a name", split)
                continue
            if name in seen:
                problems.skipped("duplicate name", name)
                continue
            seen.add(name)
            for target in output_splits(name, split):
                job = open_jobs.setdefault(target, Job(target, 0, [], root, options, output))
                job.records.append((record, split))
                if len(job.records) == FRAMES_A_SHARD:
                    yield job
                    open_jobs[target] = Job(target, job.index + 1, [], root, options, output)
    yield from (job for job in open_jobs.values() if job.records)


def run_job(job: Job) -> Tally:
    """Writes one shard and its tally; a shard that is already there is not made again."""
    side = job.path.with_suffix(".json")
    if side.exists() and job.path.exists():
        return _load_tally(side)
    tally, rows = Tally(), []
    temporary = job.path.with_suffix(".part")
    with pq.ParquetWriter(temporary, FEATURES.arrow_schema, compression="zstd") as writer:
        for record, split in job.records:
            row = _row(record, split, job, tally)
            if row is None:
                continue
            rows.append(row)
            if len(rows) == ROWS_A_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, FEATURES.arrow_schema))
                rows.clear()
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, FEATURES.arrow_schema))
    temporary.replace(job.path)
    _save_tally(tally, side)
    return tally


def _row(record: dict[str, Any], split: str, job: Job, tally: Tally) -> dict[str, Any] | None:
    problems = Problems(tally.problems, tally.rejected)
    name = record["name"]
    image = job.root / "images" / "100k" / split / name
    mask = release_2020.mask_file(job.root, split, Path(name).stem)
    encoded = read_picture(image, problems)
    if encoded is None:
        return None
    scene = release_2020.scene(record, split, job.options.source, image, mask, problems)
    if scene is None:
        return None
    return frame_row(scene, encoded, job.split, job.options.seed, tally)


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
            image.draft("L", (160, 90))
            image.load()
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        problems.skipped("unreadable picture", path.name, str(error)[:80])
        return None
    return data


def frame_row(scene: Scene, encoded: bytes, split: str, seed: int, tally: Tally) -> dict[str, Any]:
    """A scene and its picture as one row of the data set."""
    heldout = split == "paraphrase"
    asked = ask_all(scene, seed, heldout=heldout, slips=SLIPS if split in ("train", "tune") else 0.0)
    tally.frames[split] += 1
    for family_reason, number in asked.undecided.items():
        tally.undecided[(split, *family_reason)] += number
    for row in asked.rows:
        tally.answers[split, row.family, row.answer] += 1
    objects = None
    if scene.objects is not None:
        objects = [
            {
                "category": t.category,
                "box": t.box,
                "occluded": t.occluded,
                "truncated": t.truncated,
                "light": t.light,
            }
            for t in scene.objects
        ]
    return {
        "image": {"bytes": encoded, "path": scene.image_path.name if scene.image_path else None},
        "image_id": scene.image_id,
        "split": split,
        "source": scene.source,
        "weather": scene.weather,
        "timeofday": scene.timeofday,
        "scene": scene.scene,
        "objects": objects,
        "drivable": None if scene.drivable is None else {"bytes": encode_grid(scene.drivable), "path": None},
        "questions": [asdict(row) for row in asked.rows],
    }


def encode_grid(grid: np.ndarray) -> bytes:
    """A drivable grid as PNG."""
    buffer = io.BytesIO()
    PILImage.fromarray(grid).save(buffer, "PNG")
    return buffer.getvalue()


def build(root: Path, output: Path, options: BuildOptions, workers: int = 1, progress=None) -> dict[str, Any]:
    """Builds the data set.

    Work happens in `output` + ".part" and moves into place at the end; an interrupted build with the same
    options goes on where it stopped.

    Args:
        root: The release's folder.
        output: The data set's folder; it must not exist yet.
        options: What decides the bytes.
        workers: Processes to use; the result does not depend on their number.
        progress: Called with the number of frames of each finished shard.

    Returns:
        The report that is also written as `report.json`.

    Raises:
        BadLabels: A label file cannot be used.
        FileExistsError: `output` is there already.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists already; remove it or choose another folder")
    part = output.with_name(output.name + ".part")
    _prepare(part, root, options)
    problems, tally, shards = Problems(), Tally(), Counter()
    for job, done in _run(jobs(root, part / "data", options, problems), workers):
        shards[job.split] += 1
        tally.add(done)
        if progress:
            progress(len(job.records))
    tally.add(Tally(problems=problems.counts, rejected=problems.rejected))
    report = _finish(part, tally, shards, options)
    part.replace(output)
    return report


def _prepare(part: Path, root: Path, options: BuildOptions) -> None:
    """Makes or reuses the working folder; one begun with other options is thrown away."""
    wanted = json.dumps({"root": str(root.resolve()), **asdict(options)}, sort_keys=True)
    note = part / "options.json"
    if part.exists() and not (note.exists() and note.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(part)
    (part / "data").mkdir(parents=True, exist_ok=True)
    note.write_text(wanted, encoding="utf-8")


def _run(work: Iterable[Job], workers: int) -> Iterator[tuple[Job, Tally]]:
    """Runs jobs here, or in processes with at most two jobs a process in flight."""
    if workers <= 1:
        yield from ((job, run_job(job)) for job in work)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {}
        for job in work:
            running[pool.submit(run_job, job)] = job
            while len(running) >= 2 * workers:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        for future in list(running):
            yield running[future], future.result()


def _finish(part: Path, tally: Tally, shards: Counter, options: BuildOptions) -> dict[str, Any]:
    """Gives the shards their final names and writes the reports."""
    for split, total in shards.items():
        for index in range(total):
            shard = part / "data" / f"{split}-{index:05d}.parquet"
            shard.with_suffix(".json").unlink()
            shard.rename(shard.with_name(f"{split}-{index:05d}-of-{total:05d}.parquet"))
    (part / "options.json").unlink()
    rejected = sorted(tally.rejected, key=lambda entry: (entry["kind"], entry["name"], entry["detail"]))
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rejected)
    (part / "rejected.jsonl").write_text(lines, encoding="utf-8")
    report = {
        "options": asdict(options),
        "frames": dict(sorted(tally.frames.items())),
        "problems": dict(sorted(tally.problems.items())),
    }
    _write_json(part / "report.json", report)
    _write_json(part / "statistics.json", statistics(tally))
    return report


def statistics(tally: Tally) -> dict[str, Any]:
    """Counts of answers and of undecided questions with their reasons, for each split and family."""
    result: dict[str, Any] = {}
    for split in sorted(tally.frames):
        families = {
            name: {"group": FAMILIES[name].group, "answers": {}, "undecided": {}} for name in FAMILIES
        }
        for (where, family, answer), number in sorted(
            tally.answers.items(), key=lambda item: (-item[1], item[0])
        ):
            if where == split:
                families[family]["answers"][answer] = number
        for (where, family, reason), number in sorted(tally.undecided.items()):
            if where == split:
                families[family]["undecided"][reason] = number
        result[split] = {"frames": tally.frames[split], "families": families}
    return result


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _save_tally(tally: Tally, path: Path) -> None:
    parts = {
        name: [
            [list(key) if isinstance(key, tuple) else key, number]
            for key, number in getattr(tally, name).items()
        ]
        for name in ("frames", "answers", "undecided", "problems")
    }
    _write_json(path, {**parts, "rejected": tally.rejected})


def _load_tally(path: Path) -> Tally:
    parts = json.loads(path.read_text(encoding="utf-8"))
    counters = {
        name: Counter({tuple(key) if isinstance(key, list) else key: number for key, number in parts[name]})
        for name in ("frames", "answers", "undecided", "problems")
    }
    return Tally(**counters, rejected=parts["rejected"])


def flatten(dataset: Dataset) -> Dataset:
    """One row a question instead of one row a frame; the picture is referred to, not decoded.

    Args:
        dataset: Rows with a `questions` list; a `Dataset` or an `IterableDataset`.

    Returns:
        The same kind of data set with the frame's columns and the question's columns.
    """
    features = Features({**FRAME, **QUESTION})
    return dataset.map(
        _flatten_batch, batched=True, batch_size=20, remove_columns=list(FEATURES), features=features
    )


def _flatten_batch(batch: dict[str, list]) -> dict[str, list]:
    counts = [len(questions) for questions in batch["questions"]]
    frame = {
        name: [value for value, count in zip(batch[name], counts, strict=True) for _ in range(count)]
        for name in FRAME
    }
    rows = [row for questions in batch["questions"] for row in questions]
    return {**frame, **{name: [row[name] for row in rows] for name in QUESTION}}
