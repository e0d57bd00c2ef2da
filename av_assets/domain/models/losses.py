"""How wrong the heads are.

Belongs here: the losses of the three heads. Does not belong here: weights between drives, schedules, metrics.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf

from av_assets.domain.models.dataset import Batch
from av_assets.domain.models.network import Heads, boxes_of
from av_assets.policies.training import TrainingPolicy


def heatmap_loss(logits: Tensor, target: Tensor, care: Tensor) -> Tensor:
    """Penalty-reduced focal loss per object (CornerNet eq. 1, alpha 2, beta 4) over cells with care 1."""
    p = logits.sigmoid()
    positive = target.eq(1).float() * care.unsqueeze(1)
    hit = nnf.logsigmoid(logits) * (1 - p) ** 2 * positive
    miss = nnf.logsigmoid(-logits) * p**2 * (1 - target) ** 4 * care.unsqueeze(1)
    return -(hit.sum() + miss.sum()) / positive.sum().clamp(min=1)


def box_loss(raw: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU (Rezatofighi et al. 2019) at weighted cells; predicted and true box share the cell centre."""
    at = weight > 0
    if not bool(at.any()):
        return raw.sum() * 0
    predicted = boxes_of(raw).permute(0, 2, 3, 1)[at]
    truth = boxes_of_distances(distances).permute(0, 2, 3, 1)[at]
    low, high = torch.minimum(predicted, truth), torch.maximum(predicted, truth)
    inner = (low[:, 2:] - high[:, :2]).clamp(min=0).prod(1)
    hull = (high[:, 2:] - low[:, :2]).prod(1)
    union = _area(predicted) + _area(truth) - inner
    giou = inner / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return ((1 - giou) * weight[at]).sum() / weight.sum()


def boxes_of_distances(distances: Tensor) -> Tensor:
    """(N, 4, h, w) true distances in px -> boxes in input px; inverse of what the targets hold."""
    zero = boxes_of(torch.full_like(distances, -1e4))  # softplus(-1e4) is 0: the cell centres
    left, top, right, bottom = distances.unbind(1)
    return zero + torch.stack([-left, -top, right, bottom], dim=1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def drivable_loss(logits: Tensor, share: Tensor, known: Tensor) -> Tensor:
    """Cross entropy against the share of drivable pixels in each cell, over frames where it is known."""
    loss = nnf.binary_cross_entropy_with_logits(logits, share, reduction="none") * known
    return loss.sum() / (known.sum() * logits[0].numel()).clamp(min=1)


def total_loss(heads: Heads, batch: Batch, policy: TrainingPolicy) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum to descend on, and its parts for the history."""
    parts = {
        "heatmap": heatmap_loss(heads.heatmap, batch.heatmap, batch.care) * policy.heatmap_weight,
        "box": box_loss(heads.distances, batch.distances, batch.weight) * policy.box_weight,
        "drivable": drivable_loss(heads.drivable, batch.drivable, batch.drivable_known)
        * policy.drivable_weight,
    }
    return sum(parts.values(), torch.zeros(())), {name: float(loss.detach()) for name, loss in parts.items()}
