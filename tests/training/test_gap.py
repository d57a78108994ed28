import numpy as np
import torch
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.training.collator import PATCH_LABELS, patch_targets
from traffic_vlm.training.gap import patch_scores
from traffic_vlm.training.packing import open_packed
from traffic_vlm.training.setup import pack_recipe, read_model_config


def test_a_head_that_knows_the_labels_scores_one_and_its_opposite_zero(make_recipe, monkeypatch):
    recipe = make_recipe(output="gap")
    packed = open_packed(pack_recipe(recipe), "val")
    model = TrafficVLMForConditionalGeneration(read_model_config(recipe)).eval()
    grid = model.config.vision_config.grid_size
    truth = np.stack([patch_targets(row, grid, False) for row in packed.rows])
    # To the second head the strongest patch of any frame is one without the label, so that all frames tie.
    for sign, by_patch, by_frame in ((1.0, 1.0, 1.0), (-1.0, 0.0, 0.5)):
        known = torch.from_numpy(truth).float() * sign
        monkeypatch.setattr(model.patch_head, "forward", lambda states, known=known: known[: len(states)])
        scores = patch_scores(model, packed, frames=100)
        assert list(scores) == list(PATCH_LABELS)
        assert scores["car"][1] == by_patch
        frames, patches = np.array(list(scores.values())).T
        assert set(patches[~np.isnan(patches)]) == {by_patch}
        assert set(frames[~np.isnan(frames)]) == {by_frame}
    assert np.isnan(scores["train"][0])  # no rendered frame shows a train
