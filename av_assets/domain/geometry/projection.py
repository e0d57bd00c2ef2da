"""Points onto pictures: the pinhole model with plumb-bob distortion (Brown 1971; the model of ROS and
OpenCV).

Belongs here: camera projection. Does not belong here: drawing, or where a camera is mounted (calibration).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.errors import CalibrationError
from av_assets.domain.geometry.transforms import Array, apply, invert

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NEAR_M = 0.05
MAX_COEFFICIENTS = 5


def _coefficients(distortion: ArrayLike) -> tuple[float, float, float, float, float]:
    given = [float(value) for value in np.atleast_1d(np.asarray(distortion, np.float64))]
    if len(given) > MAX_COEFFICIENTS and any(given[MAX_COEFFICIENTS:]):
        raise CalibrationError(
            f"{len(given)} distortion coefficients are not a plumb_bob model", code="unknown_distortion_model"
        )
    k1, k2, p1, p2, k3 = (given + [0.0] * MAX_COEFFICIENTS)[:MAX_COEFFICIENTS]
    return k1, k2, p1, p2, k3


def distort(normalised: ArrayLike, distortion: ArrayLike) -> Array:
    """(N, 2) ideal image-plane points (x/z, y/z) -> (N, 2) distorted ones; coefficients k1 k2 p1 p2 k3.

    Raises:
        CalibrationError: more than five coefficients that are not zero.
    """
    k1, k2, p1, p2, k3 = _coefficients(distortion)
    points = np.asarray(normalised, np.float64)
    x, y = points[:, 0], points[:, 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack([x * radial + dx, y * radial + dy], axis=1)


def _folds_back(r2: Array, distortion: ArrayLike) -> NDArray[np.bool_]:
    """Where the radial polynomial no longer grows with the radius: such points would land inside the
    picture."""
    k1, k2, _, _, k3 = _coefficients(distortion)
    return np.asarray(1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * 7 * k3)) <= 0)


def project_camera_points(
    points_camera_m: ArrayLike, k: ArrayLike, distortion: ArrayLike
) -> tuple[Array, Array]:
    """(N, 3) optical-frame points -> pixels (N, 2) and depths (N,) in metres.

    Points nearer than NEAR_M, behind the camera, or beyond the radius where the lens model folds back
    are NaN.

    Raises:
        CalibrationError: an unknown distortion model.
    """
    points = np.asarray(points_camera_m, np.float64).reshape(-1, 3)
    depth_m = points[:, 2].copy()
    in_front = depth_m > NEAR_M
    normalised = points[:, :2] / np.where(in_front, depth_m, 1.0)[:, None]
    in_front &= ~_folds_back(np.sum(normalised**2, axis=1), distortion)
    intrinsics = np.asarray(k, np.float64).reshape(3, 3)
    pixels = distort(normalised, distortion) @ intrinsics[:2, :2].T + intrinsics[:2, 2]
    pixels[~in_front] = np.nan
    return pixels, depth_m


def project_ego_points(
    points_ego_m: ArrayLike,
    ego_SE3_camera: ArrayLike,  # noqa: N803
    k: ArrayLike,
    distortion: ArrayLike,
) -> tuple[Array, Array]:
    """(N, 3) ego-frame points -> pixels (N, 2) and depths (N,) in metres; NaN as in project_camera_points."""
    return project_camera_points(apply(invert(ego_SE3_camera), points_ego_m), k, distortion)


def inside_image(pixels: ArrayLike, width: int, height: int) -> NDArray[np.bool_]:
    """(N,) whether pixel positions lie in [0, width) x [0, height); NaN does not."""
    uv = np.asarray(pixels, np.float64)
    with np.errstate(invalid="ignore"):
        inside = (uv[:, 0] >= 0) & (uv[:, 0] < width) & (uv[:, 1] >= 0) & (uv[:, 1] < height)
    return np.asarray(inside)
