"""The perception network: sensor arrays in; boxes, drivable area and cuboids out.

    picture (N, 5, H, W) uint8 (3 planes for a network of cameras alone)
      -> encoder, strides 2 .. 32, one residual block each
      -> top-down sum to stride 4 (feature pyramid)
      -> heatmap (N, C, H/4, W/4), distances (N, 4, H/4, W/4), drivable (N, 1, H/4, W/4): raw heads
      -> with bev (N, P, rows, columns) uint8 and projection (N, 3, 4): cuboids on the ground grid, see `bev_network`
      -> decode: peaks of the heatmaps become boxes; the drivable head is brought to input size

Belongs here: the picture part, what all parts answer together, decoding; nothing that changes weights. Does not belong
here: losses, files, the loop.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from av_assets.domain.errors import ModelError
from av_assets.domain.models.bev_network import BevNet, decode_cuboids
from av_assets.domain.models.inputs import InputLayout
from av_assets.domain.models.layers import (
    INPUT_SCALE,
    RARE_LOGIT,
    ConvNorm,
    Residual,
    gather_cells,
    peaks,
    top_down,
)
from av_assets.domain.models.targets import STRIDE
from av_assets.policies.perception import PerceptionConfig

__all__ = ["INPUT_SCALE", "Decoded", "Deployable", "Heads", "PerceptionNet", "boxes_of", "decode"]

DISTANCE_SCALE_PX: Final = 16.0


class Heads(NamedTuple):
    """Raw outputs; None for tasks that the network does not have.

    At stride 4 of the picture: heatmap (N, C, h, w) logits, distances (N, 4, h, w) before softplus, drivable
    (N, 1, h, w) logits. On the grid: bev_heatmap (N, C, rows, columns) logits, bev_values (N, 10, rows, columns) as
    `bev_network.VALUES`.
    """

    heatmap: Tensor
    distances: Tensor
    drivable: Tensor | None = None
    bev_heatmap: Tensor | None = None
    bev_values: Tensor | None = None


class Decoded(NamedTuple):
    """What the heads mean; None for tasks that the network does not have.

    boxes (N, K, 4) x1 y1 x2 y2 input px; scores (N, K) 0..1, falling; classes (N, K) int64; drivable (N, H, W) 0..1;
    boxes3d (N, K3, 9) float32 x y z length width height yaw vx vy in the ego frame (m, rad, m/s); scores3d (N, K3)
    0..1, falling; classes3d (N, K3) int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    drivable: Tensor | None = None
    boxes3d: Tensor | None = None
    scores3d: Tensor | None = None
    classes3d: Tensor | None = None


HEAD_NAMES: Final = dict(
    zip(
        Heads._fields,
        ("heatmap_logits", "distance_logits", "drivable_logits", "bev_heatmap_logits", "bev_box_values"),
        strict=True,
    )
)


class PerceptionNet(nn.Module):  # type: ignore[misc]
    """About 1 M parameters with the shipped policy. `widths` are channels at strides 2, 4, 8, 16, 32."""

    def __init__(self, num_classes: int, config: PerceptionConfig) -> None:
        super().__init__()
        widths, fused = config.widths, config.feature_width
        self.num_classes, self.config, self.layout = num_classes, config, InputLayout.of(config)
        self.stem = ConvNorm(len(self.layout.planes), widths[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNorm(a, b, stride=2), Residual(b)) for a, b in pairwise(widths)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, fused, 1) for width in widths[1:])
        self.shared = ConvNorm(fused, config.head_width)
        self.parts = [num_classes, 4] + [1] * ("drivable" in config.tasks)
        self.heads = nn.Conv2d(config.head_width, sum(self.parts), 1)
        nn.init.constant_(self.heads.bias[:num_classes], RARE_LOGIT)
        self.bev = BevNet(num_classes, config) if "boxes3d" in config.tasks else None

    def forward(self, picture: Tensor, bev: Tensor | None = None, projection: Tensor | None = None) -> Heads:
        """Raw heads.

        Raises:
            ModelError: missing_input, one that `InputLayout.shapes` names for this network.
        """
        x = self.stem(picture.float() * INPUT_SCALE)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        fused = top_down(features, self.laterals)
        raw = self.heads(self.shared(fused)).float().split(self.parts, dim=1)
        drivable = raw[2] if len(raw) > 2 else None
        if self.bev is None:
            return Heads(raw[0], raw[1], drivable)
        if projection is None or (bev is None and "bev" in self.layout.shapes):
            raise ModelError(
                f"this network takes {', '.join(self.layout.shapes)}",
                code="missing_input",
                remedy="make them with inputs.network_inputs; zeros mean that nothing is known",
            )
        return Heads(raw[0], raw[1], drivable, *self.bev(fused, bev, projection))


def boxes_of(distances: Tensor) -> Tensor:
    """(N, 4, h, w) raw distances -> (N, 4, h, w) x1 y1 x2 y2 in input px, not clipped."""
    h, w = distances.shape[-2:]
    left, top, right, bottom = (nnf.softplus(distances) * DISTANCE_SCALE_PX).unbind(1)
    x = (torch.arange(w, device=distances.device, dtype=torch.float32) + 0.5) * STRIDE
    y = ((torch.arange(h, device=distances.device, dtype=torch.float32) + 0.5) * STRIDE).view(-1, 1)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=1)


def decode(heads: Heads, config: PerceptionConfig) -> Decoded:
    """The strongest local maxima of the heatmaps as boxes and cuboids."""
    h, w = heads.heatmap.shape[-2:]
    scores, classes, cell = peaks(heads.heatmap, config.max_detections)
    boxes = gather_cells(boxes_of(heads.distances), cell)
    limit = torch.tensor([w, h, w, h], device=boxes.device, dtype=boxes.dtype) * STRIDE
    found = Decoded(torch.minimum(boxes.clamp(min=0), limit), scores, classes)
    if heads.drivable is not None:
        drivable = nnf.interpolate(
            heads.drivable, scale_factor=float(STRIDE), mode="bilinear", align_corners=False
        )
        found = found._replace(drivable=drivable.sigmoid().squeeze(1))
    if heads.bev_heatmap is not None and heads.bev_values is not None:
        boxes3d, scores3d, classes3d = decode_cuboids(heads.bev_heatmap, heads.bev_values, config)
        found = found._replace(boxes3d=boxes3d, scores3d=scores3d, classes3d=classes3d)
    return found


class Deployable(nn.Module):  # type: ignore[misc]
    """What is exported: decoded outputs first, then the raw heads for parity checks.

    Attributes:
        input_names: of the arguments, in their order; `PerceptionNet.layout.shapes` has their types.
        output_names: of all that comes back. head_names: of the raw heads alone, the last of them.
    """

    def __init__(self, net: PerceptionNet) -> None:
        super().__init__()
        self.net = net
        tasks = set(net.config.tasks)
        drivable = ["drivable"] * ("drivable" in tasks)
        cuboids = ["boxes3d", "scores3d", "classes3d"] if "boxes3d" in tasks else []
        heads = ["heatmap", "distances", *drivable, *(["bev_heatmap", "bev_values"] if cuboids else [])]
        self.input_names: tuple[str, ...] = tuple(net.layout.shapes)
        self.head_names: tuple[str, ...] = tuple(HEAD_NAMES[name] for name in heads)
        self.output_names: tuple[str, ...] = (
            "boxes",
            "scores",
            "classes",
            *drivable,
            *cuboids,
            *self.head_names,
        )

    # The exporters want one parameter for each input, and networks differ in how many they take.
    def forward(
        self, picture: Tensor, second: Tensor | None = None, third: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        given = [value for value in (picture, second, third) if value is not None]
        heads = self.net(**dict(zip(self.input_names, given, strict=True)))
        found = (*decode(heads, self.net.config), *heads)
        return tuple(value for value in found if value is not None)
