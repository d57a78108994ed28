"""JPEG files to arrays at the network's size, with libjpeg-turbo's own scaling.

For loops that read pictures again and again, such as training from a stream. What is done once (packing,
asking about one frame) goes through Pillow, whose filter is slower and a little better.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

try:
    import cv2
    import simplejpeg
except ImportError:  # Pillow alone does the same, at a third of the speed
    simplejpeg = None

SCALES = (8, 4, 2)
"""Reductions that libjpeg-turbo has vector code for; those between, such as 5/8, are slower than none."""


def decode(data: bytes, height: int, width: int, out: np.ndarray | None = None) -> np.ndarray:
    """A picture at the wanted size.

    A JPEG is decoded straight to the smallest of 1/1, 1/2, 1/4 and 1/8 of its size that is not below the
    wanted one; less than a factor of two is left to interpolate, which skips no row and no column.

    Args:
        data: A picture file.
        height: Wanted height in pixels.
        width: Wanted width.
        out: Where to put it, uint8 `(height, width, 3)`; a new array if not given.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        OSError: The file is not a whole picture.
    """
    if simplejpeg is None or not simplejpeg.is_jpeg(data):
        pixels = _decode_slowly(data, height, width)
        if out is None:
            return pixels
        out[:] = pixels
        return out
    try:
        full_height, full_width = simplejpeg.decode_jpeg_header(data)[:2]
        least = min(full_height / height, full_width / width)
        scale = next((scale for scale in SCALES if scale <= least), 1)
        size = {"min_height": -(-full_height // scale), "min_width": -(-full_width // scale)}
        pixels = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True, **size)
    except ValueError as error:
        raise OSError(f"not a whole JPEG: {error}") from error
    skips = max(pixels.shape[0] / height, pixels.shape[1] / width) > 2
    how = cv2.INTER_AREA if skips else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), dst=out, interpolation=how)


def _decode_slowly(data: bytes, height: int, width: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (width, height))
        small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(small)


def collate(files: Sequence[bytes], height: int, width: int) -> np.ndarray:
    """Pictures as one array.

    Args:
        files: Picture files.
        height: Wanted height in pixels.
        width: Wanted width.

    Returns:
        uint8 `(pictures, height, width, 3)`.
    """
    batch = np.empty((len(files), height, width, 3), np.uint8)
    for place, data in enumerate(files):
        decode(data, height, width, batch[place])
    return batch


def stream_batches(
    folder: Path, split: str, size: tuple[int, int], batch: int, node: int = 0, nodes: int = 1
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Streams a built data set in batches; each node reads its own share of the frames.

    Args:
        folder: A built data set, or its name on the Hub.
        split: One of its splits.
        size: `(height, width)` in pixels.
        batch: Frames in a batch; the last one may be smaller.
        node: Number of this node.
        nodes: How many share the split.

    Yields:
        uint8 `(frames, height, width, 3)`, and the frames' rows without their pictures.
    """
    from datasets import Image as Picture
    from datasets import load_dataset
    from datasets.distributed import split_dataset_by_node

    frames = load_dataset(str(folder), split=split, streaming=True)
    raw = frames.cast_column("image", Picture(decode=False)).cast_column("drivable", Picture(decode=False))
    for rows in split_dataset_by_node(raw, node, nodes).batch(batch):
        files = [picture["bytes"] for picture in rows.pop("image")]
        yield (
            collate(files, *size),
            [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)],
        )
