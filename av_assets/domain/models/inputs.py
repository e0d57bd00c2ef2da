"""What the network sees: one uint8 picture of five planes, made the same way in training and on the vehicle.

Planes: red, green, blue, inverse depth and height of lidar points that fall on the pixel (0 where there is
none).
Belongs here: from sensor data to that picture. Does not belong here: reading files, augmentation, weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import ModelError

PLANES: Final = ("red", "green", "blue", "inverse_depth", "height")
NEAREST_M: Final = 4.0  # full scale of the inverse depth plane
LOWEST_M, HIGHEST_M = -1.0, 4.0  # height above ground that the height plane spans
# A lidar return is far smaller than the gap to its neighbours; drawn as a plus it survives the first stride.
SPLAT: Final = ((0, -1), (-1, 0), (1, 0), (0, 1), (0, 0))


@dataclass(frozen=True)
class CameraView:
    """Where a camera looks: `K` (3, 3) pixels of a width x height picture, `ego_SE3_camera` (4, 4) metres."""

    width: int
    height: int
    K: NDArray[np.float64]
    ego_SE3_camera: NDArray[np.float64]  # noqa: N815

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
    camera_SE3_ego = np.linalg.inv(view.ego_SE3_camera)  # noqa: N806
    xyz = points_ego[:, :3].astype(np.float64) @ camera_SE3_ego[:3, :3].T + camera_SE3_ego[:3, 3]
    depth_m = xyz[:, 2]
    uvw = xyz @ view.K.T
    return uvw[:, :2] / np.where(np.abs(depth_m) < 1e-6, 1e-6, depth_m)[:, None], depth_m


def lidar_planes(
    points_ego: NDArray[np.floating], view: CameraView, width: int, height: int
) -> NDArray[np.uint8]:
    """(height, width, 2) uint8: inverse depth and height of the nearest lidar point on each pixel."""
    planes = np.zeros((height, width, 2), np.uint8)
    pixels, depth_m = project(points_ego, view)
    scaled = pixels * (width / view.width, height / view.height)
    seen = (depth_m > 0.5) & (scaled > -2).all(1) & (scaled[:, 0] < width + 2) & (scaled[:, 1] < height + 2)
    far_first = np.argsort(-depth_m[seen], kind="stable")
    at = np.floor(scaled[seen][far_first]).astype(np.int64)
    inverse = np.clip(NEAREST_M / depth_m[seen][far_first], 1 / 255, 1)
    z = np.clip((points_ego[seen, 2][far_first] - LOWEST_M) / (HIGHEST_M - LOWEST_M), 1 / 255, 1)
    values = np.rint(np.stack([inverse, z], 1) * 255).astype(np.uint8)
    for dx, dy in SPLAT:
        x, y = at[:, 0] + dx, at[:, 1] + dy
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        planes[y[inside], x[inside]] = values[inside]
    return planes


def prepare(
    pixels: NDArray[np.uint8],
    points_ego: NDArray[np.floating] | None,
    view: CameraView | None,
    width: int,
    height: int,
) -> NDArray[np.uint8]:
    """(height, width, 5) uint8 input picture; the lidar planes stay 0 without points or calibration.

    Args:
        pixels: (H, W, 3) uint8 RGB, any size.
        points_ego: (N, >=3) metres in the ego frame, or None.

    Raises:
        ModelError: pixels are not an RGB picture.
    """
    import cv2

    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ModelError(
            f"expected (H, W, 3) uint8 pixels, got {pixels.shape} {pixels.dtype}", code="wrong_input_shape"
        )
    picture = np.zeros((height, width, len(PLANES)), np.uint8)
    picture[..., :3] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if points_ego is not None and view is not None and len(points_ego):
        picture[..., 3:] = lidar_planes(points_ego, view, width, height)
    return picture
