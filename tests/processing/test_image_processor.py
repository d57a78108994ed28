import base64
import contextlib
import functools
import http.server
import io
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from traffic_vlm.processing import image_processing_traffic_vlm as module
from traffic_vlm.processing.image_processing_traffic_vlm import TrafficVLMImageProcessor, open_image, to_rgb


@pytest.fixture(scope="module")
def frame() -> Image.Image:
    """A colourful 16:9 picture whose left and right, top and bottom differ."""
    y, x = np.mgrid[0:180, 0:320].astype(np.float32)
    pixels = np.stack([x / 320, y / 180, (np.sin(x / 9) * np.cos(y / 7) + 1) / 2], axis=-1)
    return Image.fromarray((pixels * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def processor() -> TrafficVLMImageProcessor:
    return TrafficVLMImageProcessor()


def pixels(processor, image, **kwargs) -> np.ndarray:
    return processor(image, return_tensors="np", **kwargs)["pixel_values"]


def test_shape_range_and_layout(processor, frame):
    values = pixels(processor, frame)
    assert values.shape == (1, 3, 160, 288)
    assert values.dtype == np.float32
    assert values.min() >= -1
    assert values.max() <= 1
    red, green = values[0, 0], values[0, 1]
    assert red[:, 0].mean() < -0.9 < 0.9 < red[:, -1].mean(), "red grows to the right"
    assert green[0].mean() < -0.9 < 0.9 < green[-1].mean(), "green grows to the bottom"


def test_known_values_are_normalised_as_documented(processor):
    values = pixels(processor, Image.new("RGB", (31, 17), (255, 0, 51)))
    assert np.allclose(values[0, :, 80, 100], [1.0, -1.0, -0.6], atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_any_mode(processor, frame, mode):
    if mode == "PA":
        image = frame.convert("P").convert("PA")
    elif mode in ("I", "F"):
        image = frame.convert("L").convert(mode)
    else:
        image = frame.convert(mode)
    values = pixels(processor, image)
    expected = pixels(processor, frame.convert("L") if mode in ("1", "L", "LA", "I", "F") else frame)
    assert values.shape == expected.shape
    likeness = np.corrcoef(values.ravel(), expected.ravel())[0, 1]
    assert likeness > (0.3 if mode == "1" else 0.95), f"mode {mode} shows another picture"


def test_sixteen_bit_grey_keeps_its_range(processor, frame):
    grey = np.asarray(frame.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert np.allclose(pixels(processor, deep), pixels(processor, frame.convert("L")), atol=0.01)
    dark = Image.fromarray(np.full((9, 16), 200, dtype=np.uint16))
    assert pixels(processor, dark).max() < -0.98, "200 of 65535 is nearly black"


def test_transparency_becomes_white(processor):
    assert np.allclose(pixels(processor, Image.new("RGBA", (16, 9), (0, 0, 0, 0))), 1.0)
    assert np.allclose(pixels(processor, Image.new("LA", (16, 9), (0, 0))), 1.0)


def test_exif_orientation(processor, frame, tmp_path):
    turned = frame.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise to see it upright
    turned.save(tmp_path / "turned.png", exif=exif)
    assert open_image(tmp_path / "turned.png").size == frame.size
    assert np.allclose(pixels(processor, str(tmp_path / "turned.png")), pixels(processor, frame))


@given(width=st.integers(1, 400), height=st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_any_size(width, height):
    values = pixels(TrafficVLMImageProcessor(), Image.new("RGB", (width, height), (255, 255, 255)))
    assert values.shape == (1, 3, 160, 288)
    assert np.allclose(values, 1.0)


def test_shrinking_does_not_alias(processor):
    stripes = np.zeros((1600, 2880, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(pixels(processor, stripes)).max() < 0.05, "one-pixel stripes must average to grey"


def test_arrays_and_tensors_give_the_same_as_pictures(processor, frame):
    expected = pixels(processor, frame)
    array = np.asarray(frame)
    assert np.array_equal(pixels(processor, array), expected)
    assert np.array_equal(pixels(processor, array.transpose(2, 0, 1)), expected)
    assert np.array_equal(pixels(processor, torch.from_numpy(array.copy())), expected)
    assert np.array_equal(pixels(processor, np.stack([array, array]))[1:], expected)
    fractions = array.astype(np.float32) / 255
    assert np.allclose(pixels(processor, fractions), expected, atol=1e-5)
    assert np.allclose(pixels(processor, fractions, do_rescale=False), expected, atol=1e-5)
    assert pixels(processor, [frame, [array]]).shape[0] == 2
    half = torch.from_numpy(fractions).bfloat16()
    assert np.allclose(pixels(processor, half), expected, atol=0.02), "NumPy knows no bfloat16"
    assert np.array_equal(pixels(processor, torch.stack([half, half]))[1:], pixels(processor, half))


def test_jpeg_at_reduced_size_looks_like_the_full_decode(processor, frame, tmp_path):
    path = tmp_path / "frame.jpg"
    frame.resize((1280, 720), Image.Resampling.BICUBIC).save(path, quality=95)
    fast = pixels(processor, path)
    slow = pixels(processor, open_image(path))
    assert open_image(path, (160, 288)).size == (640, 360)
    assert np.abs(fast - slow).mean() < 0.01
    assert open_image(path).size == (1280, 720)


def test_reads_data_and_http_addresses(processor, frame, tmp_path):
    buffer = io.BytesIO()
    frame.save(buffer, "PNG")
    (tmp_path / "frame.png").write_bytes(buffer.getvalue())
    expected = pixels(processor, frame)
    address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert np.array_equal(pixels(processor, address), expected)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert np.array_equal(pixels(processor, f"{address}/frame.png"), expected)
        with pytest.raises(OSError, match="could not be downloaded"):
            open_image(f"{address}/missing.png")
        server.shutdown()


@pytest.fixture
def bad_files(tmp_path, frame):
    """Pictures that cannot be read, and a word that the complaint must hold."""
    buffer = io.BytesIO()
    frame.save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    frame.save(buffer, "PNG")
    png = buffer.getvalue()
    contents = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"this is no picture", "not a picture"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "damaged or truncated"),
        "half.png": (png[: len(png) // 2], "damaged or truncated"),
        "head.jpg": (jpeg[:20], "picture"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    return {tmp_path / name: complaint for name, (_, complaint) in contents.items()}


def test_bad_pictures_are_refused_in_one_line_that_names_the_file(processor, bad_files):
    for path, complaint in bad_files.items():
        with pytest.raises(ValueError, match=complaint) as caught:
            processor(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_kinds_that_other_programs_would_draw_are_refused(frame, tmp_path):
    """Of PostScript, Pillow reads the size and leaves the rest to Ghostscript; the name tells nothing."""
    frame.save(tmp_path / "frame.png", "EPS")
    with pytest.raises(ValueError, match=r"frame\.png: not a picture of a known kind"):
        open_image(tmp_path / "frame.png")


@pytest.mark.parametrize("kind", [*module.KINDS, "MPO"])
def test_known_kinds_are_read_whatever_they_are_called(frame, tmp_path, kind):
    frame.save(tmp_path / "frame.bin", kind)
    assert open_image(tmp_path / "frame.bin").size == frame.size


def test_missing_file_and_folder(processor, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg: no such file"):
        processor(str(tmp_path / "missing.jpg"))
    with pytest.raises(OSError, match="is a folder"):
        processor(tmp_path)


def test_absurdly_large_pictures_are_refused_before_decoding(processor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    Image.new("L", (100, 11)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large\.png: absurdly large picture \(100 x 11\)"):
        processor(tmp_path / "large.png")
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 600
    )  # Pillow warns from here on, and refuses from the double
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="absurdly large picture"):
            processor(tmp_path / "large.png")
    with pytest.raises(ValueError, match="absurdly large"):
        processor(np.zeros((100, 11, 3), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="absurdly large"):
        processor(tmp_path / "large.png")


@pytest.mark.parametrize(
    "image", [None, 3, {}, object(), [], np.zeros((0, 4, 3)), np.zeros(5), np.zeros((2, 5, 7))]
)
def test_things_that_are_no_picture(processor, image):
    with pytest.raises(ValueError):
        processor(image)


@pytest.mark.parametrize("layout", [None, "channels_last"])
def test_an_array_of_too_many_or_too_few_channels_is_refused_by_its_shape(processor, layout):
    with pytest.raises(
        ValueError, match=r"1, 3 or 4 channels .* \(9, 16, 5\)\. Turn it into grey, RGB or RGBA"
    ):
        processor(np.zeros((9, 16, 5), dtype=np.uint8), input_data_format=layout)


def test_grey_with_alpha_is_read_where_its_channels_are_named(processor):
    clear = np.zeros((9, 16, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"\(9, 16, 2\).*input_data_format"):
        processor(clear)
    assert np.allclose(pixels(processor, clear, input_data_format="channels_last"), 1.0)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_broken_bytes_never_raise_anything_else(data, tmp_path_factory):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 18), (9, 99, 199)).save(
        buffer, data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF"]))
    )
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("broken") / "image.bin"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(ValueError):
        assert open_image(path, (160, 288)).mode == "RGB"


def test_sizes_are_checked(processor, frame):
    assert pixels(processor, frame, size=(32, 48)).shape == (1, 3, 32, 48)
    with pytest.raises(ValueError, match="height"):
        TrafficVLMImageProcessor(size={"shortest_edge": 160})
    with pytest.raises(ValueError, match="different sizes"):
        processor([frame, frame.crop((0, 0, 50, 50))], do_resize=False)


def test_save_and_load(processor, frame, tmp_path):
    custom = TrafficVLMImageProcessor(size={"height": 64, "width": 128}, image_mean=[0.1, 0.2, 0.3])
    custom.save_pretrained(tmp_path)
    again = TrafficVLMImageProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == custom.to_dict()
    assert np.array_equal(pixels(again, frame), pixels(custom, frame))


def test_rgb_pictures_stay_as_they_are(frame):
    assert np.array_equal(to_rgb(frame), frame)


def test_importing_does_not_import_torchvision():
    code = (
        "import sys\n"
        "import traffic_vlm.processing.image_processing_traffic_vlm\n"
        "import traffic_vlm.processing.processing_traffic_vlm\n"
        "sys.exit('torchvision' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
