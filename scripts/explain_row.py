"""Draws one row of a built data set: the frame, the boxes and regions, and the rule in words.

Example:
  python scripts/explain_row.py --dataset data/bdd100k_questions --split val --image-id NAME \\
      --family move_forward --output row.png
"""

import argparse
import sys
from pathlib import Path

from traffic_vlm.processing.extras import needs

with needs("data"):
    from traffic_vlm.processing.bdd100k.explain import caption, explain, find


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, metavar="D", help="folder of a built data set")
    parser.add_argument("--split", default="val")
    parser.add_argument("--image-id", help="the frame; the first one if not given")
    parser.add_argument("--family", default="move_forward", help="which of the frame's questions")
    parser.add_argument("--output", type=Path, required=True, metavar="PNG")
    args = parser.parse_args(arguments)
    try:
        frame, question = find(args.dataset, args.split, args.image_id, args.family)
        explain(frame, question).save(args.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(caption(frame, question)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
