import json
import runpy
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from traffic_vlm.training.publishing import folder_files
from traffic_vlm.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "processing"))
from loopback_hub import TOKEN, LoopbackHub  # noqa: E402


@pytest.fixture
def hub(monkeypatch):
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield server


def test_results_that_cannot_be_written_are_one_line(monkeypatch, tmp_path, capsys):
    script = runpy.run_path(str(ROOT / "scripts" / "write_results.py"))
    names = script["main"].__globals__
    for name, value in {
        "ROOT": tmp_path,
        "read_report": lambda _: ({}, {}),
        "fill_readme": lambda *_: "",
        "render_card": lambda *_: "",
    }.items():
        monkeypatch.setitem(names, name, value)
    monkeypatch.setattr(sys, "argv", ["write_results.py", "--checkpoint", str(tmp_path / "none")])
    (tmp_path / "docs").mkdir()
    for missing in ("README.md", "docs/model_card.template.md"):
        assert script["main"]() == 2
        assert missing in capsys.readouterr().err.replace("\\", "/")
        (tmp_path / missing).touch()
    assert script["main"]() == 2
    assert "none" in capsys.readouterr().err


def dry_run(make_recipe, tmp_path, *options):
    recipe = make_recipe(*options)
    command = [sys.executable, "scripts/train.py", "--config", str(tmp_path / "recipe.yaml"), "--dry-run"]
    command += [f"data.dataset={recipe.data.dataset}", f"run.output={recipe.run.output}", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_best_checkpoint_is_uploaded_with_its_card(make_recipe, tmp_path, hub, capsys):
    options = ("run.push_to_hub=me/run", "optim.epochs=0.5")
    early = dry_run(make_recipe, tmp_path, *options)
    assert early.returncode == 2
    assert "The run has not written a best checkpoint yet" in early.stderr
    hub.commits_until_failure = 0  # the network breaks down: training goes on
    best = Trainer(make_recipe(*options)).train().parent / "best"
    assert "warning: me/run: not uploaded" in capsys.readouterr().out
    planned = dry_run(make_recipe, tmp_path, *options)
    assert planned.returncode == 0, planned.stderr
    hub.commits_until_failure = None
    Trainer(make_recipe(*options)).train()  # nothing left to train: uploads what is missing
    files = {name: content for name, (content, _) in hub.repos["model", "me/run"]["files"].items()}
    assert hub.repos["model", "me/run"]["private"]
    local = {path.relative_to(best).as_posix() for path in best.rglob("*") if path.is_file()}
    assert set(files) == {name for name in local if "__pycache__" not in name}
    lines = [line.split()[2] for line in planned.stdout.splitlines() if "would upload" in line]
    assert set(lines) == set(files)
    record = json.loads(files["training/record.json"])
    assert (
        f"{record['parameters'] / 1e6:.2f}M parameters after {record['step']} steps"
        in files["README.md"].decode()
    )


def test_frames_packed_beside_a_data_set_stay_here(tmp_path):
    for name in ("data/train-00000-of-00001.parquet", "README.md", "packed-384x224-v3/train/frames.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert set(folder_files(tmp_path)) == {"data/train-00000-of-00001.parquet", "README.md"}
