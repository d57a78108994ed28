"""The notebooks run from beginning to end, and are stored clean."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("data_exploration", "model_testing", "results_analysis")
PICTURES = ("image/png", "image/jpeg")


def read(name: str):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def pictures_of(cell) -> int:
    return sum(kind in output.get("data", {}) for output in cell.get("outputs", []) for kind in PICTURES)


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """All three, run in a copy of what they need, so that no earlier data set helps them."""
    folder = tmp_path_factory.mktemp("newcomer")
    for part in ("scripts", "notebooks", "checkpoints"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "scripts/run_notebooks.py", "--output", "executed"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_MODULES_CACHE": str(folder / "modules")},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "executed"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs_and_draws_what_the_stored_one_draws(executed, name):
    fresh, stored = nbformat.read(executed / f"{name}.ipynb", as_version=4), read(name)
    for ours, theirs in zip(fresh.cells, stored.cells, strict=True):
        assert ours.source == theirs.source
        assert pictures_of(ours) == pictures_of(theirs), ours.source
    assert sum(map(pictures_of, fresh.cells)) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_is_stored_clean(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = read(name)
    nbformat.validate(notebook)
    assert path.stat().st_size < 400_000
    assert [cell.id for cell in notebook.cells] == [
        f"{name.split('_')[0]}-{i:02d}" for i in range(len(notebook.cells))
    ]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            places = ("/home/", "/Users/", "C:\\", tempfile.gettempdir(), str(Path.home()), str(ROOT))
            assert not any(place in text for place in places if place != "/"), "a home may be the root"


def test_frames_of_ones_own_are_opened_upright():
    """The model turns a picture by its EXIF tag; the heat must be drawn on the turned one."""
    source = "".join(cell.source for cell in read("model_testing").cells if cell.cell_type == "code")
    assert "else open_image(FRAME)" in source
    assert "Image.open" not in source


def test_numbers_of_the_results_are_the_reports():
    """No number is typed in: the stored headline table is what the checkpoint's report says."""
    import json

    report = json.loads(
        (ROOT / "checkpoints" / "traffic-vlm" / "training" / "report.json").read_text(encoding="utf-8")
    )
    said = "".join(
        output.get("text", "")
        for cell in read("results_analysis").cells
        for output in cell.get("outputs", [])
    )
    assert f"{report['rows']} questions about {report['frames']} frames" in said
    assert report["verdict"]["sentence"] in said, "run scripts/run_notebooks.py: the report is newer"
