"""Frames that are read as they come instead of packed: for data sets larger than the disk (`data.streaming`).

Labels and questions are small and are kept in the run's folder, so that balancing, the tokenizer and the
length of an epoch are those of the whole data set. Frames come from `datasets` in streaming mode, each node
reading its own share of them, shuffled through a buffer. Order depends on seed, epoch and number of processes
alone, so that a run that was killed skips what it has seen and goes on exactly.
"""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import IterableDataset
from tqdm import tqdm
from traffic_vlm.processing.image_processing_traffic_vlm import to_rgb

from .collator import Batch, Collator
from .packing import DataError, JsonLines, fingerprint, plain_row

BUFFER = 1000
"""Frames that the shuffle holds, still compressed."""


class StreamedSplit:
    """Rows of a split whose frames are there only while a batch is made of them.

    Attributes:
        rows: As in `packing.PackedSplit`.
        frames: Frame `(height, width, 3)` uint8 by row number.
    """

    def __init__(self, folder: Path) -> None:
        self.rows = JsonLines(folder / "train" / "rows.jsonl")
        self.frames: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.rows)


def open_stream(dataset: str, split: str = "train") -> Any:
    """A split as `datasets` streams it, pictures still compressed."""
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    return load_dataset(dataset, split=split, streaming=True).cast_column("image", ImageFeature(decode=False))


def keep_rows(dataset: str, folder: Path) -> None:
    """Writes the rows of the training split without their frames; nothing is there until all is.

    Raises:
        DataError: If the rows that are there already are of another data set.
    """
    final, part = folder / "train", folder / "train.part"
    source, told = fingerprint(dataset, "train") or dataset, final / "source.txt"
    if (final / "rows.jsonl").is_file():
        if told.is_file() and told.read_text(encoding="utf-8") != source:
            raise DataError(
                f"{final}: holds the rows of other data than {dataset}. Delete it or name another place in "
                "data.packed, and start the same command again."
            )
        return
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with (part / "rows.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
        for row in tqdm(open_stream(dataset).remove_columns("image"), desc="reading rows", unit="frame"):
            lines.write(json.dumps({**plain_row(row), "copy": 0}, ensure_ascii=False) + "\n")
    (part / "source.txt").write_text(source, encoding="utf-8")
    part.rename(final)


class StreamedSteps(IterableDataset):
    """Micro-batches of this process for every step from one on; like `trainer.StepStream`, from a stream.

    Args:
        dataset: What `datasets.load_dataset` takes.
        collator: Made for a `StreamedSplit`.
        image_size: `(height, width)` that frames are brought to.
        start: First step.
        rank: This process's number.
        world: How many processes there are.
        batch_size: Frames a step over all processes.
        micro: Frames a micro-batch.
    """

    def __init__(
        self,
        dataset: str,
        collator: Collator,
        image_size: tuple[int, int],
        start: int,
        rank: int,
        world: int,
        batch_size: int,
        micro: int,
    ) -> None:
        self.dataset, self.collator, self.image_size = dataset, collator, image_size
        self.start, self.rank, self.world = start, rank, world
        self.own, self.micro = batch_size // world, micro

    def samples(self) -> Iterator[dict[str, Any]]:
        """Rows of this node's share, epoch after epoch, without end."""
        from datasets.distributed import split_dataset_by_node

        share = split_dataset_by_node(open_stream(self.dataset), rank=self.rank, world_size=self.world)
        shuffled = share.select_columns(["image_id", "image"]).shuffle(self.collator.seed, buffer_size=BUFFER)
        for epoch in count():
            shuffled.set_epoch(epoch)
            yield from shuffled

    def __iter__(self) -> Iterator[list[Batch]]:
        split = self.collator.split
        number_of = {row["image_id"]: number for number, row in enumerate(split.rows)}
        samples = islice(self.samples(), self.start * self.own, None)
        height, width = self.image_size
        for step in count(self.start):
            split.frames.clear()
            mine = []  # a frame that ends an epoch and begins the next is in it twice
            for sample in islice(samples, self.own):
                # Upright, as packing and inference have it: the labels' boxes are of the upright picture.
                picture = to_rgb(Image.open(io.BytesIO(sample["image"]["bytes"])))
                small = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
                mine.append(number_of[sample["image_id"]])
                split.frames[mine[-1]] = np.asarray(small)
            parts = np.array_split(mine, math.ceil(len(mine) / self.micro))
            yield [self.collator(step, part) for part in parts]
