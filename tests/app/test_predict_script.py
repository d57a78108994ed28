"""scripts/predict.py, run as a user does: folders, data sets, videos; interrupted, shared out, under Ray."""

import csv
import io
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from launching import ON_CPU, processes
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_checkpoint import ANSWERS, QUESTIONS
from traffic_vlm.processing.frames import _decoded, upright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "processing"))
from scripts_loader import load_script  # noqa: E402

ASK = [part for text in QUESTIONS for part in ("--text", text)]


@pytest.fixture(scope="module")
def predict():
    return load_script("predict")


@pytest.fixture(scope="module")
def frames(tmp_path_factory, pictures) -> Path:
    """Ten pictures in two folders, of which one is broken."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(9):
        place = folder / ("first" if number < 5 else "second")
        place.mkdir(exist_ok=True)
        list(pictures.values())[number % 3].save(place / f"{number}.png")
    (folder / "first" / "2b.jpg").write_bytes(b"no picture")
    return folder


def rows_of(output: Path) -> list[dict]:
    table = pyarrow.dataset.dataset(sorted(output.glob("answers-*.parquet"))).to_table()
    return sorted(table.to_pylist(), key=lambda row: (row["frame"], row["question"]))


def run(predict, checkpoint, *arguments) -> int:
    return predict.main([str(part) for part in ("--checkpoint", checkpoint, *ASK, *arguments)])


@pytest.fixture(scope="module")
def single(predict, checkpoint, frames, tmp_path_factory) -> Path:
    """The answers of one process in one go."""
    output = tmp_path_factory.mktemp("single") / "answers"
    assert run(predict, checkpoint, "--source", frames, "--output", output, "--shard-frames", 4) == 0
    return output


def test_every_frame_is_answered_and_bad_ones_are_listed(single):
    rows = rows_of(single)
    assert len(rows) == 9 * 2
    colors = {0: "red", 1: "green", 2: "blue"}
    for row in rows:
        color = colors[int(Path(row["name"]).stem) % 3]
        assert row["answer"] == ANSWERS[color][QUESTIONS.index(row["question"])]
        assert 0 < row["confidence"] <= 1
        assert len(row["evidence"]) == 4
    with (single / "rejected.csv").open(encoding="utf-8", newline="") as file:
        (bad,) = csv.DictReader(file)
    assert bad["name"] == "first/2b.jpg"
    assert bad["reason"]


def test_a_finished_shard_is_not_repeated(predict, checkpoint, frames, single, tmp_path, capsys):
    output = tmp_path / "answers"
    output.mkdir()
    for path in single.iterdir():
        (output / path.name).write_bytes(path.read_bytes())
    (output / "answers-00001.parquet").unlink()
    kept = (output / "answers-00000.parquet").stat().st_mtime_ns
    arguments = ("--source", frames, "--output", output, "--shard-frames", 4)
    assert run(predict, checkpoint, *arguments) == 0
    assert "4 frames answered" in capsys.readouterr().out
    assert (output / "answers-00000.parquet").stat().st_mtime_ns == kept
    assert rows_of(output) == rows_of(single)
    assert run(predict, checkpoint, *arguments, "--every", 2) == 2
    assert "another job" in capsys.readouterr().err


def test_answers_about_other_frames_or_by_other_weights_are_not_gone_on_with(
    predict, checkpoint, frames, tmp_path, capsys
):
    """Both at the places where the first run found them, so that only what is in them tells."""
    source, model = tmp_path / "source", tmp_path / "model"
    shutil.copytree(frames, source)
    shutil.copytree(checkpoint, model)
    arguments = ("--source", source, "--output", tmp_path / "answers")
    # A start that failed leaves no answers, and nothing that hinders the next.
    assert run(predict, model, *arguments, "--text", "Is there a car? " * 2000) == 2
    assert run(predict, model, *arguments) == 0
    capsys.readouterr()
    shutil.copy(source / "first" / "0.png", source / "0.png")
    assert run(predict, model, *arguments) == 2
    assert "about other frames or by other weights" in capsys.readouterr().err
    (source / "0.png").unlink()
    assert run(predict, model, *arguments) == 0
    weights = model / "model.safetensors"
    tensors = {name: tensor + 1 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    assert run(predict, model, *arguments) == 2
    assert "about other frames or by other weights" in capsys.readouterr().err


def test_pictures_in_a_data_set_are_turned_upright_too():
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert _decoded(0, "phone", buffer.getvalue()).image.size == (20, 40)
    assert _decoded(0, "none", b"").problem


@pytest.mark.parametrize(("turn", "corner"), [(0, (0, 0)), (90, (0, 3)), (-90, (1, 0)), (180, (3, 1))])
def test_a_video_frame_is_turned_as_players_do(turn, corner):
    """`rotation` is in degrees against the clock (PyAV); of a picture 4 wide and 2 high, a corner is red."""
    picture = Image.new("RGB", (4, 2))
    picture.putpixel((0, 0), (255, 0, 0))
    shown = upright(SimpleNamespace(rotation=turn, to_image=lambda: picture))
    assert shown.getpixel(corner) == (255, 0, 0)


@pytest.mark.parametrize("way", ["torchrun", "ray"])
def test_two_workers_give_the_same_rows(checkpoint, frames, single, tmp_path, way):
    if way == "ray":
        pytest.importorskip("ray", reason="needs the extra [ray]")
    script = ["scripts/predict.py", "--checkpoint", str(checkpoint), *ASK, "--source", str(frames)]
    script += ["--shard-frames", "4", "--output", str(tmp_path / "answers")]
    command = [*processes(2), *script] if way == "torchrun" else [sys.executable, *script, "--ray", "2"]
    environment = dict(ON_CPU)
    if not torch.accelerator.is_available():
        del environment["ACCELERATE_USE_CPU"]  # as a user starts it
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=400
    )
    assert done.returncode == 0, done.stderr
    if way == "torchrun":
        assert done.stdout.count("answers in") == 1
        assert "this process answered 5 frames" in done.stdout, (
            "shards 0 and 2 of three: the rest is the other's"
        )
    assert rows_of(tmp_path / "answers") == rows_of(single)


def test_a_data_set_is_read_by_split(predict, checkpoint, pictures, tmp_path):
    cells = []
    for picture in pictures.values():
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    (tmp_path / "set" / "data").mkdir(parents=True)
    for split in ("train", "val", "paraphrase"):  # of which the last has frames of val again
        table = pa.table({"image_id": [f"{split}-{color}" for color in pictures], "image": cells})
        pq.write_table(table, tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
    output = tmp_path / "answers"
    assert run(predict, checkpoint, "--source", tmp_path / "set", "--split", "val", "--output", output) == 0
    assert {row["name"] for row in rows_of(output)} == {f"val-{color}" for color in pictures}
    assert run(predict, checkpoint, "--source", tmp_path / "set", "--output", tmp_path / "all") == 0
    names = {row["name"] for row in rows_of(tmp_path / "all")}
    assert names == {f"{split}-{color}" for split in ("train", "val") for color in pictures}


def test_a_video_is_read_frame_by_frame(predict, checkpoint, tmp_path):
    av = pytest.importorskip("av", reason="needs the extra [video]")
    path = tmp_path / "drive.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 176, "yuv420p"
        for number in range(6):
            shade = np.full((176, 320, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode())
    output = tmp_path / "answers"
    assert run(predict, checkpoint, "--source", path, "--every", 2, "--output", output) == 0
    names = sorted({row["name"] for row in rows_of(output)})
    assert names == ["drive.mp4@0.000s", "drive.mp4@0.200s", "drive.mp4@0.400s"]


def test_bad_requests_are_one_line(predict, checkpoint, frames, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.mp4").write_bytes(b"no video")
    (tmp_path / "x.txt").write_text("words")
    for source, complaint in (
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "empty", "no pictures"),
        (tmp_path / "x.mp4", "cannot be read"),
        (tmp_path / "x.txt", "neither a picture"),
    ):
        assert run(predict, checkpoint, "--source", source, "--output", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert complaint in error
        assert error.count("\n") == 1
    assert run(predict, checkpoint, "--source", frames, "--split", "val", "--output", tmp_path / "out") == 2
    assert "no data set with a split 'val'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(predict, checkpoint, "--source", frames, "--output", frames / "out") == 2
    assert "inside the source" in capsys.readouterr().err
    assert not (frames / "out").exists()
    assert run(predict, checkpoint, "--source", frames, "--output", tmp_path / "out", "--every", 0) == 2
