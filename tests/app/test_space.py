"""The demo Space: the published folder alone, without this repository, serves the page."""

import os
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

from launching import stop
from serving import ROOT, serve

sys.path.insert(0, str(ROOT / "tests" / "processing"))
from scripts_loader import load_script


def test_the_folder_alone_starts_in_a_fresh_process(checkpoint, tmp_path):
    publication = load_script("push_to_hub").space_publication(
        "me/demo", ROOT / "scripts" / "app.py", "me/model"
    )
    for name, source in publication.files.items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else Path(source).read_bytes())
    assert publication.variables == {"TRAFFIC_VLM_CHECKPOINT": "me/model"}
    # Without `site`, what is installed in editable mode is not found: the package is the folder's own.
    environment = {
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "TRAFFIC_VLM_CHECKPOINT": str(checkpoint),
        "GRADIO_SERVER_NAME": "127.0.0.1",
    }
    check = "import traffic_vlm.app, sys; sys.stdout.write(traffic_vlm.app.__file__)"
    process, address = serve([sys.executable, "-S", "app.py"], environment, tmp_path / "space")
    try:
        with urllib.request.urlopen(address, timeout=200) as response:
            page = response.read().decode()
        assert "TrafficVLM" in page
        assert "Pick a frame" in page
    finally:
        stop(process)
    found = subprocess.run(
        [sys.executable, "-S", "-c", check], cwd=tmp_path / "space", capture_output=True, text=True,
        env={**os.environ, **environment}, timeout=200,
    )  # fmt: skip
    assert found.stdout.startswith(str(tmp_path)), "the folder's own package was used"
