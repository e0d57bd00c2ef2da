"""Small synced shards whose every cell says where it stands, and transforms for them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.samples import RawSample
from av_assets.domain.loading.sources import FolderSource, ShardRef

SIZE = 16
COLUMNS = ("camera_front", "lidar_top", "radar_front")
TIMES = {"log_ns": 0, "delta_ns": 0}
AS_STORED = {"compression": "none", "use_dictionary": False}


def jpeg(value: int, size: int = SIZE) -> bytes:
    pixels = np.full((size, size, 3), value % 256, np.uint8)
    return simplejpeg.encode_jpeg(pixels, quality=95, colorspace="RGB")


def row_of(number: int, size: int = SIZE, points: int = 2) -> dict[str, Any]:
    """The row with the number `number` of all rows of the dataset."""
    times = {"sensor_ns": number, **TIMES, "valid": True}
    cloud = np.full((points, 4), number, "<f4").tobytes()
    track = {"track_id": number, "x_m": 1.0, "y_m": 2.0, "vx_mps": 3.0, "vy_mps": 4.0}
    return {
        "camera_front": {"data": jpeg(number, size), "encoding": "jpeg", **times},
        "lidar_top": {"points": cloud, "count": points, **times},
        "radar_front": {"tracks": [track] * (number % 3), **times},
        "ref_ns": 1000 + number,
    }


def write_shard(path: Path, clip: str, rows: list[dict[str, Any]], **how: Any) -> ShardRef:
    table = pa.Table.from_pylist([{"clip_id": clip, **row} for row in rows])
    table = table.replace_schema_metadata({"redacted": "true", "drive": clip.split("/")[0]})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **(AS_STORED | how))
    return ShardRef(sha256_file(path), path.stat().st_size, path.name)


def write_shards(
    root: Path, sizes: list[int], picture: int = SIZE, points: int = 2, **how: Any
) -> SampleIndex:
    """Shards of so many rows; the index of all rows, in the order of their numbers."""
    refs, first = [], 0
    for number, size in enumerate(sizes):
        rows = [row_of(first + row, picture, points) for row in range(size)]
        refs.append(
            write_shard(root / f"{number:05d}.parquet", f"drive-{number % 2}/{number:05d}", rows, **how)
        )
        first += size
    return SampleIndex.of_shards(refs, FolderSource(root))


def seen(sample: RawSample) -> dict[str, np.ndarray]:
    """What every sensor says, and what was drawn."""
    points, tracks = sample.points("lidar_top"), sample.tracks("radar_front")
    assert points is not None
    assert tracks is not None
    return {
        "picture": sample.jpeg_pixels("camera_front", out=sample.room("picture", (SIZE, SIZE, 3), np.uint8)),
        "point": points[0],
        "tracks": np.int64(len(tracks)),
        "ref_ns": np.int64(sample.key.ref_ns),
        "drawn": sample.rng.random(2),
    }


def number_only(sample: RawSample) -> dict[str, np.ndarray]:
    return {"number": np.int64(sample.key.ref_ns - 1000), "drawn": sample.rng.integers(1 << 40, size=1)}


def all_payloads(sample: RawSample) -> dict[str, np.ndarray]:
    points = sample.points("lidar_top")
    assert points is not None
    return {"sum": np.float64(points.sum()), "picture": sample.jpeg_pixels("camera_front")}


def kill_at_five(sample: RawSample) -> dict[str, np.ndarray]:
    if sample.key.ref_ns == 1005:
        os.kill(os.getpid(), signal.SIGKILL)
    return number_only(sample)


def hang_at_five(sample: RawSample) -> dict[str, np.ndarray]:
    if sample.key.ref_ns == 1005:
        time.sleep(60)
    return number_only(sample)


def fail_at_five(sample: RawSample) -> dict[str, np.ndarray]:
    if sample.key.ref_ns == 1005:
        raise ZeroDivisionError("a mistake in a transform")
    return number_only(sample)


def uneven_at_five(sample: RawSample) -> dict[str, np.ndarray]:
    return {"values": np.zeros(3 if sample.key.ref_ns == 1005 else 2)}
