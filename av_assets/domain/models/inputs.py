"""What the network sees, made the same way in training and on the vehicle.

picture     red, green, blue, and inverse depth and height of lidar points that fall on the pixel (0 where there is
            none); a network of the variant "camera" takes the first three
bev         planes of lidar and radar on the ground grid (`grid`); radar velocities over ground, as cuboids have them
projection  from metres in the ego frame to pixels of that picture, which tells where camera features belong on the grid
Belongs here: from sensor data to these arrays. Does not belong here: reading files, augmentation, weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import ModelError
from av_assets.domain.models.grid import (
    LIDAR_GRID_PLANES,
    RADAR_GRID_PLANES,
    Grid,
    lidar_raster,
    radar_raster,
)

if TYPE_CHECKING:
    from av_assets.policies.perception import PerceptionConfig

PLANES: Final = ("red", "green", "blue", "inverse_depth", "height")
COLOURS: Final = 3
NEAREST_M: Final = 4.0  # full scale of the inverse depth plane
NEAREST_SEEN_M: Final = 0.5
LOWEST_M, HIGHEST_M = -1.0, 4.0  # height above ground that the height plane spans
# A lidar return is far smaller than the gap to its neighbours; drawn as a plus it survives the first stride.
SPLAT: Final = ((0, -1), (-1, 0), (1, 0), (0, 1), (0, 0))
EDGE: Final = 3  # pixels beside the picture that a plus whose middle is up to two beside it can reach


@dataclass(frozen=True)
class CameraView:
    """Where a camera looks: `K` (3, 3) pixels of a width x height picture, `ego_SE3_camera` (4, 4) metres."""

    width: int
    height: int
    K: NDArray[np.float64]
    ego_SE3_camera: NDArray[np.float64]  # noqa: N815

    @cached_property
    def camera_SE3_ego(self) -> NDArray[np.float64]:  # noqa: N802
        """(4, 4) from the ego frame into that of the camera."""
        return np.asarray(np.linalg.inv(self.ego_SE3_camera), np.float64)

    @classmethod
    def from_calibration(cls, calibration: dict[str, Any], role: str) -> CameraView | None:
        """The view of `role` in a calibration.json, None where it is missing."""
        camera = calibration.get("cameras", {}).get(role)
        if camera is None or camera.get("K") is None or camera.get("ego_SE3_camera") is None:
            return None
        return cls(
            int(camera["width"]),
            int(camera["height"]),
            np.asarray(camera["K"], np.float64).reshape(3, 3),
            np.asarray(camera["ego_SE3_camera"], np.float64).reshape(4, 4),
        )


def project(
    points_ego: NDArray[np.floating], view: CameraView
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pinhole projection without lens distortion.

    Args:
        points_ego: (N, >=3) metres, ego frame.

    Returns:
        (N, 2) pixels and (N,) depth along the optical axis in metres; pixels are meaningful where depth > 0.
    """
    camera_SE3_ego = view.camera_SE3_ego  # noqa: N806
    # Points that are not numbers give pixels that are none.
    with np.errstate(invalid="ignore"):
        xyz = points_ego[:, :3].astype(np.float64) @ camera_SE3_ego[:3, :3].T + camera_SE3_ego[:3, 3]
        depth_m = xyz[:, 2]
        uvw = xyz @ view.K.T
        return uvw[:, :2] / np.where(np.abs(depth_m) < 1e-6, 1e-6, depth_m)[:, None], depth_m


def lidar_planes(
    points_ego: NDArray[np.floating], view: CameraView, width: int, height: int
) -> NDArray[np.uint8]:
    """(height, width, 2) uint8: inverse depth and height of the nearest lidar point on each pixel.

    Of points on a pixel that are equally near (as float32), the last one counts.
    """
    x, y, depth_m, z = _seen(points_ego, view, width, height)
    # An edge as wide as a plus can reach takes what falls beside the picture.
    across = width + 2 * EDGE
    middle = (np.floor(y).astype(np.int64) + EDGE) * across + np.floor(x).astype(np.int64) + EDGE
    inverse = NEAREST_M / depth_m
    nearness = inverse.astype(np.float32)
    nearest = np.zeros((height + 2 * EDGE) * across, np.float32)
    np.maximum.at(nearest, middle, nearness)
    shown = np.flatnonzero(nearest.take(middle) == nearness)
    middle, share = middle.take(shown), (z.take(shown) - LOWEST_M) / (HIGHEST_M - LOWEST_M)
    values = np.rint(np.clip([inverse.take(shown), share], 1 / 255, 1) * 255).astype(np.uint8)
    planes = np.zeros((2, len(nearest)), np.uint8)
    for dx, dy in SPLAT:
        at = middle + (dy * across + dx)
        planes[0][at], planes[1][at] = values
    return planes.reshape(2, -1, across)[:, EDGE:-EDGE, EDGE:-EDGE].transpose(1, 2, 0)


def _seen(
    points_ego: NDArray[np.floating], view: CameraView, width: int, height: int
) -> tuple[NDArray[np.float64], ...]:
    """(m,) x and y in pixels of a width x height picture, depth and height above ground in metres: points that lie in
    it, or less than two pixels beside it.

    Most points of a turn are behind the camera or beside its view. Those are left out after one product in the points'
    own precision, whose rounding is far below the two pixels and the tenth of a metre that pass on top.
    """
    to_input = projection_matrix(view, width, height)
    xyz = np.ascontiguousarray(points_ego[:, :3].T)
    with np.errstate(invalid="ignore", over="ignore"):
        u, v, depth = to_input[:, :3] @ xyz + to_input[:, 3:]
        edge = 4 * depth
        near = (depth > NEAREST_SEEN_M - 0.1) & (u > -edge) & (v > -edge)
        near &= (u < width * depth + edge) & (v < height * depth + edge)
    xyz = xyz.take(np.flatnonzero(near), axis=1).astype(np.float64)
    camera_SE3_ego = view.camera_SE3_ego  # noqa: N806
    in_camera = camera_SE3_ego[:3, :3] @ xyz + camera_SE3_ego[:3, 3:]
    depth_m = in_camera[2]
    x, y = (view.K[:2] @ in_camera) / depth_m * [[width / view.width], [height / view.height]]
    inside = (depth_m > NEAREST_SEEN_M) & (x > -2) & (y > -2) & (x < width + 2) & (y < height + 2)
    found = np.flatnonzero(inside)
    return x.take(found), y.take(found), depth_m.take(found), xyz[2].take(found)


def draw_picture(
    pixels: NDArray[np.uint8],
    points_ego: NDArray[np.floating] | None,
    view: CameraView | None,
    width: int,
    height: int,
    planes: int = len(PLANES),
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """(planes, height, width) uint8 input picture; the lidar planes stay 0 without points or calibration.

    Args:
        pixels: (H, W, 3) uint8 RGB, any size.
        points_ego: (N, >=3) metres in the ego frame, or None. Fastest where each coordinate lies in one piece.
        planes: 5, or 3 for colours alone.
        out: where to draw it; new memory where there is none.

    Raises:
        ModelError: pixels are not an RGB picture.
    """
    import cv2

    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ModelError(
            f"expected (H, W, 3) uint8 pixels, got {pixels.shape} {pixels.dtype}", code="wrong_input_shape"
        )
    if pixels.shape[:2] != (height, width):
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    picture = np.empty((planes, height, width), np.uint8) if out is None else out
    cv2.split(pixels, list(picture[:COLOURS]))
    if planes > COLOURS:
        if points_ego is not None and view is not None and len(points_ego):
            picture[COLOURS:] = lidar_planes(points_ego, view, width, height).transpose(2, 0, 1)
        else:
            picture[COLOURS:] = 0
    return picture


def prepare(
    pixels: NDArray[np.uint8],
    points_ego: NDArray[np.floating] | None,
    view: CameraView | None,
    width: int,
    height: int,
    planes: int = len(PLANES),
) -> NDArray[np.uint8]:
    """(height, width, planes) uint8: what `draw_picture` draws, for whoever works on pictures by pixel."""
    import cv2

    return np.asarray(
        cv2.merge(list(draw_picture(pixels, points_ego, view, width, height, planes))), np.uint8
    )


def projection_matrix(view: CameraView | None, width: int, height: int) -> NDArray[np.float32]:
    """(3, 4): (x, y, z, 1) in the ego frame -> (u w, v w, w), u and v in pixels of the width x height input picture.

    w is the depth along the optical axis in metres. All zero without a view, which lets nothing be seen.
    """
    if view is None:
        return np.zeros((3, 4), np.float32)
    to_input = np.diag([width / view.width, height / view.height, 1.0])
    return np.asarray(to_input @ view.K @ view.camera_SE3_ego[:3], np.float32)


@dataclass(frozen=True)
class InputLayout:
    """Which arrays a network takes, and their sizes. `grid` is None for one that answers in the picture alone."""

    width: int
    height: int
    lidar: bool
    radar: bool
    grid: Grid | None

    @classmethod
    def of(cls, config: PerceptionConfig) -> Self:
        grid = Grid.of(config) if "boxes3d" in config.tasks else None
        lidar, radar = config.variant != "camera", config.variant == "camera_lidar_radar"
        return cls(config.input_width, config.input_height, lidar, radar, grid)

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Self:
        """What `describe` wrote."""
        grid = described["grid"]
        return cls(**{**described, "grid": None if grid is None else Grid(**grid)})

    def describe(self) -> dict[str, Any]:
        grid = None if self.grid is None else self.grid.describe()
        return {
            "width": self.width, "height": self.height, "lidar": self.lidar, "radar": self.radar, "grid": grid,
        }  # fmt: skip

    @property
    def planes(self) -> tuple[str, ...]:
        return PLANES if self.lidar else PLANES[:COLOURS]

    @property
    def grid_planes(self) -> tuple[str, ...]:
        return (LIDAR_GRID_PLANES if self.lidar else ()) + (RADAR_GRID_PLANES if self.radar else ())

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape without the batch axis of each input, in the order of the network's arguments."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {
            "picture": ("uint8", (len(self.planes), self.height, self.width))
        }
        if self.grid is not None and self.grid_planes:
            found["bev"] = ("uint8", (len(self.grid_planes), self.grid.rows, self.grid.columns))
        if self.grid is not None:
            found["projection"] = ("float32", (3, 4))
        return found


def network_inputs(
    layout: InputLayout,
    pixels: NDArray[np.uint8],
    points_ego: NDArray[np.floating] | None,
    view: CameraView | None,
    tracks: NDArray[np.floating] | None = None,
    out: NDArray[np.uint8] | None = None,
) -> dict[str, NDArray[Any]]:
    """All arrays of one frame, without the batch axis, as `InputLayout.shapes` says.

    Args:
        pixels: (H, W, 3) uint8 RGB, any size. points_ego: (n, >=3) metres, ego frame.
        tracks: rows of `grid.track_rows`.
        out: where to draw the picture.

    Raises:
        ModelError: pixels are not an RGB picture.
    """
    picture = draw_picture(pixels, points_ego, view, layout.width, layout.height, len(layout.planes), out)
    found: dict[str, NDArray[Any]] = {"picture": picture}
    if layout.grid is not None:
        if layout.grid_planes:
            found["bev"] = grid_planes(layout, layout.grid, points_ego, tracks)
        found["projection"] = projection_matrix(view, layout.width, layout.height)
    return found


def grid_planes(
    layout: InputLayout,
    grid: Grid,
    points_ego: NDArray[np.floating] | None,
    tracks: NDArray[np.floating] | None,
) -> NDArray[np.uint8]:
    """(P, rows, columns) uint8: what the variant's sensors show on the ground."""
    planes = [lidar_raster(points_ego, grid)] if layout.lidar else []
    planes += [radar_raster(tracks, grid)] if layout.radar else []
    return np.concatenate(planes) if len(planes) > 1 else planes[0]
