"""The frames of a drive as the labeller reads them: sweeps of all, pictures of those that get labels.

Belongs here: reading clips. Does not belong here: decoding pictures, geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt


@dataclass(frozen=True)
class DriveFrame:
    """One reference frame.

    Attributes:
        labelled: whether it gets labels; the others only help tracking.
        picture: redacted; None where the camera gave none, and at frames without labels.
        picture_digest: sha256 of its stored bytes, hex.
        points: (N, 4) float32 x, y, z in the lidar frame, intensity; None where the lidar has no sweep.
        sweep_digest: sha256 of the stored bytes of the sweep, hex.
    """

    clip_id: str
    ref_ns: int
    labelled: bool
    picture: RedactedFrame | None = None
    picture_digest: str | None = None
    points: npt.NDArray[np.float32] | None = None
    sweep_digest: str | None = None
    speed_mps: float | None = None
    yaw_rate_radps: float | None = None


def roles_of(clips: Sequence[Path]) -> set[str]:
    """Every column of any clip."""
    return {name for path in clips for name in pq.read_schema(path).names}


def drive_frames(
    clips: Sequence[Path], camera: str | None, lidar: str | None, every_kth: int, between: int = 1
) -> Iterator[DriveFrame]:
    """Frames in time order, one clip in memory at a time.

    Args:
        camera: role whose pictures are read; None: none.
        lidar: role whose sweeps are read; None: none.
        every_kth: frames of the drive that get labels; with a camera, only those with a valid picture.
        between: frames of the drive whose sweeps are read, besides.
    """
    for path in sorted(clips):
        with pq.ParquetFile(path) as source:  # unlike read_table it reads single fields of structs
            names = source.schema_arrow.names
            used = [r for r in (camera, lidar) if r in names]
            if not used:
                continue
            signals = [f"signals.{n}" for n in ("speed_mps", "yaw_rate_radps")] if "signals" in names else []
            wanted = ["clip_id", "frame_index", "ref_ns", *signals]
            wanted += [f"{lidar}.points", f"{lidar}.valid"] if lidar in used else []
            table = source.read(columns=wanted + ([str(camera)] if camera in used else []))
        index = table["frame_index"].to_numpy()
        gets_labels = index % every_kth == 0
        table = table.filter(pa.array(gets_labels | (index % between == 0)))
        yield from _frames(table, camera, lidar, gets_labels[gets_labels | (index % between == 0)])


def _frames(
    table: pa.Table, camera: str | None, lidar: str | None, gets_labels: npt.NDArray[np.bool_]
) -> Iterator[DriveFrame]:
    pictures = _pictures(table, camera, gets_labels)
    sweeps = _sweeps(table, lidar)
    speeds, rates = (_signal(table, name) for name in ("speed_mps", "yaw_rate_radps"))
    for row, (clip_id, ref_ns) in enumerate(
        zip(table["clip_id"].to_pylist(), table["ref_ns"].to_pylist(), strict=True)
    ):
        picture, sweep = pictures[row], sweeps[row]
        labelled = bool(gets_labels[row]) and (camera is None or picture is not None)
        yield DriveFrame(
            clip_id,
            ref_ns,
            labelled,
            picture,
            None if picture is None else sha256_bytes(picture.data),
            None if sweep is None else np.frombuffer(sweep, "<f4").reshape(-1, 4),
            None if sweep is None or not labelled else sha256_bytes(sweep),
            speeds[row],
            rates[row],
        )


def _pictures(
    table: pa.Table, camera: str | None, gets_labels: npt.NDArray[np.bool_]
) -> list[RedactedFrame | None]:
    found: list[RedactedFrame | None] = [None] * table.num_rows
    if camera is None or camera not in table.column_names:
        return found
    rows = np.flatnonzero(gets_labels)
    for row, frame in zip(rows.tolist(), frames_from_shard(table.take(rows), camera), strict=True):
        found[row] = frame
    return found


def _sweeps(table: pa.Table, lidar: str | None) -> list[bytes | None]:
    if lidar is None or lidar not in table.column_names:
        return [None] * table.num_rows
    points = pc.struct_field(table[lidar], "points").to_pylist()
    valid = pc.struct_field(table[lidar], "valid").to_pylist()
    return [data if ok else None for data, ok in zip(points, valid, strict=True)]


def _signal(table: pa.Table, name: str) -> list[Any]:
    if "signals" not in table.column_names:
        return [None] * table.num_rows
    kind = table.schema.field("signals").type
    if kind.get_field_index(name) < 0:
        return [None] * table.num_rows
    return list(pc.struct_field(table["signals"], name).to_pylist())
