"""The frames of a drive that are labelled: times of the camera and points of the lidar, without decoding
pictures.

Belongs here: reading clips for labelling. Does not belong here: pictures, geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt


@dataclass(frozen=True)
class LabelFrame:
    """One reference frame that is labelled.

    Attributes:
        camera_ns: exposure of the camera frame.
        points: (N, 4) float32 x, y, z in the lidar frame, intensity; None where the lidar has no sweep.
    """

    clip_id: str
    ref_ns: int
    camera_ns: int
    points: npt.NDArray[np.float32] | None = None


def has_role(clips: Sequence[Path], role: str) -> bool:
    """Whether any clip carries a column of the role."""
    return any(role in pq.read_schema(path).names for path in clips)


def label_frames(
    clips: Sequence[Path], camera: str, every_kth: int, lidar: str | None = None
) -> Iterator[LabelFrame]:
    """Every k-th reference frame whose camera frame is valid, in time order; one clip in memory at a time."""
    for path in sorted(clips):
        names = pq.read_schema(path).names
        if camera not in names:
            continue
        wanted = ["clip_id", "frame_index", "ref_ns", f"{camera}.sensor_ns", f"{camera}.valid"]
        use_lidar = lidar is not None and lidar in names
        wanted += [f"{lidar}.points", f"{lidar}.valid"] if use_lidar else []
        with pq.ParquetFile(path) as source:  # unlike read_table it reads single fields of structs
            table = source.read(columns=wanted)
        table = table.filter(pa.array(table["frame_index"].to_numpy() % every_kth == 0))
        valid = pc.fill_null(pc.struct_field(table[camera], "valid"), False).to_pylist()
        times = pc.struct_field(table[camera], "sensor_ns").to_pylist()
        clouds = _clouds(table[lidar]) if use_lidar else [None] * table.num_rows
        keys = zip(table["clip_id"].to_pylist(), table["ref_ns"].to_pylist(), strict=True)
        for (clip_id, ref_ns), ok, camera_ns, cloud in zip(keys, valid, times, clouds, strict=True):
            if ok and camera_ns is not None:
                yield LabelFrame(clip_id, ref_ns, camera_ns, cloud)


def _clouds(column: pa.ChunkedArray) -> list[npt.NDArray[np.float32] | None]:
    points = pc.struct_field(column, "points").to_pylist()
    valid = pc.struct_field(column, "valid").to_pylist()
    return [
        np.frombuffer(data, "<f4").reshape(-1, 4) if ok and data is not None else None
        for data, ok in zip(points, valid, strict=True)
    ]
