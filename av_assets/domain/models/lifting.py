"""From the picture to the ground: which pixel a cell of the grid falls on, and the camera features there.

The lookup is Simple-BEV's (Harley et al. 2022, "Simple-BEV: What Really Matters for Multi-Sensor BEV Perception?"):
bilinear, without parameters, no depth estimated.
Belongs here: projecting and sampling as tensors. Does not belong here: layers (`bev_network`), projection of points in
numpy (`inputs`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as nnf

from av_assets.domain.models.bev_targets import LOOK_M, NEAREST_M, margin_cells
from av_assets.domain.models.grid import Grid
from av_assets.domain.models.layers import gather_cells


class Lift(nn.Module):  # type: ignore[misc]
    """Camera features at blocks of stride x stride cells: (N, C, h, w) -> (N, C * heights, rows, columns) of blocks."""

    def __init__(
        self, grid: Grid, stride: int, heights_m: tuple[float, ...], width: int, height: int
    ) -> None:
        super().__init__()
        self.shape = (len(heights_m), grid.rows // stride, grid.columns // stride)
        self.cells, self.margin = (grid.rows, grid.columns), margin_cells(grid)
        blocks = np.concatenate([_places(grid.centres(stride), z) for z in heights_m], axis=1)
        self.register_buffer("blocks", torch.from_numpy(blocks), persistent=False)
        self.register_buffer("looks", torch.from_numpy(_places(grid.centres(), LOOK_M)), persistent=False)
        self.register_buffer("scale", torch.tensor([[2 / width], [2 / height]]), persistent=False)

    def forward(self, features: Tensor, projection: Tensor) -> Tensor:
        found = look_up(features.float(), self.where(projection))
        return found.unflatten(2, self.shape[:2]).flatten(1, 2)

    def where(self, projection: Tensor) -> Tensor:
        """(N, 3, 4) -> (N, heights * rows, columns, 2) in -1..1 of the picture; (-2, -2) for what is behind."""
        place, depth = self._project(projection, self.blocks)
        place = torch.where(depth > NEAREST_M, place.clamp(-2, 2), torch.full_like(place, -2.0))
        heights, rows, columns = self.shape
        return place.transpose(1, 2).unflatten(1, (heights * rows, columns))

    def in_view(self, projection: Tensor) -> Tensor:
        """(N, 3, 4) -> (N, 1, rows, columns) bool, cells: in the picture, or up to `MARGIN_M` beside it."""
        place, depth = self._project(projection, self.looks)
        seen = (depth > NEAREST_M) & (place[:, :1] >= -1) & (place[:, :1] < 1)
        near = nnf.max_pool2d(seen.unflatten(2, self.cells).float(), 2 * self.margin + 1, 1, self.margin)
        return near > 0

    def _project(self, projection: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Places in the picture (N, 2, M) in -1..1, and depths (N, 1, M) in m."""
        # No matrix product: autocast would round pixels to 8 bits.
        u_v_w = (projection.float().unsqueeze(-1) * places).sum(2)
        depth = u_v_w[:, 2:]
        return u_v_w[:, :2] / depth.clamp(min=NEAREST_M) * self.scale - 1, depth


def _places(centres: NDArray[np.float64], height_m: float) -> NDArray[np.float32]:
    """(rows, columns, 2) x y -> (4, rows * columns) x y z 1."""
    xy = centres.reshape(-1, 2).T
    return np.stack([*xy, np.full(xy.shape[1], height_m), np.ones(xy.shape[1])]).astype(np.float32)


def look_up(features: Tensor, place: Tensor) -> Tensor:
    """(N, C, h, w) at (N, a, b, 2) places in -1..1, bilinear, zero outside: (N, C, a, b)."""
    # On a GPU the gradient of grid_sample adds up in any order, and is refused where bits have to be the same.
    if features.is_cuda and torch.are_deterministic_algorithms_enabled():
        return look_up_in_order(features, place)
    return nnf.grid_sample(features, place, align_corners=False)


def look_up_in_order(features: Tensor, place: Tensor) -> Tensor:
    """As `look_up`, slower, with a gradient that is the same to the bit on any device."""
    h, w = features.shape[-2:]
    x, y = (((place[..., i].flatten(1) + 1) * size - 1) / 2 for i, size in enumerate((w, h)))
    found = torch.zeros((), device=features.device)
    for column, row in ((x.floor() + dx, y.floor() + dy) for dx in (0, 1) for dy in (0, 1)):
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs()) * inside
        cell = row.clamp(0, h - 1).long() * w + column.clamp(0, w - 1).long()
        found = found + gather_cells(features, cell).transpose(1, 2) * weight.unsqueeze(1)
    return found.unflatten(2, place.shape[1:3])
