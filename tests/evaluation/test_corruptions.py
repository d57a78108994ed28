"""Corruptions change a picture, more with severity, the same with the same seed, and keep its size."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from traffic_vlm.evaluation.corruptions import ALL, COMMON, corrupt


@pytest.fixture(scope="module")
def picture():
    canvas = Image.new("RGB", (512, 288), (110, 140, 180))
    draw = ImageDraw.Draw(canvas)
    draw.polygon([(180, 288), (240, 130), (270, 130), (400, 288)], fill=(70, 70, 75))
    for i in range(14):
        draw.rectangle([i * 36, 90 + 5 * i, i * 36 + 20, 130 + 7 * i], fill=(20 * i % 255, 255 - 15 * i, 60))
    return canvas


def distance(a, b):
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())


def test_there_are_fifteen_common_ones():
    assert len(COMMON) == 15


@pytest.mark.parametrize("name", list(ALL))
def test_a_corruption_grows_with_severity_and_is_reproducible(picture, name):
    weak, strong = corrupt(picture, name, 1), corrupt(picture, name, 5)
    assert weak.size == strong.size == picture.size
    assert 0.2 < distance(weak, picture) < distance(strong, picture)
    assert corrupt(picture, name, 1).tobytes() == weak.tobytes()


def test_frames_of_any_size_come_to_the_working_height(picture):
    assert corrupt(picture.resize((1280, 720)), "fog", 2).size == (512, 288)


def test_an_unknown_corruption_is_refused(picture):
    with pytest.raises(ValueError, match="no corruption 'rust'"):
        corrupt(picture, "rust", 1)
    with pytest.raises(ValueError, match="severity 6"):
        corrupt(picture, "fog", 6)
