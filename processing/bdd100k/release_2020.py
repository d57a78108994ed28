"""Reader of the 2020 release: `labels/det_20/det_{split}.json`, `labels/drivable/masks/{split}/NAME.png`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ijson
import numpy as np
from PIL import Image

from .labels import BadLabels, Problems, attributes, scene_objects
from .scene import ALTERNATIVE, BACKGROUND, DIRECT, GRID_HEIGHT, GRID_WIDTH, Scene

WIDTH, HEIGHT = 1280, 720
"""Size in pixels on which the release's labels are drawn, whatever the size of the picture files."""


def label_file(root: Path, split: str) -> Path:
    """Where this release keeps a split's boxes."""
    return root / "labels" / "det_20" / f"det_{split}.json"


def mask_file(root: Path, split: str, image_id: str) -> Path:
    """Where this release keeps a frame's drivable mask."""
    return root / "labels" / "drivable" / "masks" / split / f"{image_id}.png"


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Streams a Scalabel file's frames: a list, or an object with the list under "frames".

    Raises:
        BadLabels: The file is missing, not JSON, or holds no list of frames.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            file.seek(0)
            if start not in (b"[", b"{"):
                raise BadLabels(f"{path} is not a JSON list of frames")
            yield from ijson.items(file, "item" if start == b"[" else "frames.item", use_float=True)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise BadLabels(f"{path} is not valid JSON: {' '.join(str(error).split())[:120]}") from None
    except OSError as error:
        raise BadLabels(f"cannot read {path}: {error.strerror}") from None


def scene(
    record: Mapping[str, Any],
    split: str,
    source: str,
    image: Path | None,
    mask: Path | None,
    problems: Problems,
) -> Scene | None:
    """One frame's scene, or `None` when the record names no frame.

    A record without "labels" has not been annotated: its objects are unknown. An empty list means that
    nothing is there.

    Args:
        record: A Scalabel frame.
        split: The release's split.
        source: "bdd100k" or "synthetic".
        image: The picture.
        mask: The drivable mask's file if there is one.
        problems: Where repairs and drops are counted.
    """
    name = record.get("name")
    if not isinstance(name, str) or not name:
        problems.skipped("record without a name", "?")
        return None
    size = record.get("size")
    size = size if isinstance(size, Mapping) else {}
    width, height = size.get("width") or WIDTH, size.get("height") or HEIGHT
    labels = record.get("labels")
    objects = scene_objects(labels, width, height, name, problems) if isinstance(labels, list) else None
    return Scene(
        image_id=Path(name).stem,
        split=split,
        source=source,
        **attributes(record),
        objects=objects,
        drivable=read_mask(mask, problems) if mask is not None else None,
        image_path=image,
        width=int(width),
        height=int(height),
    )


def read_mask(path: Path, problems: Problems) -> np.ndarray | None:
    """A drivable mask on the 90x160 grid: each cell takes the value that most of its pixels have.

    Args:
        path: Single-channel PNG with 0 direct, 1 alternative, 2 background, of any size.
        problems: Where an unreadable mask is counted; the frame then has no drivable annotation.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise OSError(f"mode {image.mode}")
            if image.width % GRID_WIDTH or image.height % GRID_HEIGHT:
                image = image.resize((GRID_WIDTH * 8, GRID_HEIGHT * 8), Image.Resampling.NEAREST)
            mask = np.asarray(image)
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        problems.dropped("unreadable drivable mask", path.name, str(error)[:80])
        return None
    cells = mask.reshape(GRID_HEIGHT, mask.shape[0] // GRID_HEIGHT, GRID_WIDTH, -1)
    direct = np.count_nonzero(cells == DIRECT, axis=(1, 3))
    alternative = np.count_nonzero(cells == ALTERNATIVE, axis=(1, 3))
    half = cells.shape[1] * cells.shape[3] / 2
    grid = np.full((GRID_HEIGHT, GRID_WIDTH), BACKGROUND, np.uint8)
    grid[alternative >= half] = ALTERNATIVE
    grid[direct >= half] = DIRECT
    return grid
