"""Weights, gradients, moments and averages split over the processes (FSDP2: Zhao et al. 2023).

Asked for by launching with `configs/launch/fsdp2.yaml`. torch's own `fully_shard` does it, and not
Accelerate's wrapper round it, which shards on GPUs alone: so two processes on a CPU can be held to one.

Each process also keeps the network once as a whole, for tables and exports: 4 bytes a parameter, where the
pieces share out 20.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.environment import parse_flag_from_env
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from .recipe import Recipe, RecipeError


def wants_shards(accelerator: Accelerator, recipe: Recipe) -> bool:
    """Whether the run was launched with FSDP.

    Raises:
        RecipeError: For a recipe that cannot be trained in pieces.
    """
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return False
    if accelerator.num_processes == 1:
        raise RecipeError("FSDP splits over processes, and there is one: launch with gpu.yaml instead.")
    if recipe.run.precision not in ("no", "bf16"):
        raise RecipeError(f"run.precision is {recipe.run.precision!r}: with FSDP use 'bf16' or 'no'.")
    if recipe.optim.optimizer == "muon":
        raise RecipeError("optim.optimizer is 'muon': it needs whole matrices; with FSDP use 'adamw'.")
    if recipe.loss.objective == "captions":
        raise RecipeError("loss.objective is 'captions': launch that with configs/launch/ddp.yaml.")
    return True


def shard(network: PreTrainedModel, accelerator: Accelerator) -> nn.Module:
    """A copy of the network, each layer of it in pieces that meet only while the layer computes.

    Args:
        network: The whole network, on the accelerator's device; stays as it is.
        accelerator: Says how many processes there are and in what precision they compute.
    """
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    computes_in = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=computes_in, reduce_dtype=torch.float32)
    for weight in network.parameters():  # all begin with the weights of the first, as under DDP
        distributed.broadcast(weight.detach(), 0)
    pieces = copy.deepcopy(network)
    for layer in pieces.modules():
        if type(layer).__name__ in (network._no_split_modules or ()):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(pieces, mesh=mesh, mp_policy=policy)
    return pieces


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor put together from its pieces, for which all processes must ask; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def fill(target: torch.Tensor, value: torch.Tensor) -> None:
    """Copies a whole tensor into one that may lie in pieces."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


class ShardedState:
    """Weights and moments of a sharded network, saved whole: any number of processes from two on can take
    them up.

    Args:
        module: What `shard` returned.
        optimizer: Its optimiser.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.module, self.optimizer = module, optimizer

    def state_dict(self) -> dict[str, Any]:
        """What a saved state keeps; all processes must ask for it, the first gets it."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights, moments = get_state_dict(self.module, self.optimizer, options=options)
        return {"weights": weights, "moments": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a saved state."""
        set_state_dict(
            self.module,
            self.optimizer,
            model_state_dict=state["weights"],
            optim_state_dict=state["moments"],
            options=StateDictOptions(full_state_dict=True),
        )
