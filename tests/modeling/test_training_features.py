"""What training needs: checkpointing, compilation, dropout, initial weights, freezing, adapters, sharding."""

import pytest
import torch
from torch.testing import assert_close
from traffic_vlm.modeling import (
    TrafficVLMConfig,
    TrafficVLMForConditionalGeneration,
    grounding_loss,
    patch_loss,
)
from transformers.modeling_layers import GradientCheckpointingLayer

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def training_loss(model, inputs, **options) -> torch.Tensor:
    """The loss of a training step with everything in it: answers, patch labels, grounding."""
    labels = inputs["input_ids"].clone()
    labels[:, :-2] = -100
    options = dict(options)
    if model.config.uses_cross_attention:
        options["grounding_positions"] = torch.full(
            (inputs["input_ids"].shape[0],), inputs["input_ids"].shape[1] - 3
        )
    outputs = model(**inputs, labels=labels, **options)
    loss = outputs.loss
    if outputs.patch_logits is not None:
        loss = loss + patch_loss(outputs.patch_logits, torch.ones_like(outputs.patch_logits).long())
    if outputs.grounding_maps is not None:
        evidence = torch.zeros(outputs.grounding_maps.shape[0], outputs.grounding_maps.shape[-1])
        evidence[:, :3] = 1
        loss = loss + grounding_loss(outputs.grounding_maps, evidence)
    return loss


def gradients(model, inputs) -> dict[str, torch.Tensor]:
    model.zero_grad()
    training_loss(model, inputs).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(reentrant, fusion, tiny_model, tiny_inputs) -> None:
    model = tiny_model(fusion, num_patch_labels=3).train()
    inputs = tiny_inputs(model.config)
    expected = gradients(model, inputs)
    assert len(expected) == len(list(model.parameters()))

    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    runs = []
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    assert len(layers) == (4 if model.config.uses_vision else 2)
    layers[0].self_attn.register_forward_pre_hook(lambda *_: runs.append(1))
    actual = gradients(model, inputs)
    assert len(runs) == 2, "a checkpointed layer runs again in the backward pass"
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(actual[name], gradient, **CLOSE, msg=name)


def test_training_step_compiles_without_graph_breaks(fusion, tiny_model, tiny_inputs) -> None:
    model = tiny_model(fusion, num_patch_labels=3).train()
    inputs = tiny_inputs(model.config)
    expected = training_loss(model, inputs)
    torch._dynamo.reset()
    step = torch.compile(training_loss, fullgraph=True, backend="aot_eager")
    loss = step(model, inputs)
    loss.backward()
    assert_close(loss, expected, **CLOSE)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_loss_at_scored_positions_is_the_same_loss(fusion, tiny_model, tiny_inputs) -> None:
    model = tiny_model(fusion)
    inputs = tiny_inputs(model.config)
    labels = inputs["input_ids"].clone()
    labels[:, :-2] = -100
    labels[0, -1] = -100
    with torch.no_grad():
        full = model(**inputs, labels=labels)
        sparse = model(**inputs, labels=labels, skip_logits=True)
        assert_close(sparse.loss, full.loss)
        assert sparse.logits is None
        # Accumulated batches: the sum over the number of tokens in all of them.
        accumulated = model(**inputs, labels=labels, skip_logits=True, num_items_in_batch=70)
        assert_close(accumulated.loss, full.loss * 7 / 70)
        assert_close(model(**inputs, labels=labels, num_items_in_batch=70).loss, accumulated.loss)
    expected = torch.nn.functional.cross_entropy(full.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert_close(full.loss, expected)


def test_logits_to_keep(tiny_model, tiny_inputs) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        logits = model(**inputs).logits
        assert_close(model(**inputs, logits_to_keep=2).logits, logits[:, -2:])
        assert_close(model(**inputs, logits_to_keep=torch.tensor([0, 3])).logits, logits[:, [0, 3]])
    for kept in (2, torch.tensor([0, 3]), torch.ones_like(inputs["input_ids"], dtype=torch.bool)):
        with pytest.raises(ValueError, match="pass one of them"):
            model(**inputs, labels=inputs["input_ids"], logits_to_keep=kept)


@pytest.mark.parametrize("field", ["attention_dropout", "hidden_dropout", "drop_path_rate"])
def test_dropout_is_random_in_training_only(field, tiny_model, tiny_inputs) -> None:
    text = {} if field == "drop_path_rate" else {field: 0.5}
    model = tiny_model(vision={field: 0.5}, text=text)
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        assert_close(model(**inputs).logits, model(**inputs).logits)
        model.train()
        assert (model(**inputs).logits - model(**inputs).logits).abs().max() > 1e-3


def test_stochastic_depth_grows_with_depth_and_keeps_the_mean() -> None:
    from traffic_vlm.modeling.vision import drop_path

    config = TrafficVLMConfig(vision_config={"num_hidden_layers": 3, "drop_path_rate": 0.2})
    layers = TrafficVLMForConditionalGeneration(config).model.vision_tower.layers
    assert [layer.drop_path_rate for layer in layers] == pytest.approx([0.0, 0.1, 0.2])
    dropped = drop_path(torch.ones(20000, 2), 0.25, training=True)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("depth", [2, 24])
def test_initial_activations_are_flat_with_depth(depth, tiny_model, tiny_inputs) -> None:
    model = tiny_model(
        vision={"num_hidden_layers": depth, "hidden_size": 64, "intermediate_size": 128},
        text={"num_hidden_layers": depth, "hidden_size": 64, "intermediate_size": 128},
    )
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        text = model(**inputs, output_hidden_states=True).hidden_states
        vision = model.model.vision_tower(inputs["pixel_values"], output_hidden_states=True).hidden_states
    for states in (text[:-1], vision):
        sizes = [float(state.std()) for state in states]
        assert max(sizes) / min(sizes) < 2.0, sizes


def test_frozen_vision_encoder_stays_as_it_is(tiny_model, tiny_inputs) -> None:
    model = tiny_model().train()
    model.freeze_vision()
    inputs = tiny_inputs(model.config)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    before = {name: p.clone() for name, p in model.named_parameters()}
    training_loss(model, inputs).backward()
    optimiser.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == ("vision_tower" in name), name
    tiny_model("none").freeze_vision()  # nothing to freeze, and no error


def test_lora_on_named_modules(tiny_model, tiny_inputs, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    model = tiny_model()
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        expected = model(**inputs).logits
    targets = r".*language_model\.layers\.\d+\.(self_attn|cross_attn)\.(q|k|v|o)_proj"
    lora = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    adapted = peft.get_peft_model(model, lora).train()
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 4 * 2  # layers, attentions, projections, two factors each
    training_loss(adapted, inputs).backward()
    adapted.eval()
    with torch.no_grad():
        changed = adapted(**inputs).logits
        assert (changed - expected).abs().max() > 1e-3
        generated = adapted.generate(**inputs, max_new_tokens=3, do_sample=False)
        adapted.save_pretrained(tmp_path)
        with adapted.disable_adapter():
            assert_close(adapted(**inputs).logits, expected, **CLOSE)
        again = peft.PeftModel.from_pretrained(tiny_model(), tmp_path)  # same seed, same base
    assert generated.shape[0] == 4
    assert {type(module).__name__ for module in again.modules()} >= {"LoraModel"}


def test_sharding_hints_name_real_modules(tiny_model) -> None:
    model = tiny_model(num_patch_labels=2)
    names = {type(module).__name__ for module in model.modules()}
    assert set(model._no_split_modules) <= names
    assert dict(model.all_tied_weights_keys) == {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    assert all(parameter.ndim >= 1 for parameter in model.parameters()), "FSDP cannot shard scalars"


def test_every_weight_learns(fusion, tiny_model, tiny_inputs) -> None:
    """Distributed training waits for every gradient: no weight may stay out of the loss."""
    model = tiny_model(fusion, num_patch_labels=3).train()
    for name, gradient in gradients(model, tiny_inputs(model.config)).items():
        if "k_proj.bias" not in name:  # a bias on all keys alike cancels in the softmax
            assert gradient.abs().max() > 0, name


def test_bfloat16_training(fusion, tiny_model, tiny_inputs) -> None:
    model = tiny_model(fusion, num_patch_labels=3).bfloat16().train()
    inputs = tiny_inputs(model.config)
    loss = training_loss(model, inputs)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad.dtype == torch.bfloat16 and p.grad.isfinite().all() for p in model.parameters())
    autocast = tiny_model(fusion).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        training_loss(autocast, inputs).backward()
    assert all(p.grad.dtype == torch.float32 for p in autocast.parameters())


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.1), (4, 0.6)])
def test_quantised_weights_where_torchao_is_installed(
    bits, tolerance, tiny_model, tiny_inputs, tmp_path
) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import TorchAoConfig

    scheme = (
        quantization.Int8WeightOnlyConfig()
        if bits == 8
        else quantization.IntxWeightOnlyConfig(weight_dtype=torch.int4)
    )
    model = tiny_model(text={"hidden_size": 64, "head_dim": 16})
    inputs = tiny_inputs(model.config)
    model.save_pretrained(tmp_path)
    quantised = TrafficVLMForConditionalGeneration.from_pretrained(
        tmp_path, quantization_config=TorchAoConfig(scheme)
    )
    with torch.no_grad():
        expected, actual = model(**inputs).logits, quantised(**inputs).logits
    assert (actual - expected).abs().max() > 0, "nothing was quantised"
    assert (actual - expected).abs().max() < tolerance * expected.abs().max()
    assert quantised.generate(**inputs, max_new_tokens=2).shape[0] == 4
