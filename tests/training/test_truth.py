"""No change of a frame makes an answer false: lamps keep their colour, evidence and labels stay in sight."""

import numpy as np
import pytest
import torch
from traffic_vlm.training.augmentation import erase, photometric
from traffic_vlm.training.collator import IGNORED, PATCH_LABELS, patch_targets
from traffic_vlm.training.trainer import Trainer
from traffic_vlm.training.weather import CHANGES

LAMPS = {"red": (0.90, 0.25, 0.20), "green": (0.25, 0.85, 0.65)}
FRAMES = 128


def lamps(colour, size):
    """Street frames with one lit lamp in a dark housing, and where each lamp is."""
    generator = np.random.default_rng(size)
    frames, places = torch.zeros(FRAMES, 3, 96, 160), []
    for frame in frames:
        frame += torch.tensor(generator.uniform(0.1, 0.7, 3), dtype=torch.float32).view(3, 1, 1)
        top, left = generator.integers(8, 60, 2)  # anywhere in a block of 8 x 8 that JPEG knows
        frame[:, top - 1 : top + 3 * size, left - 1 : left + size + 1] = 0.1
        places.append((slice(top, top + size), slice(left, left + size)))
        frame[:, places[-1][0], places[-1][1]] = torch.tensor(LAMPS[colour]).view(3, 1, 1)
    return frames * 2 - 1, places


def leads(frames, places, colour):
    """By how much the lamps' own colour is brighter than the other one, `(frames,)`."""
    seen = torch.stack([frame[:, y, x].mean((1, 2)) for frame, (y, x) in zip(frames, places, strict=True)])
    return (seen[:, 0] - seen[:, 1]) / 2 * (1 if colour == "red" else -1)


@pytest.mark.parametrize("colour", LAMPS)
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", ["photometric", *CHANGES])
def test_a_lamp_keeps_its_colour(name, size, colour):
    frames, places = lamps(colour, size)
    assert leads(frames, places, colour).min() > 0.5
    generator = torch.Generator().manual_seed(0)
    if name == "photometric":
        changed = photometric(frames.clone(), 1.0, generator)
    else:
        changed = CHANGES[name].apply(frames.clone(), generator)
    assert leads(changed, places, colour).min() > 0.02  # not one of them, the faintest included
    assert leads(changed, places, colour).mean() > 0.2


def test_nothing_is_painted_over_labels_evidence_or_the_unknown(make_recipe):
    trainer = Trainer(make_recipe("data.erase=1", output="erase"))
    batch = next(iter(trainer._loader(0)))[0]
    batch.pixel_values.fill_(255)
    batch.patch_labels.zero_()
    batch.evidence.zero_()
    rows, columns = trainer.patches
    patches = {
        name: torch.zeros(rows, columns, dtype=torch.bool) for name in ("label", "evidence", "unknown")
    }
    patches["label"][:, : columns // 4] = True
    patches["evidence"][: rows // 3] = True
    patches["unknown"][:, -columns // 5 :] = True
    batch.patch_labels[:, patches["label"].flatten(), 3] = 1
    batch.patch_labels[:, patches["unknown"].flatten(), 2] = IGNORED
    batch.patch_labels[..., -1] = IGNORED  # an unknown lane is neither asked about nor scored
    batch.evidence[5::6, patches["evidence"].flatten()] = True  # the last of six questions about each frame
    painted = torch.zeros(rows, columns)
    for seed in range(30):
        images = trainer._images(batch, torch.Generator().manual_seed(seed))
        painted += (
            (images == 0)
            .float()
            .mean((0, 1))
            .unflatten(0, (rows, -1))
            .unflatten(2, (columns, -1))
            .mean((1, 3))
        )
    taboo = torch.stack(list(patches.values())).any(0)
    assert painted[taboo].sum() == 0
    assert painted[~taboo].sum() > 0


def test_a_place_to_erase_is_found_where_there_are_few():
    free = torch.zeros(200, 14, 24, dtype=torch.bool)
    free[:, :5] = True  # only the sky
    images = torch.ones(200, 3, 14, 24)
    erase(images, free, 1.0, torch.Generator().manual_seed(0))
    found = (images == 0).any(3).any(2).any(1).float().mean()
    assert found > 0.85, "one try finds it in a third of the frames"
    assert (images[:, :, 5:] == 1).all()


def test_a_thing_of_unknown_kind_makes_its_group_unknown_and_nothing_absent():
    box = [0.0, 0.0, 0.5, 0.5]
    thing = {"category": "other person", "box": box, "light": None}
    walker = {"category": "pedestrian", "box": [0.0, 0.0, 0.25, 0.25], "light": None}
    for things in ([thing, walker], [walker, thing]):
        row = {"objects": things, "drivable": None}
        targets = patch_targets(row, (4, 4), flipped=False).reshape(4, 4, -1)
        pedestrian, rider, car = (PATCH_LABELS.index(name) for name in ("pedestrian", "rider", "car"))
        assert targets[0, 0, pedestrian] == 1
        assert targets[1, 1, pedestrian] == targets[0, 0, rider] == IGNORED
        assert targets[3, 3, pedestrian] == targets[0, 0, car] == 0
