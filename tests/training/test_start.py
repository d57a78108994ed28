"""What a run takes along from the checkpoint that it starts from."""

import torch
from torch.testing import assert_close
from traffic_vlm.modeling import TrafficVLMForConditionalGeneration
from traffic_vlm.training.setup import read_model_config, take_weights


def test_finer_frames_and_a_deeper_stem_start_from_what_was_learnt(make_recipe, tmp_path):
    config = read_model_config(make_recipe("model.config=configs/models/small.json"))
    coarse = TrafficVLMForConditionalGeneration(config).eval()
    coarse.save_pretrained(tmp_path / "coarse")

    finer = read_model_config(make_recipe("model.config=configs/models/sharp.json"))
    start = TrafficVLMForConditionalGeneration(finer).eval()
    take_weights(start, str(tmp_path / "coarse"))
    assert start.config.vision_config.grid_size != config.vision_config.grid_size
    # A model interpolates its positions to frames of another size; the start has done so for good.
    frame = torch.rand(1, 3, *finer.vision_config.image_size)
    with torch.no_grad():
        expected = coarse.model.vision_tower(frame).last_hidden_state
        assert_close(start.model.vision_tower(frame).last_hidden_state, expected)
