"""Several processes that teach one network: who am I, what do the others say, how is the network spread over them.

The micro batches of a step are numbered 0 .. Q-1 whatever the number of processes is: a step has Q = world size x
accumulation of them, micro batch q holds the samples q, q + Q, q + 2Q, ... of the step, and process r works on those
with q % world size == r. Gradients, losses and normalisation statistics are means over micro batches. So one process
that accumulates and several that do not compute the same step, up to the order in which numbers are added.

Belongs here: process groups, collectives, DDP and FSDP. Does not belong here: launching processes (resources), losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch import distributed as dist

from av_assets.domain.errors import ModelError
from av_assets.domain.learning.precision import device_of
from av_assets.policies.training import TrainingPolicy

TIMEOUT: Final = timedelta(minutes=30)  # a rank may validate or write while the others wait


@dataclass(frozen=True)
class World:
    """This process among those that train together; `local_rank` counts those of one node."""

    device: torch.device
    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def here(cls, config: TrainingPolicy) -> World:
        """The process group if there is one, else this process alone."""
        if not dist.is_initialized():
            return cls(device_of(config))
        local = dist.get_node_local_rank(0)
        return cls(device_of(config, local), dist.get_rank(), dist.get_world_size(), local)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def accumulation(self, config: TrainingPolicy) -> int:
        """Micro batches per step that are this process's.

        Raises:
            ModelError: world_size, the policy's micro batches cannot be shared out evenly.
        """
        if config.micro_batches % self.size:
            raise ModelError(
                f"{config.micro_batches} micro batches a step cannot be shared out to {self.size} processes",
                code="world_size",
                remedy="choose micro_batches as a multiple of the number of processes (and batch_size to match)",
            )
        return config.micro_batches // self.size

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag true where any process says so: all go the same way."""
        if self.size == 1:
            return flags
        said = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in said)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes; `values` is changed."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def gather(self, value: Any) -> list[Any]:
        """What each process gave, by rank."""
        if self.size == 1:
            return [value]
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, value)
        return said


@contextmanager
def process_group(config: TrainingPolicy) -> Iterator[World]:
    """Join the group that torchrun describes; without torchrun this process is alone."""
    if not dist.is_torchelastic_launched():
        yield World.here(config)
        return
    device = device_of(config, dist.get_node_local_rank())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # gloo carries the small words between processes also where NCCL carries the gradients
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield World.here(config)
    finally:
        dist.destroy_process_group()


def spread(net: nn.Module, config: TrainingPolicy, world: World) -> nn.Module:
    """The network as this process calls it: itself, behind DDP, or with its parameters sharded (FSDP)."""
    if world.size == 1:
        return net
    if config.distribution == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        net.to(memory_format=torch.contiguous_format)  # what sharding asks for
        mesh = init_device_mesh(world.device.type, (world.size,))
        for part in net.children():
            if any(True for _ in part.parameters()) and not isinstance(part, nn.ModuleList):
                fully_shard(part, mesh=mesh)
        return fully_shard(net, mesh=mesh)
    ids = [world.device.index] if world.device.type == "cuda" else None
    # Normalisation statistics are averaged once a step by `averaging`; broadcasting rank 0's would lose the others'.
    return nn.parallel.DistributedDataParallel(
        net, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def exchanging(net: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Whether the backward pass inside averages gradients over processes: in the last micro batch of a step only."""
    if isinstance(net, nn.parallel.DistributedDataParallel):
        quiet: AbstractContextManager[None] = net.no_sync()
        return nullcontext() if now else quiet
    if hasattr(net, "set_requires_gradient_sync"):
        net.set_requires_gradient_sync(now)
    return nullcontext()


def whole(value: Any) -> Any:
    """The full tensor of a sharded one (a collective call); anything else as it is."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def whole_state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: whole(value) for name, value in state.items()}


def placed(value: Tensor, like: Tensor) -> Tensor:
    """A full tensor on the device, with the strides, and sharded the way, of `like`."""
    if not hasattr(like, "full_tensor"):
        return torch.empty_like(like).copy_(value)  # fused optimisers walk moments and weights as one memory
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
