"""Which part of the loss moves which part of the network.

What is added up in the loss does not pull equally hard: patches and grounding maps can move an encoder so
much more than the answers do that what only the answers need (weather, say) is hardly learnt. AdamW and Muon
follow a gradient's direction and not its length, so it is these proportions that count.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

import torch

from .optimizer import component_of
from .trainer import Trainer


def gradient_norms(trainer: Trainer, batches: int) -> dict[str, dict[str, float]]:
    """Length of the gradient of each part of the loss, with its weight, where a run begins.

    Args:
        trainer: A run that has not begun; its weights stay as they are.
        batches: How many of its batches are looked at; of each the first micro-batch.

    Returns:
        component -> part of the loss -> root mean square over batches of the Euclidean norm.
    """
    objective = trainer.objective
    named = [(name, p) for name, p in trainer.module.named_parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(trainer.recipe.run.seed)
    squares: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(objective.parts, 0.0))
    trainer.model.train()
    for micro_batches in islice(trainer._loader(0), batches):
        batch = micro_batches[0].to(trainer.accelerator.device)
        images = trainer._images(batch, generator)
        losses = objective.losses(trainer.model, batch, images) / objective.divisors(batch).clamp(min=1)
        for part, loss in zip(
            objective.parts, losses * losses.new_tensor(objective.weights(0.0)), strict=True
        ):
            parameters = [p for _, p in named]
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            for (name, _), gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    squares[component_of(name)][part] += float(gradient.float().square().sum()) / batches
    return {
        component: {part: value**0.5 for part, value in parts.items()} for component, parts in squares.items()
    }
