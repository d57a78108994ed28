import numpy as np
import pytest
from PIL import Image
from traffic_vlm.evaluation.overlay import draw_heat, draw_overlay, plasma, stack_panels


@pytest.fixture
def frame() -> Image.Image:
    return Image.new("RGB", (512, 288), (90, 90, 90))


@pytest.fixture
def evidence_map() -> np.ndarray:
    """Everything in the patch at the lower right."""
    grid = np.zeros((10, 18), dtype=np.float32)
    grid[8, 15] = 1
    return grid


def test_heat_lies_where_the_map_is_strong(frame, evidence_map):
    heat = np.asarray(draw_heat(frame, evidence_map)).astype(int)
    changed = np.abs(heat - 90).sum(axis=-1)
    assert heat.shape == (288, 512, 3)
    y, x = np.unravel_index(changed.argmax(), changed.shape)
    assert (y // 28.8, x // (512 / 18)) == (8, 15)
    assert changed[:144, :256].max() == 0, "what the model did not look at stays untouched"


def test_colours_grow_steadily_in_brightness():
    colors = plasma(np.linspace(0, 1, 64)).astype(float)
    brightness = colors @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(brightness) >= -0.5).all(), "a map that is read by brightness must not double back"
    assert brightness[-1] - brightness[0] > 150


def test_the_frame_keeps_its_size_and_gets_a_caption(frame, evidence_map):
    overlay = draw_overlay(frame, evidence_map, "Is it clear?", "Yes.", 0.9)
    assert overlay.width == 512
    assert overlay.height > 288 + 40
    assert np.array_equal(
        np.asarray(overlay.crop((0, 0, 512, 288))), np.asarray(draw_heat(frame, evidence_map))
    )
    caption = np.asarray(overlay.crop((0, 288, 512, overlay.height)).convert("L"))
    assert (caption < 60).sum() > 50, "there is dark ink on the paper"
    assert (caption[:, :5] > 250).all(), "and a margin"


def test_long_text_wraps_instead_of_running_off(frame, evidence_map):
    short = draw_overlay(frame, evidence_map, "Is it?", "Yes.", 0.5)
    long = draw_overlay(frame, evidence_map, "Is it really? " * 12, "W" * 200, 0.5)
    assert long.width == 512
    assert long.height > short.height + 50
    edge = np.asarray(long.crop((506, 288, 512, long.height)).convert("L"))
    assert (edge > 250).all()


def test_confidence_and_doubt_are_visible(frame, evidence_map):
    def blue_pixels(confidence, abstained=False):
        caption = draw_overlay(frame, evidence_map, "Is it?", "Yes.", confidence, abstained).crop(
            (0, 288, 512, 400)
        )
        pixels = np.asarray(caption).astype(int)
        return int(((pixels[..., 2] > 150) & (pixels[..., 0] < 30)).sum())

    assert blue_pixels(0.9) > 1.5 * blue_pixels(0.5) > 0
    assert blue_pixels(0.9, abstained=True) < blue_pixels(0.9) / 2


def test_box_is_outlined(frame, evidence_map):
    plain = np.asarray(draw_overlay(frame, evidence_map, "Is it?", "Yes.", 0.5)).astype(int)
    boxed = np.asarray(
        draw_overlay(frame, evidence_map, "Is it?", "Yes.", 0.5, boxes=[(0.25, 0.25, 0.5, 0.75)])
    )
    changed = np.argwhere((boxed.astype(int) != plain).any(axis=-1))
    assert np.abs(changed.min(axis=0) - (72, 128)).max() <= 3
    assert np.abs(changed.max(axis=0) - (216, 256)).max() <= 3


def test_every_box_is_outlined(frame, evidence_map):
    first, second = (0.05, 0.1, 0.15, 0.3), (0.7, 0.6, 0.9, 0.9)
    drawn = [
        np.asarray(draw_overlay(frame, evidence_map, "Is it?", "Yes.", 0.5, boxes=boxes)).astype(int)
        for boxes in ([], [first], [second], [first, second])
    ]
    changed = [(picture != drawn[0]).any(axis=-1) for picture in drawn]
    assert changed[1].any()
    assert changed[2].any()
    assert (changed[3] == (changed[1] | changed[2])).all()


def test_small_frames_and_any_mode(evidence_map):
    for mode in ("L", "RGBA", "P"):
        overlay = draw_overlay(
            Image.new(mode, (64, 36)), evidence_map, "Is it?", "", 0.0, boxes=[(0, 0, 0.01, 0.01)]
        )
        assert overlay.mode == "RGB"
        assert overlay.width == 360


def test_a_picture_on_its_side_is_drawn_as_the_model_sees_it(tmp_path, evidence_map):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    Image.new("RGB", (288, 512), (90, 90, 90)).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as picture:
        heat = draw_heat(picture, evidence_map)
        overlay = draw_overlay(picture, evidence_map, "Is it clear?", "Yes.", 0.9)
    assert heat.size == (512, 288)
    assert overlay.width == 512
    upright = draw_heat(Image.new("RGB", (512, 288), (90, 90, 90)), evidence_map)
    assert np.array_equal(np.asarray(heat), np.asarray(upright))


def test_panels_are_stacked_without_overlap(frame):
    sheet = stack_panels([frame, frame.resize((100, 50))])
    assert sheet.size == (512, 288 + 50 + 12)
    assert sheet.getpixel((50, 320)) == (90, 90, 90)
    assert sheet.getpixel((300, 320)) == (255, 255, 255)


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.full((2, 2), np.nan), np.ones(4), -np.ones((2, 2))])
def test_maps_that_are_none(frame, bad):
    with pytest.raises(ValueError, match="evidence map"):
        draw_heat(frame, bad)
