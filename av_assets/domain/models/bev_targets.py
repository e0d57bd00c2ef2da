"""From cuboids to what the heads on the ground grid should answer.

A Gaussian peak per cuboid in the cell of its centre, and the ten numbers of `bev_network.VALUES` there (CenterPoint,
Yin et al. 2021). Only what the camera looks at is labelled, so only those cells can be background.
Belongs here: numpy on one frame. Does not belong here: the picture's targets (`targets`), tensors, losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.domain.models.augmentation import Ground
    from av_assets.domain.models.grid import Grid
    from av_assets.policies.perception import PerceptionConfig

LOOK_M: Final = 1.0  # above ground; where labelled objects are looked for
NEAREST_M: Final = 0.5
MARGIN_M: Final = 1.0  # what stands so far beside the view still shows a part of itself


@dataclass(frozen=True)
class BevTargets:
    """heatmap (C, rows, columns); care (rows, columns) 0 or 1; for each cuboid cell (k,) int64, row * columns + column,
    values (k, 10) and weight (k, 10), which is 0 where there is nothing to learn."""

    heatmap: NDArray[np.float32]
    care: NDArray[np.float32]
    cell: NDArray[np.int64]
    values: NDArray[np.float32]
    weight: NDArray[np.float32]


def make_bev_targets(
    ground: Ground, background: NDArray[np.bool_], num_classes: int, grid: Grid, config: PerceptionConfig
) -> BevTargets:
    """What the heads on the grid should answer.

    Args:
        background: (rows, columns) cells in which an object would have been labelled, see `labelled_cells`.
    """
    heatmap = np.zeros((num_classes, grid.rows, grid.columns), np.float32)
    care = (background & ground.known).astype(np.float32)
    boxes = ground.boxes
    position = grid.position(boxes)
    taught = grid.inside(position) & ~ground.ignored
    at = np.floor(np.where(taught[:, None], position, 0)).astype(np.int64)
    for box in boxes[ground.ignored]:
        care[_around(box, grid)] = 0
    for i in np.flatnonzero(taught):
        length, width = (float(side) / grid.cell_m for side in boxes[i, 3:5])
        radius = max(config.bev_min_radius, int(peak_radius(length, width, config.bev_min_overlap)))
        _draw_peak(heatmap[ground.classes[i]], int(at[i, 0]), int(at[i, 1]), radius)
        care[tuple(at[i])] = 1
    values, weight = _values(boxes, position - at - 0.5, taught)
    weight[:, 8:] *= config.bev_velocity_share
    return BevTargets(heatmap, care, at[:, 0] * grid.columns + at[:, 1], values, weight)


def _values(
    boxes: NDArray[np.float32], offset: NDArray[np.float64], taught: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    yaw = boxes[:, 6:7]
    size = np.log(np.maximum(boxes[:, 3:6], 1e-2))
    values = np.concatenate([offset, boxes[:, 2:3], size, np.sin(yaw), np.cos(yaw), boxes[:, 7:]], axis=1)
    known = np.isfinite(values) & taught[:, None]
    return np.where(known, values, 0).astype(np.float32), known.astype(np.float32)


def peak_radius(length: float, width: float, min_overlap: float) -> float:
    """How far a footprint (any unit) can move along both its sides and still have IoU `min_overlap` with itself.

    The first case of CornerNet's rule (Law and Deng 2018), solved exactly: (l - r)(w - r) = 2 l w o / (1 + o).
    """
    total, area = length + width, length * width
    rest = total**2 - 4 * area * (1 - min_overlap) / (1 + min_overlap)
    return float((total - np.sqrt(max(rest, 0.0))) / 2)


def _draw_peak(heat: NDArray[np.float32], row: int, column: int, radius: int) -> None:
    sigma = (2 * radius + 1) / 6
    rows = np.arange(max(row - radius, 0), min(row + radius + 1, heat.shape[0]))
    columns = np.arange(max(column - radius, 0), min(column + radius + 1, heat.shape[1]))
    away = (rows[:, None] - row) ** 2 + (columns[None, :] - column) ** 2
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    heat[window] = np.maximum(heat[window], np.exp(-away / (2 * sigma**2)))


def _around(box: NDArray[np.float32], grid: Grid) -> tuple[slice, slice]:
    """The cells that the footprint touches, as if it stood in any direction."""
    reach_m = float(np.hypot(box[3], box[4])) / 2
    ends = grid.position(np.stack([box[:2] - reach_m, box[:2] + reach_m]))
    low, high = np.clip(np.floor(ends[0]), 0, None), np.clip(np.ceil(ends[1]), 0, None)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def margin_cells(grid: Grid) -> int:
    return round(MARGIN_M / grid.cell_m)


def labelled_cells(
    grid: Grid, projection: NDArray[np.float32], width: int, unmeasured: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(rows, columns) where an object would have been labelled: in view or up to `MARGIN_M` beside it, and not on the
    line of sight of one that was labelled in the picture but not measured.

    Args:
        projection: (3, 4) from the grid's ground to the picture in which people labelled; zeros see nothing.
        width: of that picture in pixels. unmeasured: (n, 4) boxes in it that have no cuboid.
    """
    import cv2

    xy = grid.centres().reshape(-1, 2)
    points = np.column_stack([xy, np.full(len(xy), LOOK_M), np.ones(len(xy))])
    depth = points @ projection[2]
    seen = depth > NEAREST_M
    u = np.where(seen, points @ projection[0], -1) / np.where(seen, depth, 1)
    seen &= (u >= 0) & (u < width)
    reach = 2 * margin_cells(grid) + 1
    seen = (
        cv2.dilate(seen.astype(np.uint8).reshape(grid.rows, grid.columns), np.ones((reach, reach))).reshape(
            -1
        )
        > 0
    )
    for x1, _, x2, _ in unmeasured:
        seen &= (u < x1) | (u > x2)
    return np.asarray(seen.reshape(grid.rows, grid.columns))
