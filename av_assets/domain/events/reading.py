"""What detectors see of a drive, read out of its clips.

Belongs here: the columns that detectors need. Does not belong here: detectors, pictures and points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from av_assets.domain.errors import SyncError
from av_assets.domain.events.paths import TrackRows
from av_assets.domain.events.windows import Array, Ns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIGNALS: Final = (
    "speed_mps",
    "accel_mps2",
    "yaw_rate_radps",
    "steering_rad",
    "brake",
    "brake_pressure_bar",
    "engaged",
    "disengage_button",
    "lane_id",
    "imu_ax_mps2",
)


class DriveSignals(NamedTuple):
    """What detectors see of a drive: frames (N,), signals by name (N,) with NaN, tracks of all radars."""

    ref_ns: Ns
    clip_ids: list[str]
    signals: dict[str, Array]
    tracks: TrackRows | None


def in_order(drive: DriveSignals) -> DriveSignals:
    """The same with frames in the order of their stamps.

    Raises:
        SyncError: duplicate_stamps, when two frames have one stamp: which of them is right is not known.
    """
    steps = np.diff(drive.ref_ns)
    if (steps > 0).all():
        return drive
    order = np.argsort(drive.ref_ns, kind="stable")
    if (np.diff(drive.ref_ns[order]) == 0).any():
        raise SyncError("two frames have the same time", code="duplicate_stamps")
    signals = {name: values[order] for name, values in drive.signals.items()}
    return DriveSignals(drive.ref_ns[order], [drive.clip_ids[i] for i in order], signals, drive.tracks)


def read_signals(clips: Sequence[Path]) -> DriveSignals:
    """Signals and tracks of all clips in the order of their names; pictures and points are not read."""
    tables = [_read(path) for path in sorted(clips)]
    table = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    if not table.num_rows:
        return DriveSignals(np.empty(0, np.int64), [], {}, None)
    ref_ns = table["ref_ns"].to_numpy().astype(np.int64)
    signals = {}
    if "signals" in table.column_names:
        column = table["signals"].combine_chunks()
        names = {field.name for field in column.type}
        signals = {name: _floats(pc.struct_field(column, name)) for name in SIGNALS if name in names}
    signals = {name: values for name, values in signals.items() if np.isfinite(values).any()}
    radars = [name for name in table.column_names if name not in ("clip_id", "ref_ns", "signals")]
    tracks = [_tracks(ref_ns, table[name].combine_chunks(), i) for i, name in enumerate(radars)]
    joined = TrackRows(*(np.concatenate(parts) for parts in zip(*tracks, strict=True))) if tracks else None
    return DriveSignals(ref_ns, table["clip_id"].to_pylist(), signals, joined)


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        radars = [
            f.name
            for f in file.schema_arrow
            if pa.types.is_struct(f.type) and f.type.get_field_index("tracks") >= 0
        ]
        wanted = ["clip_id", "ref_ns", *(f"{name}.tracks" for name in radars)]
        columns = [*wanted, "signals"] if "signals" in file.schema_arrow.names else wanted
        return file.read(columns)


def _floats(column: pa.Array) -> Array:
    """NaN for whatever is no number, infinity included: no vehicle is that fast or that far away."""
    values = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _tracks(ref_ns: Ns, column: pa.StructArray, radar: int) -> TrackRows:
    """Tracks of one radar; ids of the second and further radars are moved apart so that tracks do not mix."""
    lists = pc.struct_field(column, "tracks")
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    items = pc.list_flatten(lists)
    ids = pc.struct_field(items, "track_id").to_numpy(zero_copy_only=False).astype(np.int64)
    x, y, vx, vy = (_floats(pc.struct_field(items, name)) for name in ("x_m", "y_m", "vx_mps", "vy_mps"))
    return TrackRows(ref_ns[rows], ids + (radar << 32), x, y, vx, vy)
