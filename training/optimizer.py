"""AdamW or Muon with a group for each component, and the learning rate over the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from .recipe import OptimSection, RecipeError
from .sharding import fill, whole

COMPONENTS = ("encoder", "projector", "decoder")


class Parameters(Protocol):
    """Anything with named parameters: a network, or its float32 copies."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Pairs of name and parameter."""


def component_of(name: str) -> str:
    """Which component a parameter belongs to, by its name in the model."""
    if "vision" in name or "patch_head" in name:
        return "encoder"
    if "projector" in name or "gate" in name.rsplit(".", 1)[-1]:
        return "projector"
    return "decoder"


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to norms, biases, gates, positions and what embeds words
    or pixels, the stem's kernels among it."""
    return parameter.ndim >= 2 and "embed" not in name and "position" not in name and "lm_head" not in name


def moved_by_muon(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon moves a parameter: a matrix between hidden states, not what writes the answers or says
    what a patch shows."""
    return parameter.ndim == 2 and decays(name, parameter) and "patch_head" not in name


def build_optimizer(model: Parameters, recipe: OptimSection) -> torch.optim.Optimizer:
    """Makes the optimiser.

    Args:
        model: The network or its float32 copies; parameters that do not require gradients are left out.
        recipe: Which optimiser, rates and decay.

    Returns:
        Fused AdamW, or Muon for hidden matrices with AdamW for the rest. Its groups carry `name` (component,
        and whether it decays or is Muon's) and `scale` (share of the learning rate).

    Raises:
        RecipeError: When this PyTorch has no Muon.
    """
    scales = {"encoder": recipe.encoder_scale, "projector": recipe.projector_scale, "decoder": 1.0}
    groups: dict[tuple[str, str], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "" if decays(name, parameter) else ", no decay"
            if recipe.optimizer == "muon" and moved_by_muon(name, parameter):
                kind = ", muon"
            groups.setdefault((component_of(name), kind), []).append(parameter)
    described = [
        {
            "params": parameters,
            "name": component + kind,
            "scale": scales[component],
            "lr": recipe.learning_rate * scales[component],
            "weight_decay": 0.0 if kind == ", no decay" else recipe.weight_decay,
        }
        for (component, kind), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    rest = [group for group in described if not group["name"].endswith(", muon")]
    adamw = torch.optim.AdamW(rest, betas=(0.9, recipe.beta2), fused=True)
    if len(rest) == len(described):
        return adamw
    if not hasattr(torch.optim, "Muon"):
        raise RecipeError(
            f"optim.optimizer is 'muon', which PyTorch {torch.__version__} does not have: install 2.9 or "
            "newer."
        )
    hidden = [group for group in described if group["name"].endswith(", muon")]
    # Steps as long as AdamW's, so that both take the same rate and decay (Liu et al. 2025, arXiv 2502.16982,
    # section 2.2).
    return JointOptimizer([torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw"), adamw])


class JointOptimizer(torch.optim.Optimizer):
    """Several optimisers, each with its own parameters, that step, save and load as one.

    Args:
        parts: The optimisers.
    """

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Steps each; a closure is called once, before the first."""
        loss = closure() if closure else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What a saved state keeps."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a saved state."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def rate_scale(progress: float, recipe: OptimSection) -> float:
    """The learning rate as a share of its peak.

    Args:
        progress: Share of the run that is over, 0 to 1.
        recipe: `cosine`: linear warm-up, then half a cosine (Loshchilov & Hutter 2017). `wsd`: warm-up,
            constant, and a linear decay over the last part (Hu et al. 2024, section 4).
    """
    if progress < recipe.warmup:
        return progress / recipe.warmup
    if recipe.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))
    else:
        share = min(1.0, (1 - progress) / recipe.decay)
    return recipe.min_scale + (1 - recipe.min_scale) * max(0.0, share)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets every group's rate to its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


class MasterWeights:
    """float32 copies that the optimiser moves while the network computes in bfloat16 (Micikevicius et al.
    2018, section 3.1).

    On CPU this is faster than autocast, which casts weights and activations back and forth.

    Args:
        model: The network, float32; its parameters are turned into bfloat16, its buffers (RoPE's
            frequencies) stay exact, as they are in a loaded checkpoint.
    """

    def __init__(self, model: nn.Module) -> None:
        self.masters = {
            name: nn.Parameter(p.detach().clone(), p.requires_grad) for name, p in model.named_parameters()
        }
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        self.working = dict(model.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The copies under the names of the network's parameters."""
        return iter(self.masters.items())

    def take_gradients(self) -> None:
        """Hands the network's gradients to the copies, in float32."""
        for name, master in self.masters.items():
            gradient = self.working[name].grad
            master.grad = None if gradient is None else gradient.float()
            self.working[name].grad = None

    @torch.no_grad()
    def give_weights(self) -> None:
        """Rounds the copies into the network."""
        torch._foreach_copy_(list(self.working.values()), list(self.masters.values()))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a saved state keeps."""
        return {name: master.detach() for name, master in self.masters.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Takes up a saved state."""
        for name, value in state.items():
            self.masters[name].copy_(value)


class AveragedWeights:
    """Exponential moving average of a model's parameters (Polyak & Juditsky 1992), kept in float32.

    Early on the average follows faster, decay (1 + t) / (10 + t), so that the random start is forgotten.

    Args:
        model: The network, not wrapped for distribution, or its float32 copies.
        decay: Largest decay a step.
    """

    def __init__(self, model: Parameters, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.average = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: Parameters) -> None:
        """Moves the average towards the model after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = [p.detach().float() for _, p in model.named_parameters()]
        torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    @contextmanager
    def weights(self, model: nn.Module) -> Iterator[None]:
        """Gives the network the averaged weights for a while and its own back, to the bit, afterwards."""
        own = {name: p.detach().clone() for name, p in model.named_parameters()}
        for name, parameter in model.named_parameters():
            parameter.detach().copy_(whole(self.average[name]))
        try:
            yield
        finally:
            for name, parameter in model.named_parameters():
                parameter.detach().copy_(own[name])

    def state_dict(self) -> dict[str, object]:
        """What a saved state keeps."""
        return {"steps": self.steps, "average": {name: whole(p) for name, p in self.average.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Takes up a saved state."""
        self.steps = state["steps"]
        for name, value in state["average"].items():
            fill(self.average[name], value)
