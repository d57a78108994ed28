"""Type-check the public surface.

The folders of the checkout are parts of one package, `traffic_vlm`, which exists only once it is installed.
mypy is therefore given a copy of the folders under their package names.

Example:
  python scripts/check_types.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDERS = ("modeling", "processing", "training", "evaluation", "deployment", "app")


def main() -> int:
    """Copies the folders and runs mypy; returns mypy's exit code."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as copy:
        for folder in FOLDERS:
            shutil.copytree(
                root / folder, Path(copy, "traffic_vlm", folder), ignore=shutil.ignore_patterns("__pycache__")
            )
        command = [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            str(root / "pyproject.toml"),
            "-p",
            "traffic_vlm",
        ]
        cache = root / ".mypy_cache"
        return subprocess.run(
            [*command, "--cache-dir", str(cache)], cwd=copy, env={**os.environ, "MYPYPATH": copy}
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
