"""A small frozen dataset that knows its own world: things that stand still, seen from a vehicle that drives a bend.

Belongs here: making the folder. Does not belong here: what exports make of it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.models.inputs import CameraView, project

WIDTH, HEIGHT = 640, 384
K = np.array([[400.0, 0, 320], [0, 400.0, 190], [0, 0, 1]])
TILT = math.radians(3)  # the camera looks down a little
EGO_SE3_CAMERA = np.array(
    [
        [0.0, -math.sin(TILT), math.cos(TILT), 1.9],
        [-1.0, 0, 0, 0.1],
        [0, -math.cos(TILT), -math.sin(TILT), 1.45],
        [0, 0, 0, 1],
    ]
)
VIEW = CameraView(WIDTH, HEIGHT, K, EGO_SE3_CAMERA)
EGO_SE3_LIDAR = np.array([[1.0, 0, 0, 1.2], [0, 1, 0, 0], [0, 0, 1, 1.95], [0, 0, 0, 1]])
CALIBRATION = {
    "cameras": {
        "camera_front": {
            "K": K.tolist(), "D": [0.0] * 5, "width": WIDTH, "height": HEIGHT,
            "ego_SE3_camera": EGO_SE3_CAMERA.tolist(),
        }
    },
    "lidars": {"lidar_top": {"ego_SE3_lidar": EGO_SE3_LIDAR.tolist()}},
}  # fmt: skip
START_NS, STEP_NS, FRAMES, EVERY = 1_748_900_000_000_000_000, 100_000_000, 31, 3
DELAY_NS = 20_000_000  # the picture is taken after the sweep
SPEED_MPS, YAW_RATE, HEADING = 8.0, 0.05, math.radians(40)
ORIGIN = (53.5, 10.0)
METRES_A_DEGREE = 6_371_008.8 * math.pi / 180
SPLITS = {"veh001-a": "train", "veh002-b": "test"}
LEFT_OUT = ("auto-0009",)  # verified boxes that no cuboid belongs to

# label_id -> class, east, north, yaw in the global frame, length, width, height
THINGS = {
    "auto-0001": ("vehicle", 40.0, 42.0, 0.9, 4.5, 1.8, 1.5),
    "auto-0002": ("pedestrian", 35.0, 26.0, -2.0, 0.6, 0.7, 1.75),
    "auto-0003": ("cone", 30.0, 30.0, 0.0, 0.4, 0.4, 0.8),
    "auto-0009": ("vehicle", 60.0, 60.0, 0.0, 4.2, 1.7, 1.4),
}


def ego_at(seconds: float) -> tuple[float, float, float]:
    """East, north, yaw on a circle; in closed form."""
    yaw, r = HEADING + YAW_RATE * seconds, SPEED_MPS / YAW_RATE
    return r * (math.sin(yaw) - math.sin(HEADING)), -r * (math.cos(yaw) - math.cos(HEADING)), yaw


def cuboid_at(label_id: str, seconds: float) -> dict[str, float]:
    """The thing in the ego frame of that moment."""
    _, east, north, heading, length, width, height = THINGS[label_id]
    x, y, yaw = ego_at(seconds)
    c, s = math.cos(yaw), math.sin(yaw)
    return {
        "x_m": c * (east - x) + s * (north - y), "y_m": -s * (east - x) + c * (north - y), "z_m": height / 2,
        "length_m": length, "width_m": width, "height_m": height, "yaw_rad": heading - yaw,
    }  # fmt: skip


def corners_ego(cuboid: dict[str, float]) -> np.ndarray:
    """(8, 3)."""
    c, s = math.cos(cuboid["yaw_rad"]), math.sin(cuboid["yaw_rad"])
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / 2
    local = signs * [cuboid["length_m"], cuboid["width_m"], cuboid["height_m"]]
    centre = [cuboid["x_m"], cuboid["y_m"], cuboid["z_m"]]
    return local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + centre


def make_dataset(root: Path, splits: dict[str, str] | None = None) -> dict[str, Path]:
    """Write the dataset's folder `root / dataset`; gives drive -> cuboids.parquet."""
    splits = SPLITS if splits is None else splits
    spec = {
        "version": "0" * 64, "classes": ["vehicle", "pedestrian", "cone"], "camera": "camera_front",
        "members": [{"drive": drive, "split": split} for drive, split in splits.items()],
    }  # fmt: skip
    (root / "dataset").mkdir()
    (root / "dataset" / "dataset.json").write_text(json.dumps(spec))
    return {drive: _make_drive(root / "dataset" / "drives" / drive, root, drive) for drive in splits}


def _make_drive(folder: Path, root: Path, drive: str) -> Path:
    (folder / "clips").mkdir(parents=True)
    (folder / "calibration.json").write_text(json.dumps(CALIBRATION))
    boxes: list[dict[str, Any]] = []
    cuboids: list[dict[str, Any]] = []
    masks: list[dict[str, Any]] = []
    for clip, numbers in enumerate((range(16), range(16, FRAMES))):
        rows = [_row(number) for number in numbers]
        table = pa.Table.from_pylist(rows).replace_schema_metadata({b"redacted": b"true"})
        pq.write_table(table, folder / "clips" / f"{clip:05}.parquet")
        for number in numbers[::EVERY] if clip == 0 else [n for n in numbers if n % EVERY == 0]:
            ref_ns = START_NS + number * STEP_NS
            key = {"clip_id": f"{drive}/{clip:05}", "ref_ns": ref_ns, "camera": "camera_front"}
            masks.append({**key, "mask": None})
            for label_id in THINGS:
                solid = cuboid_at(label_id, number * STEP_NS / 1e9)
                if label_id not in LEFT_OUT:
                    row = {"clip_id": key["clip_id"], "ref_ns": ref_ns, "label_id": label_id, **solid}
                    more = {"cls": THINGS[label_id][0], "points": 7, "vx_mps": None, "vy_mps": None}
                    cuboids.append(row | more)
                pixels, depth = project(corners_ego(solid), VIEW)
                assert (depth > 1).all()
                low, high = pixels.min(0), pixels.max(0)
                corners = dict(zip(("x1", "y1", "x2", "y2"), map(float, (*low, *high)), strict=True))
                hidden = {"auto-0001": 0.3, "auto-0002": 0.0}.get(label_id)
                boxes.append(
                    {**key, "label_id": label_id, "cls": THINGS[label_id][0], **corners, "occlusion": hidden}
                )
    schema = pa.schema(
        [("clip_id", pa.string()), ("ref_ns", pa.int64()), ("camera", pa.string()), ("mask", pa.binary())]
    )
    pq.write_table(pa.Table.from_pylist(masks, schema), folder / "drivable.parquet")
    pq.write_table(pa.Table.from_pylist(boxes), folder / "labels.parquet")
    path = root / f"{drive}.cuboids.parquet"
    pq.write_table(pa.Table.from_pylist(cuboids), path)
    return path


def _row(number: int) -> dict[str, Any]:
    ref_ns, seconds = START_NS + number * STEP_NS, number * STEP_NS / 1e9
    east, north, _ = ego_at(seconds)
    points = np.random.default_rng(number).uniform(1, 30, (200, 4)).astype("<f4")
    picture = np.full((HEIGHT, WIDTH, 3), (number * 8 % 256, 128, 64), np.uint8)
    camera = {
        "data": bytes(cv2.imencode(".jpg", picture)[1]), "encoding": "jpeg",
        "sensor_ns": ref_ns + DELAY_NS, "valid": True,
    }  # fmt: skip
    signals = {
        "speed_mps": SPEED_MPS,
        "yaw_rate_radps": YAW_RATE,
        "latitude_deg": ORIGIN[0] + north / METRES_A_DEGREE,
        "longitude_deg": ORIGIN[1] + east / METRES_A_DEGREE / math.cos(math.radians(ORIGIN[0])),
    }
    lidar = {"points": points.tobytes(), "valid": True}
    return {"ref_ns": ref_ns, "camera_front": camera, "lidar_top": lidar, "signals": signals}
