"""Measurements of the data side, for scripts/benchmark.py: nothing here is timed in a test."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import simplejpeg

from .families import ask_all
from .labels import Problems
from .pictures import collate
from .release import Record, records, scene

BATCH = 250
COLLATED = 32
"""Pictures in a batch, as a training loop would ask for."""


def questions_a_second(
    root: Path, number: int = 80_000, workers: int = 2, masks: bool = False
) -> dict[str, float]:
    """Time from label records to questions: parsing, scenes, rules, phrasings; no pictures.

    Args:
        root: A release folder; its training records are repeated under new names.
        number: Records to go through.
        workers: Processes.
        masks: Whether to read each record's drivable mask too, a PNG file.

    Returns:
        `seconds`, `busy` (seconds of processor time of all processes: what a machine that does nothing else
        shares out over its cores), `records`, `questions`, and `megabytes`, the peak memory of the largest
        process.
    """
    start, busy, total, seen = time.perf_counter(), busy_seconds(), 0, 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = []
        for batch in _batches(_repeated(root, number, masks)):
            seen += len(batch)
            waiting.append(pool.submit(_count_questions, batch))
            if len(waiting) > 4 * workers:
                total += waiting.pop(0).result()
        total += sum(future.result() for future in waiting)
        peaks = [*pool.map(_peak_megabytes, range(4 * workers)), _peak_megabytes()]
    seconds = time.perf_counter() - start
    busy = busy_seconds() - busy
    return {"seconds": seconds, "busy": busy, "records": seen, "questions": total, "megabytes": max(peaks)}


def busy_seconds() -> float:
    """Processor time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def _repeated(root: Path, number: int, masks: bool) -> Iterator[Record]:
    """The training records again and again, each time read from the file."""
    made = 0
    while made < number:
        before = made
        for record in islice(records(root, "train", Problems()), number - made):
            made += 1
            data = {**record.data, "name": f"{made:06d}.jpg"}
            yield replace(record, data=data, mask=record.mask if masks else None)
        if made == before:
            raise ValueError(f"no training records in {root}")


def _batches(given: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(islice(given, BATCH)):
        yield batch


def _count_questions(batch: list[Record]) -> int:
    problems = Problems()
    return sum(len(ask_all(found).rows) for record in batch if (found := scene(record, problems)) is not None)


def _peak_megabytes(_: int = 0) -> float:
    """Peak memory of this process; NaN on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def pictures_a_second(
    files: list[bytes], height: int = 160, width: int = 288, rounds: int = 5
) -> dict[str, float]:
    """Decoding, resizing and collating against bare libjpeg-turbo decoding of the same files, on one core.

    Each way goes over all files `rounds` times in turn, and its fastest round counts, so that what else the
    machine does weighs on all of them alike.

    Args:
        files: JPEG files.
        height: Height in pixels to collate at.
        width: Width.
        rounds: How often to go over the files.

    Returns:
        Pictures a second: `bare` decoding at full size with the library's default settings, `hurried`
        decoding at full size with the settings that `pictures.decode` uses, `scaled` decoding to the
        smallest size that will do (no resizing), and `collated`.
    """
    cv2.setNumThreads(1)
    batches = [files[start : start + COLLATED] for start in range(0, len(files), COLLATED)]
    decode = simplejpeg.decode_jpeg

    def each(**settings: Any) -> None:
        for data in files:  # none is kept: fresh memory for each picture would slow bare decoding down
            decode(data, **settings)

    ways: dict[str, Callable[[], object]] = {
        "bare": each,
        "hurried": lambda: each(fastdct=True, fastupsample=True),
        "scaled": lambda: each(min_height=height, min_width=width),
        "collated": lambda: [collate(batch, height, width) for batch in batches],
    }
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return {name: len(files) / taken for name, taken in seconds.items()}


def enlarged(files: list[bytes], height: int = 720, width: int = 1280) -> list[bytes]:
    """JPEG files at another size, the release's own if not given; smoother than its own frames."""
    pixels = (cv2.resize(simplejpeg.decode_jpeg(data), (width, height)) for data in files)
    return [simplejpeg.encode_jpeg(picture, quality=75, colorsubsampling="420") for picture in pixels]
