"""Jobs shared out over processes. Needs nothing but PyTorch, so that `scripts/ask.py` can weigh its maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import distributed
from tqdm import tqdm


def share_out(work: Callable[[Any], Any], jobs: Sequence[Any], name: str = "") -> list[Any]:
    """Do jobs on all processes, each once.

    Args:
        work: does one job; the result does not depend on which process it is done on.
        jobs: what it is called with.
        name: shown with the progress; no progress without one.

    Returns:
        The results in the order of the jobs, the same on every process.
    """
    together = distributed.is_available() and distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    mine = range(rank, len(jobs), world)
    hidden = not name or rank > 0
    done = [(i, work(jobs[i])) for i in tqdm(mine, desc=name, unit="block", disable=hidden)]
    if world > 1:
        gathered: list[Any] = [None] * world
        distributed.all_gather_object(gathered, done)
        done = sorted((pair for part in gathered for pair in part), key=lambda pair: pair[0])
    return [result for _, result in done]
