import math

import torch
import torch.nn.functional as F
from traffic_vlm.training.losses import answer_loss, answer_tokens, scored_positions, sigmoid_loss
from traffic_vlm.training.optimizer import rate_scale
from traffic_vlm.training.recipe import OptimSection


def test_answer_loss_is_cross_entropy_over_answer_tokens():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 11), torch.full((3, 5), -100)
    labels[0, 3], labels[1, 2:4], labels[2, 1:] = 4, torch.tensor([1, 2]), torch.tensor([3, 3, 0, 9])
    weights = torch.ones(3)
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, 11), labels[:, 1:].reshape(-1), ignore_index=-100)
    total = answer_loss(logits[scored_positions(labels)], labels, weights)
    assert torch.allclose(total / answer_tokens(labels, weights), expected)


def test_row_weights_and_focal_change_the_share_of_a_row():
    logits, labels = torch.zeros(2, 4), torch.tensor([[-100, 1], [-100, 2]])
    weighted = answer_loss(logits, labels, torch.tensor([3.0, 0.0]))
    assert torch.isclose(weighted, torch.tensor(3 * math.log(4)))
    focal = answer_loss(logits, labels, torch.tensor([1.0, 0.0]), focal_gamma=2.0)
    assert torch.isclose(focal, torch.tensor(math.log(4) * 0.75**2))


def test_sigmoid_loss_in_chunks_equals_the_whole():
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
    whole = sigmoid_loss(images, texts, scale, bias)
    chunks = sum(
        sigmoid_loss(images[i : i + 3], texts[j : j + 3], scale, bias, positive=i == j)
        for i in (0, 3)
        for j in (0, 3)
    )
    assert torch.allclose(whole, chunks)


def test_schedules_rise_hold_and_fall():
    cosine = OptimSection(warmup=0.1, min_scale=0.0)
    assert rate_scale(0.05, cosine) == 0.5
    assert math.isclose(rate_scale(0.55, cosine), 0.5)
    assert rate_scale(1.0, cosine) < 1e-9
    stable = OptimSection(schedule="wsd", warmup=0.1, decay=0.2, min_scale=0.0)
    assert rate_scale(0.5, stable) == rate_scale(0.79, stable) == 1.0
    assert math.isclose(rate_scale(0.9, stable), 0.5)
