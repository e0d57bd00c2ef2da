"""The ground part of the perception network: camera features and sensor planes on the grid in, cuboids out.

    camera features (N, F, H/4, W/4) -> 1 x 1 conv -> looked up at the picture of each cell's centre at several heights
                                     -> 1 x 1 conv over channels and heights
    planes (N, P, rows, columns) uint8 -> 3 x 3 conv, stride 2
      -> their sum on cells of twice the size -> encoder, strides 2, 4, 8 -> top-down sum (feature pyramid)
      -> heatmap (N, C, rows, columns), values (N, 10, rows, columns)
    planes of radar velocity -> m/s -> added to the velocities among the values

The heads are CenterPoint's (Yin et al. 2021), at the full resolution of the grid by pixel shuffle: convolutions at that
resolution would cost four times as much. What a radar measured need not be learnt: its velocity passes the network by,
and the head says what to add to it. People labelled what the camera looks at, so nothing was ever taught about the
other cells; outside of training the heatmap says "nothing" there.
Belongs here: layers and decoding on the grid. Does not belong here: the picture part (`network`), losses, targets.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from av_assets.domain.models.grid import SPEED_STEP_MPS, STILL, Grid
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
from av_assets.domain.models.lifting import Lift
from av_assets.policies.perception import PerceptionConfig

#: What the head says about a cuboid whose centre lies in a cell: offset of the centre from the cell's in cells (ahead,
#: across), height of the centre in m, logarithms of the sizes in m, sine and cosine of yaw, velocity in m/s.
VALUES: Final = (
    "ahead", "across", "z", "log_length", "log_width", "log_height", "sin_yaw", "cos_yaw", "vx", "vy",
)  # fmt: skip
STRIDE: Final = 2  # of the features on the grid; pixel shuffle undoes it
UNSEEN_LOGIT: Final = -10.0
MAX_LOG_SIZE: Final = 4.0  # 55 m: keeps an untrained head finite


class BevNet(nn.Module):  # type: ignore[misc]
    """From camera features, planes and projection to the raw heads on the grid."""

    def __init__(self, num_classes: int, config: PerceptionConfig) -> None:
        super().__init__()
        layout, widths = InputLayout.of(config), config.bev_widths
        self.num_classes, self.radar = num_classes, layout.radar
        self.camera = nn.Conv2d(config.feature_width, config.bev_camera_width, 1)
        size = config.input_width, config.input_height
        self.lift = Lift(Grid.of(config), STRIDE, config.bev_heights_m, *size)
        lifted = config.bev_camera_width * len(config.bev_heights_m)
        self.camera_in = nn.Sequential(nn.Conv2d(lifted, widths[0], 1, bias=False), nn.BatchNorm2d(widths[0]))
        planes = len(layout.grid_planes)
        conv = nn.Conv2d(planes, widths[0], 3, STRIDE, 1, bias=False) if planes else None
        self.planes_in = nn.Sequential(conv, nn.BatchNorm2d(widths[0])) if conv else None
        self.stages = nn.ModuleList([Residual(widths[0])])
        self.stages.extend(nn.Sequential(ConvNorm(a, b, stride=2), Residual(b)) for a, b in pairwise(widths))
        self.laterals = nn.ModuleList(nn.Conv2d(width, widths[0], 1) for width in widths)
        self.shared = ConvNorm(widths[0], config.head_width)
        self.heads = nn.Conv2d(config.head_width, (num_classes + len(VALUES)) * STRIDE**2, 1)
        nn.init.constant_(self.heads.bias[: num_classes * STRIDE**2], RARE_LOGIT)

    def forward(self, features: Tensor, bev: Tensor | None, projection: Tensor) -> tuple[Tensor, Tensor]:
        x = self.camera_in(self.lift(self.camera(features), projection))
        if self.planes_in is not None:
            assert bev is not None
            x = x + self.planes_in(bev.float() * INPUT_SCALE)
        x = nnf.relu(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        raw = self.heads(self.shared(top_down(found, self.laterals))).float()
        heatmap, values = nnf.pixel_shuffle(raw, STRIDE).split([self.num_classes, len(VALUES)], dim=1)
        if self.radar and bev is not None:
            values = torch.cat([values[:, :-2], values[:, -2:] + measured_mps(bev[:, -2:])], dim=1)
        if not self.training:
            heatmap = heatmap.masked_fill(~self.lift.in_view(projection), UNSEEN_LOGIT)
        return heatmap, values


def measured_mps(planes: Tensor) -> Tensor:
    """(N, 2, rows, columns) m/s over ground, of the last two planes of `grid.radar_raster`; 0 where none is known."""
    told = planes.float()
    return torch.where(told > 0, (told - STILL) * SPEED_STEP_MPS, torch.zeros_like(told))


def decode_cuboids(
    heatmap: Tensor, values: Tensor, config: PerceptionConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest peaks on the grid as cuboids in the ego frame.

    Returns:
        boxes (N, K, 9) float32 x y z length width height yaw vx vy (m, rad in -pi..pi, m/s; x, y, z of the centre);
        scores (N, K), falling; classes (N, K) int64.
    """
    grid = Grid.of(config)
    scores, classes, cell = peaks(heatmap, config.max_detections_3d)
    ahead, across, z, *log_size, sine, cosine, vx, vy = gather_cells(values, cell).unbind(-1)
    row, column = torch.div(cell, grid.columns, rounding_mode="floor"), cell % grid.columns
    x = grid.near_m + (row + 0.5 + ahead) * grid.cell_m
    y = -grid.side_m + (column + 0.5 + across) * grid.cell_m
    size = [value.clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp() for value in log_size]
    return torch.stack([x, y, z, *size, torch.atan2(sine, cosine), vx, vy], dim=-1), scores, classes
