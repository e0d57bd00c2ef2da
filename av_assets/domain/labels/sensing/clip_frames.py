"""The frames of a drive that people label, and the times of their pictures.

Belongs here: which frames. Does not belong here: their content (drive_frames).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class LabelFrame:
    """One reference frame that is labelled.

    Attributes:
        camera_ns: exposure of the camera frame.
    """

    clip_id: str
    ref_ns: int
    camera_ns: int


def label_frames(clips: Sequence[Path], camera: str, every_kth: int) -> Iterator[LabelFrame]:
    """Every k-th reference frame whose camera frame is valid, in time order; one clip in memory at a time."""
    for path in sorted(clips):
        names = pq.read_schema(path).names
        if camera not in names:
            continue
        wanted = ["clip_id", "frame_index", "ref_ns", f"{camera}.sensor_ns", f"{camera}.valid"]
        with pq.ParquetFile(path) as source:  # unlike read_table it reads single fields of structs
            table = source.read(columns=wanted)
        table = table.filter(pa.array(table["frame_index"].to_numpy() % every_kth == 0))
        valid = pc.fill_null(pc.struct_field(table[camera], "valid"), False).to_pylist()
        times = pc.struct_field(table[camera], "sensor_ns").to_pylist()
        keys = zip(table["clip_id"].to_pylist(), table["ref_ns"].to_pylist(), strict=True)
        for (clip_id, ref_ns), ok, camera_ns in zip(keys, valid, times, strict=True):
            if ok and camera_ns is not None:
                yield LabelFrame(clip_id, ref_ns, camera_ns)
