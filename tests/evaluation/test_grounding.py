"""Grounding on maps whose scores can be worked out by hand, and maps of a real model."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from traffic_vlm.evaluation import faithfulness as f
from traffic_vlm.evaluation import grounding as g
from traffic_vlm.evaluation import looking, maps

GRID = (4, 8)
BOX = (0.25, 0.25, 0.5, 0.5)  # columns 2 and 3 of row 1


def one_patch(row, column):
    attention = np.zeros(GRID)
    attention[row, column] = 1.0
    return attention


def test_patches_that_a_box_touches():
    assert np.argwhere(g.touched([BOX], GRID)).tolist() == [[1, 2], [1, 3]]
    assert g.touched([(0.0, 0.0, 1.0, 1.0)], GRID).all()
    assert g.touched([(0.999, 0.999, 1.0, 1.0)], GRID).sum() == 1
    assert g.touched([(0.5, 0.5, 0.5, 0.5)], GRID).sum() == 1  # a box of no size still stands somewhere


def test_an_even_map_has_ratio_one_and_a_pointed_map_has_more():
    even = g.score_map(np.full(GRID, 1 / 32), [BOX])
    assert even["ratio"] == pytest.approx(1)
    assert even["entropy"] == pytest.approx(1)
    pointed = g.score_map(one_patch(1, 2), [BOX])
    assert pointed["ratio"] == pytest.approx(16)
    assert pointed["entropy"] == pytest.approx(0, abs=1e-6)
    assert (pointed["pointing"], pointed["centre"]) == (1, 1)  # the box ends at the very centre
    assert g.score_map(one_patch(3, 7), [BOX])["pointing"] == 0


def test_the_pointing_game_allows_its_tolerance_and_no_more():
    box = [(0.5, 0.5, 0.6, 0.6)]
    assert g.is_hit((0.5 - 14 / 512, 0.55), box)
    assert not g.is_hit((0.5 - 16 / 512, 0.55), box)
    assert g.is_hit((0.55, 0.5 - 14 / 288), box)
    assert not g.is_hit((0.55, 0.5 - 16 / 288), box)


def test_sinks_are_patches_that_get_attention_whatever_is_asked():
    sink = np.stack([one_patch(0, 0)] * 5)
    assert g.sink_mass(sink) == pytest.approx(1)
    moving = np.stack([one_patch(i // 8, i % 8) for i in range(32)])
    assert g.sink_mass(moving) == pytest.approx(4 / 32)


def test_a_summary_has_paired_intervals():
    table = pd.DataFrame({"image_id": list("abcdef"), "evidence": [[BOX]] * 3 + [[(0.8, 0.0, 0.9, 0.1)]] * 3})
    table["family"] = "presence_car"
    attention = np.stack([one_patch(1, 2)] * 3 + [one_patch(0, 6)] * 3)
    summary = g.summarise(g.scored(table, attention))
    assert summary["pointing"] == {"mean": 1.0, "interval": (1.0, 1.0)}
    assert summary["above_centre"]["mean"] == 0.5
    low, high = summary["above_centre"]["interval"]
    assert 0 <= low < 0.5 < high <= 1


def test_the_blind_map_is_that_of_other_frames_asked_the_same():
    maps = np.stack([one_patch(1, 2), one_patch(1, 3), one_patch(0, 0), one_patch(3, 7), one_patch(2, 2)])
    frames, asked = np.array(list("aabca")), np.array(["car", "car", "car", "car", "bus"])
    blind = g.blind_maps(maps, frames, asked)
    others = (one_patch(0, 0) + one_patch(3, 7)) / 2
    assert np.allclose(blind[0], others), "neither its own map nor that of the same frame's other question"
    assert np.allclose(blind[1], others)
    assert np.allclose(blind[2], (maps[0] + maps[1] + maps[3]) / 3)
    assert np.allclose(blind[4], 1 / 32), "no other frame is asked about a bus"
    assert np.allclose(blind.sum((1, 2)), 1)


def test_maps_that_always_lie_where_cars_mostly_are_lead_the_blind_map_by_nothing():
    table = pd.DataFrame({"image_id": range(8), "family": "presence_car", "evidence": [[BOX]] * 8})
    habit = g.summarise(g.scored(table, np.stack([one_patch(1, 2)] * 8)))
    assert habit["ratio"]["mean"] == 16, "fifteen more than an even map"
    assert habit["ratio_above_blind"]["mean"] == habit["above_blind"]["mean"] == 0
    where = [(i % 4, i % 8) for i in range(8)]
    boxes = [[(c / 8 + 0.01, r / 4 + 0.01, c / 8 + 0.1, r / 4 + 0.2)] for r, c in where]
    seen = g.summarise(g.scored(table.assign(evidence=boxes), np.stack([one_patch(*at) for at in where])))
    assert seen["above_blind"]["mean"] == 1
    assert seen["ratio_above_blind"]["mean"] == 32


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_a_mean_over_categories_has_no_interval_on_a_few_frames(frames):
    rows = pd.DataFrame({"image_id": range(frames), "evidence_category": "car", "pointing": 1.0})
    assert looking.macro(rows, "pointing", 50) == {
        "mean": 1.0,
        "interval": (1.0, 1.0) if frames == 5 else None,
    }


def test_blanking_changes_the_box_and_nothing_else():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8))
    changed = np.asarray(f.blank(picture, [(0.25, 0.5, 0.5, 0.75)]))
    differs = (changed != np.asarray(picture)).any(-1)
    assert differs[45:67, 40:80].mean() > 0.95
    differs[45:68, 40:80] = False
    assert not differs.any()
    assert changed[50:60, 45:75].std() < 20


def test_elsewhere_is_as_large_and_does_not_meet_the_evidence():
    rng = np.random.default_rng(0)
    boxes = [(0.1, 0.2, 0.3, 0.5), (0.6, 0.6, 0.7, 0.9)]
    moved = f.elsewhere(boxes, rng)
    for (x1, y1, x2, y2), box in zip(moved, boxes, strict=True):
        assert (x2 - x1, y2 - y1) == pytest.approx((box[2] - box[0], box[3] - box[1]))
        assert min(x1, y1) >= 0
        assert max(x2, y2) <= 1
        assert all(x2 <= b[0] or x1 >= b[2] or y2 <= b[1] or y1 >= b[3] for b in boxes)
    assert f.elsewhere([(0.0, 0.0, 1.0, 1.0)], rng) == [None]
    assert f.elsewhere([(0.0, 0.0, 0.4, 1.0)], rng, avoid=[(0.5, 0.0, 1.0, 1.0)]) == [None]


def covered(boxes):
    """How much of the frame boxes cover together, in points of a fine grid."""
    x, y = np.meshgrid(np.linspace(0, 1, 401), np.linspace(0, 1, 401))
    return sum((x >= b[0]) & (x < b[2]) & (y >= b[1]) & (y < b[3]) for b in boxes).astype(bool).sum()


@pytest.mark.parametrize(
    "boxes",
    [
        [(0.125 * i, 0.5, 0.125 * i + 0.1, 0.6) for i in range(4)],  # moved ones must not hide each other
        [(0.1, 0.2, 0.3, 0.5), (0.2, 0.3, 0.4, 0.6), (0.25, 0.25, 0.45, 0.4)],  # nor spread what overlapped
        [(0.1, 0.1, 0.2, 0.2)] * 3,
    ],
)
def test_elsewhere_covers_as_much_as_the_evidence(boxes):
    for seed in range(20):
        moved = f.elsewhere(boxes, np.random.default_rng(seed))
        assert covered(moved) == pytest.approx(covered(boxes), rel=0.04)


class Looker:
    """Stands for a model that says its first word with the brightness of one corner."""

    def first_words(self, pictures, questions):
        light = torch.tensor([np.asarray(p)[:10, :10].mean() / 255 for p in pictures])
        return torch.stack([light, 1 - light], dim=1)

    of = f.DecisionProbability.of


def test_curves_tell_a_map_that_knows_from_one_that_does_not():
    array = np.full((90, 160, 3), 10, dtype=np.uint8)
    array[:12, :12] = 255
    pictures, questions = [Image.fromarray(array)] * 2, ["?"] * 2
    knows = np.stack([one_patch(0, 0) + 1e-6] * 2)
    not_there = np.stack([one_patch(3, 7) + np.linspace(0, 1e-3, 32).reshape(GRID)] * 2)
    good, bad = (f.curves(Looker(), pictures, questions, m) for m in (knows, not_there))
    assert good["deletion_area"] < bad["deletion_area"] - 0.2
    assert good["insertion_area"] > bad["insertion_area"] + 0.2
    drop = f.evidence_drop(Looker(), pictures, questions, [[(0.0, 0.0, 0.2, 0.34)]] * 2)
    assert (drop["clean"] - drop["evidence"]).min() > 0.3
    assert np.abs(drop["clean"] - drop["elsewhere"]).max() < 0.01


@pytest.fixture(scope="module")
def inputs(tiny, frames):
    _, processor = tiny
    inputs = dict(
        processor(text=["Is there a car?", "What is the weather like today?", "Why?"], return_tensors="pt")
    )
    inputs |= dict(processor.image_processor([frames[0]["image"], frames[1]["image"]], return_tensors="pt"))
    inputs["image_index"] = torch.tensor([0, 1, 1])
    return inputs


@pytest.mark.parametrize("name", list(maps.METHODS))
def test_maps_of_a_model_are_distributions_and_leave_it_as_it_was(tiny, inputs, name):
    model, _ = tiny
    before = model.config._attn_implementation
    attention = maps.METHODS[name](model, inputs)
    assert attention.shape == (3, 3, 6)
    assert attention.sum((1, 2)) == pytest.approx(1)
    assert model.config._attn_implementation == before
    assert all(p.grad is None for p in model.parameters())


def test_gradient_maps_are_the_gradients_of_the_attention(tiny, inputs):
    """Nudging one patch's attention in one head moves the score by the gradient that the map is made of."""
    model, _ = tiny
    seen = {}
    layer = model.model.language_model.layers[1].cross_attn
    with torch.no_grad(), maps.eager_attention(model):
        clean = model(**inputs, output_attentions=True, use_cache=False)
    rows, at = torch.arange(3), maps.last_tokens(inputs)
    words = clean.logits[rows, at].argmax(-1)

    def score(nudge):
        def push(_, args):
            read = args[0].clone()
            value = seen["value"].unflatten(-1, (-1, 16)).repeat_interleave(2, dim=2)[inputs["image_index"]]
            read[rows, at] += (nudge[..., None] * value.transpose(1, 2)).sum(2).flatten(1)
            return (read,)

        hooks = [layer.v_proj.register_forward_hook(lambda *a: seen.update(value=a[2]))]
        hooks.append(layer.o_proj.register_forward_pre_hook(push))
        try:
            out = model(**inputs, use_cache=False).logits[rows, at].log_softmax(-1)[rows, words]
        finally:
            for hook in hooks:
                hook.remove()
        return out.sum()

    nudge = torch.zeros(3, 2, 18, requires_grad=True)
    (slope,) = torch.autograd.grad(score(nudge), nudge)
    wanted = (clean.cross_attentions[1][rows, :, at] * slope).clamp(min=0).sum(1)
    # The map adds the layers up before it is normalised, so the last layer's part is no more than the sum.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "_normalised", lambda total, grid: total.detach().numpy())
        total = maps.gradient_maps(model, inputs)
    assert (total + 1e-7 >= wanted.numpy()).all()
    assert (total - wanted.numpy()).sum() > 0


def test_head_maps_hold_the_evidence_map(tiny, inputs):
    model, _ = tiny
    heads = maps.head_maps(model, inputs)
    assert heads.shape == (3, 2, 2, 3, 6)
    assert np.allclose(
        heads[:, 0].mean(1), maps.evidence_maps(model, inputs), atol=1e-5
    )  # first layer's mean
    assert len(g.by_head(pd.DataFrame({"evidence": [[BOX]] * 3}), heads)) == 4


def test_a_map_is_weighed_with_what_asking_alone_installs():
    """`scripts/ask.py --overlay` shows a map's faithfulness in an installation without any extra."""
    code = (
        "import sys\n"
        "for name in ('pandas', 'accelerate', 'sklearn', 'scipy', 'matplotlib', 'datasets', 'evaluate'):\n"
        "    sys.modules[name] = None\n"
        "import traffic_vlm.evaluation.faithfulness, traffic_vlm.evaluation.overlay"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
