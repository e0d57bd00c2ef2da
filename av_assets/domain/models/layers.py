"""The two building blocks of both parts of the perception network.

Belongs here: layers that the picture part (`network`) and the ground part (`bev_network`) share. Does not belong here:
how they are put together.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

# Brings bytes to the order of one. One number for all planes: the first batch norm learns the rest, and a number
# per plane costs a tenth of a training step in channels-last memory.
INPUT_SCALE: Final = 1 / 64
# An untrained heatmap says "nothing here", or the first steps only unlearn objects.
RARE_LOGIT: Final = float(torch.logit(torch.tensor(0.02)))


class ConvNorm(nn.Sequential):  # type: ignore[misc]
    def __init__(self, width_in: int, width_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return nnf.relu(x + self.norm(self.second(self.first(x))))


def top_down(features: list[Tensor], laterals: nn.ModuleList) -> Tensor:
    """Features of falling resolution summed up to the first one's (feature pyramid, Lin et al. 2017)."""
    x = laterals[-1](features[-1])
    for lateral, feature in zip(laterals[-2::-1], features[-2::-1], strict=True):
        x = lateral(feature) + nnf.interpolate(x, scale_factor=2.0, mode="nearest")
    return x


def peaks(heatmap: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest local maxima (3 x 3) of (N, C, h, w) logits; equal neighbours both count, as in CenterNet.

    Returns:
        (N, K) scores 0..1, falling; (N, K) int64 class; (N, K) int64 cell, row * w + column; K at most `count`.
    """
    scores = heatmap.sigmoid()
    cells = scores.shape[-2] * scores.shape[-1]
    alone = nnf.max_pool2d(scores, 3, 1, 1) == scores
    found = torch.where(alone, scores, torch.zeros_like(scores)).flatten(1)
    top, at = found.topk(min(count, scores.shape[1] * cells), dim=1)
    return top, torch.div(at, cells, rounding_mode="floor"), at % cells


def gather_cells(dense: Tensor, cell: Tensor) -> Tensor:
    """(N, D, h, w) and (N, K) cells -> (N, K, D): what stands at these cells."""
    return dense.flatten(2).gather(2, cell.unsqueeze(1).expand(-1, dense.shape[1], -1)).transpose(1, 2)
