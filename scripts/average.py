"""Average the weights that a run began with and those it ended with.

Examples:
  python scripts/average.py --before runs/first/last --after runs/second/last --output runs/averaged
  python scripts/average.py --before A --after B --share 0.5 0.75 1 --output C --packed DATA/packed-384x224-v6
  torchrun --nproc_per_node 2 scripts/average.py ...    each process asks a part of the frames

With --packed (what training packed) the split `tune` is asked, as at the end of a run; of several shares the
one with the best balanced accuracy there is written, and the means of all are in its record.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from traffic_vlm.processing.extras import needs
from traffic_vlm.processing.loading import check_checkpoint


def main() -> int:
    """Parses the command line and writes the checkpoint; 2 for anything that the user can mend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="checkpoint that the run began with")
    parser.add_argument("--after", type=Path, required=True, help="checkpoint that it ended with")
    parser.add_argument(
        "--share", type=float, nargs="+", default=[0.5], help="weight of the latter, 0 to 1 (default 0.5)"
    )
    parser.add_argument("--output", type=Path, required=True, help="new folder")
    parser.add_argument("--packed", type=Path, help="packed folder whose split `tune` is asked")
    arguments = parser.parse_args()
    if len(arguments.share) > 1 and not arguments.packed:
        print("error: to choose among several shares, name what to ask: --packed FOLDER.", file=sys.stderr)
        return 2
    with needs("train"):
        from safetensors import SafetensorError
        from traffic_vlm.evaluation.command import run_command
    return run_command(lambda: average(arguments), (ValueError, OSError, SafetensorError))


def average(arguments: argparse.Namespace) -> None:
    """Asks where there is something to choose by, and writes."""
    from traffic_vlm.evaluation.command import processes
    from traffic_vlm.training.interpolation import choose_share, interpolate, keep_answers, refuse_existing

    for folder in (arguments.before, arguments.after):
        check_checkpoint(str(folder))
    state, tried = processes(), []
    refuse_existing(arguments.output)
    if arguments.packed:
        tried = choose_share(arguments.before, arguments.after, arguments.share, arguments.packed)
    if not state.is_main_process:
        return
    for one in tried:  # before anything is written, which may fail
        means = ", ".join(f"{name} {value:.3f}" for name, value in one.means.items())
        print(f"share {one.share:g}: {means}")
    share = tried[0].share if tried else arguments.share[0]
    interpolate(arguments.before, arguments.after, share, arguments.output)
    if tried:
        keep_answers(arguments.output, tried)


if __name__ == "__main__":
    sys.exit(main())
