"""Fusions: all train, all are causal, and every question looks at its own image only."""

import pytest
import torch
from torch.testing import assert_close

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def test_each_fusion_learns_a_few_answers_by_heart(fusion, tiny_model, tiny_inputs) -> None:
    model = tiny_model(fusion, text={"vocab_size": 40}).train()
    inputs = tiny_inputs(model.config, rows=4, images=2)
    labels = inputs["input_ids"].clone()
    labels[:, :-3] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = model(**inputs, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 2.0
    assert losses[-1] < 0.1


def test_only_seeing_fusions_tell_images_apart(fusion, tiny_model, tiny_inputs) -> None:
    """One question about two images: a blind model must answer the same, a seeing one can learn not to."""
    model = tiny_model(fusion).train()
    inputs = tiny_inputs(model.config, rows=2, images=2)
    inputs["input_ids"][1] = inputs["input_ids"][0]
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -1] = torch.tensor([7, 8])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = model(**inputs, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (loss.item() < 0.1) == (fusion != "none")


def test_no_token_sees_a_later_one(fusion, tiny_model, tiny_inputs) -> None:
    model = tiny_model(fusion)
    inputs = tiny_inputs(model.config)
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][:, -2:] = torch.randint(4, 40, (4, 2))
    with torch.no_grad():
        assert_close(model(**inputs).logits[:, :-2], model(**changed).logits[:, :-2], **CLOSE)
        assert (model(**inputs).logits[:, -2:] - model(**changed).logits[:, -2:]).abs().max() > 1e-3


def test_prefix_tokens_see_each_other(tiny_model, tiny_inputs) -> None:
    model = tiny_model("prefix")
    inputs = tiny_inputs(model.config, rows=2, images=2)
    other = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    other["pixel_values"][..., -8:] += 1.0  # the last column of patches
    with torch.no_grad():
        first = model(**inputs, output_hidden_states=True).hidden_states[1][:, 0]
        changed = model(**other, output_hidden_states=True).hidden_states[1][:, 0]
    assert (first - changed).abs().max() > 1e-3


@pytest.mark.parametrize("assignment", [[0, 0, 1, 1], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0]])
@pytest.mark.parametrize("seeing", ["cross_attention", "prefix", "both"])
def test_image_index_gives_each_row_its_image(seeing, assignment, tiny_model, tiny_inputs) -> None:
    model = tiny_model(seeing)
    inputs = tiny_inputs(model.config, rows=len(assignment), images=2)
    pixels = inputs.pop("pixel_values")
    with torch.no_grad():
        together = model(**inputs, pixel_values=pixels, image_index=torch.tensor(assignment)).logits
        for row, image in enumerate(assignment):
            alone = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
            expected = model(**alone, pixel_values=pixels[image : image + 1]).logits
            assert_close(together[row : row + 1], expected, **CLOSE)


def test_rows_without_index_are_grouped_evenly(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config, rows=6, images=2)
    with torch.no_grad():
        grouped = model(**inputs).logits
        indexed = model(**inputs, image_index=torch.tensor([0, 0, 0, 1, 1, 1])).logits
    assert_close(grouped, indexed)


def test_wrong_row_counts_are_refused(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config, rows=3, images=2)
    with pytest.raises(ValueError, match="pass image_index"):
        model(**inputs)
    with pytest.raises(ValueError, match="images go from 0 to 1"):
        model(**inputs, image_index=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="give each row one image"):
        model(**inputs, image_index=torch.tensor([0, 1]))
    prefix = tiny_model("prefix")
    inputs = tiny_inputs(prefix.config)
    with pytest.raises(ValueError, match="one <image> token a patch"):
        prefix(inputs["input_ids"][:, 1:], inputs["pixel_values"])


@pytest.mark.parametrize("seeing", ["cross_attention", "prefix"])
def test_an_image_index_of_another_kind_is_refused(seeing, tiny_model, tiny_inputs) -> None:
    model = tiny_model(seeing)
    inputs = tiny_inputs(model.config, rows=2, images=2)
    with pytest.raises(ValueError, match="image_index is a list: give a long tensor"):
        model(**inputs, image_index=[0, 0])
    with pytest.raises(ValueError, match=r"image_index is a torch\.float32"):
        model(**inputs, image_index=torch.tensor([0.0, 1.0]))


def test_a_list_is_refused_for_kept_images_too(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config, rows=2, images=2)
    cache = model(**inputs, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="image_index is a list"):
        model(inputs["input_ids"][:, -1:], past_key_values=cache, image_index=[0, 1])


@pytest.mark.parametrize("stem", [{}, {"stem": "conv", "stem_channels": [4, 8, 8]}])
@pytest.mark.parametrize("shape", [(3, 16, 32), (1, 2, 3, 16, 32), (2, 1, 16, 32)])
def test_pixels_of_another_shape_are_refused(stem, shape, tiny_model, tiny_inputs) -> None:
    model = tiny_model(vision=stem)
    ids = tiny_inputs(model.config)["input_ids"]
    with pytest.raises(ValueError, match=r"pixel_values have shape .*, not \(num_images, 3, height, width\)"):
        model(ids, torch.zeros(shape))


def test_the_decoder_alone_refuses_images_that_it_could_not_assign(tiny_model, tiny_inputs) -> None:
    decoder = tiny_model().model.language_model
    with pytest.raises(ValueError, match="image_hidden_states need image_memory"):
        decoder(torch.tensor([[5, 6]]), image_hidden_states=torch.zeros(1, 8, 32))


def test_keys_and_values_are_computed_once_an_image(tiny_model, tiny_inputs) -> None:
    """However many questions are asked: in a training step, and in a whole generation."""
    model = tiny_model()
    shapes = []
    for layer in model.model.language_model.layers:
        layer.cross_attn.k_proj.register_forward_hook(
            lambda module, args, out: shapes.append(tuple(out.shape))
        )
    inputs = tiny_inputs(model.config, rows=6, images=2)
    model.train()(**inputs, labels=inputs["input_ids"])
    assert shapes == [(2, 8, 16)] * 2  # two images, eight patches, in each of two layers

    shapes.clear()
    model.eval().generate(**inputs, max_new_tokens=6, num_beams=3, do_sample=False)
    assert shapes == [(2, 8, 16)] * 2


def test_closed_gates_hide_the_image(tiny_model, tiny_inputs) -> None:
    model = tiny_model(cross_attention_gate_init=0.0)
    inputs = tiny_inputs(model.config)
    text_only = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert_close(model(**inputs).logits, model(**text_only).logits)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    gate = model.model.language_model.layers[0].cross_attn.gate
    assert gate.grad.abs().item() > 0, "a closed gate must be able to open"


def test_cross_attention_can_be_limited_to_some_layers(tiny_model, tiny_inputs) -> None:
    model = tiny_model(cross_attention_layers=[1], num_cross_attention_heads=4, num_cross_key_value_heads=1)
    assert [layer.cross_attn is not None for layer in model.model.language_model.layers] == [False, True]
    outputs = model(**tiny_inputs(model.config), output_attentions=True)
    assert [tuple(maps.shape) for maps in outputs.cross_attentions] == [(4, 4, 5, 8)]


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("index", [None, [0, 1, 1, 1]])
def test_masked_patches_are_never_looked_at(backend, index, tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    model.set_attn_implementation(backend)
    inputs = tiny_inputs(model.config)
    inputs["pixel_attention_mask"] = torch.tensor([[1] * 8, [1] * 4 + [0] * 4])
    if index is not None:
        inputs["image_index"] = torch.tensor(index)
    changed = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    changed["pixel_values"][1, :, 8:] = 9.0  # the lower row of patches of the second image
    with torch.no_grad():
        one, other = model(**inputs, output_attentions=True), model(**changed)
    assert_close(one.logits, other.logits, **CLOSE)
    rows_of_second = torch.tensor(index or [0, 0, 1, 1]) == 1
    assert one.cross_attentions[0][rows_of_second][..., 4:].abs().max() == 0


def test_encoded_images_can_be_given_instead_of_pixels(tiny_model, tiny_inputs) -> None:
    model = tiny_model("both")
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        expected = model(**inputs).logits
        features = model.get_image_features(inputs.pop("pixel_values")).pooler_output
        assert_close(model(**inputs, image_hidden_states=features).logits, expected)


def test_other_image_sizes_and_placeholder_embeddings(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    ids = tiny_inputs(model.config)["input_ids"]
    assert model(ids, torch.randn(2, 3, 24, 40)).image_hidden_states.shape == (2, 15, 32)
    with pytest.raises(ValueError, match="not multiples of the patch size 8"):
        model(ids, torch.randn(2, 3, 20, 32))

    prefix = tiny_model("prefix")
    inputs = tiny_inputs(prefix.config)
    embeds = prefix.get_input_embeddings()(inputs["input_ids"])
    with torch.no_grad():
        by_embeds = prefix(inputs_embeds=embeds, pixel_values=inputs["pixel_values"]).logits
        assert_close(by_embeds, prefix(inputs["input_ids"], inputs["pixel_values"]).logits)


def test_conv_stem_keeps_the_grid(tiny_model, tiny_inputs) -> None:
    model = tiny_model(vision={"stem": "conv", "stem_channels": [4, 8, 8]})
    inputs = tiny_inputs(model.config)
    assert model(**inputs).image_hidden_states.shape == (2, 8, 32)
    # Each patch comes from its place: pixels far to the right leave the left column of the stem alone.
    stem, pixels = model.model.vision_tower.embeddings.stem, inputs["pixel_values"]
    moved = pixels.clone()
    moved[..., 24:] += 1.0
    assert_close(stem(pixels)[..., 0], stem(moved)[..., 0])


def test_residual_blocks_of_the_stem_start_as_if_they_were_not_there(tiny_model, tiny_inputs) -> None:
    vision = {"stem": "conv", "stem_channels": [4, 8, 8]}
    plain, deeper = tiny_model(vision=vision), tiny_model(vision={**vision, "stem_depths": [0, 2, 1]})
    missing = deeper.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert len(missing) == 3 * 3
    assert all(".refine." in name for name in missing)
    pixels = tiny_inputs(plain.config)["pixel_values"]
    stem = deeper.model.vision_tower.embeddings.stem
    assert_close(stem(pixels), plain.model.vision_tower.embeddings.stem(pixels))
    stem(pixels).square().sum().backward()
    assert all(block.convolution.weight.grad.abs().sum() > 0 for stage in stem.refine for block in stage)
