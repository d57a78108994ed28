"""A data set as a plain folder that training reads without decoding anything.

```
FOLDER/{split}/frames.npy    uint8 (frames, height, width, 3), read through a memory map
FOLDER/{split}/rows.jsonl    one line a frame: labels and questions
FOLDER/{split}/packed.json   size, number of frames, variants, fingerprint of the source: written last
```

numpy and the standard library are enough to read it, so a training machine needs neither `datasets` nor
pyarrow.
"""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from .moving import moved_copy

GRID = (90, 160)
LARGEST_IN_MEMORY = 6 * 2**30
"""Bytes of frames that are read into memory rather than mapped."""


class DataError(ValueError):
    """A data set that cannot be trained on; the message names the folder and what to do."""


class JsonLines:
    """The lines of a JSONL file, parsed when asked for: memory does not grow with the file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as lines:
            self.ends = np.cumsum([0, *(len(line) for line in lines)])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self.path.open("rb") as lines:
            lines.seek(self.ends[index])
            return json.loads(lines.read(self.ends[index + 1] - self.ends[index]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as lines:
            yield from map(json.loads, lines)


class PackedSplit:
    """One split of a packed folder; cheap to send to a loader process, which opens the files itself.

    Attributes:
        folder: `FOLDER/{split}`.
        rows: One dict a frame: image_id, source, weather, timeofday, scene, objects, drivable, questions,
            copy.
        image_size: `(height, width)` of the frames.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = JsonLines(folder / "rows.jsonl")
        self._frames: np.ndarray | None = None
        self.image_size = self.frames.shape[1:3]

    @property
    def frames(self) -> np.ndarray:
        """`(frames, height, width, 3)` uint8: in memory when small, else memory-mapped."""
        if self._frames is None:
            path = self.folder / "frames.npy"
            # A mapped file competes for the page cache with everything else and is read again and again.
            self._frames = np.load(path, mmap_mode=None if path.stat().st_size <= LARGEST_IN_MEMORY else "r")
        return self._frames

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_frames": None}  # a pickled memory map would carry the pixels

    def __len__(self) -> int:
        return len(self.rows)


def open_packed(folder: str | Path, split: str) -> PackedSplit:
    """Opens one split of a packed folder.

    Raises:
        DataError: If the split is not there or was only half written.
    """
    path = Path(folder) / split
    if not is_packed(folder, split):
        raise DataError(
            f"{path}: no packed split here. Pack the data set with `scripts/train.py --pack-only`."
        )
    packed = PackedSplit(path)
    if len(packed.rows) != len(packed.frames):
        raise DataError(
            f"{path}: {len(packed.rows)} rows for {len(packed.frames)} frames. Delete it and pack again."
        )
    return packed


def is_packed(folder: str | Path, split: str) -> bool:
    """Whether a folder holds this split, completely written."""
    return (Path(folder) / split / "packed.json").is_file()


def pack_split(
    dataset: str | Path,
    split: str,
    folder: str | Path,
    image_size: tuple[int, int],
    variants: int = 0,
    max_zoom: float = 0.15,
    seed: int = 0,
) -> int:
    """Packs one split of a Parquet data set; nothing is there until everything is there.

    Args:
        dataset: Folder made by scripts/build_dataset.py.
        split: Its split.
        folder: Where `{split}/` goes.
        image_size: `(height, width)` in pixels of the packed frames.
        variants: Shifted and zoomed copies a frame beside the original.
        max_zoom: Largest share of a side that a copy cuts away.
        seed: Decides the copies' windows.

    Returns:
        Number of packed frames, copies included.

    Raises:
        DataError: If the data set or the split cannot be read, or holds no frame.
    """
    final, part = Path(folder) / split, Path(folder) / f"{split}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    source = _load(dataset, split)
    height, width = image_size
    total = len(source) * (1 + variants)
    frames = np.lib.format.open_memmap(part / "frames.npy", "w+", np.uint8, (total, height, width, 3))
    with (part / "rows.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
        position = 0
        for index, row in enumerate(tqdm(source, desc=f"packing {split}", unit="frame")):
            image = row.pop("image").convert("RGB")
            for copy, (picture, labels) in enumerate(_copies(image, row, variants, max_zoom, seed, index)):
                frames[position] = np.asarray(
                    picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
                )
                lines.write(json.dumps({**plain_row(labels), "copy": copy}, ensure_ascii=False) + "\n")
                position += 1
    frames.flush()
    del frames
    summary = {
        "image_size": [height, width],
        "frames": total,
        "variants": variants,
        "max_zoom": max_zoom,
        "seed": seed,
    }
    (part / "packed.json").write_text(json.dumps(summary), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    return total


def _copies(
    image: Image.Image, row: dict[str, Any], variants: int, max_zoom: float, seed: int, index: int
) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    yield image, row
    for copy in range(variants):
        yield moved_copy(image, row, max_zoom, np.random.default_rng((seed, index, copy)))


def _load(dataset: str | Path, split: str) -> Any:
    from datasets import load_dataset  # here, because reading a packed folder must work without it

    if not Path(dataset).is_dir():
        raise DataError(f"{dataset}: no such data set. Build one with scripts/build_dataset.py.")
    try:
        source = load_dataset(str(dataset), split=split)
    except (ValueError, FileNotFoundError) as error:
        raise DataError(
            f"{dataset}: split {split!r} cannot be loaded ({str(error).splitlines()[0]})."
        ) from error
    if len(source) == 0:
        raise DataError(f"{dataset}: split {split!r} holds no frame.")
    return source


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON: the drivable picture becomes compressed text, everything else is plain already."""
    drivable = row.get("drivable")
    encoded = None
    if drivable is not None:
        grid = np.asarray(drivable, dtype=np.uint8)
        if grid.shape != GRID:
            grid = np.asarray(Image.fromarray(grid).resize(GRID[::-1], Image.Resampling.NEAREST))
        encoded = base64.b64encode(zlib.compress(grid.tobytes())).decode("ascii")
    return {**row, "drivable": encoded}


def drivable_grid(row: dict[str, Any]) -> np.ndarray | None:
    """The drivable grid of a packed row, uint8 `(90, 160)`, or None where it is not annotated."""
    if row["drivable"] is None:
        return None
    return np.frombuffer(zlib.decompress(base64.b64decode(row["drivable"])), dtype=np.uint8).reshape(GRID)
