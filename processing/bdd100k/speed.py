"""Measurements of the data side, for scripts/benchmark.py: nothing here is timed in a test."""

import io
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from .families import ask_all
from .labels import Problems
from .pictures import collate
from .release import Record, records, scene

BATCH = 250


def questions_a_second(root: Path, number: int = 80_000, workers: int = 2) -> dict[str, float]:
    """Time from label records to questions: parsing, scenes, rules, phrasings; no pictures and no masks.

    Args:
        root: A release folder; its training records are repeated under new names.
        number: Records to go through.
        workers: Processes.

    Returns:
        `seconds`, `records`, `questions`, and `megabytes`, the peak memory of the largest process.
    """
    start, total, seen = time.perf_counter(), 0, 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = []
        for batch in _batches(_repeated(root, number)):
            seen += len(batch)
            waiting.append(pool.submit(_count_questions, batch))
            if len(waiting) > 4 * workers:
                total += waiting.pop(0).result()
        total += sum(future.result() for future in waiting)
        peaks = [pool.submit(_peak_megabytes).result(), _peak_megabytes()]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "records": seen, "questions": total, "megabytes": max(peaks)}


def _repeated(root: Path, number: int) -> Iterator[Record]:
    """The training records again and again, each time read from the file, without their masks."""
    made = 0
    while made < number:
        for record in islice(records(root, "train", Problems()), number - made):
            made += 1
            data = {**record.data, "name": f"{made:06d}.jpg"}
            yield Record(data, record.format, record.split, record.image)


def _batches(given: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(islice(given, BATCH)):
        yield batch


def _count_questions(batch: list[Record]) -> int:
    problems = Problems()
    return sum(len(ask_all(found).rows) for record in batch if (found := scene(record, problems)) is not None)


def _peak_megabytes() -> float:
    """Peak memory of this process; NaN on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def pictures_a_second(files: list[bytes], height: int = 160, width: int = 288) -> dict[str, float]:
    """Decoding, resizing and collating against bare decoding of the same files at full size, on one core.

    Args:
        files: JPEG files.
        height: Height in pixels to collate at.
        width: Width.

    Returns:
        `bare` and `collated` in pictures a second, and their `ratio`.
    """
    start = time.process_time()
    for data in files:
        Image.open(io.BytesIO(data)).load()
    bare = len(files) / (time.process_time() - start)
    start = time.process_time()
    collate(files, height, width)
    collated = len(files) / (time.process_time() - start)
    return {"bare": bare, "collated": collated, "ratio": collated / bare}
