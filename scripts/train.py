"""Train a TrafficVLM.

Examples:
  accelerate launch scripts/train.py --config configs/train/first_light.yaml
  data.dataset=data/bdd100k_questions python scripts/train.py --config configs/train/tiny.yaml optim.epochs=2
  run.output=runs/try python scripts/train.py --config configs/train/small.yaml --print-config

A run that was interrupted goes on when the same command is started again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from traffic_vlm.training.packing import DataError
from traffic_vlm.training.recipe import RecipeError, dump_recipe, load_recipe


def main() -> int:
    """Parses the command line and trains; 2 for anything that the user can mend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, default=Path("configs/train/first_light.yaml"), help="recipe (YAML)"
    )
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe and stop")
    parser.add_argument("--pack-only", action="store_true", help="pack the recipe's data set and stop")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe")
    arguments = parser.parse_intermixed_args()
    try:
        recipe = load_recipe(arguments.config, arguments.overrides)
        if arguments.print_config:
            print(dump_recipe(recipe), end="")
            return 0
        # Late, so that --help and a misspelt key do not wait for torch.
        from traffic_vlm.training.checkpoints import StateError
        from traffic_vlm.training.trainer import Trainer, TrainingError, pack_recipe

        try:
            print(pack_recipe(recipe) if arguments.pack_only else Trainer(recipe).train())
        except (StateError, TrainingError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    except (RecipeError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
