"""Builds the question data set from a BDD100K release folder, or from synthetic scenes.

Examples:
  python scripts/build_dataset.py --bdd100k-root BDD100K --output data/bdd100k_questions
  python scripts/build_dataset.py --bdd100k-root BDD100K --output data/clear_days --preset clear-daytime
  python scripts/build_dataset.py --synthetic 100 --output outputs/tiny_questions

For frames with COCO or YOLO boxes see scripts/build_own_dataset.py.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from huggingface_hub.utils import validate_repo_id
from traffic_vlm.processing.extras import needs

with needs("data"):
    from tqdm import tqdm
    from traffic_vlm.processing.bdd100k.build import BuildOptions, build
    from traffic_vlm.processing.bdd100k.dataset import PRESETS, Filters, filters_of
    from traffic_vlm.processing.bdd100k.hub import push
    from traffic_vlm.processing.bdd100k.scene import CATEGORIES, PLACES, TIMES_OF_DAY, WEATHERS
    from traffic_vlm.training.publishing import HTTPError


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bdd100k-root", type=Path, metavar="R", help="folder with images/ and labels/")
    source.add_argument("--synthetic", type=int, metavar="N", help="render N scenes instead")
    parser.add_argument("--output", type=Path, required=True, metavar="D", help="new folder for the data set")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], help="splits of the release to read")
    parser.add_argument("--labels", type=Path, help="label file or folder, if it is not in the usual place")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--ray", action="store_true", help="run the shards on Ray (needs the package ray)")
    keep = parser.add_argument_group("frames to keep", "of several values one is enough")
    keep.add_argument("--preset", choices=sorted(PRESETS))
    for name, letter, values in (
        ("weather", "W", WEATHERS),
        ("timeofday", "T", TIMES_OF_DAY),
        ("scene", "S", PLACES),
        ("category", "C", CATEGORIES),
    ):
        keep.add_argument(
            f"--{name}", nargs="+", default=[], choices=values, metavar=letter, help=", ".join(values)
        )
    parser.add_argument("--push-to-hub", metavar="REPO", help="afterwards, push the data set to the Hub")
    parser.add_argument("--public", action="store_true", help="let everybody see it there (default: private)")
    return parser.parse_args(arguments)


def filters(args: argparse.Namespace) -> Filters:
    """The preset, narrowed or replaced by what is given explicitly."""
    preset = filters_of(args.preset)
    names = ("weather", "timeofday", "scene", "category")
    return Filters(**{name: tuple(getattr(args, name)) or getattr(preset, name) for name in names})


def run(args: argparse.Namespace) -> dict:
    """Renders if asked to, builds, pushes if asked to."""
    engine = None
    if args.push_to_hub:
        validate_repo_id(args.push_to_hub)  # before the work, not after it
        if args.public and args.bdd100k_root:
            raise ValueError(
                "the licence of BDD100K's frames does not allow publishing them: leave out --public"
            )
    if args.output.exists():
        raise FileExistsError(f"{args.output} exists already; remove it or choose another folder")
    if args.ray:
        with needs("ray"):
            import ray  # noqa: F401
        from traffic_vlm.processing.bdd100k.scale_out import run_on_ray as engine
    options = BuildOptions(
        seed=args.seed,
        source="bdd100k" if args.bdd100k_root else "synthetic",
        splits=tuple(args.splits),
        filters=filters(args),
        labels=args.labels,
    )
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tqdm(unit=" frames", desc="building", disable=None) as bar,
    ):
        root = args.bdd100k_root
        if root is None:
            from traffic_vlm.processing.synthetic import render_dataset

            root = Path(folder)
            render_dataset(root, args.synthetic, seed=args.seed, workers=args.workers)
        report = build(root, args.output, options, args.workers, bar.update, engine)
    if args.push_to_hub:
        print(push(args.output, args.push_to_hub, args.public))
    return report


def main(arguments: list[str] | None = None) -> int:
    """Runs the command, prints the report; returns the exit code."""
    args = parse(arguments)
    try:
        report = run(args)
    except (ValueError, OSError, ImportError, HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted" + (": the same command goes on from here" if args.bdd100k_root else ""),
            file=sys.stderr,
        )
        return 130
    for kind, number in report["problems"].items():
        print(f"{kind}: {number}")
    for split, number in report["frames"].items():
        print(f"{split}: {number} frames, {report['questions'].get(split, 0)} questions")
    print(f"leaking families: {', '.join(report['leaking']) or 'none'}")
    print(f"of these beyond chance: {', '.join(report['leaking_beyond_chance']) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
