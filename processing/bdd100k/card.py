"""The data set card: YAML front matter that `datasets` and the Hub read, and a page for people."""

from pathlib import Path
from typing import Any

from datasets import DatasetInfo, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from .dataset import FEATURES

LICENCES = {
    "bdd100k": (
        "Pictures and labels are BDD100K's, copyright of the Regents of the University of California, for"
        " educational, research and not-for-profit purposes; see the licence that comes with the release."
    ),
    "synthetic": "The scenes are drawn by a program; they may be used under Apache-2.0.",
    "own": "Pictures and labels are your own: say here under which terms others may use them.",
}


def card(folder: Path, report: dict[str, Any], proof: dict[str, Any]) -> str:
    """The text of README.md.

    Args:
        folder: The data set folder with its shards in `data`.
        report: The build's report.
        proof: The build's statistics.
    """
    return f"---\n{_front_matter(folder, report)}\n---\n\n{_page(report, proof)}"


def _front_matter(folder: Path, report: dict[str, Any]) -> str:
    source = report["options"]["source"]
    frames = report["frames"]
    real = source == "bdd100k"
    data = DatasetCardData(
        language=["en"],
        license="apache-2.0" if source == "synthetic" else "other",
        license_name="bdd100k" if real else None,
        license_link="https://doc.bdd100k.com/license.html" if real else None,
        pretty_name="Traffic questions",
        task_categories=["visual-question-answering", "image-text-to-text"],
        tags=["autonomous-driving", "dashcam", "bdd100k"],
        size_categories=[_size_category(sum(frames.values()))],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in frames],
            }
        ],
    )
    splits = SplitDict()
    for split, number in frames.items():
        size = sum(path.stat().st_size for path in (folder / "data").glob(f"{split}-*.parquet"))
        splits.add(SplitInfo(name=split, num_bytes=size, num_examples=number))
    total = sum(path.stat().st_size for path in (folder / "data").glob("*.parquet"))
    info = DatasetInfo(features=FEATURES, splits=splits, download_size=total, dataset_size=total)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return data.to_yaml()


def _size_category(frames: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((name for bound, name in bounds if frames < bound), "100K<n<1M")


def _page(report: dict[str, Any], proof: dict[str, Any]) -> str:
    rows = "".join(
        f"| {split} | {number} | {report['questions'].get(split, 0)} |\n"
        for split, number in report["frames"].items()
    )
    blind = proof["blind"]
    table = "".join(
        f"| {name} | {row['rows']} | {row['prior']:.3f} | {row['question']:.3f} | {row['attributes']:.3f} |"
        f" {_verdict(row)} |\n"
        for name, row in {**blind["tables"]["families"], **blind["tables"]["groups"]}.items()
    )
    leaking, surely = (", ".join(proof[name]) or "none" for name in ("leaking", "leaking_beyond_chance"))
    return f"""# Traffic questions

Questions about dashcam frames whose answers follow from labels by rules. One row is one frame with its
picture and all its questions; every answer names its rule and the boxes it rests on. What the labels do not
decide is not asked.

```python
from datasets import load_dataset
frames = load_dataset("path/to/this/folder", split="val", streaming=True)
```

| split | frames | questions |
|---|---|---|
{rows}
`tune` is a fixed part of the release's training frames, kept out of `train`. `paraphrase` asks about the
validation frames in words that no other split uses.

## Licence

{LICENCES[report["options"]["source"]]}

## Can the answers be guessed?

Small classifiers on balanced rows, fitted on {blind["fitted_on"]} and tested on {blind["tested_on"]}: the
commonest answer, the words of the question alone, and the frame's weather, time of day and place alone.
(Questions about weather, time of day and place are answered by those attributes, being questions about
them.)

Leaking, that is answered by the question alone more than three points above the commonest answer:
{leaking}.

Leaking beyond chance, that is also more than three standard errors above it: {surely}.

| family or group | rows | commonest | question | attributes | leaks |
|---|---|---|---|---|---|
{table}
"""


def _verdict(row: dict[str, Any]) -> str:
    if not row["leaking"]:
        return "no"
    return "yes" if row["beyond_chance"] else "perhaps, within chance"
