"""How wrong the heads are.

All in float32, with shapes that do not depend on the data. A head that the batch has no truth for adds nothing.
Belongs here: the losses of all heads. Does not belong here: weights between drives, schedules, metrics.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as nnf

from av_assets.domain.models.layers import gather_cells
from av_assets.domain.models.network import Heads, boxes_of
from av_assets.policies.perception import PerceptionConfig


def heatmap_loss(logits: Tensor, target: Tensor, care: Tensor) -> Tensor:
    """Penalty-reduced focal loss per object (CornerNet eq. 1, alpha 2, beta 4) over cells with care 1."""
    p = logits.sigmoid()
    positive = target.eq(1).float() * care.unsqueeze(1)
    hit = nnf.logsigmoid(logits) * (1 - p) ** 2 * positive
    miss = nnf.logsigmoid(-logits) * p**2 * (1 - target) ** 4 * care.unsqueeze(1)
    return -(hit.sum() + miss.sum()) / positive.sum().clamp(min=1)


def box_loss(raw: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU (Rezatofighi et al. 2019) at weighted cells; predicted and true box share the cell centre."""
    predicted, truth = boxes_of(raw), boxes_of_distances(distances)
    low, high = torch.minimum(predicted, truth), torch.maximum(predicted, truth)
    inner = (low[:, 2:] - high[:, :2]).clamp(min=0).prod(1)
    hull = (high[:, 2:] - low[:, :2]).prod(1)
    union = _area(predicted) + _area(truth) - inner
    giou = inner / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return ((1 - giou) * weight).sum() / weight.sum().clamp(min=1e-6)


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


def cuboid_loss(values: Tensor, cell: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """L1 per cuboid at the cells of the true centres (CenterPoint).

    Args:
        values: (N, 10, rows, columns). cell: (N, M). truth, weight: (N, M, 10); weight 0 where there is no truth.
    """
    off = (gather_cells(values, cell) - truth).abs() * weight
    return off.sum() / weight.amax(2).sum().clamp(min=1)


def total_loss(
    heads: Heads, batch: Mapping[str, Tensor], config: PerceptionConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum to descend on, and its parts, detached, for the history.

    Args:
        batch: as `examples.MakeExample` names it.
    """
    with torch.autocast(heads.heatmap.device.type, enabled=False):
        parts = _parts(heads, batch, config)
    total = torch.stack(list(parts.values())).sum()
    return total, {name: loss.detach() for name, loss in parts.items()}


def _parts(heads: Heads, batch: Mapping[str, Tensor], config: PerceptionConfig) -> dict[str, Tensor]:
    parts = {
        "heatmap": heatmap_loss(heads.heatmap, batch["heatmap"], batch["care"]) * config.heatmap_weight,
        "box": box_loss(heads.distances, batch["distances"], batch["weight"]) * config.box_weight,
    }
    if heads.drivable is not None:
        loss = drivable_loss(heads.drivable, batch["drivable"].float() / 255, batch["drivable_known"])
        parts["drivable"] = loss * config.drivable_weight
    if heads.bev_heatmap is not None and heads.bev_values is not None:
        loss = heatmap_loss(heads.bev_heatmap, batch["bev_heatmap"], batch["bev_care"])
        parts["bev_heatmap"] = loss * config.bev_heatmap_weight
        loss = cuboid_loss(heads.bev_values, batch["bev_cell"], batch["bev_values"], batch["bev_weight"])
        parts["bev_box"] = loss * config.bev_box_weight
    return parts
