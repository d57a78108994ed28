"""Finds a release folder's labels and pictures, tells the label format by content, and streams frames.

Pictures are at `images/100k/{split}/NAME`. Labels are looked for in the places of the three formats; what
is found there is judged by what it contains, not by where it lies.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from . import release_2018, release_2020, release_per_image
from .json_stream import stream
from .labels import BadLabels, Problems
from .scene import Scene

READERS = {"2018": "single file of 2018", "per image": "one file per image of 2018", "2020": "files of 2020"}
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Record:
    """One frame's raw labels and where its picture is.

    Attributes:
        data: The label record as it was read.
        format: A key of `READERS`.
        split: The release's split.
        image: The picture's file, which need not exist.
        mask: The drivable mask's file, which need not exist, or `None`.
    """

    data: dict[str, Any]
    format: str
    split: str
    image: Path
    mask: Path | None = None

    @property
    def name(self) -> str:
        """The frame's file name."""
        return self.image.name


def records(root: Path, split: str, problems: Problems, labels: Path | None = None) -> Iterator[Record]:
    """Streams a split's frames, in the label files' order.

    Args:
        root: The release's folder.
        split: "train", "val" or "test".
        problems: Where records that name no frame, or a frame once more, are counted.
        labels: A label file or folder to read instead of looking for one.

    Raises:
        BadLabels: There are no labels for the split, or the file cannot be used.
    """
    source = labels or find_labels(root, split)
    pictures = root / "images" / "100k" / split
    given = _from_folder(source, problems) if source.is_dir() else _from_list(source, root, split)
    seen: set[str] = set()
    for data, kind in given:
        name = data.get("name") if isinstance(data, dict) else None
        if not isinstance(name, str) or not name.strip() or Path(name).name != name:
            problems.skipped("record without a usable name", f"{split}: {str(name)[:40]}")
            continue
        if "\ufffd" in name:
            problems.skipped("name is not UTF-8", name)
            continue
        name = name if name.lower().endswith(SUFFIXES) else name + ".jpg"
        if name in seen:
            problems.skipped("duplicate name", name)
            continue
        seen.add(name)
        mask = root / "labels" / "drivable" / "masks" / split / f"{Path(name).stem}.png"
        yield Record({**data, "name": name}, kind, split, pictures / name, mask if kind == "2020" else None)
    _count_unlabelled(pictures, seen, problems)


def find_labels(root: Path, split: str) -> Path:
    """The first place of the three formats that is there.

    Raises:
        BadLabels: None is.
    """
    single = f"bdd100k_labels_images_{split}.json"
    places = (
        root / "labels" / "det_20" / f"det_{split}.json",
        root / "labels" / single,
        root / "labels" / "bdd100k" / single,
        root / single,
        root / "labels" / "100k" / split,
    )
    for place in places:
        if place.exists():
            return place
    names = ", ".join(place.relative_to(root).as_posix() for place in places)
    raise BadLabels(f"no labels for split {split!r} in {root}: looked for {names}")


def scene(record: Record, problems: Problems, source: str = "bdd100k") -> Scene | None:
    """The scene of a record, or `None` when the record is unusable (counted).

    Args:
        record: From `records`.
        problems: Where repairs and drops are counted.
        source: "bdd100k" or "synthetic".
    """
    try:
        if record.format == "2020":
            found = release_2020.scene(record.data, problems, record.mask)
        else:
            reader = release_2018 if record.format == "2018" else release_per_image
            found = reader.scene(record.data, problems)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problems.skipped("unusable record", record.name, f"{type(error).__name__}: {error}"[:80])
        return None
    return replace(found, split=record.split, source=source, image_path=record.image)


def read_scenes(root: Path, split: str, problems: Problems | None = None) -> Iterator[Scene]:
    """Streams a split's scenes.

    Args:
        root: The release's folder.
        split: "train", "val" or "test".
        problems: Where repairs and drops are counted, if anybody wants to know.

    Raises:
        BadLabels: There are no labels for the split, or the file cannot be used.
    """
    problems = problems or Problems()
    for record in records(root, split, problems):
        found = scene(record, problems)
        if found is not None:
            yield found


def _from_folder(folder: Path, problems: Problems) -> Iterator[tuple[Any, str]]:
    for path in sorted(folder.glob("*.json")):
        try:
            data = json.loads(path.read_bytes().decode("utf-8-sig"))
        except (ValueError, OSError, RecursionError) as error:
            what = (
                "label file is not UTF-8"
                if isinstance(error, UnicodeDecodeError)
                else "label file is not JSON"
            )
            problems.skipped(what, path.name, str(error)[:80])
            continue
        if not isinstance(data, dict) or not release_per_image.is_per_image(data):
            problems.skipped("label file of another format", path.name)
            continue
        yield {**data, "name": data.get("name") or path.stem}, "per image"


def _from_list(path: Path, root: Path, split: str) -> Iterator[tuple[Any, str]]:
    entries = stream(path)
    # A frame without any label has no marks of its format; a few frames do.
    head = list(islice(entries, 200))
    entries = chain(head, entries)
    if any(isinstance(entry, dict) and release_2018.is_2018(entry) for entry in head):
        yield from ((entry, "2018") for entry in entries)
        return
    extra = {
        "drivable": root / "labels" / "drivable" / "polygons" / f"drivable_{split}.json",
        "lanes": root / "labels" / "lane" / "polygons" / f"lane_{split}.json",
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        indices = {
            key: _Index(source, Path(folder) / key) for key, source in extra.items() if source.exists()
        }
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                entry = {**entry, **{key: index.labels(entry["name"]) for key, index in indices.items()}}
            yield entry, "2020"
        for index in indices.values():
            index.close()


class _Index:
    """Labels of a second file by name, kept on disk so that memory does not grow with the file."""

    def __init__(self, source: Path, database: Path):
        self.connection = sqlite3.connect(database)
        self.connection.execute("create table frame (name text primary key, labels text)")
        rows = (
            (entry["name"], json.dumps(entry.get("labels")))
            for entry in stream(source)
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        )
        self.connection.executemany("insert or ignore into frame values (?, ?)", rows)

    def labels(self, name: str) -> Any:
        row = self.connection.execute("select labels from frame where name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def close(self) -> None:
        self.connection.close()


def _count_unlabelled(pictures: Path, seen: set[str], problems: Problems) -> None:
    """Counts the pictures that no record names (the release has 137)."""
    if pictures.is_dir():
        for path in sorted(pictures.iterdir()):
            if path.suffix.lower() in SUFFIXES and path.name not in seen:
                problems.skipped("picture without labels", path.name)
