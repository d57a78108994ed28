"""The data set as a loading script: questions from a BDD100K release folder, made while loading.

On current `datasets`, where scripts no longer load by path, use the class:

    from traffic_vlm.processing.bdd100k.bdd100k_questions import BDD100KQuestions
    builder = BDD100KQuestions(data_dir="/data/bdd100k")
    builder.download_and_prepare()
    frames = builder.as_dataset(split="val")           # or builder.as_streaming_dataset(split="val")

On `datasets` 3 also by path:

    load_dataset("processing/bdd100k/bdd100k_questions.py", data_dir="/data/bdd100k", trust_remote_code=True)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from traffic_vlm.processing.bdd100k.dataset import FEATURES, Tally, filters_of, frame_row, output_splits
from traffic_vlm.processing.bdd100k.labels import BadLabels, Problems
from traffic_vlm.processing.bdd100k.release import find_labels, records

TARGETS = {"train": "train", "tune": "train", "val": "val", "paraphrase": "val"}
"""Output split -> split of the release that it is made from."""


@dataclass
class QuestionsConfig(datasets.BuilderConfig):
    """What to make.

    Attributes:
        seed: Fixes every phrasing.
        preset: Name of a filter in `dataset.PRESETS`, for example "clear-daytime".
    """

    seed: int = 0
    preset: str | None = None


class BDD100KQuestions(datasets.GeneratorBasedBuilder):
    """Frames of a release folder (`data_dir`) with their questions; the same rows as `build.build` writes."""

    BUILDER_CONFIG_CLASS = QuestionsConfig
    BUILDER_CONFIGS = (QuestionsConfig(name="default", version=datasets.Version("1.0.0")),)
    DEFAULT_CONFIG_NAME = "default"
    DEFAULT_WRITER_BATCH_SIZE = 100

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Questions about dashcam frames whose answers follow from labels by rules.",
            features=FEATURES,
            license="BDD100K: educational, research and not-for-profit purposes",
        )

    def _split_generators(self, _dl_manager: Any) -> list[datasets.SplitGenerator]:
        if not self.config.data_dir:
            raise ValueError(
                "data_dir is missing: give the folder of a BDD100K release, with images/ and labels/"
            )
        root = Path(self.config.data_dir)
        present = [target for target, split in TARGETS.items() if _has_labels(root, split)]
        if not present:
            raise BadLabels(f"no labels for train or val in {root}")
        return [
            datasets.SplitGenerator(name=target, gen_kwargs={"root": str(root), "target": target})
            for target in present
        ]

    def _generate_examples(self, root: str, target: str) -> Iterator[tuple[str, dict[str, Any]]]:
        filters, tally = filters_of(self.config.preset), Tally()
        split = TARGETS[target]
        for record in records(Path(root), split, Problems()):
            if target in output_splits(record.name, split):
                row = frame_row(record, target, self.config.seed, "bdd100k", filters, tally)
                if row is not None:
                    yield row["image_id"], row


def _has_labels(root: Path, split: str) -> bool:
    try:
        return find_labels(root, split).exists()
    except BadLabels:
        return False
