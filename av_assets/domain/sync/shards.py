"""Clip files: one row per reference frame, one struct column per sensor.

Belongs here: the schema and the bytes of `clips/NNNNN.parquet`. Does not belong here: which frame goes
to which row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.sync.grid import Ns
    from av_assets.domain.sync.tracks import Track

SCHEMA_VERSION: Final = b"2"
TRACK_TYPE: Final = pa.struct(
    [
        pa.field("track_id", pa.int32()),
        pa.field("x_m", pa.float32()),
        pa.field("y_m", pa.float32()),
        pa.field("vx_mps", pa.float32()),
        pa.field("vy_mps", pa.float32()),
    ]
)
# Payload leaves: stored as they are (pictures do not compress again), never in dictionaries or statistics.
MAX_COLUMN_BYTES: Final = (1 << 31) - 1  # offsets of a parquet binary column in memory
_PAYLOADS: Final = ("data", "points")


class Times(NamedTuple):
    """Times of one sensor in the rows of one clip; where `valid` is False the numbers say nothing."""

    sensor_ns: Ns
    log_ns: Ns
    delta_ns: Ns
    valid: NDArray[np.bool_]


def struct_column(leading: Mapping[str, pa.Array], times: Times) -> pa.StructArray:
    """Payload leaves, then sensor_ns, log_ns, delta_ns (null where not valid) and valid."""
    absent = ~times.valid
    columns = dict(leading)
    for name in ("sensor_ns", "log_ns", "delta_ns"):
        columns[name] = pa.array(getattr(times, name), pa.int64(), mask=absent)
    columns["valid"] = pa.array(times.valid, pa.bool_())
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def points_column(clouds: Sequence[NDArray[np.float32] | None]) -> dict[str, pa.Array]:
    """`points` (little-endian float32 N x 4) and `count`; None gives nulls.

    Raises:
        SyncError: clip_too_large, beyond 2 GiB.
    """
    present = [cloud for cloud in clouds if cloud is not None]
    sizes = [0 if cloud is None else cloud.nbytes for cloud in clouds]
    if sum(sizes) > MAX_COLUMN_BYTES:
        raise SyncError(
            "the clouds of one clip exceed 2 GiB", code="clip_too_large", remedy="choose a shorter clip_s"
        )
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    data = np.concatenate(present) if present else np.empty((0, 4), "<f4")
    absent = np.array([cloud is None for cloud in clouds], np.bool_)
    validity = pa.array(~absent).buffers()[1]
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data, "<f4"))]
    points = pa.Array.from_buffers(pa.binary(), len(clouds), buffers)
    count = pa.array([0 if cloud is None else len(cloud) for cloud in clouds], pa.int32(), mask=absent)
    return {"points": points, "count": count}


def tracks_column(rows: Sequence[Sequence[Track] | None]) -> dict[str, pa.Array]:
    """`tracks`: a list of track structs per row; None gives null."""
    flat = [track for row in rows if row is not None for track in row]
    fields = [pa.array([getattr(track, field.name) for track in flat], field.type) for field in TRACK_TYPE]
    offsets = np.cumsum([0, *(len(row or ()) for row in rows)]).astype(np.int32)
    absent = pa.array([row is None for row in rows], pa.bool_())
    values = pa.StructArray.from_arrays(fields, fields=list(TRACK_TYPE))
    return {"tracks": pa.ListArray.from_arrays(pa.array(offsets), values, mask=absent)}


def signals_column(signals: Mapping[str, Array]) -> pa.StructArray:
    """One nullable float64 leaf per signal, in name order; NaN becomes null."""
    names = sorted(signals)
    arrays = [pa.array(signals[name], pa.float64(), from_pandas=True) for name in names]
    return pa.StructArray.from_arrays(arrays, names=names)


def keyframes(ref_ns: Ns, keyframe_ns: int) -> NDArray[np.bool_]:
    """The first row of a clip, and of every window of keyframe_ns after it that has rows."""
    window = (ref_ns - ref_ns[:1]) // keyframe_ns
    return np.asarray(np.diff(window, prepend=-1) != 0)


def clip_table(
    drive: str, number: int, first_frame: int, ref_ns: Ns, keyframe: NDArray[np.bool_],
    columns: Mapping[str, pa.Array],
) -> pa.Table:  # fmt: skip
    """The table of one clip: clip_id, frame_index (in the drive), ref_ns, keyframe, then the sensor columns as
    given."""
    rows = len(ref_ns)
    leading = {
        "clip_id": pa.array([clip_id(drive, number)] * rows, pa.string()),
        "frame_index": pa.array(np.arange(first_frame, first_frame + rows, dtype=np.int32)),
        "ref_ns": pa.array(ref_ns, pa.int64()),
        "keyframe": pa.array(keyframe, pa.bool_()),
    }
    table = pa.table({**leading, **columns})
    # The mark tells readers that pictures in it went through redaction: they come from nowhere else.
    metadata = {b"schema_version": SCHEMA_VERSION, b"drive": drive.encode(), b"redacted": b"true"}
    return table.replace_schema_metadata(metadata)


def clip_id(drive: str, number: int) -> str:
    return f"{drive}/{number:05d}"


def clip_path(out_dir: Path, number: int) -> Path:
    return out_dir / "clips" / f"{number:05d}.parquet"


def write_clip(
    table: pa.Table, path: Path, structured_level: int, points_level: int, group_bytes: int
) -> None:
    """Write one clip in row groups of about group_bytes; equal tables give equal bytes.

    Pictures are never compressed; points are when points_level > 0; everything else by zstd at
    structured_level.
    """
    per_row = max(1, table.nbytes // max(table.num_rows, 1))
    leaves = [leaf for field in table.schema for leaf in _leaves(field.name, field.type)]
    payloads = {leaf for leaf in leaves if leaf.rsplit(".", 1)[-1] in _PAYLOADS}
    stored = {leaf for leaf in payloads if leaf.endswith(".data") or points_level == 0}
    compression = {leaf: "NONE" if leaf in stored else "ZSTD" for leaf in leaves}
    levels = {
        leaf: points_level if leaf in payloads else structured_level for leaf in leaves if leaf not in stored
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table,
        path,
        compression=compression,
        compression_level=levels,
        use_dictionary=["clip_id", *(leaf for leaf in leaves if leaf.endswith(".encoding"))],
        write_statistics=[leaf for leaf in leaves if leaf not in payloads],
        row_group_size=max(1, min(table.num_rows, group_bytes // per_row)),
    )


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    """Parquet column paths below a field."""
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [path]
