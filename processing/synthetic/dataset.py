"""Write synthetic scenes to disk in the layout of BDD100K's release."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .renderer import check_request, render_scene, scene_name

DEFAULT_SPLITS = {"train": 0.8, "val": 0.2}


def render_dataset(
    root: Path,
    num_frames: int,
    seed: int = 0,
    splits: dict[str, float] | None = None,
    workers: int = 1,
    size: tuple[int, int] = (512, 288),
) -> dict[str, int]:
    """Render a data set that the 2020 reader reads like the release.

    Writes `images/100k/{split}/NAME.jpg`, `labels/det_20/det_{split}.json` and
    `labels/drivable/masks/{split}/NAME.png` below `root`; the same arguments give the same bytes, however
    many workers.

    Args:
        root: Folder to write to; made when it is missing.
        num_frames: How many frames in all splits together.
        seed: The first frame's seed; frame i has seed + i.
        splits: Share of the frames a split, 80% train and 20% val by default.
        workers: Processes that render.
        size: Width and height of the pictures; labels and masks are in 1280x720.

    Returns:
        How many frames each split got.

    Raises:
        ValueError: No frames, a negative seed, an odd size, no workers, or shares that do not add up to 1.
    """
    splits = DEFAULT_SPLITS if splits is None else splits
    check_request(seed, size)
    if num_frames < 1 or workers < 1:
        raise ValueError(f"need at least 1 frame and 1 worker, not {num_frames} and {workers}")
    if abs(sum(splits.values()) - 1.0) > 1e-6 or min(splits.values()) < 0:
        raise ValueError(f"the splits' shares must add up to 1: {splits}")
    counts = {}
    edges = np.round(np.cumsum([0.0, *splits.values()]) * num_frames).astype(int).tolist()
    for split, start, end in zip(splits, edges[:-1], edges[1:], strict=True):
        (root / "images" / "100k" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / "drivable" / "masks" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / "det_20").mkdir(parents=True, exist_ok=True)
        write = partial(_write_frame, root, split, size)
        records = list(_in_order(write, range(seed + start, seed + end), workers))
        text = json.dumps(records, separators=(",", ":"))
        (root / "labels" / "det_20" / f"det_{split}.json").write_text(text, encoding="utf-8")
        counts[split] = len(records)
    return counts


def _in_order(write: partial, seeds: range, workers: int) -> Iterator[dict]:
    if workers == 1 or len(seeds) < 2:
        yield from map(write, seeds)
        return
    # Spawned, not forked: works everywhere and beside a process that already has threads.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(seeds))) as pool:
        yield from pool.imap(write, seeds, chunksize=8)


def _write_frame(root: Path, split: str, size: tuple[int, int], seed: int) -> dict:
    scene = render_scene(seed, size)
    name = scene_name(seed)
    quality = int(np.random.default_rng([seed, 75]).integers(72, 93))
    scene.image.save(root / "images" / "100k" / split / f"{name}.jpg", quality=quality)
    mask = Image.fromarray(scene.drivable)
    mask.save(
        root / "labels" / "drivable" / "masks" / split / f"{name}.png", optimize=False, compress_level=3
    )
    return scene.record
