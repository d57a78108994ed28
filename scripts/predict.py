"""Ask a battery of questions about every frame of a folder, a data set or a video; the answers are Parquet.

An interrupted run goes on where it stopped: start the same command again. Frames that cannot be read are
listed in rejected.csv. Several processes: one a GPU with accelerate, several on the CPU with torchrun, or
on one machine and more under Ray.

Examples:
    python scripts/predict.py --source frames/ --output answers
    python scripts/predict.py --source drive.mp4 --every 15 --text "Can I move forward?" --output answers
    python scripts/predict.py --source data/bdd100k_questions --split val --output answers
    accelerate launch --multi_gpu --num_processes 2 scripts/predict.py --source frames/ --output answers
    torchrun --nproc_per_node 2 scripts/predict.py --source frames/ --output answers
    python scripts/predict.py --source frames/ --output answers --ray 2

Read them: datasets.load_dataset("parquet", data_files="answers/*.parquet"), or pandas.read_parquet(FILE).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from traffic_vlm.processing.extras import needs
from traffic_vlm.processing.fleet import (
    BATTERY,
    REJECTED,
    Job,
    answer_on_ray,
    answer_shards,
    count_frames,
    gather_rejected,
    open_shards,
    prepare,
)
from traffic_vlm.processing.loading import check_checkpoint, first_line, load_pipeline

with needs("predict"):
    import pyarrow  # noqa: F401  # what is written late is missed early
    from tqdm import tqdm
    from traffic_vlm.evaluation.command import processes

DEFAULT_CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "traffic-vlm"


def count_up(parts: Iterable[tuple[int, int]], total: int, show: bool) -> tuple[int, int]:
    """Add up frames answered and rejected, with a progress bar."""
    answered = rejected = 0
    with tqdm(total=total, unit="frame", disable=not show) as bar:
        for good, bad in parts:
            answered, rejected = answered + good, rejected + bad
            bar.update(good + bad)
    return answered, rejected


def run(job: Job, ray_workers: int) -> str | None:
    """Do the job here, with this process's share of the shards, or under Ray; returns what to print."""
    check_checkpoint(job.checkpoint)
    if ray_workers:
        with needs("ray"):
            import ray  # noqa: F401
    state = processes()
    frames = count_frames(job)
    # Listed before anybody answers any, so that all see the same list, of which each takes an equal share.
    still_open = open_shards(job, frames)
    mine = set(still_open[state.process_index :: state.num_processes])
    if state.is_main_process:
        prepare(job)
    state.wait_for_everyone()
    started = time.perf_counter()
    if ray_workers:
        parts = answer_on_ray(job, mine, ray_workers)
    else:
        pipe = load_pipeline(job.checkpoint, state.device)
        started = time.perf_counter()
        parts = answer_shards(pipe, job, mine)
    total = sum(job.shard_of(index) in mine for index in range(0, frames, job.every))
    answered, rejected = count_up(parts, total, state.is_main_process)
    seconds = time.perf_counter() - started
    state.wait_for_everyone()
    if not state.is_main_process:
        return None
    listed = gather_rejected(job)
    speed = f", {answered / seconds:.1f} frames a second" if answered else ""
    if not still_open:
        speed = " (all were answered before)"
    here = (
        f"this process answered {answered} frames"
        if state.num_processes > 1
        else f"{answered} frames answered"
    )
    return (
        f"{here} with {len(job.questions)} questions each{speed}; {rejected} could not be read "
        f"({listed} in all, see {Path(job.output) / REJECTED}); answers in {job.output}"
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, answer, print; 2 when something given is unusable."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help="folder of pictures, videos, or both; data set; file")
    parser.add_argument("--output", required=True, help="folder of the answers")
    parser.add_argument(
        "--text",
        action="append",
        metavar="Q",
        help=f"question; may be repeated (default: {len(BATTERY)} usual ones)",
    )
    parser.add_argument("--split", help="of a data set: which one (default: each frame once)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th frame (default: 1)")
    parser.add_argument("--shard-frames", type=int, default=64, help="frames a file (default: 64)")
    parser.add_argument("--batch-size", type=int, default=8, help="frames at once (default: 8)")
    parser.add_argument("--ray", type=int, default=0, metavar="WORKERS", help="answer under Ray")
    parser.add_argument("--checkpoint", default=str(DEFAULT_CHECKPOINT), help="default: %(default)s")
    given = parser.parse_args(argv)
    try:
        if min(given.every, given.shard_frames, given.batch_size) < 1:
            raise ValueError("--every, --shard-frames and --batch-size are at least 1.")
        questions = tuple(given.text or BATTERY)
        if not all(text.strip() for text in questions):
            raise ValueError("--text: the question is empty.")
        job = Job(
            str(Path(given.source).resolve()), str(Path(given.output).resolve()), given.checkpoint, questions,
            given.split, given.every, given.shard_frames, given.batch_size,
        )  # fmt: skip
        said = run(job, given.ray)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    if said:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
