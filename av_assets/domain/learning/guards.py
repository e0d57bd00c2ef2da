"""What stops a run that would only waste time: a first batch that teaches nothing, numbers that are not finite.

Belongs here: the checks and what they say. Does not belong here: what the loop does between two steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from av_assets.domain.errors import ModelError
from av_assets.domain.learning.precision import autocast
from av_assets.domain.models.losses import total_loss
from av_assets.policies.training import TrainingPolicy

Batch = Mapping[str, Tensor]
NAMED = 8  # samples that an error names


def forward(net: nn.Module, batch: Batch, config: TrainingPolicy) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch and its parts, in the policy's number format."""
    with autocast(config, batch["picture"].device):
        heads = net(batch["picture"], batch.get("bev"), batch.get("projection"))
    return total_loss(heads, batch, config)


def check_sanity(net: nn.Module, batch: Batch, config: TrainingPolicy) -> list[float]:
    """Teach `net` (a copy: it is changed) this one batch a few times; returns the losses.

    Raises:
        ModelError: sanity_failed, a value or gradient is missing or not finite, or the loss does not fall.
    """
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate)
    losses: list[float] = []
    for _ in range(config.sanity_steps + 1):
        loss, _ = forward(net, batch, config)
        _require(loss.ndim == 0, f"the loss is no number but of shape {tuple(loss.shape)}")
        losses.append(float(loss.detach()))
        _require(math.isfinite(losses[-1]), f"the loss of the first batch is {losses[-1]}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                _require(parameter.grad is not None, f"no gradient reaches {name}")
                _require(bool(torch.isfinite(parameter.grad).all()), f"the gradient of {name} is not finite")
        optimizer.step()
    shown = ", ".join(f"{loss:.4g}" for loss in losses)
    _require(min(losses[1:], default=0.0) < losses[0], f"the first batch, repeated, teaches nothing: {shown}")
    return losses


def _require(holds: bool, reason: str) -> None:
    if not holds:
        remedy = "look at the labels and sensors of the first batch, or lower learning_rate"
        raise ModelError(reason, code="sanity_failed", remedy=remedy)


def not_finite(step: int, samples: Sequence[str], skipped: int) -> ModelError:
    """The error that ends a run; the weights are those of the step before."""
    named = ", ".join(samples[:NAMED]) or "the gradients only"
    after = f" after {skipped} skipped steps in this epoch" if skipped else ""
    return ModelError(
        f"loss or gradient is not finite at step {step}{after}; samples: {named}",
        code="not_finite",
        remedy="lower learning_rate or look for broken labels; the last checkpoint is sound",
    )
