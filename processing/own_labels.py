"""Frames with labels of your own, as COCO or YOLO files, become Scenes and a data set to train on.

Both formats hold boxes only. What they do not hold stays unknown and is not asked: no weather, no time of
day, no lanes, no colour of a light. A category that nobody marked is unknown too: where the labels have no
"traffic sign", its absence from a frame means nothing.
"""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from .bdd100k.build import BuildOptions, finish, write_rows
from .bdd100k.dataset import Tally, read_picture, scene_row
from .bdd100k.families import FAMILIES
from .bdd100k.labels import ALIASES, BadLabels, Problems, has_place, repair_box
from .bdd100k.scene import CATEGORIES, ROAD_USERS, UNNAMED, VEHICLES, Scene, SceneObject

SUFFIXES = (".jpg", ".jpeg", ".png")
UNREADABLE = "?"
"""What a label is called whose class or numbers cannot be read."""
HELD_BACK = 0.1
"""Share of the frames for each of `val` and `tune`."""

_VEHICLES = frozenset(VEHICLES) & frozenset(CATEGORIES)
_USERS = frozenset(ROAD_USERS) & frozenset(CATEGORIES)
_LIGHT = frozenset({"traffic light"})
NEEDS: dict[str, frozenset[str]] = {
    "compare_sides": _VEHICLES,
    "vehicle_near": _VEHICLES,
    "directly_ahead": _USERS,
    "light_state": _LIGHT,
    "light_is": _LIGHT,
    "light_for_me": _LIGHT,
    "turn": _USERS | _LIGHT,
    "command_turn": _USERS | _LIGHT,
    "out_of_scope": frozenset(),
}
"""Group of families -> categories that must all be marked for its answers to be true; not named here: all."""
NEED_LANES = ("turn", "command_turn")
"""Groups that only lanes can answer with yes: without them, what is in the way would leave nothing but no."""


@dataclass
class OwnLabels:
    """What was read.

    Attributes:
        scenes: The frames, with the pictures' paths.
        labelled: Categories that were marked wherever they are seen.
        unused: Names of the labels that mean nothing here -> number of boxes.
        problems: What was repaired, dropped or skipped.
        names: What the frames are called that were read, no two of them alike.
    """

    scenes: list[Scene] = field(default_factory=list)
    labelled: frozenset[str] = frozenset()
    unused: Counter[str] = field(default_factory=Counter)
    problems: Problems = field(default_factory=Problems)
    names: set[str] = field(default_factory=set)


def category_names(names: Iterable[str], rename: Mapping[str, str] | None = None) -> dict[str, str]:
    """What each of the labels' names is called here; names without a counterpart are left out.

    COCO's "person" may sit on a bicycle: without a "rider" beside it, it becomes "other person", which blocks
    the way like any other but answers no question about pedestrians.

    Args:
        names: The labels' names.
        rename: Name in the labels -> one of `CATEGORIES`, "other person" or "other vehicle".

    Raises:
        BadLabels: If something is renamed to what is not known here.
    """
    names, rename = list(names), dict(rename or {})
    known = {*CATEGORIES, *ROAD_USERS}
    wrong = sorted(set(rename.values()) - known)
    if wrong:
        raise BadLabels(f"{wrong[0]!r} is no category; use one of {', '.join(sorted(known))}")
    aliases = {**ALIASES, **({} if "rider" in names else {"person": "other person"}), **rename}
    called = {name: aliases.get(name, aliases.get(name.lower(), name.lower())) for name in names}
    return {name: category for name, category in called.items() if category in known}


def labelled_categories(categories: Iterable[str], absent: Iterable[str] = ()) -> frozenset[str]:
    """Categories whose absence from a frame's labels means absence from the frame.

    Args:
        categories: What the labels mark, in this project's words.
        absent: Categories that never occur in these frames, so that nobody had to mark them.
    """
    marked = set(categories)
    found = marked | set(absent)
    for unnamed, members in UNNAMED.items():
        # Beside cars, "other vehicle" is what is left over, a trailer perhaps, and no buses were looked for.
        if unnamed in marked and not marked & set(members) & set(CATEGORIES):
            found |= set(members)
    return frozenset(found & set(CATEGORIES))


def read_coco(
    annotations: Path,
    images: Path,
    rename: Mapping[str, str] | None = None,
    absent: Iterable[str] = (),
) -> OwnLabels:
    """Reads boxes in COCO's format: `images`, `annotations` with `bbox` (x, y, width, height), `categories`.

    A frame without annotations has nothing in it; a frame with a crowd box is left out, because nobody
    counted what is inside, and so is one with a label that cannot be read.

    Args:
        annotations: The JSON file.
        images: The folder that its file names are relative to.
        rename: See `category_names`.
        absent: See `labelled_categories`.

    Raises:
        BadLabels: If the file cannot be read, is not COCO's format, or has annotations for none of its
            images.
    """
    try:
        data = json.loads(annotations.read_text(encoding="utf-8-sig"))
        names = {entry["id"]: str(entry["name"]) for entry in data["categories"]}
        frames = {entry["id"]: entry for entry in data["images"]}
        boxes: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for entry in data["annotations"]:
            boxes[entry["image_id"]].append(entry)
    except OSError as error:
        raise BadLabels(f"cannot read {annotations}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadLabels(
            f"{annotations}: not COCO's format, which is a JSON object with images, annotations and "
            f"categories ({type(error).__name__}: {error})"
        ) from None
    if boxes and not boxes.keys() & frames.keys():
        raise BadLabels(
            f"{annotations}: no annotation belongs to one of its images, whose id is "
            f"{next(iter(frames), None)!r} where annotations say {next(iter(boxes))!r}"
        )
    called = category_names(names.values(), rename)
    found = OwnLabels(labelled=labelled_categories(called.values(), absent))
    for number, frame in frames.items():
        marked = boxes.get(number, [])
        if not isinstance(frame.get("file_name"), str):
            found.problems.skipped("no file name", str(number))
            continue
        path = images / frame["file_name"]
        if any(entry.get("iscrowd") for entry in marked):
            found.problems.skipped("crowd box", path.name)
            continue
        width, height = frame.get("width"), frame.get("height")
        if not (
            isinstance(width, int | float) and isinstance(height, int | float) and min(width, height) > 0
        ):
            found.problems.skipped("no frame size", path.name)
            continue
        labels = [
            (names.get(entry.get("category_id"), UNREADABLE), _corners(entry.get("bbox"))) for entry in marked
        ]
        _add(found, path, frame["file_name"], labels, (float(width), float(height)), called)
    return found


def _corners(box: Any) -> dict[str, Any] | None:
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)):
        return None
    x, y, width, height = box
    return {"x1": x, "y1": y, "x2": x + width, "y2": y + height}


def read_yolo(folder: Path, rename: Mapping[str, str] | None = None, absent: Iterable[str] = ()) -> OwnLabels:
    """Reads YOLO's format: `images/NAME.jpg`, `labels/NAME.txt`, names in `data.yaml` or `classes.txt`.

    A line is `class x y width height`, or `class` and a polygon, in fractions of the frame. An empty file is
    a frame with nothing in it; a frame without a file was not labelled and is left out, and so is one with a
    line that cannot be read.

    Args:
        folder: The folder with all that.
        rename: See `category_names`.
        absent: See `labelled_categories`.

    Raises:
        BadLabels: If there are no names or no pictures.
    """
    names = _yolo_names(folder)
    called = category_names(names.values(), rename)
    found = OwnLabels(labelled=labelled_categories(called.values(), absent))
    pictures = sorted(p for p in (folder / "images").rglob("*") if p.suffix.lower() in SUFFIXES)
    if not pictures:
        raise BadLabels(f"{folder / 'images'}: no pictures in it ({', '.join(SUFFIXES)})")
    for picture in pictures:
        name = picture.relative_to(folder / "images")
        file = (folder / "labels" / name).with_suffix(".txt")
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            with Image.open(picture) as image:
                size = (float(image.width), float(image.height))
        except FileNotFoundError:
            found.problems.skipped("no label file", picture.name)
            continue
        except (OSError, UnicodeDecodeError, Image.DecompressionBombError) as error:
            found.problems.skipped("unreadable picture or label file", picture.name, str(error)[:80])
            continue
        labels = [_yolo_line(line, names, size) for line in lines if line.strip()]
        _add(found, picture, name.as_posix(), labels, size, called)
    return found


def _yolo_names(folder: Path) -> dict[int, str]:
    """Class number -> name."""
    listing, described = folder / "classes.txt", folder / "data.yaml"
    if listing.is_file():
        return dict(enumerate(listing.read_text(encoding="utf-8-sig").split("\n")))
    try:
        names = yaml.safe_load(described.read_text(encoding="utf-8-sig"))["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in pairs}
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        raise BadLabels(
            f"{folder}: no class names, neither in data.yaml (names:) nor in classes.txt"
        ) from None


def _yolo_line(
    line: str, names: Mapping[int, str], size: tuple[float, float]
) -> tuple[str, dict[str, float] | None]:
    """Name and corners in pixels of one line; no corners if it cannot be read."""
    try:
        number, *values = (float(word) for word in line.split())
        name = names.get(int(number), UNREADABLE)
    except (ValueError, OverflowError):
        return UNREADABLE, None
    width, height = size
    if len(values) == 4:
        x, y, w, h = values
        xs, ys = [x - w / 2, x + w / 2], [y - h / 2, y + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
    else:
        return name, None
    corners = {"x1": min(xs) * width, "y1": min(ys) * height, "x2": max(xs) * width, "y2": max(ys) * height}
    return name, corners


def _add(
    found: OwnLabels,
    path: Path,
    name: str,
    labels: Iterable[tuple[str, dict[str, Any] | None]],
    size: tuple[float, float],
    called: Mapping[str, str],
) -> None:
    """Adds one frame's scene, unless a label cannot be read: what it marks would be taken for absent.

    Nor is a frame added whose name an earlier one has: by their names frames are told apart from here on.
    """
    image_id = Path(name).with_suffix("").as_posix().replace("/", "_")
    if image_id in found.names:
        found.problems.skipped("same name twice", path.name, f"{name} and an earlier frame are {image_id}")
        return
    found.names.add(image_id)
    things = []
    for label, corners in labels:
        if label == UNREADABLE or (label in called and not has_place(corners)):
            found.problems.skipped("unreadable label", path.name, f"{label} {corners}")
            return
        if label not in called:
            found.unused[label] += 1
            continue
        box = repair_box(corners, *size, path.name, found.problems)
        if box is not None:
            things.append(SceneObject(called[label], box))
    width, height = (round(side) for side in size)
    found.scenes.append(
        Scene(image_id, source="own", objects=tuple(things), image_path=path, width=width, height=height)
    )


def split_frames(names: Iterable[str]) -> dict[str, str]:
    """Frame -> "train", "tune" or "val", decided by the hash of the name: at least one of each, if there are
    three."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    share = max(1, round(HELD_BACK * len(ranked))) if len(ranked) >= 3 else 0
    places = ["val"] * share + ["tune"] * share
    return dict(zip(ranked, [*places, *["train"] * (len(ranked) - len(places))], strict=True))


def build_own(labels: OwnLabels, output: Path, seed: int = 0) -> dict[str, Any]:
    """Writes a data set folder as `scripts/build_dataset.py` does, with splits `train`, `tune` and `val`.

    Args:
        labels: What was read.
        output: The folder; it must not exist yet.
        seed: Fixes the phrasings.

    Returns:
        The report that is also written as `report.json`.

    Raises:
        FileExistsError: If `output` is there already.
        BadLabels: If no frame is left.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists already; remove it or choose another folder")
    part, tally = output.with_name(output.name + ".part"), Tally()
    shutil.rmtree(part, ignore_errors=True)
    (part / "data").mkdir(parents=True)
    splits = split_frames(scene.image_id for scene in labels.scenes)
    shards: Counter[str] = Counter()
    for split in ("train", "tune", "val"):
        mine = [scene for scene in labels.scenes if splits[scene.image_id] == split]
        rows = _rows(mine, split, labels, seed, tally)
        if first := next(rows, None):
            write_rows(part / "data" / f"{split}-00000.parquet", chain([first], rows))
            shards[split] = 1
    tally.add(Tally(problems=labels.problems.counts, rejected=labels.problems.rejected))
    if not tally.frames:
        shutil.rmtree(part)
        raise BadLabels(f"no usable frame: {tally.complaints()}")
    report = finish(part, tally, shards, BuildOptions(seed=seed, source="own", splits=tuple(shards)))
    part.replace(output)
    return report


def _rows(
    scenes: Iterable[Scene], split: str, labels: OwnLabels, seed: int, tally: Tally
) -> Iterator[dict[str, Any]]:
    for scene in scenes:
        encoded = read_picture(scene.image_path, labels.problems) if scene.image_path else None
        if encoded is not None:
            yield own_row(scene, encoded, split, labels.labelled, seed, tally)


def own_row(
    scene: Scene, encoded: bytes, split: str, labelled: frozenset[str], seed: int, tally: Tally
) -> dict[str, Any]:
    """A scene as one row of the data set, with only those questions that its labels can answer.

    Args:
        scene: The scene.
        encoded: Its picture's file.
        split: The output split.
        labelled: See `labelled_categories`.
        seed: Fixes the phrasings.
        tally: Where answers and undecided questions are counted.
    """
    asked = Tally()
    row = scene_row(scene, encoded, split, seed, asked)
    tally.frames[split] += 1
    tally.undecided.update(asked.undecided)
    kept = []
    for question in row["questions"]:
        name = question["family"]
        family = FAMILIES[name]
        needed = (
            frozenset({family.category})
            if family.category
            else NEEDS.get(family.group, frozenset(CATEGORIES))
        )
        if family.group in NEED_LANES and scene.drivable is None:
            tally.undecided[split, name, "no drivable area labelled"] += 1
        elif needed <= labelled:
            kept.append(question)
            tally.answers[split, name, question["answer"]] += 1
        else:
            tally.undecided[split, name, "a category it needs is not labelled"] += 1
    # Whoever reads the objects takes what is not there for absent, which is true only if all were marked.
    all_marked = labelled >= frozenset(CATEGORIES)
    told = {name: row[name] if all_marked else None for name in ("objects", "forerunner")}
    return {**row, "questions": kept, **told}
