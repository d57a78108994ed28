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
import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from .joining import Partners, joined
from .moving import moved_copy
from .pasting import Cuttings, cuttings_of, pasted

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
            copy, and `pasted` or `joined` where parts of other frames are in it.
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


def packed_facts(folder: str | Path, split: str) -> dict[str, Any]:
    """What `packed.json` tells of a packed split.

    Raises:
        DataError: If it is damaged.
    """
    path = Path(folder) / split / "packed.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {**facts, "frames": int(facts["frames"])}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: damaged. Delete it and pack again.") from error


def pack_split(
    dataset: str | Path,
    split: str,
    folder: str | Path,
    image_size: tuple[int, int],
    variants: int = 0,
    max_zoom: float = 0.15,
    paste: float = 0.0,
    join: float = 0.0,
    seed: int = 0,
    may_fetch: bool = False,
) -> int:
    """Packs one split of a Parquet data set; nothing is there until everything is there.

    Args:
        dataset: Folder made by scripts/build_dataset.py.
        split: Its split.
        folder: Where `{split}/` goes.
        image_size: `(height, width)` in pixels of the packed frames.
        variants: Shifted and zoomed copies a frame beside the original.
        max_zoom: Largest share of a side that a copy cuts away.
        paste: Share of the copies into which rare things of other frames are pasted.
        join: Share of the copies that are joined with other frames of the same time and weather.
        seed: Decides the copies' windows, what is pasted and what is joined.
        may_fetch: Whether a data set that is no folder here is taken from the Hub.

    Returns:
        Number of packed frames, copies included.

    Raises:
        DataError: If the data set or the split cannot be read or holds no frame, or the disk is full.
    """
    final, part = Path(folder) / split, Path(folder) / f"{split}.part"
    source = _load(dataset, split, may_fetch)
    total = len(source) * (1 + variants)
    summary = {
        "image_size": list(image_size),
        "frames": total,
        "variants": variants,
        "max_zoom": max_zoom,
        "paste": paste,
        "join": join,
        "seed": seed,
        "source": fingerprint(dataset, split),
    }
    rows = tqdm(source, desc=f"packing {split}", unit="frame")
    try:
        cuttings = cuttings_of(source, seed) if variants and paste else None
        if cuttings and not cuttings.kept:
            raise DataError(
                f"{dataset}: nothing can be pasted: no frame of {split!r} with a known time of day shows a "
                "rare thing that is large enough, whole and apart. Set data.paste=0."
            )
        kinds = copies_by_kind(variants, paste, join)
        partners = Partners(source) if "joined" in kinds else None
        if partners and not any(len(frames) > 1 for frames in partners.alike.values()):
            raise DataError(
                f"{dataset}: nothing can be joined: no two frames of {split!r} are known to have the same "
                "time of day and weather. Set data.join=0."
            )
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write(part, _with_copies(rows, kinds, max_zoom, seed, cuttings, partners), total, image_size)
        (part / "packed.json").write_text(json.dumps(summary), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if error.errno is None:  # of the library that decodes pictures; the system's own have a number
            raise DataError(
                f"{dataset}: split {split!r} holds a picture that cannot be read ({error}). Build it again."
            ) from error
        raise DataError(
            f"{part}: could not be packed ({error.strerror or error}). Free some disk space or name another "
            "place in data.packed, and start the same command again."
        ) from error
    return total


def check_packed(
    dataset: str | Path,
    split: str,
    folder: str | Path,
    image_size: tuple[int, int],
    variants: int = 0,
    max_zoom: float = 0.15,
    paste: float = 0.0,
    join: float = 0.0,
) -> None:
    """Refuses a packed split that `pack_split` would not make of the same arguments.

    The seed may differ: other windows are as good. What an older folder does not tell is taken as right.

    Raises:
        DataError: If size, copies or data set are others, or the folder is damaged.
    """
    path = Path(folder) / split
    packed = {"paste": 0.0, "join": 0.0, **packed_facts(folder, split)}
    wanted = {"image_size": list(image_size), "variants": variants, "source": fingerprint(dataset, split)}
    if variants:
        wanted |= {"max_zoom": max_zoom, "paste": paste, "join": join}
    for name, value in wanted.items():
        there = packed.get(name)
        if None not in (there, value) and there != value:
            how = f"with {name} {there}, not {value}"
            if name == "source":
                how = f"from other data than {dataset}"
            raise DataError(
                f"{path}: was packed {how}. Delete it or name another place in data.packed, and start the "
                "same command again."
            )


def fingerprint(dataset: str | Path, split: str) -> str | None:
    """A hash of the names and sizes of a split's files, which a data set that is built anew changes and one
    that is moved does not; None where there are none."""
    files = sorted((file.name, file.stat().st_size) for file in Path(dataset).glob(f"data/{split}-*.parquet"))
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16] if files else None


def _write(
    part: Path, copies: Iterable[tuple[Image.Image, dict[str, Any]]], total: int, size: tuple[int, int]
) -> None:
    """Writes frames one by one: a full disk is an error then; under a memory map it ends the process."""
    height, width = size
    header = {"descr": "|u1", "fortran_order": False, "shape": (total, height, width, 3)}
    with (
        (part / "frames.npy").open("wb") as pixels,
        (part / "rows.jsonl").open("w", encoding="utf-8", newline="\n") as lines,
    ):
        np.lib.format.write_array_header_1_0(pixels, header)
        for picture, row in copies:
            small = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
            pixels.write(small.tobytes())
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def copies_by_kind(variants: int, paste: float, join: float) -> list[str]:
    """What each copy of a frame is: "moved", "joined" or "pasted" (both of which are moved, too)."""
    pasted_copies = round(variants * paste)
    joined_copies = min(round(variants * join), variants - pasted_copies)  # of 3, half and half are 2 and 2
    moved_copies = variants - pasted_copies - joined_copies
    return ["moved"] * moved_copies + ["joined"] * joined_copies + ["pasted"] * pasted_copies


def _with_copies(
    source: Iterable[dict[str, Any]],
    kinds: list[str],
    max_zoom: float,
    seed: int,
    cuttings: Cuttings | None = None,
    partners: Partners | None = None,
) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    """Pictures and plain rows, each original followed by its copies."""
    for index, row in enumerate(source):
        image = row.pop("image").convert("RGB")
        yield image, {**plain_row(row), "copy": 0}
        for copy, kind in enumerate(kinds):
            if row["objects"] is None:
                # Only labels of all kinds of things can be asked anew: the copy is the frame itself.
                yield image, {**plain_row(row), "copy": copy + 1}
                continue
            rng = np.random.default_rng((seed, index, copy))
            frame = image, row
            if kind == "pasted" and cuttings:
                frame = pasted(image, row, cuttings, rng)
            elif kind == "joined" and partners and (other := partners.draw(index, row, rng)):
                frame = joined(image, row, other, rng)
            picture, moved = moved_copy(*frame, max_zoom, rng)
            yield picture, {**plain_row(moved), "copy": copy + 1}


def _load(dataset: str | Path, split: str, may_fetch: bool) -> Any:
    # Here, because reading a packed folder must work without it.
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    is_here = Path(dataset).is_dir()
    if not is_here and not may_fetch:
        raise DataError(f"{dataset}: no such data set. Build one with scripts/build_dataset.py.")
    try:
        # Where the files are not named, those of all splits are fetched to load one.
        files = None if is_here else {split: f"data/{split}-*.parquet"}
        source = load_dataset(str(dataset), split=split, data_files=files)
    except (ValueError, OSError, DatasetGenerationError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]  # a full disk is the cause of the latter
        raise DataError(f"{dataset}: split {split!r} cannot be loaded ({reason}).") from error
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
