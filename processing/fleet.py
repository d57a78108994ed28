"""A battery of questions about every frame of a source, as Parquet: a fleet's worth, resumable.

Frames are cut into shards by their number alone. A shard is answered in the same batches whoever answers
it, and written whole or not at all, so the rows are the same however many processes there are and however
often a run was interrupted. Frames that cannot be read are listed and never end a run.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from .frames import Frame, files_of, read_frames
from .ray_cluster import ray_cluster

BATTERY = (
    "Can I move forward?",
    "Is the left lane clear?",
    "Can I safely turn right?",
    "Is there a pedestrian?",
    "What is the state of the traffic light?",
    "Is there a vehicle near ahead?",
    "What is the weather?",
    "What time of day is it?",
)
REJECTED = "rejected.csv"
# Beside the weights, what an answer depends on.
SETTINGS = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@dataclass(frozen=True)
class Job:
    """What is asked of what, and where the answers go.

    Attributes:
        source: A folder of pictures and videos, a data set, a video, a picture (see `frames.read_frames`).
        output: Folder of the answers.
        checkpoint: Folder of the model, or `owner/name` on the Hub. The latter is not pinned: whether it was
            changed there between two starts is not noticed.
        questions: The battery.
        split: Of a data set, which one; None takes all.
        every: Take every n-th frame.
        shard_frames: Frames (counted before `every`) in a shard: what an interruption can cost at most.
        batch_size: Frames that go through the model at once.
    """

    source: str
    output: str
    checkpoint: str
    questions: tuple[str, ...] = BATTERY
    split: str | None = None
    every: int = 1
    shard_frames: int = 64
    batch_size: int = 8

    def shard_of(self, index: int) -> int:
        """Which shard a frame belongs to."""
        return index // self.shard_frames

    def shard_path(self, shard: int) -> Path:
        """The Parquet file of a shard."""
        return Path(self.output, f"answers-{shard:05d}.parquet")

    def is_open(self, shard: int) -> bool:
        """Whether a shard has yet to be answered."""
        return not self.shard_path(shard).is_file()


def prepare(job: Job) -> None:
    """Make the output folder.

    Raises:
        ValueError: If it holds answers to something else, or to nobody knows what, or lies among the frames.
    """
    folder = Path(job.output)
    if Path(job.source) in (folder, *folder.parents):
        raise ValueError(f"{folder}: lies inside the source, which is read again; name another --output.")
    folder.mkdir(parents=True, exist_ok=True)
    ours = {name: value for name, value in asdict(job).items() if name not in ("output",)}
    ours |= {"frames": frames_of(job), "weights": weights_of(job)}
    record = folder / "job.json"
    text = json.dumps(ours, indent=2, ensure_ascii=False) + "\n"
    begun = any(folder.glob("answers-*.parquet"))
    if begun and not record.is_file():
        raise ValueError(f"{folder}: holds answers, and no job.json says to what; name another --output.")
    if begun and record.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{folder}: holds answers to another job, about other frames or by other weights (see job.json); "
            "name another --output."
        )
    _write_whole(record, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def frames_of(job: Job) -> str:
    """A hash of the names and sizes of the files of the source: a new one moves the frames' numbers."""
    source = Path(job.source)
    root = source if source.is_dir() else source.parent
    files = files_of(source, job.split)
    told = [(file.relative_to(root).as_posix(), file.stat().st_size) for file in files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def weights_of(job: Job) -> str | None:
    """A hash of the checkpoint's weights, settings, processor and tokenizer; None for one on the Hub."""
    folder = Path(job.checkpoint)
    if not folder.is_dir():
        return None
    found = hashlib.sha256()
    for file in (*(folder / name for name in SETTINGS), *sorted(folder.glob("*.safetensors"))):
        if file.is_file():
            found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()


def open_shards(job: Job, frames: int) -> list[int]:
    """The shards that have yet to be answered, of a source of that many frames."""
    asked = {job.shard_of(index) for index in range(0, frames, job.every)}
    return [shard for shard in sorted(asked) if job.is_open(shard)]


def answer_shards(pipe: Any, job: Job, shards: Collection[int]) -> Iterator[tuple[int, int]]:
    """Answer some shards, in one pass over the source that ends behind the last of them.

    Args:
        pipe: A `TrafficQuestionAnsweringPipeline`.
        job: The job.
        shards: Their numbers.

    Yields:
        Of each batch: how many frames were answered, and how many could not be read.
    """
    if not shards:
        return
    mine, until = set(shards), (max(shards) + 1) * job.shard_frames

    def wanted(index: int) -> bool:
        return index % job.every == 0 and job.shard_of(index) in mine

    frames = read_frames(job.source, wanted, job.split, until)
    for shard, members in groupby(frames, key=lambda frame: job.shard_of(frame.index)):
        yield from _answer_shard(pipe, job, shard, members)


def _answer_shard(pipe: Any, job: Job, shard: int, frames: Iterable[Frame]) -> Iterator[tuple[int, int]]:
    """Answer the frames of one shard and write it, after the list of those that were rejected."""
    rows: list[dict[str, Any]] = []
    rejected: list[tuple[int, str, str]] = []
    frames = iter(frames)
    while batch := list(islice(frames, job.batch_size)):
        good = [frame for frame in batch if frame.image is not None]
        bad = [(frame.index, frame.name, frame.problem or "") for frame in batch if frame.image is None]
        rejected += bad
        if good:
            found = pipe(
                image=[frame.image for frame in good], question=list(job.questions), batch_size=job.batch_size
            )
            rows += [row_of(frame, one) for frame, of in zip(good, found, strict=True) for one in of]
        yield len(good), len(bad)
    _write_whole(Path(job.output, f"rejected-{shard:05d}.csv"), lambda part: write_rejected(part, rejected))
    _write_whole(job.shard_path(shard), lambda part: write_rows(part, rows))


def row_of(frame: Frame, result: dict[str, Any]) -> dict[str, Any]:
    """One answer as a row."""
    region = result["evidence"][0] if result["evidence"] else {"box": None, "mass": None}
    return {
        "frame": frame.index,
        "name": frame.name,
        "question": result["question"],
        "answer": result["answer"],
        "confidence": result["confidence"],
        "abstained": result["abstained"],
        "alternatives": [
            {"answer": text, "probability": share} for text, share in result["alternatives"].items()
        ],
        "evidence": region["box"],
        "evidence_mass": region["mass"],
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as Parquet, with the same columns even where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    other = pa.struct([("answer", pa.string()), ("probability", pa.float32())])
    schema = pa.schema(
        [
            ("frame", pa.int64()),
            ("name", pa.string()),
            ("question", pa.string()),
            ("answer", pa.string()),
            ("confidence", pa.float32()),
            ("abstained", pa.bool_()),
            ("alternatives", pa.list_(other)),
            ("evidence", pa.list_(pa.float32())),
            ("evidence_mass", pa.float32()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def write_rejected(path: Path, rejected: Iterable[tuple[int, str, str]]) -> None:
    """Write number, name and reason of frames that could not be read."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("frame", "name", "reason"))
        writer.writerows(rejected)


def gather_rejected(job: Job) -> int:
    """Join the shards' lists into `rejected.csv` and return how many frames are in it."""
    found = []
    for path in sorted(Path(job.output).glob("rejected-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += [(int(number), name, reason) for number, name, reason in list(csv.reader(file))[1:]]
    _write_whole(Path(job.output, REJECTED), lambda part: write_rejected(part, found))
    return len(found)


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let a file appear only once it is complete."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)


class ShardWorker:
    """What a Ray worker keeps between shards: the model, loaded once."""

    def __init__(self, job: Job):
        import torch

        from .loading import load_pipeline

        torch.set_num_threads(1)  # Ray gives each worker one processor
        self.job, self.pipe = job, load_pipeline(job.checkpoint)

    def answer(self, shard: int) -> tuple[int, int]:
        """Answer one shard; returns how many frames were answered, and how many could not be read."""
        counts = list(answer_shards(self.pipe, self.job, [shard]))
        return sum(good for good, _ in counts), sum(bad for _, bad in counts)


def answer_on_ray(job: Job, shards: Collection[int], workers: int) -> Iterator[tuple[int, int]]:
    """Answer some of a job's shards under Ray, each whole on one of `workers` workers.

    Joins the cluster that RAY_ADDRESS names, or starts one on this machine. Source and output must be on
    storage that all nodes see. A worker reads a long video up to its shard: cut long videos into files.

    Yields:
        Of each shard: how many frames were answered, and how many could not be read.

    Raises:
        ImportError: Ray is not installed.
    """
    import ray
    from ray.util import ActorPool

    if not shards:
        return
    with ray_cluster(workers):
        worker = ray.remote(num_cpus=1)(ShardWorker)
        pool = ActorPool([worker.remote(job) for _ in range(workers)])
        yield from pool.map_unordered(lambda actor, shard: actor.answer.remote(shard), sorted(shards))


def count_frames(job: Job) -> int:
    """Count the frames of a source without decoding any picture (a video is read through)."""
    seen = -1

    def note(index: int) -> bool:
        nonlocal seen
        seen = max(seen, index)
        return False

    for _ in read_frames(job.source, note, job.split):
        pass
    return seen + 1
