import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from scripts_loader import load_script
from tiny_checkpoint import ANSWERS, QUESTIONS, make_pipeline

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ask():
    return load_script("ask")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """What the script would set for the whole process, undone after each test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def frame(pictures, tmp_path) -> Path:
    pictures["red"].save(tmp_path / "frame.png")
    return tmp_path / "frame.png"


def run(ask, checkpoint, *arguments) -> int:
    return ask.main([str(argument) for argument in ("--checkpoint", checkpoint, *arguments)])


def test_answers_as_text(ask, checkpoint, frame, capsys):
    assert run(ask, checkpoint, "--image", frame, "--text", QUESTIONS[0], "--text", QUESTIONS[1]) == 0
    out = capsys.readouterr().out
    for question, answer in zip(QUESTIONS, ANSWERS["red"], strict=True):
        assert f"Q: {question}\nA: {answer}  (" in out
    assert "looked at: x" in out


def test_answers_as_json(ask, checkpoint, frame, capsys):
    assert run(ask, checkpoint, "--image", frame, "--text", QUESTIONS[1], "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert set(result) == {"question", "answer", "confidence", "abstained", "evidence", "alternatives"}
    assert result["answer"] == "Rainy."


def test_overlay_keeps_the_picture_at_its_own_size(ask, checkpoint, frame, tmp_path):
    Image.open(frame).resize((640, 360)).save(frame)
    out = tmp_path / "new" / "out.png"
    assert run(ask, checkpoint, "--image", frame, "--text", QUESTIONS[0], "--overlay", out) == 0
    with Image.open(out) as picture:
        assert picture.width == 640
        assert picture.height > 360
    assert [path.name for path in out.parent.iterdir()] == ["out.png"]


def test_scene(ask, checkpoint, tmp_path, capsys):
    pytest.importorskip("skia")
    out = tmp_path / "scene.png"
    assert run(ask, checkpoint, "--scene", 3, "--text", QUESTIONS[0], "--overlay", out) == 0
    assert capsys.readouterr().out.startswith(f"Q: {QUESTIONS[0]}\nA: ")
    with Image.open(out) as picture:
        assert picture.width == 512
    assert run(ask, checkpoint, "--scene", -1, "--text", QUESTIONS[0]) == 2


def bad_inputs(folder: Path, checkpoint: Path) -> dict[str, tuple[list, str]]:
    """Arguments that must be refused, and what the complaint must say."""
    good = folder / "good.png"
    Image.new("RGB", (64, 36)).save(good)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "half.png").write_bytes(good.read_bytes()[:60])
    (folder / "text.jpg").write_text("no picture")
    Image.new("1", (20000, 6000)).save(folder / "huge.png")
    (folder / "hollow").mkdir()
    (folder / "folder.png").mkdir()
    shutil.copytree(checkpoint, folder / "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(checkpoint, folder / "broken")
    (folder / "broken" / "model.safetensors").write_bytes(b"\0" * 50)
    shutil.copytree(checkpoint, folder / "garbled")
    (folder / "garbled" / "config.json").write_text("{")
    shutil.copytree(checkpoint, folder / "wordless")
    (folder / "wordless" / "tokenizer.json").write_text("{")
    shutil.copytree(checkpoint, folder / "partial")
    weights = load_file(checkpoint / "model.safetensors")
    weights.pop(next(name for name in weights if "cross_attn" in name))
    save_file(weights, folder / "partial" / "model.safetensors", {"format": "pt"})

    def image(name):
        return ["--image", folder / name, "--text", "Is it?"]

    def model(name):
        return ["--image", good, "--text", "Is it?", "--checkpoint", folder / name]

    return {
        "missing picture": (image("missing.jpg"), "missing.jpg: no such file"),
        "empty picture": (image("empty.jpg"), "empty.jpg: the file is empty"),
        "truncated picture": (image("half.png"), "half.png: damaged or truncated"),
        "no picture": (image("text.jpg"), "text.jpg: not a picture"),
        "absurdly large picture": (image("huge.png"), "huge.png: absurdly large"),
        "folder": (["--image", folder, "--text", "Is it?"], "is a folder"),
        "empty question": (["--image", good, "--text", " "], "question is empty"),
        "one question empty": (["--image", good, "--text", "Is it?", "--text", ""], "question is empty"),
        "question too long": (["--image", good, "--text", "why " * 4000], "question is too long"),
        "unknown overlay": (["--image", good, "--text", "Is it?", "--overlay", folder / "o.xyz"], "o.xyz"),
        "overlay of a kind that is only read": (
            ["--image", good, "--text", "Is it?", "--overlay", folder / "o.psd"],
            "o.psd: unknown kind of picture",
        ),
        "overlay on a folder": (
            ["--image", good, "--text", "Is it?", "--overlay", folder / "folder.png"],
            "folder.png: is a folder",
        ),
        "missing checkpoint": (model("nowhere"), "nowhere: no such checkpoint"),
        "empty checkpoint": (model("hollow"), "hollow: no config.json"),
        "checkpoint without weights": (model("weightless"), "weightless: no weights"),
        "broken weights": (model("broken"), "broken"),
        "broken configuration": (model("garbled"), "garbled"),
        "broken tokenizer": (model("wordless"), "wordless"),
        "a weight is missing": (model("partial"), "partial: the checkpoint lacks weights"),
    }


def test_bad_input_ends_in_one_line_and_writes_nothing(ask, checkpoint, tmp_path, capsys):
    folder = tmp_path / "inputs"
    folder.mkdir()
    out = tmp_path / "out" / "overlay.png"
    for name, (arguments, complaint) in bad_inputs(folder, checkpoint).items():
        if "--overlay" not in arguments:
            arguments = [*arguments, "--overlay", out]
        assert run(ask, checkpoint, *arguments) == 2, name
        captured = capsys.readouterr()
        assert captured.out == "", name
        assert captured.err.startswith("error: "), name
        assert captured.err.count("\n") == 1, f"{name}: {captured.err}"
        assert complaint in captured.err, name
        assert not out.parent.exists(), name


def test_no_overlay_without_cross_attention(ask, frame, tmp_path, capsys):
    make_pipeline(fusion="prefix").save_pretrained(tmp_path / "prefix")
    arguments = ["--image", frame, "--text", "Is it?", "--overlay", tmp_path / "out.png"]
    assert run(ask, tmp_path / "prefix", *arguments) == 2
    assert "no cross-attention" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
    assert run(ask, tmp_path / "prefix", *arguments[:-2]) == 0


def test_a_failing_write_leaves_nothing_behind(ask, checkpoint, frame, tmp_path, monkeypatch, capsys):
    def fail(self, file, *args, **kwargs):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    out = tmp_path / "out" / "overlay.png"
    assert run(ask, checkpoint, "--image", frame, "--text", QUESTIONS[0], "--overlay", out) == 2
    assert "disk full" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []


def test_as_a_command_in_another_folder_offline(checkpoint, frame, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    environment |= {"PYTHONIOENCODING": "cp1252"}  # as redirected on Windows
    for name in ("PYTHONPATH", "PYTHONUTF8"):
        environment.pop(name, None)
    command = [sys.executable, str(ROOT / "scripts" / "ask.py"), "--checkpoint", str(checkpoint)]
    foreign = "Чисто?"
    good = [*command, "--image", str(frame), "--text", QUESTIONS[0], "--text", foreign, "--json"]
    result = subprocess.run(
        good, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    found = json.loads(result.stdout)
    assert [one["question"] for one in found] == [QUESTIONS[0], foreign]
    assert found[0]["answer"] == ANSWERS["red"][0]
    bad = [*command, "--image", "nothing.png", "--text", "Is it?"]
    result = subprocess.run(bad, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "error: nothing.png: no such file.\n")
