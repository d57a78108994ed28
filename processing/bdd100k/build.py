"""Builds a data set folder: Parquet shards in parallel, resumable, and the same bytes for the same seed."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .card import card
from .dataset import FEATURES, Filters, Tally, frame_row, output_splits
from .labels import Problems
from .proof import statistics
from .release import Record, records

FRAMES_A_SHARD = 1000
ROWS_A_GROUP = 100
"""Parquet row groups of some 5 MB, so that streaming starts soon and the Hub's viewer works."""
COUNTERS = ("frames", "answers", "undecided", "problems")


@dataclass(frozen=True)
class BuildOptions:
    """What decides the bytes of a build.

    Attributes:
        seed: Fixes every phrasing.
        source: "bdd100k" or "synthetic".
        splits: Splits of the release to read.
        filters: Which frames to keep.
        labels: A label file or folder to read instead of looking for one; for a single split.
        frames_a_shard: Records to a shard.
    """

    seed: int = 0
    source: str = "bdd100k"
    splits: tuple[str, ...] = ("train", "val")
    filters: Filters = field(default_factory=Filters)
    labels: Path | None = None
    frames_a_shard: int = FRAMES_A_SHARD

    def as_json(self) -> dict[str, Any]:
        """The options for the report, without the place of any file."""
        return {**asdict(self), "labels": self.labels.name if self.labels else None}


@dataclass
class Job:
    """One shard's work: records of one output split.

    Attributes:
        split: The output split.
        index: Number of the shard in its split.
        options: The build's options.
        folder: Where shards are written.
        records: The frames.
    """

    split: str
    index: int
    options: BuildOptions
    folder: Path
    records: list[Record] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The shard, before the number of shards is known."""
        return self.folder / f"{self.split}-{self.index:05d}.parquet"


Progress = Callable[[int], Any] | None
Engine = Callable[[Iterable[Job], int], Iterator[tuple[Job, Tally]]]


def build(
    root: Path,
    output: Path,
    options: BuildOptions,
    workers: int = 1,
    progress: Progress = None,
    run: Engine | None = None,
) -> dict[str, Any]:
    """Builds the data set.

    Work happens in `output` + ".part" and moves into place at the end; an interrupted build with the same
    options goes on where it stopped.

    Args:
        root: The release's folder.
        output: The data set's folder; it must not exist yet.
        options: What decides the bytes.
        workers: Processes to use; the result does not depend on their number.
        progress: Called with the number of records of each finished shard.
        run: Runs the jobs; processes on this machine if not given, see `scale_out.run_on_ray`.

    Returns:
        The report that is also written as `report.json`.

    Raises:
        BadLabels: A label file cannot be used.
        FileExistsError: `output` is there already.
        ValueError: No frame is left, or one label file is given for several splits.
    """
    if options.labels is not None and len(options.splits) != 1:
        raise ValueError(
            f"labels {options.labels} are of one split, but {len(options.splits)} splits are asked for"
        )
    if output.exists():
        raise FileExistsError(f"{output} exists already; remove it or choose another folder")
    part = output.with_name(output.name + ".part")
    _prepare(part, root, options)
    try:
        report = _write(part, root, options, workers, progress, run or run_in_processes)
    except ValueError:
        # Bad input stays bad: there is nothing to go on with. (After an interruption the folder stays.)
        shutil.rmtree(part)
        raise
    part.replace(output)
    return report


def _write(
    part: Path, root: Path, options: BuildOptions, workers: int, progress: Progress, run: Engine
) -> dict[str, Any]:
    """Everything that happens in the working folder."""
    problems, tally = Problems(), Tally()
    shards: Counter[str] = Counter()
    for job, done in run(jobs(root, part / "data", options, problems), workers):
        shards[job.split] += 1
        tally.add(done)
        if progress:
            progress(len(job.records))
    tally.add(Tally(problems=problems.counts, rejected=problems.rejected))
    if not tally.frames:
        raise ValueError(f"no usable frame in {root}: {tally.complaints()}")
    return finish(part, tally, shards, options)


def jobs(root: Path, folder: Path, options: BuildOptions, problems: Problems) -> Iterator[Job]:
    """Streams the release's records into shards; memory holds one unfinished shard for each output split."""
    filling: dict[str, Job] = {}
    for split in options.splits:
        for record in records(root, split, problems, options.labels):
            for target in output_splits(record.name, split):
                job = filling.setdefault(target, Job(target, 0, options, folder))
                job.records.append(record)
                if len(job.records) == options.frames_a_shard:
                    yield job
                    filling[target] = Job(target, job.index + 1, options, folder)
    yield from (job for job in filling.values() if job.records)


def run_job(job: Job) -> Tally:
    """Writes one shard and its tally; a shard that is already there is not made again."""
    note = job.path.with_suffix(".json")
    if note.exists() and job.path.exists():
        return _load_tally(note)
    tally, options = Tally(), job.options
    temporary = job.path.with_suffix(".unfinished")
    made = (
        frame_row(record, job.split, options.seed, options.source, options.filters, tally)
        for record in job.records
    )
    write_rows(temporary, (row for row in made if row is not None))
    temporary.replace(job.path)
    _save_tally(tally, note)
    return tally


def write_rows(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Writes a shard, a row group after the other, so that only one is held."""
    with pq.ParquetWriter(path, FEATURES.arrow_schema, compression="zstd") as writer:
        while group := list(islice(rows, ROWS_A_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, FEATURES.arrow_schema))


def run_in_processes(work: Iterable[Job], workers: int) -> Iterator[tuple[Job, Tally]]:
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
        for future, job in running.items():
            yield job, future.result()


def _prepare(part: Path, root: Path, options: BuildOptions) -> None:
    """Makes or reuses the working folder; one begun with other options is thrown away."""
    begun = {"root": str(root.resolve()), "labels": str(options.labels), "options": options.as_json()}
    wanted = json.dumps(begun, sort_keys=True)
    note = part / "options.json"
    if part.exists() and not (note.exists() and note.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(part)
    (part / "data").mkdir(parents=True, exist_ok=True)
    note.write_text(wanted, encoding="utf-8")


def finish(part: Path, tally: Tally, shards: Counter, options: BuildOptions) -> dict[str, Any]:
    """Gives the shards their final names and writes the reports and the card.

    Args:
        part: The working folder, with `data/SPLIT-NNNNN.parquet`.
        tally: What the shards hold.
        shards: Split -> number of its shards.
        options: What the build was asked for.
    """
    for split, total in shards.items():
        _name_shards(part / "data", split, total)
    (part / "options.json").unlink(missing_ok=True)
    rejected = sorted(tally.rejected, key=lambda entry: (entry["kind"], entry["name"], entry["detail"]))
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rejected)
    (part / "rejected.jsonl").write_text(lines, encoding="utf-8")
    report = {
        "options": options.as_json(),
        "frames": dict(sorted(tally.frames.items())),
        "questions": _questions(tally),
        "problems": dict(sorted(tally.problems.items())),
    }
    proof = statistics(part, tally)
    report |= {name: proof[name] for name in ("leaking", "leaking_beyond_chance")}
    _write_json(part / "report.json", report)
    _write_json(part / "statistics.json", proof)
    (part / "README.md").write_text(card(part, report, proof), encoding="utf-8")
    return report


def _name_shards(folder: Path, split: str, total: int) -> None:
    """Final names, counting only shards that hold a frame."""
    shards = [folder / f"{split}-{index:05d}.parquet" for index in range(total)]
    full = [shard for shard in shards if pq.read_metadata(shard).num_rows]
    for shard in shards:
        shard.with_suffix(".json").unlink(missing_ok=True)
        if shard not in full:
            shard.unlink()
    for index, shard in enumerate(full):
        shard.rename(folder / f"{split}-{index:05d}-of-{len(full):05d}.parquet")


def _questions(tally: Tally) -> dict[str, int]:
    totals: Counter = Counter()
    for (split, _, _), number in tally.answers.items():
        totals[split] += number
    return dict(sorted(totals.items()))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _save_tally(tally: Tally, path: Path) -> None:
    """Written whole or not at all, after its shard: its presence means that the shard is finished."""
    counts = {name: [[key, number] for key, number in getattr(tally, name).items()] for name in COUNTERS}
    temporary = path.with_suffix(".note")
    _write_json(temporary, {**counts, "rejected": tally.rejected})
    temporary.replace(path)


def _load_tally(path: Path) -> Tally:
    saved = json.loads(path.read_text(encoding="utf-8"))
    counts = {
        name: Counter({tuple(key) if isinstance(key, list) else key: number for key, number in saved[name]})
        for name in COUNTERS
    }
    return Tally(**counts, rejected=saved["rejected"])
