"""This process's place among those of its run, and the model's weights shared out among them"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from recap_spark.errors import PlatformError


@dataclass(frozen=True)
class Place:
    """One process of a run."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def summed(self, *values: float) -> list[float]:
        """Each value's sum over all processes, in float64."""
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.world > 1:
            dist.all_reduce(totals)
        return totals.tolist()

    def meet(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[Place]:
    """Take the place that torchrun or TorchDistributor gave this process; alone where neither started it.

    Raises PlatformError where a GPU is wanted and none is there.
    """
    world, rank, local = (int(os.environ.get(key, alone)) for key, alone in _ALONE.items())
    if device == "gpu" and torch.cuda.device_count() <= local:
        raise PlatformError(f"device gpu: want GPU {local} here, found {torch.cuda.device_count()} GPUs")
    here = torch.device("cuda", local) if device == "gpu" else torch.device("cpu")
    if here.type == "cuda":
        torch.cuda.set_device(here)
    if world == 1:
        yield Place(rank=0, world=1, device=here)
        return
    dist.init_process_group("nccl" if here.type == "cuda" else "gloo")
    try:
        yield Place(rank=rank, world=world, device=here)
    finally:
        dist.destroy_process_group()


_ALONE = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0}


def share_out(model: nn.Module, place: Place, *, precision: torch.dtype) -> None:
    """Every process keeps 1/world of each weight, its gradient and its moments (FSDP2, arXiv 2304.11277).

    One process keeps all of them. Layers gather their weights while they compute, in `precision`; gradients
    are averaged in float32.
    """
    if place.world == 1:
        model.to(place.device)
        return
    mesh = init_device_mesh(place.device.type, (place.world,))
    policy = MixedPrecisionPolicy()
    if precision != torch.float32:
        policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
    for layer in [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Every process has to ask at once."""
    full: Any = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full  # type: ignore[no-any-return]
