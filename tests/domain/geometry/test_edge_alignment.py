"""The score that sees a calibration drift, on a scene that is cast into both sensors exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from av_assets.domain.geometry.calibration import CameraCalibration, LidarCalibration
from av_assets.domain.geometry.edge_alignment import (
    attraction,
    depth_edges,
    edge_alignment,
    edge_map,
    gradient,
)
from av_assets.policies.calibration import CalibrationPolicy

POLICY = CalibrationPolicy.load()
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def rows(pose: Any) -> Any:
    return tuple(tuple(map(float, row)) for row in pose)


def turned(deg: float, axis: int) -> Any:
    angle, pose = np.radians(deg), np.eye(4)
    i, j = [k for k in range(3) if k != axis]
    pose[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return pose


def sensors() -> tuple[CameraCalibration, LidarCalibration]:
    camera, lidar = np.eye(4), np.eye(4)
    camera[:3, :3], camera[:3, 3], lidar[:3, 3] = OPTICAL, (1.5, 0.1, 1.2), (1.0, 0.0, 1.5)
    k = ((500.0, 0.0, 320.0), (0.0, 500.0, 192.0), (0.0, 0.0, 1.0))
    seen = CameraCalibration(width=640, height=384, K=k, ego_SE3_camera=rows(camera))
    return seen, LidarCalibration(ego_SE3_lidar=rows(lidar))


def scene() -> tuple[Any, Any]:
    """(points in the lidar frame, grey picture): bright boxes before a dark wall, seen by the sensors of
    `sensors`, exactly."""
    camera, lidar = sensors()
    boxes = [
        (9, -3.4, -1.6, -0.5, 1.6),
        (12, 0.2, 1.9, -0.6, 2.4),
        (8, 2.4, 3.1, 0.2, 2.9),
        (15, -1.0, -0.3, -1, 3),
    ]

    def cast(origin: Any, rays: Any) -> tuple[Any, Any]:
        far = np.where(np.abs(rays[:, 0]) > 1e-9, (20 - origin[0]) / rays[:, 0], np.inf)
        reach, shade = np.where(far > 0, far, np.nan), np.full(len(rays), 40)
        for i, (x, y0, y1, z0, z1) in enumerate(boxes):
            t = (x - origin[0]) / rays[:, 0]
            y, z = origin[1] + t * rays[:, 1], origin[2] + t * rays[:, 2]
            hit = (t > 0) & (t < reach) & (y0 <= y) & (y <= y1) & (z0 <= z) & (z <= z1)
            reach[hit], shade[hit] = t[hit], 140 + 30 * i
        return reach, shade

    pose = np.array(camera.ego_SE3_camera)
    column, row = np.meshgrid(np.arange(640) + 0.5, np.arange(384) + 0.5)
    flat = np.stack([(column - 320) / 500, (row - 192) / 500, np.ones_like(row)], -1).reshape(-1, 3)
    grey = cast(pose[:3, 3], flat @ pose[:3, :3].T)[1].reshape(384, 640).astype(np.uint8)
    pose = np.array(lidar.ego_SE3_lidar)
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-40, 40, 0.2)), np.radians(np.arange(-20, 20, 0.8)))
    rays = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
    ).reshape(-1, 3)
    reach, _ = cast(pose[:3, 3], rays @ pose[:3, :3].T)
    points = rays * reach[:, None]
    return np.random.default_rng(0).permutation(points[np.isfinite(reach)]), grey


def test_turning_a_sensor_lowers_the_score() -> None:
    points, grey = scene()
    camera, lidar = sensors()
    assert 50 < depth_edges(points, POLICY).sum() < 0.1 * len(points)
    picture = attraction(gradient(grey), POLICY)
    found = edge_alignment(points, picture, camera, lidar, POLICY)
    assert found is not None
    assert found.better_share >= 0.9
    for deg in (1.0, 2.0):
        for axis in (1, 2):
            for sign in (-1, 1):
                off = LidarCalibration(
                    ego_SE3_lidar=rows(np.array(lidar.ego_SE3_lidar) @ turned(sign * deg, axis))
                )
                moved = edge_alignment(points, picture, camera, off, POLICY)
                assert moved is not None
                assert moved.score < (0.7 if axis == 2 else 0.98) * found.score
                assert moved.better_share < found.better_share
    assert found.score > 2


def test_no_edges_give_no_score() -> None:
    points, grey = scene()
    camera, lidar = sensors()
    flat = attraction(gradient(np.full_like(grey, 90)), POLICY)
    assert edge_alignment(points, flat, camera, lidar, POLICY) is None
    picture = attraction(gradient(grey), POLICY)
    assert edge_alignment(points[~depth_edges(points, POLICY)][:50], picture, camera, lidar, POLICY) is None
    assert edge_alignment(np.full((40, 4), np.nan), picture, camera, lidar, POLICY) is None
    assert edge_alignment(np.zeros((0, 4)), picture, camera, lidar, POLICY) is None


def test_pictures_are_redacted_frames() -> None:
    import cv2

    from av_assets.domain.privacy.frames import frames_from_shard

    _, grey = scene()
    data = cv2.imencode(".png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))[1].tobytes()
    cell = {"data": data, "encoding": "png", "sensor_ns": 1, "log_ns": 1, "delta_ns": 0, "valid": True}
    frame = next(
        iter(
            frames_from_shard(
                pa.table({"camera_front": [cell]}).replace_schema_metadata({"redacted": "true"}),
                "camera_front",
            )
        )
    )
    assert frame is not None
    np.testing.assert_allclose(edge_map(frame, POLICY), attraction(gradient(grey), POLICY), atol=1e-6)
