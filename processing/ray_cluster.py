"""The Ray cluster that work is shared out to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ray_cluster(workers: int) -> Iterator[None]:
    """Joins the cluster that RAY_ADDRESS names, or starts one with `workers` processors on this machine.

    A cluster that was there before stays, one that was started here is shut down.

    Raises:
        ImportError: Ray is not installed.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS") or "local"
        processors = workers if address == "local" else None  # a cluster knows its own
        ray.init(address, num_cpus=processors, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        if started:
            ray.shutdown()
