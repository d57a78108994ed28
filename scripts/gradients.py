"""Show which part of the loss moves which part of the network at the start of a recipe.

Examples:
  python scripts/gradients.py --config configs/train/small.yaml
  python scripts/gradients.py --config configs/train/small.yaml --batches 8 loss.patch_weight=5

A loss with a far longer gradient than the others decides what that component learns; its weight is in the
recipe.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from traffic_vlm.processing.extras import needs
from traffic_vlm.processing.loading import first_line


def main() -> int:
    """Parses the command line and prints the table; 2 for anything that the user can mend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="recipe")
    parser.add_argument("--batches", type=int, default=4, help="batches that are looked at (default 4)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe")
    arguments = parser.parse_intermixed_args()
    if arguments.batches < 1:
        parser.error("--batches must be at least 1.")
    with needs("train"):
        from traffic_vlm.training.gradients import gradient_norms
        from traffic_vlm.training.packing import DataError
        from traffic_vlm.training.recipe import RecipeError, load_recipe
        from traffic_vlm.training.trainer import Trainer
    try:
        with tempfile.TemporaryDirectory() as folder:
            output = f"run.output={Path(folder).as_posix()}"
            recipe = load_recipe(arguments.config, [*arguments.overrides, output])
            found = gradient_norms(Trainer(recipe), arguments.batches)
    except (RecipeError, DataError, OSError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    parts = list(next(iter(found.values())))
    print(f"| gradient of | {' | '.join(parts)} |")
    print("|---|" + "---|" * len(parts))
    for component, norms in found.items():
        print(f"| {component} | {' | '.join(f'{norms[part]:.2f}' for part in parts)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
