import io

import numpy as np
import pytest
import torch
from PIL import Image
from traffic_vlm.training import recipe
from traffic_vlm.training.collator import Collator
from traffic_vlm.training.trainer import Trainer
from traffic_vlm.training.weather import CHANGES, asks_about_weather, change, compress


def frames(count=4, height=48, width=80):
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.stack([rows * 3 % 256, columns * 3 % 256, (rows + columns) % 256], -1).astype(np.uint8)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float().repeat(count, 1, 1, 1) / 127.5 - 1


@pytest.mark.parametrize("quality", [15, 40, 60])
def test_compression_is_what_a_jpeg_file_does(quality):
    images = frames(1)
    pixels = ((images[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    expected = np.asarray(Image.open(file)).astype(float)
    ours = (compress(images, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(ours - expected).mean() < 1.5  # decoders round differently
    assert np.abs(pixels - expected).mean() > 1.0  # there was something to lose


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_seen_and_mild_and_repeat(name):
    images, keeps = frames(), torch.zeros(4, dtype=torch.bool)
    changed = change(images.clone(), {name: 1.0}, keeps, torch.Generator().manual_seed(3))
    again = change(images.clone(), {name: 1.0}, keeps, torch.Generator().manual_seed(3))
    assert torch.equal(changed, again)
    assert changed.shape == images.shape
    assert changed.abs().max() <= 1
    assert 0.004 < (changed - images).abs().mean() < 0.7
    kept = [
        np.corrcoef(a.flatten(), b.flatten())[0, 1]
        for a, b in zip(images.numpy(), changed.numpy(), strict=True)
    ]
    assert min(kept) > 0.7  # what is there stays visible


@pytest.mark.parametrize("name", [name for name, entry in CHANGES.items() if entry.is_weather])
def test_frames_asked_about_weather_keep_theirs(name):
    images, keeps = frames(), torch.tensor([True, False, True, False])
    changed = change(images.clone(), {name: 1.0}, keeps, torch.Generator().manual_seed(0))
    same = [torch.equal(a, b) for a, b in zip(images, changed, strict=True)]
    assert same == [True, False, True, False]


def test_the_collator_knows_who_is_asked_about_weather(make_recipe):
    options = ("data.family_share={weather: 1000}", "data.questions_per_image=1")
    asked, never = (
        Trainer(make_recipe(*options[i:], *more, output=f"w{i}"))._loader(0).dataset.collator
        for i, more in (
            (0, ()),
            (
                1,
                (
                    "data.family_share={weather: 0, weather_is: 0, time_of_day: 0, "
                    "time_is: 0, visibility: 0, describe: 0}",
                ),
            ),
        )
    )
    assert isinstance(asked, Collator)
    assert asked(0, np.arange(8)).keeps_weather.any()
    assert not never(0, np.arange(8)).keeps_weather.any()
    assert asks_about_weather("weather_rainy")
    assert not asks_about_weather("presence_car")


def test_names_in_recipes_are_those_of_the_registry():
    assert set(recipe.CHANGES) == set(CHANGES)
