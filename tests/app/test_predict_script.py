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
from traffic_vlm.evaluation import command
from traffic_vlm.processing.fleet import Job, answer_shards, open_shards
from traffic_vlm.processing.frames import read_frames, upright

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


def write_video(path: Path, frames: int = 6, spoilt: tuple[int, ...] = ()) -> None:
    """Ten frames a second, each brighter than the last; the packets of some are of nothing but zeros."""
    av = pytest.importorskip("av", reason="needs the extra [video]")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 176, "yuv420p"
        shades = [np.full((176, 320, 3), 40 * number, np.uint8) for number in range(frames)]
        pictures = [av.VideoFrame.from_ndarray(shade, format="rgb24") for shade in shades]
        packets = [packet for picture in (*pictures, None) for packet in stream.encode(picture)]
        for number, packet in enumerate(packets):
            if number in spoilt:
                bad = av.Packet(bytes(200))
                bad.stream, bad.pts, bad.dts, bad.time_base = stream, packet.pts, packet.dts, packet.time_base
                packet = bad
            container.mux(packet)


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


def test_answers_by_another_tokenizer_or_to_nobody_knows_what_are_not_gone_on_with(
    predict, checkpoint, frames, single, tmp_path, capsys
):
    output, model = tmp_path / "answers", tmp_path / "model"
    shutil.copytree(single, output)
    (output / "job.json").unlink()
    assert run(predict, checkpoint, "--source", frames, "--output", output, "--shard-frames", 4) == 2
    assert "no job.json says to what" in capsys.readouterr().err
    assert not (output / "job.json").exists()
    shutil.copytree(checkpoint, model)
    arguments = ("--source", frames / "second", "--output", tmp_path / "more")
    assert run(predict, model, *arguments) == 0
    names = ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "generation_config.json")
    for name in names:
        before = (model / name).read_bytes()
        (model / name).write_bytes(before + b"\n")
        assert run(predict, model, *arguments) == 2, name
        assert "by other weights" in capsys.readouterr().err
        (model / name).write_bytes(before)
    assert run(predict, model, *arguments) == 0


def test_shards_left_open_are_dealt_out_evenly(predict, checkpoint, frames, single, tmp_path, monkeypatch):
    """Of five shards three were answered, which a dealing by number alone would have given to one process."""
    (first, second), whole = [tmp_path / name for name in ("first", "second")], tmp_path / "whole"
    arguments = ("--source", frames, "--shard-frames", 2, "--output")
    assert run(predict, checkpoint, *arguments, whole) == 0
    for output in (first, second):
        shutil.copytree(whole, output)
        record = (output / "job.json").read_text(encoding="utf-8")
        assert str(whole) not in record
        for shard in (1, 3):
            (output / f"answers-{shard:05d}.parquet").unlink()
    for rank, output, answered in ((0, first, {0, 1, 2, 4}), (1, second, {0, 2, 3, 4})):
        state = SimpleNamespace(
            process_index=rank, num_processes=2, is_main_process=rank == 0, device="cpu",
            wait_for_everyone=lambda: None,
        )  # fmt: skip
        monkeypatch.setattr(predict, "processes", lambda state=state: state)
        assert run(predict, checkpoint, *arguments, output) == 0
        assert {int(path.stem[-5:]) for path in output.glob("answers-*.parquet")} == answered


def test_shards_of_which_no_frame_is_asked_about_are_not_dealt_out(tmp_path):
    job = Job("frames", str(tmp_path), "model", every=5, shard_frames=2)
    assert open_shards(job, 13) == [0, 2, 5], "of frames 0, 5 and 10"
    job.shard_path(2).touch()
    assert open_shards(job, 13) == [0, 5]
    assert open_shards(job, 0) == []


def test_who_is_done_early_waits_for_days(monkeypatch):
    made = []
    monkeypatch.setattr(command, "PartialState", lambda **given: made.append(given))
    command.processes()
    assert made[0]["timeout"].days >= 1


def test_pictures_in_a_data_set_are_turned_upright_too(tmp_path):
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    table = pa.table(
        {"image": [{"bytes": content} for content in (buffer.getvalue(), b"", buffer.getvalue())]}
    )
    pq.write_table(table, tmp_path / "set.parquet")
    phone, none = read_frames(tmp_path / "set.parquet", until=2)
    assert phone.image.size == (20, 40)
    assert none.problem


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
    path = tmp_path / "drive.mp4"
    write_video(path)
    output = tmp_path / "answers"
    assert run(predict, checkpoint, "--source", path, "--every", 2, "--output", output) == 0
    names = sorted({row["name"] for row in rows_of(output)})
    assert names == ["drive.mp4@0.000s", "drive.mp4@0.200s", "drive.mp4@0.400s"]


def test_videos_in_a_folder_are_read_beside_pictures_and_numbers_go_on(
    predict, checkpoint, pictures, tmp_path
):
    source = tmp_path / "drives"
    (source / "monday").mkdir(parents=True)
    write_video(source / "monday" / "drive.mp4", 3)
    write_video(source / "tuesday.MP4", 2)
    (source / "no.mp4").write_bytes(b"no video")
    pictures["red"].save(source / "still.png")
    found = list(read_frames(source))
    assert [(frame.index, frame.name) for frame in found] == [
        (0, "monday/drive.mp4@0.000s"),
        (1, "monday/drive.mp4@0.100s"),
        (2, "monday/drive.mp4@0.200s"),
        (3, "no.mp4"),
        (4, "still.png"),
        (5, "tuesday.MP4@0.000s"),
        (6, "tuesday.MP4@0.100s"),
    ]
    assert [frame.index for frame in found if frame.image is None] == [3]
    assert "cannot be read" in found[3].problem
    output = tmp_path / "answers"
    assert run(predict, checkpoint, "--source", source, "--output", output) == 0
    assert {row["frame"] for row in rows_of(output)} == {0, 1, 2, 4, 5, 6}
    assert "no.mp4" in (output / "rejected.csv").read_text(encoding="utf-8")


def test_pictures_of_a_folder_are_read_where_its_videos_cannot_be(pictures, tmp_path, monkeypatch):
    (tmp_path / "drive.mp4").write_bytes(b"a video")
    pictures["red"].save(tmp_path / "still.png")
    monkeypatch.setitem(sys.modules, "av", None)
    video, still = read_frames(tmp_path)
    assert still.image is not None
    assert "pip install 'traffic-vlm[video]'" in video.problem
    with pytest.raises(ImportError, match="video"):
        list(read_frames(tmp_path / "drive.mp4"))


def test_of_a_damaged_video_the_rest_is_read(predict, checkpoint, tmp_path):
    path, output = tmp_path / "drive.mp4", tmp_path / "answers"
    write_video(path, 6, spoilt=(2,))
    found = list(read_frames(path))
    assert [frame.index for frame in found] == list(range(6)), "the last comes with the end of the file"
    assert [frame.name for frame in found if frame.image is None] == ["drive.mp4@0.200s"]
    assert "damaged at 0.200 s" in found[2].problem
    assert abs(found[5].image.getpixel((9, 9))[0] - 200) < 8, "later frames keep their numbers"
    assert run(predict, checkpoint, "--source", path, "--shard-frames", 4, "--output", output) == 0
    assert {row["frame"] for row in rows_of(output)} == {0, 1, 3, 4, 5}
    assert len(list(output.glob("answers-*.parquet"))) == 2, "what is counted is what is read"


def test_nothing_is_read_behind_the_last_shard_that_is_wanted(pipe, tmp_path, monkeypatch):
    av = pytest.importorskip("av", reason="needs the extra [video]")
    source, opened, real = tmp_path / "drives", [], av.open
    source.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(source / name, 4)
    monkeypatch.setattr(av, "open", lambda path: opened.append(Path(path).name) or real(path))
    (tmp_path / "out").mkdir()
    job = Job(str(source), str(tmp_path / "out"), "none", QUESTIONS, shard_frames=2)
    assert sum(good for good, _ in answer_shards(pipe, job, [1, 2])) == 4
    assert opened == ["a.mp4", "b.mp4"]
    assert list(answer_shards(pipe, job, [])) == []
    assert [frame.index for frame in read_frames(source, lambda index: index % 2 == 0, until=5)] == [0, 2, 4]


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
