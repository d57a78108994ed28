"""Versions agree, YAML is YAML, and every path that a page names is there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from as_a_user import ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "model_card.md", *(ROOT / "docs").glob("*.md")]
)
MADE = {"outputs", "runs", "data"}
FOLDERS = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in MADE)
YAML = [
    *(ROOT / ".github").rglob("*.yml"),
    *(ROOT / "configs").rglob("*.yaml"),
    ROOT / "CITATION.cff",
    ROOT / ".pre-commit-config.yaml",
]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_yaml(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_workflows_have_steps_that_do_something():
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    for path in workflows:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow[True], "YAML 1.1 reads `on` as true"
        for job in workflow["jobs"].values():
            assert job["runs-on"]
            assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_tests_run_on_three_systems_and_both_ends_of_the_range():
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert {name.split("-")[0] for name in ci["test"]["strategy"]["matrix"]["os"]} == {
        "ubuntu",
        "macos",
        "windows",
    }
    [floor] = re.findall(r'"transformers>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest, newest = ci["versions"]["strategy"]["matrix"]["transformers"]
    assert (oldest, newest) == (f"transformers=={floor}.*", "transformers")


def test_nothing_is_released_that_was_not_tested():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    runs = [step.get("run", "") for step in yaml.safe_load(text)["jobs"]["release"]["steps"]]

    def first(command):
        return next(number for number, run in enumerate(runs) if command in run)

    publishing = first("gh release create")
    assert max(first("make lint"), first("make test"), first("import $packages")) < publishing
    assert "['tool']['setuptools']['packages']" in runs[first("import $packages")], "all that the wheel holds"


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="needs bash")
def test_a_run_without_a_browser_says_what_is_skipped(tmp_path):
    """With stand-ins for everything that the script starts."""

    def stand_in(name, content):
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{content}\n")
        (tmp_path / name).chmod(0o755)

    stand_in("make", "echo made $1")
    stand_in("dirname", f"echo {ROOT / '.ci'}")
    stand_in("id", "echo 0")
    stand_in("apt-get", "echo no network >&2; exit 1")
    command, environment = [shutil.which("bash"), str(ROOT / ".ci" / "run")], {"PATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["made lint", "made test", "made ask", ""]
    assert re.fullmatch(r"WARNING: no Chromium .*SKIPPED\.\n", done.stderr)
    stand_in("google-chrome", "")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_versions_agree():
    [version] = re.findall(
        r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, flags=re.MULTILINE)
    assert "## [Unreleased]" in changelog
    assert not released or released[0] == version


def named_paths(page: Path) -> set[str]:
    """What a page calls by a path: in backticks beginning with a folder of the checkout, or linked to."""
    text = page.read_text(encoding="utf-8")
    quoted = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {path.rstrip(".") for path in quoted}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_named_paths_are_there(page):
    names = named_paths(page)
    if page.name == "plan.md":
        # The first column of names is the original plan's, where nothing needs to be.
        asked = re.findall(r"^\| [\d, -]+ \| (.*?) \|", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        names -= {name for cell in asked for name in re.findall(r"`([\w./]+)`", cell)} - {
            name for name in names if (ROOT / name).exists()
        }
    missing = sorted(name for name in names if not (ROOT / name).exists())
    assert not missing


def test_named_tests_are_there():
    text = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert named
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), name


def test_plan_has_every_task_milestone_and_command():
    text = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    tasks = re.findall(r"^\| (\d+) \| `", text, flags=re.MULTILINE)
    assert tasks == [str(number) for number in range(1, 36)]
    assert text.count("| `python -m ") == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_card_says_what_a_card_must():
    """In the template, so that no evaluation can take it out."""
    card = " ".join((ROOT / "docs" / "model_card.template.md").read_text(encoding="utf-8").split())
    for heading in ("Intended use", "Data and licence", "Training", "Evaluation", "Known failures"):
        assert f"## {heading}" in card
    for words in (
        "Out of scope",
        "controlling or advising a vehicle",
        "educational, research and not-for-profit",
        "Environmental cost",
        "$results",
        "$failures",
    ):
        assert words in card, words
