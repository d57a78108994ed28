"""Train a TrafficVLM.

Examples:
  accelerate launch scripts/train.py --config configs/train/small.yaml
  python scripts/train.py --config configs/train/tiny.yaml optim.epochs=2
  python scripts/train.py --config configs/train/small.yaml run.output=runs/try --print-config
  python scripts/train.py --config configs/train/base.yaml --estimate
  python scripts/train.py --config configs/train/small.yaml run.push_to_hub=me/traffic-vlm --dry-run

A run that was interrupted goes on when the same command is started again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from traffic_vlm.processing.extras import needs

with needs("train"):
    from traffic_vlm.training.packing import DataError
    from traffic_vlm.training.recipe import Recipe, RecipeError, dump_recipe, load_recipe


def describe_cost(recipe: Recipe) -> str:
    """Parameters, operations, memory and hours of a recipe, in words."""
    from traffic_vlm.training.estimate import describe
    from traffic_vlm.training.setup import packed_frames, read_model_config

    return describe(read_model_config(recipe), recipe, packed_frames(recipe))


def describe_upload(recipe: Recipe) -> str:
    """What would be uploaded of the run's best checkpoint; asks the Hub and changes nothing."""
    from huggingface_hub import HfApi
    from traffic_vlm.training.publishing import describe_plan, model_publication

    if not recipe.run.push_to_hub:
        raise RecipeError("run.push_to_hub is empty: name the repository, owner/name.")
    best = Path(recipe.run.output) / "best"
    try:
        publication = model_publication(recipe.run.push_to_hub, best, best / "README.md")
    except FileNotFoundError as error:
        raise RecipeError(f"{error} The run has not written a best checkpoint yet.") from error
    return describe_plan(HfApi(endpoint=os.environ.get("HF_ENDPOINT")), publication, public=False, tag=None)


def main() -> int:
    """Parses the command line and trains; 2 for anything that the user can mend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("configs/train/small.yaml"), help="recipe (YAML)")
    parser.add_argument("--print-config", action="store_true", help="print the resolved recipe and stop")
    parser.add_argument("--pack-only", action="store_true", help="pack the recipe's data set and stop")
    parser.add_argument("--estimate", action="store_true", help="print parameters, memory, hours and stop")
    parser.add_argument(
        "--dry-run", action="store_true", help="list what run.push_to_hub would upload of the best and stop"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes to the recipe")
    arguments = parser.parse_intermixed_args()
    try:
        recipe = load_recipe(arguments.config, arguments.overrides)
        if arguments.print_config:
            print(dump_recipe(recipe), end="")
            return 0
        if arguments.estimate:
            print(describe_cost(recipe))
            return 0
        if arguments.dry_run:
            print(describe_upload(recipe))
            return 0
        # Late, so that --help and a misspelt key do not wait for torch.
        with needs("train"):
            from traffic_vlm.training.checkpoints import StateError
            from traffic_vlm.training.setup import pack_recipe
            from traffic_vlm.training.trainer import Trainer, TrainingError

        try:
            print(pack_recipe(recipe) if arguments.pack_only else Trainer(recipe).train())
        except (StateError, TrainingError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    except (RecipeError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
