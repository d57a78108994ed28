"""Starts a TrafficVLM from a SigLIP encoder and a Gemma decoder, and saves it as a checkpoint to train on.

Example:
    python scripts/convert_siglip_gemma.py --vision google/siglip-base-patch16-224 --text google/gemma-2b \\
        --image-size 224 400 --output checkpoints/siglip-gemma
"""

import argparse
import sys
from pathlib import Path

from traffic_vlm.modeling import TrafficVLMForConditionalGeneration


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line, converts, and says what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vision", required=True, help="SigLIP checkpoint: a name on the Hub or a folder")
    parser.add_argument("--text", required=True, help="Gemma (first generation) checkpoint, likewise")
    parser.add_argument(
        "--image-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="pixels, of new frames"
    )
    parser.add_argument("--fusion", default="cross_attention", help="cross_attention, prefix or both")
    parser.add_argument("--image-token-id", type=int, default=3, help="id of <image>, for prefix and both")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new checkpoint")
    options = parser.parse_args(arguments)
    try:
        model = TrafficVLMForConditionalGeneration.from_siglip_gemma(
            options.vision,
            options.text,
            image_size=options.image_size,
            fusion=options.fusion,
            image_token_id=options.image_token_id,
        )
        options.output.mkdir(parents=True, exist_ok=True)  # save_pretrained only logs that it is a file
        model.save_pretrained(options.output)
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    height, width = model.config.vision_config.image_size
    millions = model.num_parameters() / 1e6
    print(f"{options.output}: {millions:.1f}M parameters, images of {height} x {width} pixels")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
