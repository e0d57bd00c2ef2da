"""Rigid transforms as 4x4 float64 matrices and rotations as quaternions (x, y, z, w).

`a_SE3_b` maps points given in frame b to frame a, so that `a_SE3_c = compose(a_SE3_b, b_SE3_c)`.
Belongs here: algebra of poses. Does not belong here: lenses (projection), who is mounted where (calibration).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from av_assets.domain.errors import CalibrationError

Array = NDArray[np.float64]

RIGID_TOLERANCE = 1e-4
# Below this angle sin(t*angle)/sin(angle) loses its digits, and straight interpolation is exact to 1e-9.
SMALL_ANGLE_RAD = 1e-4


def se3(rotation: ArrayLike, translation_m: ArrayLike) -> Array:
    """(4, 4) from a (3, 3) rotation and a (3,) translation in metres."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(rotation, np.float64)
    matrix[:3, 3] = np.asarray(translation_m, np.float64)
    return matrix


def compose(*transforms: ArrayLike) -> Array:
    """a_SE3_b, b_SE3_c, ... -> the product; (4, 4). Nothing given: the identity."""
    product = np.eye(4)
    for transform in transforms:
        product = product @ np.asarray(transform, np.float64)
    return product


def invert(a_SE3_b: ArrayLike) -> Array:  # noqa: N803
    """b_SE3_a, (4, 4), by transposing the rotation: exact where a general inverse is not."""
    matrix = np.asarray(a_SE3_b, np.float64)
    rotation = matrix[:3, :3].T
    return se3(rotation, -rotation @ matrix[:3, 3])


def apply(a_SE3_b: ArrayLike, points_b: ArrayLike) -> Array:  # noqa: N803
    """(N, 3) points of frame b in frame a."""
    matrix = np.asarray(a_SE3_b, np.float64)
    return np.asarray(points_b, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def is_rigid(transform: ArrayLike, tolerance: float = RIGID_TOLERANCE) -> bool:
    """Whether a (4, 4) is a proper rigid motion: finite, orthonormal, right-handed, last row 0 0 0 1."""
    matrix = np.asarray(transform, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return False
    rotation = matrix[:3, :3]
    orthonormal = np.abs(rotation @ rotation.T - np.eye(3)).max() <= tolerance
    last_row = np.abs(matrix[3] - [0.0, 0.0, 0.0, 1.0]).max() <= tolerance
    return bool(orthonormal and last_row and np.linalg.det(rotation) > 0)


def normalise_quaternions(xyzw: ArrayLike) -> Array:
    """(..., 4) unit quaternions.

    Raises:
        CalibrationError: one of them has no direction (zero or not finite).
    """
    quaternions = np.asarray(xyzw, np.float64)
    norm = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    if not np.isfinite(norm).all() or (norm < 1e-6).any():
        raise CalibrationError("a rotation quaternion is zero or not finite", code="bad_quaternion")
    return np.asarray(quaternions / norm)


def quaternions_to_matrices(xyzw: ArrayLike) -> Array:
    """(..., 4) quaternions, normalised first -> (..., 3, 3) rotations.

    Raises:
        CalibrationError: a quaternion without direction.
    """
    x, y, z, w = np.moveaxis(normalise_quaternions(xyzw), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrices_to_quaternions(rotations: ArrayLike) -> Array:
    """(..., 3, 3) rotations -> (..., 4) unit quaternions with w >= 0.

    Takes the eigenvector of the largest eigenvalue of K (Bar-Itzhack 2000, Journal of Guidance 23(6)):
    no case
    distinction, and the nearest rotation where the input is slightly off.
    """
    m = np.asarray(rotations, np.float64)
    k = np.empty((*m.shape[:-2], 4, 4))
    k[..., 0, 0] = m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2]
    k[..., 1, 1] = m[..., 1, 1] - m[..., 0, 0] - m[..., 2, 2]
    k[..., 2, 2] = m[..., 2, 2] - m[..., 0, 0] - m[..., 1, 1]
    k[..., 3, 3] = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    k[..., 0, 1] = k[..., 1, 0] = m[..., 1, 0] + m[..., 0, 1]
    k[..., 0, 2] = k[..., 2, 0] = m[..., 2, 0] + m[..., 0, 2]
    k[..., 1, 2] = k[..., 2, 1] = m[..., 2, 1] + m[..., 1, 2]
    k[..., 0, 3] = k[..., 3, 0] = m[..., 2, 1] - m[..., 1, 2]
    k[..., 1, 3] = k[..., 3, 1] = m[..., 0, 2] - m[..., 2, 0]
    k[..., 2, 3] = k[..., 3, 2] = m[..., 1, 0] - m[..., 0, 1]
    quaternions = np.linalg.eigh(k)[1][..., -1]
    return np.asarray(np.where(quaternions[..., 3:] < 0, -quaternions, quaternions))


def slerp(start_xyzw: ArrayLike, end_xyzw: ArrayLike, share: ArrayLike) -> Array:
    """Spherical interpolation along the shorter arc (Shoemake 1985): (..., 4), (..., 4), (...) -> (..., 4).

    Signs are aligned first: q and -q are one rotation, and the long way round would spin the sensor.

    Raises:
        CalibrationError: a quaternion without direction.
    """
    start, end = normalise_quaternions(start_xyzw), normalise_quaternions(end_xyzw)
    part = np.asarray(share, np.float64)[..., None]
    cosine = np.sum(start * end, axis=-1, keepdims=True)
    end = np.where(cosine < 0, -end, end)
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    straight = angle < SMALL_ANGLE_RAD
    sine = np.where(straight, 1.0, np.sin(angle))
    from_start = np.where(straight, 1 - part, np.sin((1 - part) * angle) / sine)
    from_end = np.where(straight, part, np.sin(part * angle) / sine)
    return normalise_quaternions(from_start * start + from_end * end)
