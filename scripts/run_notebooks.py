"""Run the notebooks and store them with what they print and draw, ready to be committed.

Examples:
    python scripts/run_notebooks.py                    # all of notebooks/, in place
    python scripts/run_notebooks.py notebooks/model_testing.ipynb --output outputs/notebooks
"""

import argparse
import base64
import io
import os
import sys
from pathlib import Path

from PIL import Image
from traffic_vlm.processing.extras import needs

with needs("notebooks"):
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
MOST_BYTES = 400_000
LARGE_PICTURE = 60_000


def execute(path: Path) -> nbformat.NotebookNode:
    """Run every cell of a notebook in its own folder (CellExecutionError: a cell failed)."""
    notebook = nbformat.read(path, as_version=4)
    # Everything that is loaded lies in the checkout.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    client = NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=300,
        iopub_timeout=120,  # output that comes later would be lost without a word
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        extra_arguments=["--log-level=ERROR"],
    )
    return client.execute()


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from run to run and from machine to machine, and progress on standard error."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    position = 0
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        position += 1
        cell.execution_count = position
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            output.pop("metadata", None)
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = {}
                shrink(output.data)
            if output.output_type == "execute_result":
                output.execution_count = position


def shrink(data: dict[str, str]) -> None:
    """Store a chart with few colours, and a photograph as JPEG."""
    if "image/png" not in data:
        return
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    small = io.BytesIO()
    picture.quantize(64).save(small, "PNG", optimize=True)
    kind = "image/png"
    if small.tell() > LARGE_PICTURE:
        del data["image/png"]
        kind, small = "image/jpeg", io.BytesIO()
        picture.save(small, "JPEG", quality=70, optimize=True)
    data[kind] = base64.b64encode(small.getvalue()).decode()


def check(notebook: nbformat.NotebookNode, name: str) -> str:
    """The notebook as text; ValueError if it is too large or names a folder of this machine."""
    text = nbformat.writes(notebook) + "\n"
    if str(ROOT) in text or str(Path.home()) in text:
        raise ValueError(f"{name}: an output names a folder of this machine; print less, or relative paths.")
    if len(text.encode()) > MOST_BYTES:
        raise ValueError(
            f"{name}: {len(text.encode()) // 1000} kB, at most {MOST_BYTES // 1000}; draw smaller."
        )
    return text


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; 2 when a notebook fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", nargs="*", type=Path, help="default: all of notebooks/")
    parser.add_argument("--output", type=Path, metavar="DIR", help="store them there, not in place")
    options = parser.parse_args(arguments)
    for path in options.notebook or sorted(FOLDER.glob("*.ipynb")):
        try:
            notebook = execute(path)
            clean(notebook)
            text = check(notebook, path.name)
        except CellExecutionError as error:
            print(f"error: {path}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
            return 2
        except (ValueError, OSError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return 2
        target = path if options.output is None else options.output / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
        print(f"{target}: {len(text.encode()) // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
