import pytest
import torch
from traffic_vlm.training.gradients import gradient_norms
from traffic_vlm.training.trainer import Trainer


def test_a_loss_pulls_in_proportion_to_its_weight_and_moves_nothing(make_recipe):
    norms = {}
    for weight in (1, 2):
        recipe = make_recipe(f"loss.patch_weight={weight}", "loss.grounding_weight=0", output=f"at{weight}")
        trainer = Trainer(recipe)
        before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
        norms[weight] = gradient_norms(trainer, batches=2)
        assert all(map(torch.equal, before, trainer.network.parameters()))
        assert all(parameter.grad is None for parameter in trainer.network.parameters())
    once, twice = norms[1], norms[2]
    assert set(once) == {"encoder", "projector", "decoder"}
    assert once["encoder"]["patches"] > 0
    assert twice["encoder"]["patches"] == pytest.approx(2 * once["encoder"]["patches"], rel=1e-4)
    assert twice["encoder"]["answers"] == pytest.approx(once["encoder"]["answers"], rel=1e-4)
    assert once["decoder"]["patches"] == 0  # the head sits on the encoder
    assert once["encoder"]["grounding"] == 0
