"""Build a question data set from your own frames with COCO or YOLO boxes.

Boxes know no weather, no lanes and no colour of a light, so these are not asked; nor is anything that rests
on a category which the labels do not mark. --absent names categories that never occur in your frames.

Examples:
  python scripts/build_own_dataset.py --coco annotations.json --images frames --output data/own
  python scripts/build_own_dataset.py --yolo my_yolo_folder --output data/own --rename van=car --absent train
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from traffic_vlm.processing.extras import needs

with needs("data"):
    from traffic_vlm.processing.own_labels import OwnLabels, build_own, read_coco, read_yolo


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--coco", type=Path, metavar="FILE", help="COCO annotations (JSON)")
    source.add_argument("--yolo", type=Path, metavar="DIR", help="folder with images/, labels/ and data.yaml")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="the frames of --coco (default: beside it)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="new folder for the data set"
    )
    parser.add_argument(
        "--rename", nargs="+", default=[], metavar="NAME=CATEGORY", help="what a label is called here"
    )
    parser.add_argument(
        "--absent", nargs="+", default=[], metavar="CATEGORY", help="categories that no frame shows"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes the phrasings (default: 0)")
    return parser.parse_args(arguments)


def read(args: argparse.Namespace) -> OwnLabels:
    """Reads whichever labels were given."""
    wrong = [entry for entry in args.rename if entry.count("=") != 1]
    if wrong:
        raise ValueError(f"--rename {wrong[0]}: write it NAME=CATEGORY, for example van=car")
    rename = dict(entry.split("=") for entry in args.rename)
    if args.coco:
        return read_coco(args.coco, args.images or args.coco.parent, rename, args.absent)
    return read_yolo(args.yolo, rename, args.absent)


def main(arguments: list[str] | None = None) -> int:
    """Reads, builds, and says what came out and what was left out."""
    args = parse(arguments)
    try:
        labels = read(args)
        report = build_own(labels, args.output, args.seed)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for kind, number in report["problems"].items():
        print(f"{kind}: {number}")
    for name, number in labels.unused.most_common():
        print(f"not used: {name} ({number} boxes); --rename {name}=CATEGORY gives it a meaning")
    print(f"marked wherever seen: {', '.join(sorted(labels.labelled)) or 'nothing'}")
    for split, number in report["frames"].items():
        print(f"{split}: {number} frames, {report['questions'].get(split, 0)} questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
