"""Every attention backend gives the same outputs; eager, or asking for maps, gives the maps."""

import pytest
import torch
from torch.testing import assert_close

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def padded_inputs(tiny_inputs, left_padded):
    def build(config):
        inputs = tiny_inputs(config)
        inputs["input_ids"], inputs["attention_mask"] = left_padded(inputs["input_ids"], [0, 2, 0, 1])
        return inputs

    return build


def real_logits(model, inputs, **options) -> torch.Tensor:
    logits = model(**inputs, **options).logits
    return logits[inputs["attention_mask"].bool()]


def test_eager_equals_sdpa(fusion, tiny_model, padded_inputs) -> None:
    model = tiny_model(fusion)
    inputs = padded_inputs(model.config)
    with torch.no_grad():
        model.set_attn_implementation("eager")
        eager = real_logits(model, inputs)
        model.set_attn_implementation("sdpa")
        assert_close(real_logits(model, inputs), eager, **CLOSE)
        assert_close(real_logits(model, inputs, output_attentions=True), eager, **CLOSE)


def test_gradients_are_equal(fusion, tiny_model, padded_inputs) -> None:
    """Training on CPU goes through plain products where inference goes through the fused kernel."""
    gradients = []
    for backend in ("eager", "sdpa"):
        torch.manual_seed(0)
        model = tiny_model(fusion, num_patch_labels=3).train()
        model.set_attn_implementation(backend)
        inputs = padded_inputs(model.config)
        labels = inputs["input_ids"].clone()
        labels[:, :-2] = -100  # what padding computes is nobody's business
        outputs = model(**inputs, labels=labels)
        loss = (
            outputs.loss
            if outputs.patch_logits is None
            else outputs.loss + outputs.patch_logits.square().mean()
        )
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, **CLOSE, msg=name)


def test_flex_attention(fusion, tiny_model, padded_inputs) -> None:
    """Run without its compilation, which takes a minute and computes the same."""
    model = tiny_model(fusion, vision={"hidden_size": 32}, text={"head_dim": 16})
    inputs = padded_inputs(model.config)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = real_logits(model, inputs)
        model.set_attn_implementation("flex_attention")
        assert_close(real_logits(model, inputs), expected, **CLOSE)


def test_maps_come_by_their_standard_names(fusion, tiny_model, padded_inputs) -> None:
    model = tiny_model(fusion)
    inputs = padded_inputs(model.config)
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    assert [tuple(maps.shape) for maps in outputs.attentions] == [(4, 4, length, length)] * 2
    assert len(outputs.hidden_states) == 3
    if model.config.uses_cross_attention:
        assert [tuple(maps.shape) for maps in outputs.cross_attentions] == [(4, 4, length, 8)] * 2
        for maps in outputs.cross_attentions:
            assert_close(maps.sum(dim=-1), torch.ones(4, 4, length))
    if model.config.uses_vision:
        assert [tuple(maps.shape) for maps in outputs.vision_attentions] == [(2, 2, 8, 8)] * 2
    plain = model(**inputs)
    assert plain.attentions is plain.cross_attentions is plain.vision_attentions is None


def test_maps_follow_uneven_rows(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config)
    index = torch.tensor([1, 0, 1, 1])
    with torch.no_grad():
        maps = model(**inputs, image_index=index, output_attentions=True).cross_attentions
        for row in range(4):
            alone = model(
                inputs["input_ids"][row : row + 1],
                inputs["pixel_values"][index[row] : index[row] + 1],
                output_attentions=True,
            ).cross_attentions
            for layer in range(2):
                assert_close(maps[layer][row : row + 1], alone[layer], **CLOSE)


@pytest.mark.parametrize("index", [None, [1, 0, 1, 1]])
def test_grounding_maps_are_the_chosen_heads_at_the_chosen_positions(index, tiny_model, tiny_inputs) -> None:
    model = tiny_model(grounding_heads=[[1, 2], [0, 3], [1, 0]])
    assert model.config.grounding_heads == [[0, 3], [1, 0], [1, 2]]
    inputs = tiny_inputs(model.config)
    if index is not None:
        inputs["image_index"] = torch.tensor(index)
    inputs["pixel_attention_mask"] = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    positions = torch.tensor([4, 1, 0, 3])
    with torch.no_grad():
        outputs = model(**inputs, grounding_positions=positions, output_attentions=True)
    assert outputs.grounding_maps.shape == (4, 3, 8)
    assert outputs.grounding_maps.dtype == torch.float32
    for column, (layer, head) in enumerate(model.config.grounding_heads):
        expected = outputs.cross_attentions[layer][torch.arange(4), head, positions]
        assert_close(outputs.grounding_maps[:, column], expected, **CLOSE)


def test_evidence_maps(tiny_model, tiny_inputs, left_padded) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config)
    evidence = model.get_evidence_maps(**inputs)
    assert evidence.shape == (4, 2, 4)
    assert_close(evidence.sum(dim=(1, 2)), torch.ones(4))
    # The mean of the first layer's heads, at the last token of each prompt.
    with torch.no_grad():
        maps = model(**inputs, output_attentions=True).cross_attentions[0][:, :, -1].mean(dim=1)
    assert_close(evidence.flatten(1), maps, **CLOSE)
    # Padding behind the prompt does not move its last token.
    padded = {
        **inputs,
        "input_ids": torch.nn.functional.pad(inputs["input_ids"], (0, 3)),
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 3)),
    }
    assert_close(model.get_evidence_maps(**padded), evidence, **CLOSE)
    with pytest.raises(ValueError, match="needs pixel_values"):
        model.get_evidence_maps(input_ids=inputs["input_ids"])
    with pytest.raises(ValueError, match="has no cross-attention"):
        tiny_model("prefix").get_evidence_maps(**tiny_inputs(tiny_model("prefix").config))


def test_right_padding_needs_no_mask(fusion, tiny_model, tiny_inputs) -> None:
    model = tiny_model(fusion)
    inputs = tiny_inputs(model.config)
    inputs["attention_mask"][1, -2:] = 0
    with torch.no_grad():
        masked = real_logits(model, inputs)
        unmasked = model(inputs["input_ids"], inputs.get("pixel_values")).logits[
            inputs["attention_mask"].bool()
        ]
    assert_close(masked, unmasked, **CLOSE)
