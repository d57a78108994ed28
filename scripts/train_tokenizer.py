"""Train the tokenizer on the questions and answers of a built data set.

Example:
    python scripts/train_tokenizer.py --dataset data/bdd100k_questions --output runs/tokenizer
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from traffic_vlm.processing.extras import needs
from traffic_vlm.processing.tokenization_traffic_vlm import train_tokenizer

with needs("data"):
    import pyarrow as pa
    import pyarrow.parquet as pq


def read_texts(dataset: Path, split: str) -> Iterator[str]:
    """Yield every question and every answer of one split, reading no picture.

    Args:
        dataset: A data set folder as `scripts/build_dataset.py` writes it.
        split: The split's name.

    Raises:
        ValueError: If the folder holds no Parquet file of the split, or one of them cannot be read.
    """
    paths = sorted((dataset / "data").glob(f"{split}-*.parquet"))
    if not paths:
        raise ValueError(
            f"{dataset / 'data'}: no {split}-*.parquet in it; build one with scripts/build_dataset.py."
        )
    for path in paths:
        try:
            rows = pq.read_table(path, columns=["questions"])["questions"].to_pylist()
        except (pa.ArrowInvalid, KeyError) as error:
            raise ValueError(f"{path}: no questions could be read ({error}).") from error
        for questions in rows:
            for row in questions or ():
                yield row["question"]
                yield row["answer"]


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, train, save, print what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder with data/SPLIT-*.parquet")
    parser.add_argument("--output", type=Path, required=True, help="folder to write the tokenizer into")
    parser.add_argument("--split", default="train", help="split to learn from (default: train)")
    parser.add_argument(
        "--vocab-size", type=int, default=2048, help="most entries it may have (default: 2048)"
    )
    arguments = parser.parse_args(argv)
    try:
        texts = list(read_texts(arguments.dataset, arguments.split))
        tokenizer = train_tokenizer(texts, arguments.vocab_size)
        tokenizer.save_pretrained(arguments.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    distinct = sorted(set(texts))
    lengths = [len(tokenizer(text)["input_ids"]) for text in distinct]
    print(
        f"{len(texts)} texts ({len(distinct)} distinct), {len(tokenizer)} tokens, "
        f"mean length {sum(lengths) / len(lengths):.1f}, longest {max(lengths)} -> {arguments.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
