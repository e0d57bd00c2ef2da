"""How well a lidar's depth edges lie on a picture's edges: the score that watches a calibration drift.

After Levinson and Thrun 2013, "Automatic online calibration of cameras and lasers" (RSS): where depth jumps, a
picture usually has an edge. The picture's gradient attracts over a few pixels; the score is what depth edges
find, relative to what any projected point finds (1: no better than chance). One score depends on the scene, so
that drift is judged by comparison: an aligned calibration scores better than the same one turned a little.
Belongs here: the score, as pure functions. Does not belong here: estimating a calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.geometry.projection import inside_image, project_camera_points
from av_assets.domain.geometry.transforms import Array, apply, compose, invert, se3

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from av_assets.domain.geometry.calibration import CameraCalibration, LidarCalibration
    from av_assets.domain.privacy.frames import RedactedFrame
    from av_assets.policies.calibration import CalibrationPolicy


@dataclass(frozen=True)
class EdgeAlignment:
    """score: gradient under depth edges over gradient under all points, 0 and more. edge_points: how many edges
    lay in the picture. better_share: share of small rotations that score less; near 1 where aligned."""

    score: float
    edge_points: int
    better_share: float


def depth_edges(points_lidar_m: ArrayLike, policy: CalibrationPolicy) -> NDArray[np.bool_]:
    """(N, 3 or more) points -> (N,) whether the point is much nearer than a neighbour in its ring.

    Neighbours are the next points in azimuth among those of nearly equal elevation, so that neither ring numbers
    nor an order of points is needed. Only the near side counts: the far side moves with the view. Edges across
    rings are left out, because on the ground rings lie far apart: so yaw and roll are seen well, pitch less.
    """
    xyz = np.asarray(points_lidar_m, np.float64)[:, :3]
    finite = np.flatnonzero(np.isfinite(xyz).all(axis=1))
    x, y, z = xyz[finite].T
    reach, azimuth = np.hypot(np.hypot(x, y), z), np.degrees(np.arctan2(y, x))
    ring = np.rint(np.degrees(np.arctan2(z, np.hypot(x, y))) / policy.edge_ring_deg)
    order = np.lexsort((azimuth, ring))
    near = (np.diff(ring[order]) == 0) & (np.diff(azimuth[order]) <= policy.edge_neighbour_deg)
    step, farther = np.diff(reach[order]), np.maximum(reach[order][1:], reach[order][:-1])
    jump = near & (np.abs(step) > np.maximum(policy.edge_jump_m, policy.edge_jump_share * farther))
    found = np.zeros(len(xyz), np.bool_)
    found[finite[order[:-1][jump & (step > 0)]]] = True
    found[finite[order[1:][jump & (step < 0)]]] = True
    return found


def edge_map(frame: RedactedFrame, policy: CalibrationPolicy) -> NDArray[np.float32]:
    """(H, W) float32 in 0..1: gradient of the picture, decaying by `edge_decay` per pixel around edges."""
    import cv2

    grey = cv2.cvtColor(frame.pixels(), cv2.COLOR_RGB2GRAY)
    return attraction(gradient(grey), policy)


def gradient(grey: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W) brightness -> (H, W) float32 gradient magnitude (Sobel), 1 at its 99th percentile and beyond."""
    import cv2

    across, down = (cv2.Sobel(grey, cv2.CV_32F, dx, dy, ksize=3) for dx, dy in ((1, 0), (0, 1)))
    size = np.hypot(across, down)
    top = max(float(np.percentile(size, 99)), float(size.max()) * 0.1, 1e-6)
    return np.asarray(np.minimum(size / top, 1), np.float32)


def attraction(edges: NDArray[np.float32], policy: CalibrationPolicy) -> NDArray[np.float32]:
    """The largest edge around each pixel, less what distance takes (their inverse distance transform)."""
    import cv2

    spread = np.ascontiguousarray(edges, np.float32)
    around = np.ones((3, 3), np.uint8)
    for _ in range(policy.edge_reach_px):
        spread = np.maximum(spread, cv2.dilate(spread, around) * np.float32(policy.edge_decay))
    return spread


def edge_alignment(
    points_lidar_m: ArrayLike,
    picture_edges: NDArray[np.float32],
    camera: CameraCalibration,
    lidar: LidarCalibration,
    policy: CalibrationPolicy,
) -> EdgeAlignment | None:
    """Score of one sweep on one picture taken at nearly that time.

    Args:
        points_lidar_m: (N, 3 or more) in the lidar frame.
        picture_edges: (camera.height, camera.width), from `edge_map`.

    None where fewer than `min_edge_points` depth edges lie in the picture: no evidence either way.
    """
    points = np.asarray(points_lidar_m, np.float64)[:, :3]
    edge = depth_edges(points, policy)
    camera_SE3_lidar = compose(invert(camera.ego_SE3_camera), lidar.ego_SE3_lidar)  # noqa: N806
    here = _score(points, edge, picture_edges, camera, camera_SE3_lidar)
    if here is None or here[1] < policy.min_edge_points:
        return None
    scores = []
    for turn in product((-1, 0, 1), repeat=3):
        if any(turn):
            probe = compose(
                se3(_rotation(np.radians(policy.probe_deg) * np.array(turn)), [0, 0, 0]), camera_SE3_lidar
            )
            other = _score(points, edge, picture_edges, camera, probe)
            scores.append(0.0 if other is None else other[0])
    better = sum(score < here[0] for score in scores) / len(scores)
    return EdgeAlignment(round(here[0], 6), here[1], round(better, 6))


def _rotation(vector_rad: Array) -> Array:
    """(3, 3) rotation by a vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector_rad))
    x, y, z = vector_rad / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _score(
    points: Array,
    edge: NDArray[np.bool_],
    picture: NDArray[np.float32],
    camera: CameraCalibration,
    pose: Array,
) -> tuple[float, int] | None:
    """(score, depth edges in the picture); None where no point, or no gradient, is in the picture."""
    pixels, _ = project_camera_points(apply(pose, points), camera.K, camera.D)
    seen = inside_image(pixels, camera.width, camera.height)
    column, row = pixels[seen].astype(np.int64).T
    found, on_edge = picture[row, column].astype(np.float64), edge[seen]
    usual = float(found.mean()) if len(found) else 0.0
    if usual <= 0 or not on_edge.any():
        return None
    return float(found[on_edge].mean()) / usual, int(on_edge.sum())
