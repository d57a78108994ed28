"""Running commands as a user would."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(command: list[str], folder: Path = ROOT) -> str:
    """Runs a command as a user would, offline; its output, if it succeeds."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1000
    )
    assert result.returncode == 0, f"{command}:\n{result.stdout[-1000:]}\n{result.stderr[-3000:]}"
    return result.stdout
