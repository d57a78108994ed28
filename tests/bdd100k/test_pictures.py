"""The fast way from JPEG files to arrays shows the same as Pillow, refuses the same, streams by node."""

import io

import numpy as np
import pytest
from PIL import Image
from traffic_vlm.processing.bdd100k import pictures
from traffic_vlm.processing.bdd100k.build import BuildOptions, build
from traffic_vlm.processing.synthetic import render_dataset, render_scene


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return render_scene(3).image


def encoded(image: Image.Image, size: tuple[int, int], kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(512, 288), (1280, 720), (290, 164), (200, 120), (2600, 360)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_both_ways_show_the_same(image, size, mode):
    data = encoded(image.convert(mode), size)
    fast, slow = (way(data, 160, 288) for way in (pictures.decode, pictures._decode_slowly))
    assert fast.shape == slow.shape == (160, 288, 3)
    assert fast.dtype == np.uint8
    blurred = [np.asarray(Image.fromarray(pixels).reduce(4), np.int16) for pixels in (fast, slow)]
    assert np.abs(blurred[0] - blurred[1]).mean() < 2  # the filters differ in sharpness, not in place
    wrong = np.abs(blurred[0] - np.roll(blurred[1], 1, axis=1)).mean()
    assert wrong > 2 * np.abs(blurred[0] - blurred[1]).mean()


def test_other_formats_and_missing_libraries_go_through_pillow(image, monkeypatch):
    png = pictures.decode(encoded(image, (512, 288), "PNG"), 160, 288)
    assert png.shape == (160, 288, 3)
    monkeypatch.setattr(pictures, "simplejpeg", None)
    data = encoded(image, (512, 288))
    assert (pictures.decode(data, 160, 288) == pictures._decode_slowly(data, 160, 288)).all()


@pytest.mark.parametrize("size", [(512, 288), (288, 160), (1280, 720)])
def test_a_batch_holds_what_each_picture_is_alone(image, size, monkeypatch):
    files = [encoded(image, size), encoded(image, size, "PNG"), encoded(image.rotate(180), size)]
    for _ in range(2):
        alone = [pictures.decode(data, 160, 288) for data in files]
        assert (pictures.collate(files, 160, 288) == np.stack(alone)).all()
        monkeypatch.setattr(pictures, "simplejpeg", None)


@pytest.mark.parametrize("fast", [True, False])
def test_a_picture_that_is_not_whole_is_refused(image, fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(pictures, "simplejpeg", None)
    data = encoded(image, (512, 288))
    for broken in (data[: len(data) // 2], b"", b"nothing", data[:30]):
        with pytest.raises(OSError):
            pictures.decode(broken, 160, 288)


def test_collating_and_streaming_by_node(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    render_dataset(tmp_path / "release", 6, size=(256, 144), splits={"train": 0.0, "val": 1.0})
    options = BuildOptions(source="synthetic", splits=("val",), frames_a_shard=2)
    build(tmp_path / "release", tmp_path / "data", options)
    names: list[list[str]] = [[], []]
    for node in range(2):
        for frames, rows in pictures.stream_batches(tmp_path / "data", "val", (72, 128), 2, node, 2):
            assert frames.shape == (len(rows), 72, 128, 3)
            names[node] += [row["image_id"] for row in rows]
            path = tmp_path / "release" / "images" / "100k" / "val" / f"{rows[0]['image_id']}.jpg"
            assert (frames[0] == pictures.decode(path.read_bytes(), 72, 128)).all()
            assert rows[0]["questions"][0]["question"]
    assert sorted(names[0] + names[1]) == [f"synthetic-{seed:06d}" for seed in range(6)]
    assert all(names)
