"""Frames out of whatever holds them: a picture, a folder of pictures, a data set in Parquet, a video.

Frames stream: no more than a few are in memory, and those that are not wanted are skipped before their
pixels are decoded. A frame that cannot be read comes with the reason instead of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from .image_processing_traffic_vlm import open_image

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".ts")


class Frame(NamedTuple):
    """One frame: its number in the source, its name, and the picture or why there is none."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a frame
    name: str
    image: Image.Image | None
    problem: str | None = None


def read_frames(
    source: str | Path, wanted: Callable[[int], bool] = lambda index: True, split: str | None = None
) -> Iterator[Frame]:
    """Read the frames of a source, in an order that is always the same.

    Args:
        source: A picture, a folder of pictures (and of folders of them), a folder with Parquet files (column
            `image`, and `image_id` if there is one), a Parquet file, or a video.
        wanted: Whether the frame of a number is needed; the others are skipped cheaply.
        split: Of a data set, only files that are called `split-...`; without one, all but `paraphrase-...`.

    Yields:
        The wanted frames.

    Raises:
        FileNotFoundError: There is no such source, or no frame in it.
        ValueError: The source is of no known kind, or is a broken video.
        ImportError: A video, and PyAV is not installed.
    """
    path = Path(source)
    files = files_of(path, split)
    if files[0].suffix.lower() == ".parquet":
        return _from_parquet(files, wanted)
    if files[0].suffix.lower() in VIDEOS:
        return _from_video(files[0], wanted)
    return _from_pictures(path if path.is_dir() else path.parent, files, wanted)


def files_of(source: str | Path, split: str | None = None) -> list[Path]:
    """The files that hold the frames of a source, in their order; arguments, errors: as `read_frames`."""
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder.")
    if path.is_dir():
        tables = sorted(path.rglob(f"{split}-*.parquet" if split else "*.parquet"))
        if not split:  # a data set has its validation frames once more, asked in other words
            tables = [table for table in tables if not table.name.startswith("paraphrase-")]
        if tables:
            return tables
        if split:
            raise FileNotFoundError(f"{path}: no data set with a split {split!r} in it.")
        pictures = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
        if not pictures:
            raise FileNotFoundError(f"{path}: no pictures and no Parquet files in it.")
        return pictures
    if path.suffix.lower() in (".parquet", *VIDEOS, *PICTURES):
        return [path]
    raise ValueError(f"{path}: neither a picture ({', '.join(PICTURES)}) nor a video ({', '.join(VIDEOS)}).")


def _from_pictures(root: Path, pictures: list[Path], wanted: Callable[[int], bool]) -> Iterator[Frame]:
    for index, path in enumerate(pictures):
        if wanted(index):
            yield _decoded(index, path.relative_to(root).as_posix(), path)


def _decoded(index: int, name: str, source: Path | bytes) -> Frame:
    """Open a picture, or say why not."""
    try:
        return Frame(index, name, open_image(source))
    except (OSError, ValueError) as error:
        return Frame(index, name, None, (str(error).splitlines() or ["unreadable"])[0])


def _from_parquet(tables: list[Path], wanted: Callable[[int], bool]) -> Iterator[Frame]:
    import pyarrow.parquet as pq

    index = 0
    for table in tables:
        with pq.ParquetFile(table) as file:
            names = set(file.schema_arrow.names)
            if "image" not in names:
                raise ValueError(f"{table}: there is no column 'image' in it.")
            columns = [name for name in ("image", "image_id") if name in names]
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if any(wanted(number) for number in range(index, index + rows)):
                    yield from _from_rows(file, group, columns, index, wanted)
                index += rows


def _from_rows(
    file: Any, group: int, columns: list[str], index: int, wanted: Callable[[int], bool]
) -> Iterator[Frame]:
    for batch in file.iter_batches(batch_size=16, row_groups=[group], columns=columns):
        for row in batch.to_pylist():
            if wanted(index):
                cell = row["image"] or {}
                content = cell.get("bytes") if isinstance(cell, dict) else cell
                yield _decoded(index, str(row.get("image_id") or f"{index:06d}"), content or b"")
            index += 1


def upright(frame: Any) -> Image.Image:
    """The picture of a decoded video frame as players show it: cameras mounted otherwise say by how much."""
    turn = getattr(frame, "rotation", 0)  # degrees against the clock; older PyAV does not tell
    return frame.to_image().rotate(turn, expand=True) if turn else frame.to_image()


def _from_video(path: Path, wanted: Callable[[int], bool]) -> Iterator[Frame]:
    """Decode a video from its beginning; frames are called after their time in seconds."""
    try:
        import av
    except ImportError as error:
        raise ImportError(f"{path}: reading videos needs pip install 'traffic-vlm[video]'.") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: there is no picture track in it.")
            for index, frame in enumerate(container.decode(video=0)):
                if wanted(index):
                    yield Frame(index, f"{path.name}@{frame.time or 0:.3f}s", upright(frame))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: the video cannot be read ({error.strerror}).") from error
