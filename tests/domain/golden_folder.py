"""A tiny golden dataset folder: flat rectangles on a textured ground, with lidar and radar on them, and cuboids."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.labels.schema import CUBOIDS

CLASSES = ("vehicle", "pedestrian", "cone")
SIZES = {"vehicle": (70, 40), "pedestrian": (22, 60), "cone": (24, 30)}
COLOURS = {"vehicle": (200, 40, 40), "pedestrian": (40, 60, 210), "cone": (255, 150, 0)}
WIDTH, HEIGHT = 320, 192
STEP_NS = 200_000_000
TRACK = pa.struct(
    [("track_id", pa.int32()), *((n, pa.float32()) for n in ("x_m", "y_m", "vx_mps", "vy_mps"))]
)
# Optical axes in the ego frame: camera z is ego x, camera x is ego -y, camera y is ego -z.
EGO_SE3_CAMERA = [[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.4], [0, 0, 0, 1]]
DEPTH_M, SPEED_MPS = 12.0, 2.0  # of all rectangles, from the camera; they drive
EGO_SPEED_MPS = 7.0
LENGTHS_M = {"vehicle": 4.0, "pedestrian": 0.5, "cone": 0.4}
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
    clip, rows, labels, masks, cuboids = f"{drive}/00000", [], [], [], []
    for index in range(frames):
        ref_ns = 1_748_764_800_000_000_000 + index * STEP_NS
        picture, boxes, mask, points = _frame(rng)
        times = {"sensor_ns": ref_ns, "log_ns": ref_ns, "delta_ns": 0, "valid": True}
        jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        solids = [cuboid(cls, box) for cls, box in boxes]
        rows.append(
            {
                "clip_id": clip,
                "frame_index": index,
                "ref_ns": ref_ns,
                "camera_front": {"data": jpeg, "encoding": "jpeg", **times},
                "lidar_top": {"points": points.tobytes(), "count": len(points), **times},
                "radar_front": {"tracks": [_track(n, s) for n, s in enumerate(solids)], **times},
                "signals": {"speed_mps": EGO_SPEED_MPS},
            }
        )
        key = {"clip_id": clip, "ref_ns": ref_ns, "camera": "camera_front"}
        for number, (cls, box) in enumerate(boxes):
            corners = dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
            extra = {"score": 1.0, "source": "truth", "occlusion": 0.0, "distance_m": 12.0}
            name = {"label_id": f"{clip}/{index}/{number}", "cls": cls}
            labels.append({**key, **name, **corners, **extra})
            seen = {"points": len(points) // 3, "score": 1.0, "state": "observed"}
            cuboids.append({"clip_id": clip, "ref_ns": ref_ns, **name, **solids[number], **seen})
        png = cv2.imencode(".png", mask)[1].tobytes()
        masks.append({**key, "width": WIDTH, "height": HEIGHT, "mask": png, "score": 1.0})
    clips = pa.Table.from_pylist(rows).replace_schema_metadata({"redacted": "true"})
    at = clips.schema.get_field_index("radar_front")
    fields = [f.with_type(pa.list_(TRACK)) if f.name == "tracks" else f for f in clips.schema.field(at).type]
    clips = clips.set_column(at, "radar_front", clips["radar_front"].cast(pa.struct(fields)))
    pq.write_table(clips, folder / "clips" / "00000.parquet")
    pq.write_table(pa.Table.from_pylist(labels), folder / "labels.parquet")
    pq.write_table(pa.Table.from_pylist(masks), folder / "drivable.parquet")
    pq.write_table(pa.Table.from_pylist(cuboids, schema=CUBOIDS), folder / "cuboids.parquet")
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


def cuboid(cls: str, box: tuple[int, int, int, int]) -> dict[str, float]:
    """What fills the rectangle, in the ego frame: the middle is where the lidar sees it."""
    (x1, y1, x2, y2), scale = box, DEPTH_M / K[0][0]
    u, v = (x1 + x2) / 2, (y1 + y2) / 2
    centre = np.array([(u - K[0][2]) * scale, (v - K[1][2]) * scale, DEPTH_M, 1.0])
    x_m, y_m, z_m, _ = (float(c) for c in np.array(EGO_SE3_CAMERA) @ centre)
    size = {"length_m": LENGTHS_M[cls], "width_m": (x2 - x1) * scale, "height_m": (y2 - y1) * scale}
    return {"x_m": x_m, "y_m": y_m, "z_m": z_m, **size, "yaw_rad": 0.0, "vx_mps": SPEED_MPS, "vy_mps": 0.0}


def _track(number: int, solid: dict[str, float]) -> dict[str, float]:
    """As a radar tells it: relative to the vehicle."""
    told = {name: solid[name] for name in ("x_m", "y_m", "vy_mps")}
    return {"track_id": number, **told, "vx_mps": solid["vx_mps"] - EGO_SPEED_MPS}


def _points_on(x1: int, y1: int, width: int, height: int) -> np.ndarray:
    u, v = (
        g.ravel()
        for g in np.meshgrid(np.arange(x1 + 0.5, x1 + width, 4), np.arange(y1 + 0.5, y1 + height, 8))
    )
    ego = _on_plane(u, v)
    return np.column_stack([ego, np.full(len(u), 0.5)])


def _on_plane(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(n, 3) ego positions of the pixels' rays at `DEPTH_M`."""
    rays = np.stack([(u - K[0][2]) / K[0][0], (v - K[1][2]) / K[1][1], np.ones(len(u))], 1) * DEPTH_M
    return rays @ np.array(EGO_SE3_CAMERA)[:3, :3].T + np.array(EGO_SE3_CAMERA)[:3, 3]
