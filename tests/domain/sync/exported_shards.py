"""Shards to export, of which every picture, point, time and signal is known.

Belongs here: what the tests of the exporters share. Does not belong here: tests.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa

from av_assets.domain.geometry.calibration import Calibration, CameraCalibration, LidarCalibration
from av_assets.domain.geometry.transforms import quaternions_to_matrices, se3
from av_assets.domain.sync.shards import (
    Times,
    clip_path,
    clip_table,
    keyframes,
    points_column,
    signals_column,
    struct_column,
    tracks_column,
    write_clip,
)
from av_assets.domain.sync.tracks import Track

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


DRIVE = "veh001-20250601t080000z"
START_NS = 1_750_000_000_000_000_000
ROWS, CLIPS = 10, 3
FRAMES = ROWS * CLIPS
SIGNALS = ("speed_mps", "Steering.Angle [deg]", "header", "2nd")
ROTATED = se3(quaternions_to_matrices([0.5, -0.5, 0.5, -0.5]), [1.5, 0.2, 1.4]).tolist()
CALIBRATION = Calibration(
    cameras={
        "camera_front": CameraCalibration(
            width=32, height=24, K=((20.0, 0, 16), (0, 21.0, 12), (0, 0, 1)), D=(0.1, 0.01),
            ego_SE3_camera=ROTATED,
        )
    },
    lidars={"lidar_top": LidarCalibration(ego_SE3_lidar=se3(np.eye(3), [0, 0, 1.8]).tolist())},
    source="log",
)  # fmt: skip


def jpeg(row: int) -> bytes:
    pixels = np.random.default_rng(row).integers(0, 255, (24, 32, 3), np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def access_unit(row: int) -> bytes:
    return b"\0\0\0\1\x67" + bytes([row]) * (50 + row)


def cloud(row: int) -> NDArray[np.float32]:
    points = np.random.default_rng(row).normal(0, 10, (row * 7 % 40, 4)).astype("<f4")
    points[:1] = np.nan
    return points


def tracks(row: int) -> list[Track]:
    return [Track(i, row + 0.5, i - 1.0, 0.25, -0.5) for i in range(row % 4)]


def signal(name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(rows % 5 == 0, np.nan, rows * 0.5 + len(name))


def picture_column(
    rows: range, every: int, encode: Callable[[int], bytes], encoding: str
) -> dict[str, pa.Array]:
    present = [encode(row) if row % every == 0 else None for row in rows]
    names = [encoding if data else None for data in present]
    return {"data": pa.array(present, pa.binary()), "encoding": pa.array(names, pa.string())}


def times(rows: NDArray[np.int64], delay_ns: int, valid: Any = None) -> Times:
    sensor_ns = START_NS + rows * 100_000_000 + delay_ns
    found = np.ones(len(rows), np.bool_) if valid is None else np.asarray(valid)
    return Times(sensor_ns, sensor_ns + 5_000_000, np.full(len(rows), delay_ns, np.int64), found)


def write_shards(folder: Path) -> Path:
    """Two cameras, a video, a lidar whose last sweep of a clip stands in two rows, a radar, signals."""
    for number in range(CLIPS):
        span = range(number * ROWS, (number + 1) * ROWS)
        rows = np.array(span, np.int64)
        swept = np.minimum(rows, span[-2])
        columns = {
            "camera_front": struct_column(picture_column(span, 1, jpeg, "jpeg"), times(rows, 50)),
            "camera_rear": struct_column(
                picture_column(span, 2, jpeg, "png"), times(rows, 60, rows % 2 == 0)
            ),
            "camera_side": struct_column(picture_column(span, 1, access_unit, "h264"), times(rows, 70)),
            "lidar_top": struct_column(points_column([cloud(int(row)) for row in swept]), times(swept, 0)),
            "radar_front": struct_column(
                tracks_column([None if row % 3 == 2 else tracks(row) for row in span]),
                times(rows, -20, rows % 3 != 2),
            ),
            "signals": signals_column({name: signal(name, rows) for name in SIGNALS}),
            "weather": pa.array([{"rain": 1.0}] * ROWS),
        }
        ref_ns = START_NS + rows * 100_000_000
        table = clip_table(DRIVE, number, span.start, ref_ns, keyframes(ref_ns, 500_000_000), columns)
        write_clip(table, clip_path(folder, number), 3, 1, 1 << 14)
    CALIBRATION.save(folder / "calibration.json")
    (folder / "sync_report.json").write_text(json.dumps({"policy": "p" * 64, "more": 1}))
    return folder


def valid_rows(role: str) -> list[int]:
    step = {"camera_rear": lambda r: r % 2 == 0, "radar_front": lambda r: r % 3 != 2}.get(
        role, lambda _: True
    )
    return [row for row in range(FRAMES) if step(row)]


SWEEPS = [row for row in range(FRAMES) if row % ROWS != ROWS - 1]  # the last one is a repetition
