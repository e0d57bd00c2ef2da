"""Averages that follow the network: of its weights over steps, of its normalisation statistics over micro batches.

Batch normalisation in several processes: each micro batch is normalised by its own statistics, as in one process
without accumulation, and the running statistics (which only evaluation reads) move once a step, by the mean over all
micro batches of all processes. That makes one process with accumulation and several without it the same arithmetic,
and needs no exchange within the forward pass (SyncBatchNorm would, and has no CPU version). The price: the running
variance is the mean variance within micro batches, so micro batches have to be large enough (8 here).

Belongs here: averages. Does not belong here: the optimiser, when to average.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from av_assets.domain.learning.distributed import World


class MovingWeights:
    """Exponential moving average of the weights, with a short memory at the start; off where `decay` is 0."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = (
            {name: value.clone() for name, value in net.state_dict().items()} if decay else {}
        )

    def follow(self, net: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        # state_dict gives detached tensors: nothing here is recorded for gradients
        for name, value in net.state_dict().items() if self.weights else ():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)


class BatchStatistics:
    """Running means and variances of all normalisation layers; see the module's words."""

    def __init__(self, net: nn.Module) -> None:
        layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._running = [b for m in layers for b in (m.running_mean, m.running_var) if b is not None]
        self._counts = [m.num_batches_tracked for m in layers if m.num_batches_tracked is not None]
        self._before: list[Tensor] = []
        self._sums: list[Tensor] = []

    def begin(self) -> None:
        """Before a step."""
        self._before = [buffer.clone() for buffer in (*self._running, *self._counts)]
        self._sums = []

    def end_micro_batch(self) -> None:
        """After the forward pass of a micro batch of several: the next starts from the same statistics."""
        if not self._running:
            return
        if not self._sums:
            self._sums = [buffer.clone() for buffer in self._running]
        else:
            torch._foreach_add_(self._sums, self._running)
        self.undo()

    def end(self, world: World, accumulation: int) -> None:
        """After the last micro batch: the mean over all of the step."""
        if not self._sums:
            return
        mean = world.mean(torch.cat([total.flatten() for total in self._sums]) / accumulation)
        start = 0
        for buffer in self._running:
            buffer.copy_(mean[start : start + buffer.numel()].view_as(buffer))
            start += buffer.numel()
        for count in self._counts:
            count += 1

    def undo(self) -> None:
        """As before the step."""
        for buffer, before in zip((*self._running, *self._counts), self._before, strict=True):
            buffer.copy_(before)
