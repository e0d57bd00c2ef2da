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
# A track is one cell wide and lies on one side of what it follows; drawn as a plus it is not lost between cells.
ARMS: Final = np.array([[0, -1], [-1, 0], [1, 0], [0, 1]])


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
    """(3, rows, columns) uint8: 255 where a track lies, and its velocity as `speed_byte`; 0 elsewhere.

    Args:
        tracks: (n, 4) x, y in m and vx, vy in m/s, as the radar gives it: relative to the ego vehicle. Where two lie on
            the same cell, the nearer one counts.
    """
    planes = np.zeros((len(RADAR_GRID_PLANES), grid.rows, grid.columns), np.uint8)
    if tracks is None or not len(tracks):
        return planes
    tracks = tracks[np.isfinite(tracks).all(1)]
    tracks = tracks[np.argsort(-np.hypot(tracks[:, 0], tracks[:, 1]), kind="stable")]
    at = np.floor(grid.position(np.clip(tracks[:, :2], -1e6, 1e6))).astype(np.int64)
    values = np.column_stack([np.full(len(tracks), 255), speed_byte(tracks[:, 2:])]).astype(np.uint8)
    for steps in (
        ARMS,
        np.zeros((1, 2), np.int64),
    ):  # whose arm reaches another track's cell does not hide it
        moved = (at[:, None] + steps).reshape(-1, 2)
        seen = grid.inside(moved)
        planes[:, moved[seen, 0], moved[seen, 1]] = values.repeat(len(steps), axis=0)[seen].T
    return planes


def speed_byte(speed_mps: NDArray[np.floating]) -> NDArray[np.uint8]:
    """-32 .. 32 m/s as 1 .. 255, standing still as 128; 256 minus the byte is the speed the other way."""
    scaled = np.rint(np.clip(speed_mps / FULL_SPEED_MPS, -1, 1) * 127)
    return np.asarray(scaled + 128, np.uint8)


def track_rows(tracks: NDArray[Any] | None) -> NDArray[np.float32] | None:
    """(n, 4) x, y, vx, vy of a structured array with these fields in m and m/s; (n, 4) arrays pass as they are."""
    if tracks is None:
        return None
    if tracks.dtype.names is None:
        return np.asarray(tracks, np.float32).reshape(-1, 4)
    fields = ("x_m", "y_m", "vx_mps", "vy_mps")
    return np.stack([tracks[name].astype(np.float32) for name in fields], axis=1).reshape(-1, 4)


def _bytes(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """0..1 as 1..255: something that is nearly nothing still differs from nothing."""
    return np.asarray(np.rint(np.clip(share, 1 / 255, 1) * 255), np.uint8)


# By number of points in a cell; index 0 is never asked for.
_DENSITY: Final = _bytes(np.log2(1 + np.arange(FULL_DENSITY + 1)) / np.log2(1 + FULL_DENSITY))
