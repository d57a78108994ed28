"""Inputs of one picture and one question each, joined as transformers' pipelines join them."""

import pytest
import torch
from traffic_vlm.modeling.image_memory import undo_joining
from traffic_vlm.modeling.modeling_traffic_vlm import TrafficVLMForConditionalGeneration


@pytest.mark.parametrize("beams", [1, 2])
def test_each_row_asks_about_its_own_picture(tiny_config, beams):
    torch.manual_seed(0)
    model = TrafficVLMForConditionalGeneration(tiny_config(cross_attention_gate_init=2.0)).eval()
    height, width = model.config.vision_config.image_size
    singles = [
        {
            "input_ids": torch.randint(5, 30, (1, 6)),
            "attention_mask": torch.ones(1, 6, dtype=torch.long),
            "pixel_values": 3 * torch.randn(1, 3, height, width),
            "image_index": torch.zeros(1, dtype=torch.long),
        }
        for _ in range(3)
    ]
    joined = {name: torch.cat([single[name] for single in singles]) for name in singles[0]}
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "num_beams": beams, "do_sample": False}
    together = model.generate(**joined, **options)
    apart = torch.cat([model.generate(**single, **options) for single in singles])
    assert torch.equal(together, apart)
    torch.testing.assert_close(
        model(**joined).logits,
        torch.cat([model(**single).logits for single in singles]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_candidates_of_one_row_are_all_scored_on_its_own_picture(tiny_config):
    torch.manual_seed(0)
    model = TrafficVLMForConditionalGeneration(tiny_config(cross_attention_gate_init=2.0)).eval()
    pixels = 3 * torch.randn(2, 3, *model.config.vision_config.image_size)
    row = {"input_ids": torch.randint(5, 30, (1, 6)), "image_index": torch.zeros(1, dtype=torch.long)}
    candidates = [[7, 1], [9, 1]]  # as many as there are pictures
    both = model.score_answers({**row, "pixel_values": pixels}, candidates)
    first = model.score_answers({**row, "pixel_values": pixels[:1]}, candidates)
    torch.testing.assert_close(both, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}])
def test_rows_repeated_to_as_many_as_there_are_pictures_ask_about_their_own(tiny_config, options):
    torch.manual_seed(0)
    model = TrafficVLMForConditionalGeneration(tiny_config(cross_attention_gate_init=2.0)).eval()
    pixels = 3 * torch.randn(2, 3, *model.config.vision_config.image_size)
    row = {"input_ids": torch.randint(5, 30, (1, 6)), "image_index": torch.zeros(1, dtype=torch.long)}
    settings = {"max_new_tokens": 3, "return_dict_in_generate": True, "output_logits": True, **options}
    found = [model.generate(**row, pixel_values=pixels[:images], **settings).logits[0] for images in (1, 2)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_an_index_that_names_images_stays():
    index = torch.tensor([0, 1, 1, 0])
    assert undo_joining(index, 4, 2) is index
    assert undo_joining(torch.zeros(3, dtype=torch.long), 3, 1) is not None
    assert undo_joining(torch.zeros(3, dtype=torch.long), 3, 2) is not None
