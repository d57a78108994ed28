"""Building on a Ray cluster, for fleets of frames.

Why Ray: the unit of work is already a shard, a Python function of its records, without any shuffle or
join. Ray runs such functions anywhere with bounded backlog and needs no Java; Spark's source for
`datasets` would collect the pictures through its own row format. The shards are written by the same
`run_job`, so the result is the same byte for byte; root and output must be on storage that all nodes see.
"""

from collections.abc import Iterable, Iterator

from ..ray_cluster import ray_cluster
from .build import Job, run_job
from .dataset import Tally


def run_on_ray(work: Iterable[Job], workers: int) -> Iterator[tuple[Job, Tally]]:
    """Runs jobs as Ray tasks, at most two a worker in flight; pass it to `build.build` as `run`.

    Joins the cluster that RAY_ADDRESS names, or starts one with `workers` processors on this machine.

    Raises:
        ImportError: Ray is not installed.
    """
    import ray

    running = {}
    with ray_cluster(workers):
        task = ray.remote(num_cpus=1)(run_job)
        for job in work:
            running[task.remote(job)] = job
            while len(running) >= 2 * workers:
                done, _ = ray.wait(list(running))
                yield running.pop(done[0]), ray.get(done[0])
        for reference, job in running.items():
            yield job, ray.get(reference)
