"""The grid on the ground ahead of the vehicle, and lidar and radar drawn onto it as planes of bytes.

Rows of the grid lie one behind another along ego x (ahead), columns along ego y (from right to left): cell (0, 0) is
the near right corner, and a mirrored scene is the grid with its columns reversed.
Belongs here: from points and tracks in the ego frame to planes. Does not belong here: pictures (`inputs`), what the
network should answer there (`bev_targets`), reading files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.policies.perception import PerceptionConfig

LIDAR_GRID_PLANES: Final = ("density", "highest", "lowest", "intensity")
RADAR_GRID_PLANES: Final = ("track", "track_vx", "track_vy")
LOWEST_M, HIGHEST_M = -1.0, 4.0  # height above ground that the height planes span
FULL_DENSITY: Final = 63  # points in a cell that fill the density plane, which is logarithmic
FULL_SPEED_MPS: Final = 32.0
SPEED_STEP_MPS: Final = FULL_SPEED_MPS / 127
STILL: Final = 128  # the byte of what stands
# A track is one cell wide; drawn as a plus it is not lost between cells.
PLUS: Final = np.array([[0, 0], [0, -1], [-1, 0], [1, 0], [0, 1]])
# A radar tells the near side of a thing; the middle, where it is to be found, is up to so far away.
REACH_M: Final = 3.0


@dataclass(frozen=True)
class Grid:
    """Where the cells lie: metres in the ego frame, x from `near_m`, y from -`side_m` to `side_m`."""

    near_m: float
    side_m: float
    cell_m: float
    rows: int
    columns: int

    @classmethod
    def of(cls, config: PerceptionConfig) -> Grid:
        rows, columns = config.grid_shape
        return cls(config.bev_near_m, config.bev_side_m, config.bev_cell_m, rows, columns)

    def describe(self) -> dict[str, float | int]:
        """For a file that tells others; `Grid(**described)` is the same grid."""
        return asdict(self)

    def position(self, xy_m: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, 2) continuous row and column of (n, >=2) points; the centre of cell (0, 0) is at (0.5, 0.5)."""
        start = np.array([self.near_m, -self.side_m])
        return np.asarray((xy_m[:, :2].astype(np.float64) - start) / self.cell_m)

    def centres(self, stride: int = 1) -> NDArray[np.float64]:
        """(rows / stride, columns / stride, 2) x and y in metres of the centres of blocks of stride x stride cells."""
        size_m = self.cell_m * stride
        x = self.near_m + (np.arange(self.rows // stride) + 0.5) * size_m
        y = -self.side_m + (np.arange(self.columns // stride) + 0.5) * size_m
        return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)

    def inside(self, position: NDArray[np.number]) -> NDArray[np.bool_]:
        """(n,) whether rows and columns of `position` lie on the grid; never so where one is not a number."""
        return np.asarray((position >= 0).all(1) & (position < (self.rows, self.columns)).all(1))


def lidar_raster(points_ego: NDArray[np.floating] | None, grid: Grid) -> NDArray[np.uint8]:
    """(4, rows, columns) uint8 density, highest, lowest, intensity; 0 where no point fell.

    Points above `HIGHEST_M` are left out: one drives under them. A road that falls away below `LOWEST_M` is still
    there, at full scale.

    Args:
        points_ego: (n, >=3) metres, with intensity 0..1 as fourth column if there is one. Points that are not numbers
            are left out.
    """
    planes = np.zeros((len(LIDAR_GRID_PLANES), grid.rows * grid.columns), np.uint8)
    if points_ego is None or not len(points_ego):
        return planes.reshape(-1, grid.rows, grid.columns)
    cell, level, bright = _on_grid(points_ego, grid)
    # Upside down, the lowest is the highest; both leave 0 where there is nothing.
    np.maximum.at(planes[1], cell, level)
    np.maximum.at(planes[2], cell, -level)
    np.negative(planes[2], out=planes[2])
    filled = np.flatnonzero(planes[1])
    count = np.bincount(cell, minlength=planes.shape[1]).take(filled)
    total = np.bincount(cell, bright, planes.shape[1]).take(filled)
    if not np.isfinite(total).all():
        total = np.bincount(cell, np.nan_to_num(bright), planes.shape[1]).take(filled)
    planes[0, filled] = _DENSITY.take(np.minimum(count, FULL_DENSITY))
    planes[3, filled] = _bytes(total / count)
    return planes.reshape(-1, grid.rows, grid.columns)


def _on_grid(
    points_ego: NDArray[np.floating], grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.floating]]:
    """Cell (row * columns + column), byte of height, and intensity of the points over the grid, in their order.

    Most points of a turn are beside it. Those are left out by comparing in the points' own precision, whose rounding is
    far below the cell that passes on each side.
    """
    columns = points_ego[:, :4].T
    far, left = grid.near_m + (grid.rows + 1) * grid.cell_m, (grid.columns + 1) * grid.cell_m - grid.side_m
    x, y, z = columns[:3]
    near = (x > grid.near_m - grid.cell_m) & (x < far) & (y > -grid.side_m - grid.cell_m) & (y < left)
    columns = columns.take(np.flatnonzero(near & (z < HIGHEST_M)), axis=1)
    row = (columns[0].astype(np.float64) - grid.near_m) / grid.cell_m
    column = (columns[1].astype(np.float64) + grid.side_m) / grid.cell_m
    inside = (row >= 0) & (row < grid.rows) & (column >= 0) & (column < grid.columns)
    kept = np.flatnonzero(inside)
    cell = row.take(kept).astype(np.int64) * grid.columns + column.take(kept).astype(np.int64)
    level = _bytes((columns[2].take(kept) - LOWEST_M) / (HIGHEST_M - LOWEST_M))
    return cell, level, columns[3].take(kept) if len(columns) > 3 else np.zeros(len(kept))


def radar_raster(tracks: NDArray[np.floating] | None, grid: Grid) -> NDArray[np.uint8]:
    """(3, rows, columns) uint8: 255 where a track lies; and up to `REACH_M` around tracks the velocity over ground of
    the nearest one as `speed_byte`. 0 elsewhere, and for the velocity of a track of which none is known.

    Args:
        tracks: rows of `track_rows`. Where two lie on the same cell, the one nearer to the vehicle counts.
    """
    planes = np.zeros((len(RADAR_GRID_PLANES), grid.rows, grid.columns), np.uint8)
    if tracks is None:
        return planes
    position, reach = grid.position(np.clip(tracks[:, :2], -1e6, 1e6)), int(REACH_M / grid.cell_m)
    near = (position >= -reach).all(1) & (position < np.array([grid.rows, grid.columns]) + reach).all(1)
    order = np.argsort(-np.hypot(*tracks[near, :2].T), kind="stable")
    at, velocity = np.floor(position[near][order]).astype(np.int64), tracks[near, 2:][order]
    known = np.isfinite(velocity).all(1, keepdims=True)
    planes[1:] = _around(at, speed_byte(np.where(known, velocity, 0)) * known, grid, reach)
    crosses = (at[:, None] + PLUS).reshape(-1, 2)
    planes[0][tuple(crosses[grid.inside(crosses)].T)] = 255
    return planes


def _around(at: NDArray[np.int64], speeds: NDArray[np.uint8], grid: Grid, reach: int) -> NDArray[np.uint8]:
    """(2, rows, columns) speed of the nearest of the cells `at` (n, 2) up to `reach` away; of equally near ones the
    last."""
    edge = 2 * reach
    squares = np.square(np.arange(-reach, reach + 1))
    away = squares[:, None] + squares
    least = np.full((grid.rows + 2 * edge, grid.columns + 2 * edge), reach**2)
    drawn = np.zeros((2, *least.shape), np.uint8)
    for (row, column), speed in zip((at + reach).tolist(), speeds[:, :, None], strict=True):
        window = np.s_[row : row + len(away), column : column + len(away)]
        nearer = away <= least[window]
        least[window][nearer] = away[nearer]
        drawn[:, *window][:, nearer] = speed
    return drawn[:, edge:-edge, edge:-edge] if edge else drawn


def speed_byte(speed_mps: NDArray[np.floating]) -> NDArray[np.uint8]:
    """-32 .. 32 m/s as 1 .. 255, standing still as 128; 256 minus the byte is the speed the other way."""
    scaled = np.rint(np.clip(speed_mps, -FULL_SPEED_MPS, FULL_SPEED_MPS) / SPEED_STEP_MPS)
    return np.asarray(scaled + STILL, np.uint8)


def track_rows(tracks: NDArray[Any] | None, ego_speed_mps: float) -> NDArray[np.float32] | None:
    """(n, 4) float32 x, y (m) and vx, vy (m/s) over ground along the ego axes, as labelled cuboids have them.

    A radar tells velocities relative to the ego vehicle: v_object - v_ego, along the axes that the vehicle has at that
    moment. v_ego is (speed, 0), so (vx + speed, vy) is over ground, as nuScenes' `vx_comp`, `vy_comp` are. The turn
    rate takes no part: a Doppler shift does not change when the vehicle turns where it stands, and neither the rig's
    radar (`simulation.signals.radar`) nor the reader of events (`events.paths`) counts the turning of the axes.

    Left out is that a radar ahead of the rear axle moves sideways by turn rate times its distance from it. A radar that
    measures along its beam alone (see `sync.tracks`) is off by what it does not see.

    Args:
        tracks: (n,) with the fields x_m, y_m, vx_mps, vy_mps, ego frame, relative.
        ego_speed_mps: over ground; NaN: not known, and neither are the velocities then (NaN).
    """
    if tracks is None:
        return None
    fields = ("x_m", "y_m", "vx_mps", "vy_mps")
    rows = np.stack([tracks[name].astype(np.float32) for name in fields], axis=1).reshape(-1, 4)
    rows[:, 2] += np.float32(ego_speed_mps)
    rows[~np.isfinite(rows[:, 2:]).all(1), 2:] = np.nan
    return rows


def _bytes(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """0..1 as 1..255: something that is nearly nothing still differs from nothing."""
    return np.asarray(np.rint(np.clip(share, 1 / 255, 1) * 255), np.uint8)


# By number of points in a cell; index 0 is never asked for.
_DENSITY: Final = _bytes(np.log2(1 + np.arange(FULL_DENSITY + 1)) / np.log2(1 + FULL_DENSITY))
