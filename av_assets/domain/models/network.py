"""The perception network: camera and lidar planes in, boxes and drivable area out.

Belongs here: layers and decoding, nothing that changes weights. Does not belong here: losses, files, the
loop.

    picture (N, 5, H, W) uint8
      -> encoder, strides 2 .. 32, one residual block each
      -> top-down sum to stride 4 (feature pyramid)
      -> heatmap (N, C, H/4, W/4), distances (N, 4, H/4, W/4), drivable (N, 1, H/4, W/4): raw heads
      -> decode: peaks of the heatmap become boxes; the drivable head is brought to input size
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from av_assets.domain.models.inputs import PLANES
from av_assets.domain.models.targets import STRIDE
from av_assets.policies.training import TrainingPolicy

# Brings bytes to the order of one. One number for all planes: the first batch norm learns the rest, and a number
# per plane costs a tenth of a training step in channels-last memory.
INPUT_SCALE: Final = 1 / 64
DISTANCE_SCALE_PX: Final = 16.0
RARE: Final = 0.02  # an untrained heatmap says "nothing here", or the first steps only unlearn objects


class Heads(NamedTuple):
    """Raw outputs (N, C | 4 | 1, h, w): heatmap logits, distances before softplus, drivable logits."""

    heatmap: Tensor
    distances: Tensor
    drivable: Tensor


class Decoded(NamedTuple):
    """boxes (N, K, 4) x1 y1 x2 y2 input px; scores (N, K) 0..1, falling; classes (N, K) int64;
    drivable (N, H, W) 0..1."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    drivable: Tensor


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


class PerceptionNet(nn.Module):  # type: ignore[misc]
    """About 0.7 M parameters with the shipped policy. `widths` are channels at strides 2, 4, 8, 16, 32."""

    def __init__(self, num_classes: int, policy: TrainingPolicy) -> None:
        super().__init__()
        widths, fused = policy.widths, policy.feature_width
        self.num_classes, self.max_detections = num_classes, policy.max_detections
        self.stem = ConvNorm(len(PLANES), widths[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNorm(a, b, stride=2), Residual(b)) for a, b in pairwise(widths)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, fused, 1) for width in widths[1:])
        self.shared = ConvNorm(fused, policy.head_width)
        self.heads = nn.Conv2d(policy.head_width, num_classes + 5, 1)
        nn.init.constant_(self.heads.bias[:num_classes], float(torch.logit(torch.tensor(RARE))))

    def forward(self, picture: Tensor) -> Heads:
        x = self.stem(picture.float() * INPUT_SCALE)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        x = self.laterals[-1](features[-1])
        for lateral, feature in zip(self.laterals[-2::-1], features[-2::-1], strict=True):
            x = lateral(feature) + nnf.interpolate(x, scale_factor=2.0, mode="nearest")
        raw = self.heads(self.shared(x)).float()
        return Heads(*raw.split([self.num_classes, 4, 1], dim=1))


def boxes_of(distances: Tensor) -> Tensor:
    """(N, 4, h, w) raw distances -> (N, 4, h, w) x1 y1 x2 y2 in input px, not clipped."""
    h, w = distances.shape[-2:]
    left, top, right, bottom = (nnf.softplus(distances) * DISTANCE_SCALE_PX).unbind(1)
    x = (torch.arange(w, device=distances.device, dtype=torch.float32) + 0.5) * STRIDE
    y = ((torch.arange(h, device=distances.device, dtype=torch.float32) + 0.5) * STRIDE).view(-1, 1)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=1)


def decode(heads: Heads, max_detections: int) -> Decoded:
    """The strongest local maxima of the heatmap as boxes; equal neighbours both count, as in CenterNet."""
    scores = heads.heatmap.sigmoid()
    peaks = torch.where(nnf.max_pool2d(scores, 3, 1, 1) == scores, scores, torch.zeros_like(scores)).flatten(
        1
    )
    h, w = scores.shape[-2:]
    top, at = peaks.topk(min(max_detections, scores.shape[1] * h * w), dim=1)
    cell = at % (h * w)
    boxes = (
        boxes_of(heads.distances).flatten(2).gather(2, cell.unsqueeze(1).expand(-1, 4, -1)).transpose(1, 2)
    )
    limit = torch.tensor([w, h, w, h], device=boxes.device, dtype=boxes.dtype) * STRIDE
    drivable = nnf.interpolate(
        heads.drivable, scale_factor=float(STRIDE), mode="bilinear", align_corners=False
    )
    return Decoded(
        torch.minimum(boxes.clamp(min=0), limit),
        top,
        torch.div(at, h * w, rounding_mode="floor"),
        drivable.sigmoid().squeeze(1),
    )


class Deployable(nn.Module):  # type: ignore[misc]
    """What is exported: decoded outputs first, then the raw heads for parity checks."""

    def __init__(self, net: PerceptionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        heads = self.net(picture)
        return (*decode(heads, self.net.max_detections), *heads)
