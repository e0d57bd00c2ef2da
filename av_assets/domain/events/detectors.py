"""All events of a drive out of its clips, with the reason where a detector could not look.

Belongs here: reading the columns that detectors need, and the table of events. Does not belong here: the
detectors
(driving, traffic) and their thresholds (the events policy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from av_assets.domain.events.driving import disengagements, harsh_brakes
from av_assets.domain.events.traffic import EgoMotion, TrackRows, cut_ins, stationary_hazards
from av_assets.domain.events.windows import NS_PER_S, Array, Event, Ns
from av_assets.domain.evidence.digests import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.policies.events import EventsPolicy

KINDS: Final = ("cut_in", "disengagement", "harsh_brake", "stationary_hazard")
EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("level", pa.int32(), nullable=False),
        pa.field("start_ns", pa.int64(), nullable=False),
        pa.field("end_ns", pa.int64(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("peak", pa.float64(), nullable=False),
        pa.field("evidence", pa.string(), nullable=False),
        pa.field("policy_digest", pa.string(), nullable=False),
    ]
)
_SIGNALS: Final = (
    "speed_mps",
    "accel_mps2",
    "yaw_rate_radps",
    "steering_rad",
    "brake",
    "engaged",
    "imu_ax_mps2",
)


class DriveSignals(NamedTuple):
    """What detectors see of a drive: frames (N,), signals by name (N,) with NaN, tracks of all radars."""

    ref_ns: Ns
    clip_ids: list[str]
    signals: dict[str, Array]
    tracks: TrackRows | None


def detect_events(clips: Sequence[Path], policy: EventsPolicy) -> pa.Table:
    """Events of one drive in time order, by EVENT_SCHEMA.

    The schema metadata holds `reasons`: JSON of kind -> why its detector found nothing to look at (a
    missing signal).
    """
    drive = read_signals(clips)
    found, reasons = find_events(drive, policy)
    rows = [
        {
            **{name: getattr(event, name) for name in ("kind", "level", "start_ns", "end_ns", "peak")},
            "clip_id": drive.clip_ids[
                max(0, int(np.searchsorted(drive.ref_ns, event.start_ns, "right")) - 1)
            ],
            "evidence": canonical_json(dict(event.evidence)).decode(),
            "policy_digest": policy.digest,
        }
        for event in found
    ]
    schema = EVENT_SCHEMA.with_metadata({b"schema_version": b"1", b"reasons": canonical_json(reasons)})
    return pa.Table.from_pylist(rows, schema=schema)


def find_events(drive: DriveSignals, policy: EventsPolicy) -> tuple[list[Event], dict[str, str]]:
    """Events in time order, and for each kind that could not be looked for the reason."""
    events: list[Event] = []
    reasons: dict[str, str] = {}
    signals, times = drive.signals, drive.ref_ns
    accel = acceleration(times, signals, policy)
    if accel is None:
        reasons["harsh_brake"] = "no accel_mps2, speed_mps or imu_ax_mps2"
    else:
        events += harsh_brakes(times, accel, policy)
    if "engaged" not in signals:
        reasons["disengagement"] = "no engaged signal"
    else:
        brake, steering = signals.get("brake"), signals.get("steering_rad")
        events += disengagements(times, signals["engaged"], brake, steering, policy)
    if drive.tracks is None or "speed_mps" not in signals:
        lacking = "no radar tracks" if drive.tracks is None else "no speed_mps"
        reasons |= dict.fromkeys(("cut_in", "stationary_hazard"), lacking)
    else:
        unknown = np.full(len(times), np.nan)
        motion = EgoMotion(times, signals["speed_mps"], signals.get("yaw_rate_radps", unknown))
        events += cut_ins(motion, drive.tracks, policy) + stationary_hazards(motion, drive.tracks, policy)
    return sorted(events, key=lambda e: (e.start_ns, e.kind, e.end_ns)), reasons


def acceleration(times_ns: Ns, signals: Mapping[str, Array], policy: EventsPolicy) -> Array | None:
    """Longitudinal acceleration (N,) in m/s2: the vehicle's own, else from speed, else the IMU's (tilt
    included)."""
    if "accel_mps2" in signals:
        return signals["accel_mps2"]
    if "speed_mps" in signals and len(times_ns) > 1:
        return slope(times_ns, signals["speed_mps"], policy.max_gap_s)
    return signals.get("imu_ax_mps2")


def slope(times_ns: Ns, values: Array, max_gap_s: float) -> Array:
    """Central differences per second over neighbours at most max_gap_s apart; NaN at holes."""
    rise, run_s = np.diff(values), np.diff(times_ns) / NS_PER_S
    steps = np.where(run_s <= max_gap_s, rise / run_s, np.nan)
    both = np.stack([np.concatenate([[np.nan], steps]), np.concatenate([steps, [np.nan]])])
    known = np.isfinite(both)
    total = np.where(known, both, 0.0).sum(axis=0)
    return np.asarray(np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan))


def read_signals(clips: Sequence[Path]) -> DriveSignals:
    """Signals and tracks of all clips; pictures and points are not read."""
    tables = [_read(path) for path in sorted(clips)]
    table = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    if not table.num_rows:
        return DriveSignals(np.empty(0, np.int64), [], {}, None)
    ref_ns = table["ref_ns"].to_numpy().astype(np.int64)
    signals = {}
    if "signals" in table.column_names:
        column = table["signals"].combine_chunks()
        names = {field.name for field in column.type}
        signals = {name: _floats(pc.struct_field(column, name)) for name in _SIGNALS if name in names}
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
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _tracks(ref_ns: Ns, column: pa.StructArray, radar: int) -> TrackRows:
    """Tracks of one radar; ids of the second and further radars are moved apart so that tracks do not mix."""
    lists = pc.struct_field(column, "tracks")
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    items = pc.list_flatten(lists)
    ids = pc.struct_field(items, "track_id").to_numpy(zero_copy_only=False).astype(np.int64)
    x, y, vx, vy = (_floats(pc.struct_field(items, name)) for name in ("x_m", "y_m", "vx_mps", "vy_mps"))
    return TrackRows(ref_ns[rows], ids + (radar << 32), x, y, vx, vy)
