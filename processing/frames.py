"""Frames out of whatever holds them: a picture, a video, a folder of both, a data set in Parquet.

Frames stream: no more than a few are in memory, and those that are not wanted are skipped before their
pixels are decoded. A frame that cannot be read comes with the reason instead of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from .image_processing_traffic_vlm import open_image

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".ts")
Part = tuple[str, Callable[[], Image.Image]]  # the name of a frame, and what decodes it or raises why not


class Frame(NamedTuple):
    """One frame: its number in the source, its name, and the picture or why there is none."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a frame
    name: str
    image: Image.Image | None
    problem: str | None = None


def read_frames(
    source: str | Path,
    wanted: Callable[[int], bool] = lambda index: True,
    split: str | None = None,
    until: int | None = None,
) -> Iterator[Frame]:
    """Read the frames of a source, in an order that is always the same.

    Args:
        source: A picture, a video, a Parquet file (column `image`, and `image_id` if there is one), or a
            folder, with all that its folders hold. A folder with Parquet files is read for these alone; of
            another, pictures and videos are taken in the order of their names, and numbers go on from file to
            file.
        wanted: Whether the frame of a number is needed; the others are skipped cheaply.
        split: Of a data set, only files that are called `split-...`; without one, all but `paraphrase-...`.
        until: Stop before the frame of this number: what lies behind it is not even looked at.

    Yields:
        The wanted frames.

    Raises:
        FileNotFoundError: There is no such source, or no frame in it.
        ValueError: The source is of no known kind, or is a video that cannot be opened. In a folder, such a
            video is one frame that cannot be read.
        ImportError: A video, and PyAV is not installed.
    """
    path = Path(source)
    files = files_of(path, split)
    if files[0].suffix.lower() == ".parquet":
        # Rows that are not wanted cost nothing, so there is nothing to stop.
        return _from_parquet(files, lambda index: (until is None or index < until) and wanted(index))
    return _from_files(path, files, wanted, until)


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
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in (*PICTURES, *VIDEOS))
        if not files:
            raise FileNotFoundError(f"{path}: no pictures, no videos and no Parquet files in it.")
        return files
    if split:
        raise FileNotFoundError(f"{path}: no data set with a split {split!r} in it.")
    if path.suffix.lower() in (".parquet", *VIDEOS, *PICTURES):
        return [path]
    raise ValueError(f"{path}: neither a picture ({', '.join(PICTURES)}) nor a video ({', '.join(VIDEOS)}).")


def _from_files(
    source: Path, files: list[Path], wanted: Callable[[int], bool], until: int | None
) -> Iterator[Frame]:
    parts = chain.from_iterable(_parts_of(file, source) for file in files)
    for index, (name, decode) in enumerate(islice(parts, until)):
        if wanted(index):
            yield _decoded(index, name, decode)


def _parts_of(file: Path, source: Path) -> Iterator[Part]:
    """The frame of a picture, the frames of a video; a folder goes on after a video that does not open."""
    name = file.relative_to(source).as_posix() if source.is_dir() else file.name
    if file.suffix.lower() not in VIDEOS:
        yield name, partial(open_image, file)
        return
    try:
        yield from _video_parts(file, name)
    except (ValueError, ImportError) as error:
        if file == source:
            raise
        yield name, _refusing(str(error))


def _decoded(index: int, name: str, decode: Callable[[], Image.Image]) -> Frame:
    """Decode a picture, or say why not."""
    try:
        return Frame(index, name, decode())
    except (OSError, ValueError) as error:
        return Frame(index, name, None, (str(error).splitlines() or ["unreadable"])[0])


def _refusing(reason: str) -> Callable[[], Image.Image]:
    """What decodes a frame of which it is known that it cannot be read."""

    def refuse() -> Image.Image:
        raise ValueError(reason)

    return refuse


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
                name = str(row.get("image_id") or f"{index:06d}")
                yield _decoded(index, name, partial(open_image, content or b""))
            index += 1


def upright(frame: Any) -> Image.Image:
    """The picture of a decoded video frame as players show it: cameras mounted otherwise say by how much."""
    turn = getattr(frame, "rotation", 0)  # degrees against the clock; older PyAV does not tell
    return frame.to_image().rotate(turn, expand=True) if turn else frame.to_image()


def _video_parts(path: Path, name: str) -> Iterator[Part]:
    """Decode a video from its beginning; frames are called after their time in seconds.

    Raises:
        ValueError: If it does not open.
        ImportError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError(f"{path}: reading videos needs pip install 'traffic-vlm[video]'.") from error
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: the video cannot be read ({error.strerror}).") from error
    with container:
        if not container.streams.video:
            raise ValueError(f"{path}: there is no picture track in it.")
        try:
            yield from _packet_parts(container.demux(video=0), path, name)
        except av.error.FFmpegError as error:
            yield name, _refusing(f"{path}: the rest of the video cannot be read ({error.strerror}).")


def _packet_parts(packets: Iterable[Any], path: Path, name: str) -> Iterator[Part]:
    """The frames of packets; one that is damaged counts as a frame, and the next one is tried.

    The last packet of a file is empty: it brings the frames that the decoder still holds.
    """
    import av

    for packet in packets:
        try:
            for frame in packet.decode():
                yield f"{name}@{frame.time or 0:.3f}s", partial(upright, frame)
        except av.error.InvalidDataError as error:
            time = float(packet.pts * packet.time_base) if packet.pts is not None else 0
            reason = f"{path}: the video is damaged at {time:.3f} s ({error.strerror})."
            yield f"{name}@{time:.3f}s", _refusing(reason)
