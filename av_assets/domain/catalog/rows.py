"""Rows of the tables drives, streams and clips. What is not known is null, with a reason where a person
would ask.

Belongs here: deriving rows from a drive's shards and reports. Does not belong here: writing tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.catalog.sun import light, sun_elevation_deg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.logs.drive_spec import DriveSpec

_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()

DRIVES = pa.schema(
    [
        *(("drive", _TEXT), ("vehicle", _TEXT), ("start_ns", _INT), ("end_ns", _INT), ("duration_s", _FLOAT)),
        *(("distance_m", _FLOAT), ("mean_speed_mps", _FLOAT), ("max_speed_mps", _FLOAT)),
        *((f"{side}_{axis}_deg", _FLOAT) for axis in ("latitude", "longitude") for side in ("min", "max")),
        *(("sun_elevation_deg", _FLOAT), ("light", _TEXT), ("light_reason", _TEXT)),
        *((tag, _TEXT) for tag in ("weather", "zone", "region")),
        *(("sensors", _TEXT), ("messages", _INT), ("frames", _INT), ("clips", _INT)),
        *((f"{asset}_content", _TEXT) for asset in ("raw_logs", "log_reports", "synced_shards")),
    ]
)
STREAMS = pa.schema(
    [
        *(("drive", _TEXT), ("role", _TEXT), ("topic", _TEXT), ("kind", _TEXT), ("messages", _INT)),
        *(("median_rate_hz", _FLOAT), ("max_gap_s", _FLOAT), ("residual_p95_ns", _INT), ("matched", _INT)),
    ]
)
CLIPS = pa.schema(
    [
        *(("drive", _TEXT), ("clip_id", _TEXT), ("start_ns", _INT), ("end_ns", _INT), ("frames", _INT)),
        *(("mean_speed_mps", _FLOAT), ("camera_valid_share", _FLOAT)),
    ]
)


def catalog_rows(
    drive: str,
    spec: DriveSpec,
    clips: Sequence[Path],
    log_report: Mapping[str, Any],
    sync_report: Mapping[str, Any],
    content: Mapping[str, str],
) -> dict[str, pa.Table]:
    """Tables `drives` (one row), `streams` and `clips` of one drive.

    Args:
        clips: clip files of synced_shards in order.
        content: asset -> content digest of the bundle that the rows describe.
    """
    read = [_read_clip(path) for path in clips]
    signals = _joined([clip["signals"] for clip in read])
    return {
        "drives": pa.Table.from_pylist(
            [_drive(drive, spec, read, signals, log_report, content)], schema=DRIVES
        ),
        "streams": pa.Table.from_pylist(_streams(drive, log_report, sync_report), schema=STREAMS),
        "clips": pa.Table.from_pylist([_clip(drive, clip) for clip in read], schema=CLIPS),
    }


def _read_clip(path: Path) -> dict[str, Any]:
    """Times, signals and validity of a clip; payload columns stay on disk."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        cameras = [name for name in names if name.startswith("camera")]
        wanted = [
            "clip_id",
            "ref_ns",
            *(f"{c}.valid" for c in cameras),
            *(["signals"] if "signals" in names else []),
        ]
        table = file.read(columns=wanted)
    held = table["signals"].combine_chunks() if "signals" in table.column_names else None
    values = {} if held is None else {field.name: _floats(held.field(field.name)) for field in held.type}
    valid = [table[c].combine_chunks().field("valid").to_numpy(zero_copy_only=False) for c in cameras]
    return {
        "clip_id": table["clip_id"][0].as_py(),
        "ref_ns": table["ref_ns"].to_numpy(),
        "signals": values,
        "camera_valid_share": float(np.mean(valid)) if valid else None,
    }


def _drive(
    drive: str,
    spec: DriveSpec,
    clips: Sequence[Mapping[str, Any]],
    signals: Mapping[str, np.ndarray],
    log_report: Mapping[str, Any],
    content: Mapping[str, str],
) -> dict[str, Any]:
    speed, duration_s = signals.get("speed_mps"), (log_report["end_ns"] - log_report["start_ns"]) / 1e9
    mean_speed = _aggregate(np.nanmean, speed)
    return {
        "drive": drive,
        "vehicle": spec.vehicle,
        "start_ns": log_report["start_ns"],
        "end_ns": log_report["end_ns"],
        "duration_s": duration_s,
        "distance_m": None if mean_speed is None else mean_speed * duration_s,
        "mean_speed_mps": mean_speed,
        "max_speed_mps": _aggregate(np.nanmax, speed),
        **_place(signals, log_report["start_ns"]),
        **{tag: spec.conditions.get(tag) for tag in ("weather", "zone", "region")},
        "sensors": ",".join(sorted(log_report["streams"])),
        "messages": log_report["messages"],
        "frames": sum(len(clip["ref_ns"]) for clip in clips),
        "clips": len(clips),
        **{f"{asset}_content": digest for asset, digest in content.items()},
    }


def _place(signals: Mapping[str, np.ndarray], start_ns: int) -> dict[str, Any]:
    """Bounding box and sun; without a position there is no light, whatever the clock says."""
    found: dict[str, Any] = {}
    for axis in ("latitude", "longitude"):
        values = signals.get(f"{axis}_deg")
        found[f"min_{axis}_deg"] = _aggregate(np.nanmin, values)
        found[f"max_{axis}_deg"] = _aggregate(np.nanmax, values)
    if found["min_latitude_deg"] is None or found["min_longitude_deg"] is None:
        return found | {"light_reason": "no GNSS position"}
    elevation = sun_elevation_deg(start_ns, found["min_latitude_deg"], found["min_longitude_deg"])
    return found | {"sun_elevation_deg": elevation, "light": light(elevation)}


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


def _clip(drive: str, clip: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "drive": drive,
        "clip_id": clip["clip_id"],
        "start_ns": int(clip["ref_ns"][0]),
        "end_ns": int(clip["ref_ns"][-1]),
        "frames": len(clip["ref_ns"]),
        "mean_speed_mps": _aggregate(np.nanmean, clip["signals"].get("speed_mps")),
        "camera_valid_share": clip["camera_valid_share"],
    }


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    names = sorted({name for part in parts for name in part})
    return {name: np.concatenate([part[name] for part in parts if name in part]) for name in names}


def _floats(column: pa.Array) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _aggregate(how: Any, values: np.ndarray | None) -> float | None:
    if values is None or not np.isfinite(values).any():
        return None
    return float(how(values))
