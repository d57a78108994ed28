"""The Dockerfile: no engine is needed to see that what it copies is there, and answers alone."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tiny_checkpoint import ANSWERS, QUESTIONS

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()


def copied() -> list[tuple[list[str], str]]:
    """Sources in the checkout and target of every COPY."""
    copies = [line.split()[1:] for line in LINES if line.startswith("COPY ") and "--from" not in line]
    return [(words[:-1], words[-1]) for words in copies]


def test_everything_copied_is_in_the_checkout_and_not_ignored():
    sources = [source for sources, _ in copied() for source in sources]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert len(sources) > 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not any(fnmatch.fnmatch(source.split("/")[0], pattern) for pattern in ignored), source


def test_every_package_is_copied_before_it_is_installed():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folders = set(re.findall(r'^"traffic_vlm\.\w+" = "(\w+)"$', text, re.MULTILINE))
    assert folders <= {source for sources, _ in copied() for source in sources}


def test_it_does_not_run_as_root():
    users = [line.split()[1] for line in LINES if line.startswith("USER ")]
    assert users
    assert users[-1] not in ("root", "0")


def test_the_image_answers_with_what_is_copied_into_it(exported, pictures, tmp_path):
    """The second stage, rebuilt in a folder: two files and the export, no PyTorch, no other code of ours."""
    (files,) = [sources for sources, target in copied() if target.startswith("/srv/")]
    package = tmp_path / "srv" / "traffic_vlm" / "deployment"
    package.mkdir(parents=True)
    for file in files:
        shutil.copy(ROOT / file, package)
    pictures["blue"].save(tmp_path / "frame.png")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from traffic_vlm.deployment import session\n"
        "assert session.__file__.startswith(sys.argv.pop(1)), session.__file__\n"
        "sys.exit(session.main(sys.argv[1:]))"
    )
    arguments = [str(tmp_path), str(exported), "--image", str(tmp_path / "frame.png"), "--text", QUESTIONS[0]]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "srv"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert ANSWERS["blue"][0] in done.stdout
