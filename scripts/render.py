"""Render synthetic street scenes with perfect labels, in the layout of the BDD100K release.

Examples:
  a data set (images, det_20 labels, drivable masks):
    python scripts/render.py --num 1000 --output data/synthetic
    python scripts/render.py --num 1000 --output data/synthetic --seed 5000 --workers 2
  one picture of many scenes:
    python scripts/render.py --contact-sheet docs/images/synthetic_contact_sheet.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from traffic_vlm.processing.extras import needs

with needs("render"):
    from traffic_vlm.processing.synthetic import render_dataset
    from traffic_vlm.processing.synthetic.contact_sheet import write_contact_sheet


def main() -> int:
    """Parse the command line, render, print what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num", type=int, help="how many frames to render")
    parser.add_argument("--output", type=Path, help="folder to write the data set to")
    parser.add_argument("--seed", type=int, default=0, help="first scene's number (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes that render (default: 2)")
    parser.add_argument(
        "--width", type=int, default=512, help="pictures' width; they are 16:9 (default: 512)"
    )
    parser.add_argument(
        "--contact-sheet", type=Path, metavar="PNG", help="write one picture of many scenes instead"
    )
    args = parser.parse_args()
    if args.contact_sheet is None and (args.num is None or args.output is None):
        parser.error("give --num and --output, or --contact-sheet")
    try:
        if args.contact_sheet is not None:
            write_contact_sheet(args.contact_sheet, args.seed)
            print(f"wrote {args.contact_sheet}")
        else:
            size = (args.width, args.width * 9 // 16)
            counts = render_dataset(args.output, args.num, args.seed, workers=args.workers, size=size)
            print(f"wrote {', '.join(f'{n} {split}' for split, n in counts.items())} frames to {args.output}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
