"""Compare what the encoder knows of training frames with what it knows of frames that it has not learnt from.

Examples:
  python scripts/gap.py --checkpoint runs/small/last --packed data/bdd100k_questions/packed-288x160-v2
  python scripts/gap.py --checkpoint checkpoints/traffic-vlm --packed FOLDER --frames 400

FOLDER is what training packed (`scripts/train.py --pack-only`), at the size of the checkpoint's frames.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from traffic_vlm.processing.extras import needs
from traffic_vlm.processing.loading import check_checkpoint, first_line

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Parses the command line and prints the table; 2 for anything that the user can mend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "traffic-vlm")
    parser.add_argument("--packed", type=Path, required=True, help="packed folder with the two splits")
    parser.add_argument("--splits", nargs=2, default=["train", "tune"], metavar="SPLIT")
    parser.add_argument("--frames", type=int, default=400, help="frames of each split")
    arguments = parser.parse_args()
    try:
        # First of all: where everything is in the folder, transformers is to look nothing up elsewhere.
        check_checkpoint(str(arguments.checkpoint))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with needs("train"):
        import torch
        from safetensors import SafetensorError
        from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
        from traffic_vlm.training.gap import patch_scores
        from traffic_vlm.training.packing import open_packed
    try:
        splits = [open_packed(arguments.packed, split) for split in arguments.splits]
        # Rounded to bfloat16, many scores would be the same.
        model = TrafficVLMForConditionalGeneration.from_pretrained(arguments.checkpoint, dtype=torch.float32)
        model.eval()
        columns = [patch_scores(model, split, arguments.frames, show_progress=True) for split in splits]
    except (ValueError, OSError, SafetensorError) as error:
        print(f"error: {arguments.checkpoint}, {arguments.packed}: {first_line(error)}", file=sys.stderr)
        return 2
    first, second = arguments.splits
    print(f"| label | frames, {first} | frames, {second} | patches, {first} | patches, {second} |")
    print("|---|---|---|---|---|")
    for label in columns[0]:
        (frame_a, patch_a), (frame_b, patch_b) = (column[label] for column in columns)
        print(f"| {label} | {frame_a:.2f} | {frame_b:.2f} | {patch_a:.2f} | {patch_b:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
