"""The auxiliary losses, against numbers worked out by hand."""

import math

import pytest
import torch
from traffic_vlm.modeling import grounding_loss, patch_loss


def test_patch_loss_scores_known_labels_only() -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 50.0]]])
    labels = torch.tensor([[[1, 0], [0, -100]]])
    expected = (math.log(2) + math.log1p(math.exp(2)) + math.log1p(math.exp(-1))) / 3
    assert patch_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_patch_loss_of_nothing_known_is_zero_and_differentiable() -> None:
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    loss = patch_loss(logits, torch.full((1, 2, 2), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.abs().sum() == 0.0


def test_grounding_loss_is_minus_log_of_the_mass_inside() -> None:
    maps = torch.tensor([[[0.5, 0.25, 0.25], [0.0, 0.1, 0.9]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    evidence = torch.tensor([[1, 1, 0], [0, 0, 0]])
    expected = -(math.log(0.75) + math.log(0.1)) / 2  # the second row has no evidence and is skipped
    assert grounding_loss(maps, evidence).item() == pytest.approx(expected, rel=1e-4)
    assert grounding_loss(maps, torch.zeros(2, 3)).item() == 0.0


def test_grounding_loss_moves_attention_into_the_evidence() -> None:
    scores = torch.zeros(1, 1, 4, requires_grad=True)
    evidence = torch.tensor([[0, 1, 0, 0]])
    grounding_loss(scores.softmax(-1), evidence).backward()
    assert scores.grad[0, 0, 1] < 0
    assert (scores.grad[0, 0, [0, 2, 3]] > 0).all()


def test_an_exported_checkpoint_may_drop_the_patch_head(tiny_model, tiny_inputs, tmp_path) -> None:
    from traffic_vlm.modeling import TrafficVLMForConditionalGeneration

    model = tiny_model(num_patch_labels=5)
    inputs = tiny_inputs(model.config)
    assert model(**inputs).patch_logits.shape == (2, 8, 5)
    model.save_pretrained(tmp_path)
    slim = TrafficVLMForConditionalGeneration.from_pretrained(tmp_path, num_patch_labels=0).eval()
    assert slim.patch_head is None
    assert slim(**inputs).patch_logits is None
    assert torch.equal(slim(**inputs).logits, model(**inputs).logits)
