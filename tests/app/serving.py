"""Start the page as a user does."""

import os
import re
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def serve(command, env=None, cwd=ROOT):
    """Start a server and return its process and the address that it printed."""
    pytest.importorskip("gradio", reason="needs the extra [app]")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1",
             "GRADIO_TEMP_DIR": tempfile.mkdtemp(), **(env or {})},
    )  # fmt: skip
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            # Read on, or a server that writes much would stand still before a full pipe.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return process, found.group()
    raise AssertionError(f"the page was not served: {''.join(said)}")
