"""A tiny golden dataset folder: flat rectangles on a textured ground, with lidar on them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("vehicle", "pedestrian", "cone")
SIZES = {"vehicle": (70, 40), "pedestrian": (22, 60), "cone": (24, 30)}
COLOURS = {"vehicle": (200, 40, 40), "pedestrian": (40, 60, 210), "cone": (255, 150, 0)}
WIDTH, HEIGHT = 320, 192
STEP_NS = 200_000_000
# Optical axes in the ego frame: camera z is ego x, camera x is ego -y, camera y is ego -z.
EGO_SE3_CAMERA = [[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.4], [0, 0, 0, 1]]
K = [[250.0, 0, WIDTH / 2], [0, 250.0, HEIGHT / 2], [0, 0, 1]]


def golden_folder(root: Path, splits: dict[str, str], frames: int = 12, seed: int = 0) -> Path:
    """Write a dataset with one drive per entry of `splits` (drive -> split)."""
    members = []
    for number, (drive, split) in enumerate(splits.items()):
        _drive(root / "drives" / drive, drive, frames, np.random.default_rng([seed, number]))
        tags = {"light": "night" if number % 2 else "day", "weather": "clear", "zone": "urban"}
        members.append({"drive": drive, "split": split, "frames": frames, "objects": {}, "tags": tags})
    tests = [m["drive"] for m in members if m["split"] == "test"]
    night = [m["drive"] for m in members if m["split"] == "test" and m["tags"]["light"] == "night"]
    spec = {
        "schema": 1,
        "week": "2025-06-02",
        "version": "2025-06-02.1",
        "classes": list(CLASSES),
        "camera": "camera_front",
        "members": members,
        "slices": {"all": tests, "day": [d for d in tests if d not in night], "night": night},
    }
    (root / "dataset.json").write_text(json.dumps(spec, sort_keys=True))
    return root


def _drive(folder: Path, drive: str, frames: int, rng: np.random.Generator) -> None:
    (folder / "clips").mkdir(parents=True)
    clip, rows, labels, masks = f"{drive}/00000", [], [], []
    for index in range(frames):
        ref_ns = 1_748_764_800_000_000_000 + index * STEP_NS
        picture, boxes, mask, points = _frame(rng)
        times = {"sensor_ns": ref_ns, "log_ns": ref_ns, "delta_ns": 0, "valid": True}
        jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        rows.append(
            {
                "clip_id": clip,
                "frame_index": index,
                "ref_ns": ref_ns,
                "camera_front": {"data": jpeg, "encoding": "jpeg", **times},
                "lidar_top": {"points": points.tobytes(), "count": len(points), **times},
            }
        )
        key = {"clip_id": clip, "ref_ns": ref_ns, "camera": "camera_front"}
        for number, (cls, box) in enumerate(boxes):
            corners = dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
            extra = {"score": 1.0, "source": "truth", "occlusion": 0.0, "distance_m": 12.0}
            labels.append({**key, "label_id": f"{clip}/{index}/{number}", "cls": cls, **corners, **extra})
        png = cv2.imencode(".png", mask)[1].tobytes()
        masks.append({**key, "width": WIDTH, "height": HEIGHT, "mask": png, "score": 1.0})
    clip = pa.Table.from_pylist(rows).replace_schema_metadata({"redacted": "true"})
    pq.write_table(clip, folder / "clips" / "00000.parquet")
    pq.write_table(pa.Table.from_pylist(labels), folder / "labels.parquet")
    pq.write_table(pa.Table.from_pylist(masks), folder / "drivable.parquet")
    camera = {"width": WIDTH, "height": HEIGHT, "K": K, "D": [0.0] * 5, "ego_SE3_camera": EGO_SE3_CAMERA}
    lidar = {"ego_SE3_lidar": np.eye(4).tolist()}
    calibration = {
        "cameras": {"camera_front": camera},
        "lidars": {"lidar_top": lidar},
        "source": "log",
        "missing": [],
    }
    (folder / "calibration.json").write_text(json.dumps(calibration))


def _frame(rng: np.random.Generator) -> tuple[np.ndarray, list, np.ndarray, np.ndarray]:
    picture = rng.integers(80, 130, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    picture[: HEIGHT // 3] += 80
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[HEIGHT // 2 :, WIDTH // 4 : 3 * WIDTH // 4] = 255
    picture[mask > 0] = picture[mask > 0] // 2
    boxes, points = [], []
    for slot, cls in enumerate(rng.permutation(CLASSES)):
        width, height = SIZES[cls]
        x1 = slot * WIDTH // 3 + rng.integers(0, WIDTH // 3 - width)
        y1 = rng.integers(50, HEIGHT - height)
        boxes.append((cls, (x1, y1, x1 + width, y1 + height)))
        picture[y1 : y1 + height, x1 : x1 + width] = COLOURS[cls]
        points.append(_points_on(x1, y1, width, height))
    return picture, boxes, mask, np.concatenate(points).astype("<f4")


def _points_on(x1: int, y1: int, width: int, height: int, depth_m: float = 12.0) -> np.ndarray:
    u, v = (
        g.ravel()
        for g in np.meshgrid(np.arange(x1 + 0.5, x1 + width, 4), np.arange(y1 + 0.5, y1 + height, 8))
    )
    rays = np.stack([(u - K[0][2]) / K[0][0], (v - K[1][2]) / K[1][1], np.ones(len(u))], 1) * depth_m
    ego = rays @ np.array(EGO_SE3_CAMERA)[:3, :3].T + np.array(EGO_SE3_CAMERA)[:3, 3]
    return np.column_stack([ego, np.full(len(u), 0.5)])
