"""Every command and every piece of Python in the documentation runs as written, or says why not.

A block that is not run has `<!-- not run: why -->` in the line before it. Blocks of one page run in order in
one copy of the checkout, as a newcomer has it; `SMALLER` makes long commands short and changes nothing else.
"""

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from as_a_user import ROOT, run
from traffic_vlm.processing.synthetic import render_scene

PAGES = ["README.md", "CONTRIBUTING.md", "evaluation/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
BLOCK = re.compile(
    r"(?:^ *<!-- not run: (?P<why>.+?) -->\n)?^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```", re.M | re.S
)
SMALLER = {
    "--synthetic 100": "--synthetic 10",
    "configs/train/tiny.yaml": "configs/train/tiny.yaml optim.epochs=1 run.validate_split=val",
    "configs/train/fine_tune.yaml": "configs/train/fine_tune.yaml optim.epochs=0.2 optim.batch_size=2"
    " data.workers=0 data.questions_per_image=2",
    "fine_tune_lora.py": "fine_tune_lora.py --steps 1 --batch-size 2",
}


@dataclass
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str
    why_not: str | None

    @property
    def commands(self) -> list[str]:
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(page, m["language"], m["text"], m["why"]) for m in BLOCK.finditer(text)]


RUNNABLE, PRINTED = {"bash", "python"}, {"text"}
RUN = [
    block
    for page in PAGES
    for block in blocks(page)
    if block.why_not is None and block.language not in PRINTED
]


def test_every_block_is_found_and_of_a_kind_that_runs():
    for page in PAGES:
        fences = re.findall(r"^ *```", (ROOT / page).read_text(encoding="utf-8"), flags=re.M)
        assert len(fences) == 2 * len(blocks(page)), page
    assert {block.language for block in RUN} <= RUNNABLE
    assert len(RUN) >= 8


def test_substitutions_are_of_commands_that_are_there():
    text = "\n".join(command for block in RUN for command in block.commands)
    assert all(long in text for long in SMALLER)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, own) -> Path:
    """A copy of the checkout with a frame, COCO annotations and a YOLO folder beside it."""
    folder = tmp_path_factory.mktemp("newcomer") / "checkout"
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "outputs", "runs", "data", "datasets", "build", "dist", "*.egg-info", "__pycache__",
        ".*_cache", ".hypothesis", "*.part"
    )  # fmt: skip
    shutil.copytree(ROOT, folder, ignore=ignore)
    render_scene(7).image.save(folder / "frame.jpg")
    for name in ("frames", "my_yolo_folder"):
        shutil.copytree(own / name, folder / name)
    shutil.copy(own / "annotations.json", folder)
    return folder


def run_block(block: Block, folder: Path) -> None:
    if block.language == "python":
        assert run([sys.executable, "-c", block.text], folder).strip()
        return
    for command in block.commands:
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        run(["bash", "-c", command] if os.name == "posix" else shlex.split(command), folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_page_runs(page, checkout):
    for block in RUN:
        if block.page == page:
            run_block(block, checkout)
    if page == "README.md":
        assert (checkout / "out.png").stat().st_size > 10_000
        assert (checkout / "outputs" / "tiny_run" / "last" / "model.safetensors").is_file()
    if page == "docs/fine_tuning.md":
        assert (checkout / "runs" / "fine_tune" / "last" / "model.safetensors").is_file()
        merged = checkout / "runs" / "lora" / "merged"
        for name in ("model.safetensors", "pipeline_traffic_vlm.py", "decision.json"):
            assert (merged / name).is_file(), "a checkpoint as others are"
        assert (checkout / "runs" / "lora" / "adapter" / "adapter_model.safetensors").stat().st_size < 2**20
