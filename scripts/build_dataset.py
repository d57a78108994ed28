"""Builds the question data set from a BDD100K release folder, or from synthetic scenes.

python scripts/build_dataset.py --bdd100k-root R --output D [--splits train val]
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm
from traffic_vlm.processing.bdd100k.dataset import BuildOptions, build


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, builds, prints the report; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bdd100k-root", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the data set")
    parser.add_argument("--splits", nargs="+", default=["train", "val"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args(arguments)
    options = BuildOptions(seed=args.seed, splits=tuple(args.splits))
    try:
        with tqdm(unit=" frames", desc="building", disable=None) as bar:
            report = build(args.bdd100k_root, args.output, options, args.workers, bar.update)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for kind, number in report["problems"].items():
        print(f"{kind}: {number}")
    for split, number in report["frames"].items():
        print(f"{split}: {number} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
