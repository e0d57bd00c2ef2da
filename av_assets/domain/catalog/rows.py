"""Rows of the tables drives, streams and clips. What is not known is null, with a reason where a person
would ask.

Belongs here: deriving rows from a drive's shards and reports. Does not belong here: writing tables, columns (schemas).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.catalog.health import clip_health, expected_shares, sensor_health
from av_assets.domain.catalog.motion import max_deceleration_mps2, speed_profile
from av_assets.domain.catalog.positions import Positions, clean_positions
from av_assets.domain.catalog.route import cell_of, route_of
from av_assets.domain.catalog.schemas import CLIPS, DRIVES, STREAMS
from av_assets.domain.catalog.sun import light, sun_elevation_deg
from av_assets.domain.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from av_assets.domain.logs.drive_spec import DriveSpec
    from av_assets.policies.catalog import CatalogPolicy


@dataclass(frozen=True)
class _Clip:
    """What the catalog reads of a clip: signals are float64 with NaN where unknown, shape (rows,)."""

    clip_id: str
    ref_ns: NDArray[np.int64]
    signals: dict[str, NDArray[np.float64]]
    valid: dict[str, NDArray[np.bool_]]


def catalog_rows(
    drive: str,
    spec: DriveSpec,
    clips: Sequence[Path],
    log_report: Mapping[str, Any],
    sync_report: Mapping[str, Any],
    content: Mapping[str, str],
    policy: CatalogPolicy,
) -> dict[str, pa.Table]:
    """Tables `drives` (one row), `streams` and `clips` of one drive.

    Args:
        clips: clip files of synced_shards in order; those without rows have no row.
        content: asset -> content digest of the bundle that the rows describe.

    Raises:
        SyncError: bad_clip, where a file is no clip.
    """
    read = [clip for path in clips if (clip := _read_clip(path)) is not None]
    ref_ns, signals = _joined(read)
    positions = clean_positions(ref_ns, signals.get("latitude_deg"), signals.get("longitude_deg"), policy)
    row = _drive(drive, spec, read, log_report, content)
    row |= speed_profile(ref_ns, signals.get("speed_mps"), policy)
    row |= _place(positions, log_report, policy)
    health = sensor_health(spec, log_report, sync_report)
    row |= {"sensor_health": health.share, "health_reason": health.reason or None}
    expected = expected_shares(sync_report)
    rows = [_clip(drive, clip, positions, expected, policy) for clip in read]
    return {
        "drives": pa.Table.from_pylist([row], schema=DRIVES),
        "streams": pa.Table.from_pylist(_streams(drive, log_report, sync_report), schema=STREAMS),
        "clips": pa.Table.from_pylist(rows, schema=CLIPS),
    }


def _read_clip(path: Path) -> _Clip | None:
    """Times, signals and validity of a clip, None of one without rows; payload columns stay on disk."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            roles = [
                f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("valid") >= 0
            ]
            signals = ["signals"] if "signals" in schema.names else []
            table = file.read(columns=["clip_id", "ref_ns", *(f"{role}.valid" for role in roles), *signals])
        if table.num_rows == 0:
            return None
        held = table["signals"].combine_chunks() if signals else None
        values = {} if held is None else {f.name: _floats(held.field(f.name)) for f in held.type}
        valid = {role: _flags(table[role].combine_chunks().field("valid")) for role in roles}
        return _Clip(table["clip_id"][0].as_py(), table["ref_ns"].to_numpy(), values, valid)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise SyncError(f"not a clip: {error}", code="bad_clip", file=path) from error


def _drive(
    drive: str,
    spec: DriveSpec,
    clips: Sequence[_Clip],
    log_report: Mapping[str, Any],
    content: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "drive": drive,
        "vehicle": spec.vehicle,
        "start_ns": log_report["start_ns"],
        "end_ns": log_report["end_ns"],
        "duration_s": (log_report["end_ns"] - log_report["start_ns"]) / 1e9,
        **{tag: spec.conditions.get(tag) for tag in ("weather", "zone", "region")},
        "sensors": ",".join(sorted(log_report["streams"])),
        "messages": log_report["messages"],
        "frames": sum(len(clip.ref_ns) for clip in clips),
        "clips": len(clips),
        **{f"{asset}_content": digest for asset, digest in content.items()},
    }


def _place(positions: Positions, log_report: Mapping[str, Any], policy: CatalogPolicy) -> dict[str, Any]:
    """Bounding box, line, cells and sun; without a position there is no light, whatever the clock says."""
    route = route_of(positions, policy)
    at_start = _sun(positions, log_report["start_ns"], policy)
    found: dict[str, Any] = {
        "route_id": route.route_id,
        "h3_cells": route.cells if len(positions) else None,
        "geometry_wkb": route.geometry_wkb,
        "position_reason": "; ".join(filter(None, [positions.reason, route.reason])) or None,
        "sun_elevation_end_deg": _sun(positions, log_report["end_ns"], policy)["sun_elevation_deg"],
        **at_start,
    }
    for axis in ("latitude", "longitude"):
        values = getattr(positions, f"{axis}_deg")
        found[f"min_{axis}_deg"] = float(values.min()) if len(values) else None
        found[f"max_{axis}_deg"] = float(values.max()) if len(values) else None
    return found


def _sun(positions: Positions, at_ns: int, policy: CatalogPolicy) -> dict[str, Any]:
    """Elevation and light, from the position that is nearest in time if it is near enough."""
    nothing: dict[str, Any] = {"sun_elevation_deg": None, "light": None}
    if not len(positions):
        return nothing | {"light_reason": "no GNSS position"}
    nearest = int(np.argmin(np.abs(positions.ns - at_ns)))
    age_s = abs(int(positions.ns[nearest]) - at_ns) / 1e9
    if age_s > policy.sun_position_max_age_s:
        return nothing | {"light_reason": f"the nearest GNSS position is {age_s:.0f} s away"}
    elevation = sun_elevation_deg(
        at_ns, float(positions.latitude_deg[nearest]), float(positions.longitude_deg[nearest])
    )
    # where the sun stands changes by a degree in four minutes of longitude: a second of driving says nothing
    reason = f"from a position {age_s:.0f} s away" if age_s >= 1.5 else None
    return {"sun_elevation_deg": elevation, "light": light(elevation), "light_reason": reason}


def _streams(
    drive: str, log_report: Mapping[str, Any], sync_report: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    for role, stream in sorted(log_report["streams"].items()):
        synced = sync_report["streams"].get(role, {})
        rows.append(
            {"drive": drive, "role": role, "matched": synced.get("matched")}
            | {key: stream.get(key) for key in ("topic", "kind", "messages", "median_rate_hz", "max_gap_s")}
            | {"residual_p95_ns": synced.get("residual_ns", {}).get("p95")}
        )
    return rows


def _clip(
    drive: str, clip: _Clip, positions: Positions, expected: Mapping[str, float], policy: CatalogPolicy
) -> dict[str, Any]:
    start_ns, end_ns = int(clip.ref_ns[0]), int(clip.ref_ns[-1])
    middle_ns = start_ns + (end_ns - start_ns) // 2
    speed, accel = clip.signals.get("speed_mps"), clip.signals.get("accel_mps2")
    profile = speed_profile(clip.ref_ns, speed, policy)
    cameras = [held for role, held in clip.valid.items() if role.startswith("camera")]
    return {
        "drive": drive,
        "clip_id": clip.clip_id,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "frames": len(clip.ref_ns),
        "mean_speed_mps": profile["mean_speed_mps"],
        "p95_speed_mps": profile["p95_speed_mps"],
        "max_decel_mps2": max_deceleration_mps2(clip.ref_ns, accel, speed, policy),
        "camera_valid_share": float(np.mean(cameras)) if cameras else None,
        "sensor_health": clip_health(clip.valid, expected),
        **_middle(positions, start_ns, end_ns, middle_ns),
        **_sun(positions, middle_ns, policy),
    }


def _middle(positions: Positions, start_ns: int, end_ns: int, middle_ns: int) -> dict[str, Any]:
    """The clip's own position nearest to its middle; a position of another clip is none of this one."""
    inside = np.flatnonzero((positions.ns >= start_ns) & (positions.ns <= end_ns))
    if not len(inside):
        return {"latitude_deg": None, "longitude_deg": None, "h3_cell": None}
    nearest = inside[int(np.argmin(np.abs(positions.ns[inside] - middle_ns)))]
    latitude, longitude = float(positions.latitude_deg[nearest]), float(positions.longitude_deg[nearest])
    return {
        "latitude_deg": latitude,
        "longitude_deg": (longitude + 180) % 360 - 180,
        "h3_cell": cell_of(latitude, longitude),
    }


def _joined(clips: Sequence[_Clip]) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Times of all clips, and the signals at them: NaN in clips that lack one."""
    names = sorted({name for clip in clips for name in clip.signals})
    ref_ns = np.concatenate([np.empty(0, np.int64), *(clip.ref_ns for clip in clips)])
    return ref_ns, {
        name: np.concatenate([clip.signals.get(name, np.full(len(clip.ref_ns), np.nan)) for clip in clips])
        for name in names
    }


def _floats(column: pa.Array) -> NDArray[np.float64]:
    if not (
        pa.types.is_floating(column.type)
        or pa.types.is_integer(column.type)
        or pa.types.is_boolean(column.type)
    ):
        return np.full(len(column), np.nan)
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _flags(column: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
