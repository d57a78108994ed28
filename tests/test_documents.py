"""The commands and the Python of the README run as written, and its numbers are those of the report."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHECKPOINT = ROOT / "checkpoints" / "traffic-vlm"
LAUNCH = "accelerate launch --config_file configs/launch/cpu.yaml scripts/train.py --config"
# Why a command of the README is not run here.
NOT_RUN = {
    "make ask": "CI runs it; it makes the environment that this test is already in",
    "python scripts/build_dataset.py --bdd100k-root": "needs the release; tests/bdd100k build from its files",
    f"{LAUNCH} configs/train/second_light.yaml": "goes on from the run before",
    f"{LAUNCH} configs/train/first_light.yaml": "takes half an hour; the tiny recipe runs it all",
    "python scripts/evaluate.py": "needs the release; tests/evaluation runs it on rendered frames",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A copy of the checkout, as a newcomer has it, with a frame to ask about."""
    from traffic_vlm.processing.synthetic import render_scene

    folder = tmp_path_factory.mktemp("newcomer") / "checkout"
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "outputs", "runs", "data", "*.egg-info", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, folder, ignore=ignore)
    render_scene(7).image.save(folder / "frame.jpg")
    return folder


def run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, f"{command}:\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.mark.slow
def test_commands_run_as_written(workplace):
    lines = [line for block in blocks("bash") for line in block.strip().splitlines()]
    done = []
    for line in lines:
        if any(line.startswith(start) for start in NOT_RUN):
            continue
        run(["bash", "-c", line] if os.name == "posix" else line.split(), workplace)
        done.append(line.split()[0:2])
    assert len(done) >= 3
    assert (workplace / "out.png").stat().st_size > 10_000
    assert (workplace / "outputs" / "tiny_run" / "last" / "model.safetensors").is_file()
    assert all(any(line.startswith(start) for line in lines) for start in NOT_RUN), (
        "NOT_RUN lists what is gone"
    )


@pytest.mark.parametrize("code", blocks("python"), ids=["generate", "pipeline"])
def test_python_runs_as_written(code, workplace):
    assert "[" in run([sys.executable, "-c", code], workplace)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_numbers_are_those_of_the_report():
    from traffic_vlm.evaluation.card import fill_readme, read_report, render_card

    report, record = read_report(CHECKPOINT)
    assert fill_readme(README, report) == README
    template = (ROOT / "docs" / "model_card.template.md").read_text(encoding="utf-8")
    card = render_card(template, report, record)
    assert (ROOT / "model_card.md").read_text(encoding="utf-8") == card
    assert (CHECKPOINT / "README.md").read_text(encoding="utf-8") == card


def test_checkpoint_is_small_and_safe():
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl", ".pickle")]


def test_checkpoint_carries_this_code():
    for copy in CHECKPOINT.glob("*.py"):
        [source] = [
            path for folder in ("modeling", "processing") if (path := ROOT / folder / copy.name).is_file()
        ]
        assert copy.read_text(encoding="utf-8") == source.read_text(encoding="utf-8"), copy.name
