"""The rows of clips without their payloads, for a table that a query engine reads in a moment.

One row per frame, the same schema for every drive: what sensors there are is data, not columns.
Belongs here: that schema and reading it out of clip files. Does not belong here: the table's storage.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES: Final = ("valid", "sensor_ns", "log_ns", "delta_ns")
SENSOR_TYPE: Final = pa.struct(
    [
        pa.field("role", pa.string()),
        pa.field("valid", pa.bool_()),
        pa.field("sensor_ns", pa.int64()),
        pa.field("log_ns", pa.int64()),
        pa.field("delta_ns", pa.int64()),
    ]
)
FRAMES_SCHEMA: Final = pa.schema(
    [
        pa.field("drive", pa.string()),
        pa.field("clip_id", pa.string()),
        pa.field("frame_index", pa.int32()),
        pa.field("ref_ns", pa.int64()),
        pa.field("keyframe", pa.bool_()),
        pa.field("sensors", pa.list_(SENSOR_TYPE)),
    ]
)


def frames_table(clips: Path | Sequence[Path]) -> pa.Table:
    """FRAMES_SCHEMA of a drive, in row order; `sensors` holds one entry per payload stream, by role.

    Args:
        clips: the folder that synchronization wrote, or its clip files. Only columns of times are read.

    Raises:
        SyncError: bad_clip, where a file is no clip.
    """
    files = sorted((clips / "clips").glob("*.parquet")) if isinstance(clips, Path) else list(clips)
    tables = [_frames(path) for path in files]
    return pa.concat_tables(tables) if tables else FRAMES_SCHEMA.empty_table()


def _frames(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as clip:
            schema = clip.schema_arrow
            roles = sorted(
                f.name for f in schema if pa.types.is_struct(f.type) and "delta_ns" in _names(f.type)
            )
            plain = ["clip_id", "frame_index", "ref_ns", "keyframe"]
            table = clip.read([*plain, *(f"{role}.{name}" for role in roles for name in TIMES)])
        drive = (schema.metadata or {})[b"drive"].decode()
        columns = {name: table[name].combine_chunks() for name in plain}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise SyncError(f"not a clip: {error}", code="bad_clip", file=path) from error
    rows = table.num_rows
    columns["drive"] = pa.array([drive] * rows, pa.string())
    columns["sensors"] = _sensors(table, roles)
    return pa.table([columns[name] for name in FRAMES_SCHEMA.names], schema=FRAMES_SCHEMA)


def _names(kind: Any) -> list[str]:
    return [field.name for field in kind]


def _sensors(table: pa.Table, roles: Sequence[str]) -> pa.Array:
    """A list per row; its entries are taken from the columns of all roles, row by row."""
    rows = table.num_rows
    parts = []
    for role in roles:
        cell = table[role].combine_chunks()
        fields = [pa.array([role] * rows, pa.string()), *(cell.field(name) for name in TIMES)]
        parts.append(pa.StructArray.from_arrays(fields, fields=list(SENSOR_TYPE)))
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * len(roles))
    if not parts:
        return pa.ListArray.from_arrays(offsets, pa.array([], SENSOR_TYPE))
    by_row = np.arange(rows * len(roles)).reshape(len(roles), rows).T.ravel()
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays(parts).take(pa.array(by_row)))
