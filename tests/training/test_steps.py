"""One step of the optimiser: what is summed, what is moved, and what is refused."""

import dataclasses
import math

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from traffic_vlm.training import trainer as engine
from traffic_vlm.training.optimizer import AveragedWeights, build_optimizer
from traffic_vlm.training.recipe import OptimSection, RecipeError
from traffic_vlm.training.trainer import Trainer, TrainingError

FRAME_FIELDS = ("pixel_values", "patch_labels", "keeps_weather")


def gradients(trainer, micro_batches):
    """Gradients of one step, before the optimiser moves anything."""
    kept = {}
    trainer.optimizer.step = lambda: kept.update(
        {name: p.grad.clone() for name, p in trainer.network.named_parameters() if p.grad is not None}
    )
    trainer._step(micro_batches)
    return kept


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_give_the_gradient_of_one_batch(make_recipe, micro):
    whole = Trainer(make_recipe("optim.clip=1e9", output="a"))
    parts = Trainer(make_recipe("optim.clip=1e9", f"optim.micro_batch_size={micro}", output="a"))
    one, several = (gradients(t, next(iter(t._loader(0)))) for t in (whole, parts))
    assert one.keys() == several.keys()
    for name in one:
        torch.testing.assert_close(several[name], one[name], rtol=2e-4, atol=2e-6)


def some_questions(batch, chosen):
    """The batch with those of each frame's six questions alone."""
    rows = torch.arange(len(batch.input_ids)).view(-1, 6)[:, chosen].flatten()
    return dataclasses.replace(
        batch, **{name: value[rows] for name, value in vars(batch).items() if name not in FRAME_FIELDS}
    )


@pytest.mark.parametrize("parts", [([0, 1, 2], [3, 4, 5]), ([4], [0, 2, 5], [1, 3])])
def test_questions_asked_apart_give_the_gradient_of_questions_asked_together(make_recipe, parts):
    whole, apart = (Trainer(make_recipe("optim.clip=1e9", output="a")) for _ in range(2))
    batch = next(iter(whole._loader(0)))[0]
    together = gradients(whole, [batch])
    divided = gradients(apart, [some_questions(batch, chosen) for chosen in parts])
    assert together.keys() == divided.keys()
    for name in together:
        torch.testing.assert_close(divided[name], together[name], rtol=2e-4, atol=2e-6)


def test_an_overflow_in_fp16_is_left_out_and_nowhere_else(make_recipe):
    trainer = Trainer(make_recipe("optim.warmup=0", output="fp16"))
    batches = next(iter(trainer._loader(0)))
    with pytest.raises(TrainingError, match="gradient_norm is not a finite number"):
        trainer._refuse_divergence({"answers": 1.0, "gradient_norm": math.inf})
    # What Accelerate does in fp16 on a GPU, on this CPU: a scaler whose first scale is far too large.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**125, backoff_factor=2.0**-115)
    accelerator = trainer.accelerator
    accelerator.scaler, accelerator.native_amp = scaler, True
    accelerator.state._mixed_precision = "fp16"
    trainer.optimizer = AcceleratedOptimizer(trainer.optimizer.optimizer, scaler=scaler)
    accelerator._optimizers = [trainer.optimizer]
    try:
        before = [p.detach().clone() for p in trainer.network.parameters()]
        assert not math.isfinite(trainer._step(batches)["gradient_norm"])
        assert all(map(torch.equal, before, trainer.network.parameters()))
        assert math.isfinite(trainer._step(batches)["gradient_norm"])
        assert not all(map(torch.equal, before, trainer.network.parameters()))
        with pytest.raises(TrainingError, match="answers is not a finite number"):
            trainer._refuse_divergence({"answers": math.nan, "gradient_norm": 1.0})
    finally:
        accelerator.state._mixed_precision = "no"


def test_processes_have_as_many_frames_each(make_recipe, monkeypatch):
    recipe = make_recipe()

    class Three(engine.Accelerator):
        num_processes = 3

    monkeypatch.setattr(engine, "Accelerator", Three)
    with pytest.raises(RecipeError, match=r"optim\.batch_size is 8: make it a multiple of 3"):
        engine.make_accelerator(recipe)


def test_groups_have_their_rates_and_decay_matrices_alone(make_recipe):
    network = Trainer(make_recipe(output="groups")).network
    recipe = OptimSection(learning_rate=1.0, encoder_scale=0.3, projector_scale=2.0, weight_decay=0.1)
    names = {parameter: name for name, parameter in network.named_parameters()}
    found = {}
    for group in build_optimizer(network, recipe).param_groups:
        for parameter in group["params"]:
            found[names[parameter]] = (group["lr"], group["weight_decay"])
    assert found.keys() == set(names.values())  # each weight in one group
    layer = "model.language_model.layers.0"
    assert found["model.vision_tower.layers.0.mlp.fc1.weight"] == (0.3, 0.1)
    assert found["model.vision_tower.layers.0.mlp.fc1.bias"] == (0.3, 0.0)
    assert found["model.vision_tower.embeddings.position_embedding"] == (0.3, 0.0)
    assert found["model.projector.linear.weight"] == (2.0, 0.1)
    assert found[f"{layer}.cross_attn.gate"] == (2.0, 0.0)
    assert found[f"{layer}.mlp.gate_proj.weight"] == (1.0, 0.1)
    assert found[f"{layer}.input_layernorm.weight"] == (1.0, 0.0)
    assert found["model.language_model.embed_tokens.weight"] == (1.0, 0.0)


def test_muon_moves_hidden_matrices_and_adamw_the_rest(make_recipe):
    trainer = Trainer(make_recipe("optim.optimizer=muon", "optim.warmup=0", output="muon"))
    names = {parameter: name for name, parameter in trainer.network.named_parameters()}
    groups = trainer.optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == len(names)  # each weight in one group
    muon = {names[p] for group in groups if group["name"].endswith("muon") for p in group["params"]}
    layer = "model.language_model.layers.0"
    assert {f"{layer}.mlp.gate_proj.weight", "model.vision_tower.layers.0.mlp.fc1.weight"} < muon
    assert not [name for name in muon if "embed" in name or "patch_head" in name or "norm" in name]
    name = f"{layer}.mlp.gate_proj.weight"
    before = trainer.network.get_parameter(name).detach().clone()
    trainer._step(next(iter(trainer._loader(0))))
    moved = before * (1 - groups[0]["lr"] * 0.05) - trainer.network.get_parameter(name).detach()
    # All directions of the matrix are moved about equally far: within the reach of five Newton-Schulz steps.
    values = torch.linalg.svdvals(moved)
    assert values.min() > 0.3 * values.max()


def test_the_average_follows_its_formula_and_gives_weights_back():
    layer = torch.nn.Linear(2, 1, bias=False)
    average = AveragedWeights(layer, 0.5)
    expected = layer.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            layer.weight.add_(1.0)
        average.update(layer)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    own = layer.weight.detach().clone()
    with average.weights(layer):
        torch.testing.assert_close(layer.weight.detach(), expected)
    assert torch.equal(layer.weight, own)
    with pytest.raises(OSError, match="full"), average.weights(layer):
        raise OSError("the disk is full")
    assert torch.equal(layer.weight, own)


def test_everything_is_made_on_the_accelerators_device(make_recipe, monkeypatch):
    monkeypatch.setattr(engine.Accelerator, "device", torch.device("meta"))  # a device that every machine has
    monkeypatch.setattr(
        engine, "build_optimizer", lambda model, _: torch.optim.SGD(dict(model.named_parameters()).values())
    )
    trainer = Trainer(make_recipe("run.precision=bf16_masters", output="device"))
    held = [
        *trainer.average.average.values(),
        *trainer.masters.masters.values(),
        *trainer.network.parameters(),
    ]
    assert {tensor.device.type for tensor in held} == {"meta"}
