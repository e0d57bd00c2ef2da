"""Clips with a synthetic lidar and a picture, for the tests of labels and drift: a road with boxes on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MOUNT_M = (1.2, 0.0, 1.95)
CAMERA_M = (1.9, 0.0, 1.45)
WIDTH, HEIGHT, FOCAL = 640, 384, 457.0
DRIVE = "veh001-20250601t080000z"
START_NS = 1_748_764_800_000_000_000
Solid = tuple[float, float, float, float, float, float]  # x, y, length, width, height, intensity (ego frame)
CAR: Solid = (15.0, 0.5, 4.4, 1.8, 1.48, 0.45)
WALKER: Solid = (12.0, -3.5, 0.5, 0.6, 1.75, 0.3)
CONE: Solid = (9.0, 2.8, 0.3, 0.3, 0.75, 0.85)


def calibration() -> dict[str, Any]:
    camera = np.eye(4)
    camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    camera[:3, 3] = CAMERA_M
    lidar = np.eye(4)
    lidar[:3, 3] = MOUNT_M
    k = [[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]
    return {
        "cameras": {
            "camera_front": {
                "width": WIDTH,
                "height": HEIGHT,
                "K": k,
                "D": [],
                "ego_SE3_camera": camera.tolist(),
            }
        },
        "lidars": {"lidar_top": {"ego_SE3_lidar": lidar.tolist()}},
        "source": "log",
        "missing": [],
    }


def project(solid: Solid) -> tuple[float, float, float, float]:
    """Picture box of the corners of a solid."""
    x, y, length, width, height, _ = solid
    corners = [
        (x + a * length / 2, y + b * width / 2, z) for a in (-1, 1) for b in (-1, 1) for z in (0.0, height)
    ]
    u = [WIDTH / 2 - FOCAL * (cy - CAMERA_M[1]) / (cx - CAMERA_M[0]) for cx, cy, _ in corners]
    v = [HEIGHT / 2 - FOCAL * (cz - CAMERA_M[2]) / (cx - CAMERA_M[0]) for cx, _, cz in corners]
    return min(u), min(v), max(u), max(v)


def sweep(solids: list[Solid], seed: int = 0, slope: float = 0.0) -> np.ndarray:
    """(N, 4) float32 in the lidar frame: 32 x 600 rays against a plane (road 7 m to either side) and boxes."""
    rng = np.random.default_rng(seed)
    up = np.deg2rad(np.linspace(-24, 8, 32))[:, None]
    round_ = np.linspace(-np.pi, np.pi, 600, endpoint=False)[None, :]
    ray = np.stack(
        np.broadcast_arrays(np.cos(up) * np.cos(round_), np.cos(up) * np.sin(round_), np.sin(up)), -1
    )
    ray = ray.reshape(-1, 3)
    eye = np.array(MOUNT_M)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = -(eye[2] - slope * eye[0]) / (ray[:, 2] - slope * ray[:, 0])
        reach[(reach < 0) | (reach > 80)] = np.inf
        side = np.abs(eye[1] + reach * ray[:, 1])
        shine = np.where(side < 7.0, 0.1, 0.28)
        for x, y, length, width, height, intensity in solids:
            z = slope * x
            low = (np.array([x - length / 2, y - width / 2, z]) - eye) / ray
            high = (np.array([x + length / 2, y + width / 2, z + height]) - eye) / ray
            enter, leave = np.minimum(low, high).max(axis=1), np.maximum(low, high).min(axis=1)
            hit = (enter < leave) & (enter > 0) & (enter < reach)
            reach, shine = np.where(hit, enter, reach), np.where(hit, intensity, shine)
    seen = np.isfinite(reach)
    points = ray[seen] * (reach[seen] + rng.normal(0, 0.02, seen.sum()))[:, None]
    noisy = np.clip(shine[seen] + rng.normal(0, 0.03, seen.sum()), 0, 1)
    return np.column_stack([points, noisy]).astype("<f4")


def write_clips(
    folder: Path,
    sweeps: list[np.ndarray | None],
    per_clip: int = 5,
    drive: str = DRIVE,
    lidar: bool = True,
    camera: bool = True,
    brightness: int = 100,
) -> list[Path]:
    """Clip files with one row per sweep (10 Hz), a flat JPEG each; None: the lidar missed the frame."""
    times = {"sensor_ns": pa.int64(), "log_ns": pa.int64(), "delta_ns": pa.int64(), "valid": pa.bool_()}
    picture = pa.struct({"data": pa.binary(), "encoding": pa.string(), **times})
    cloud = pa.struct({"points": pa.binary(), "count": pa.int32(), **times})
    jpeg = bytes(cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), brightness, np.uint8))[1])
    rows = []
    for index, points in enumerate(sweeps):
        ref_ns = START_NS + index * 100_000_000
        stamp = {"sensor_ns": ref_ns + 1_000, "log_ns": ref_ns + 5_000, "delta_ns": 1_000, "valid": True}
        row: dict[str, Any] = {
            "clip_id": f"{drive}/{index // per_clip:05d}",
            "frame_index": index,
            "ref_ns": ref_ns,
        }
        row["camera_front"] = {"data": jpeg, "encoding": "jpeg", **stamp}
        row["lidar_top"] = {"valid": False}
        if points is not None:
            row["lidar_top"] = {"points": points.tobytes(), "count": len(points), **stamp}
        rows.append(row)
    fields = [("clip_id", pa.string()), ("frame_index", pa.int32()), ("ref_ns", pa.int64())]
    fields += [("camera_front", picture)] if camera else []
    fields += [("lidar_top", cloud)] if lidar else []
    paths = []
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(rows), per_clip)):
        paths.append(folder / "clips" / f"{number:05d}.parquet")
        pq.write_table(
            pa.Table.from_pylist(
                rows[start : start + per_clip], schema=pa.schema(fields, {"redacted": "true"})
            ),
            paths[-1],
        )
    (folder / "calibration.json").write_text(json.dumps(calibration()))
    return paths


def road_mask() -> np.ndarray:
    """Ground within 7 m to either side, as far as the horizon."""
    rows = np.arange(HEIGHT)[:, None] + 0.5
    columns = np.arange(WIDTH)[None, :] + 0.5
    below = rows > HEIGHT / 2 + 1
    depth = FOCAL * CAMERA_M[2] / np.maximum(rows - HEIGHT / 2, 1e-6)
    side = np.abs(columns - WIDTH / 2) * depth / FOCAL
    return np.where(below & (side < 7.0), 255, 0).astype(np.uint8)


def truth_tables(
    objects: list[list[tuple[str, Solid]]], per_frame_ns: int = 100_000_000
) -> dict[str, pa.Table]:
    """Truth of frames whose boxes are the projected solids; objects keep their place in the list as id."""
    boxes, masks = [], []
    png = bytes(cv2.imencode(".png", road_mask())[1])
    for index, things in enumerate(objects):
        stamp = START_NS + index * per_frame_ns + 1_000
        masks.append(
            {"sensor_ns": stamp, "role": "camera_front", "width": WIDTH, "height": HEIGHT, "mask": png}
        )
        for number, (cls, solid) in enumerate(things):
            x1, y1, x2, y2 = project(solid)
            boxes.append(
                {"sensor_ns": stamp, "role": "camera_front", "object_id": number, "cls": cls, "x1": x1, "y1": y1,
                 "x2": x2, "y2": y2, "occlusion": 0.0, "truncation": 0.0, "distance_m": solid[0] - CAMERA_M[0]}
            )  # fmt: skip
    return {"boxes": pa.Table.from_pylist(boxes), "drivable": pa.Table.from_pylist(masks)}
