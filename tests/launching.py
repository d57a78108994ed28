"""How tests start several processes on a CPU, which `accelerate launch` does only for GPUs or through MPI,
and how they end one."""

import os
import subprocess
import sys

ON_CPU = {
    **os.environ,
    "ACCELERATE_USE_CPU": "true",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "USE_LIBUV": "0",  # which torch may have been built without, on Windows
}


def processes(count: int) -> list[str]:
    """The beginning of a command line that runs a script in `count` gloo processes."""
    if count == 1:
        return [sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]


def stop(process: subprocess.Popen) -> None:
    """Ends a server; one that does not listen within 20 seconds is killed."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=20)
