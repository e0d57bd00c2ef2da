"""Figures of a drive from its clips: way, speed, place, valid frames.

Belongs here: reading the small columns of clips and summing them up. Does not belong here: table layout
(rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

Array = NDArray[np.float64]
Ns = NDArray[np.int64]

EARTH_RADIUS_M: Final = 6_371_008.8  # mean radius, IUGG
# Samples farther apart than this have an unknown way between them.
MAX_STEP_S: Final = 1.0
_SIGNALS: Final = ("speed_mps", "latitude_deg", "longitude_deg")


class ClipFigures(NamedTuple):
    """One clip: `signals` name -> (rows,) with NaN, `valid` sensor role -> share of rows that have it."""

    clip_id: str
    ref_ns: Ns
    signals: dict[str, Array]
    valid: dict[str, float]


def read_clip(path: Path) -> ClipFigures:
    """Read what the catalog needs; payload columns are not touched."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        sensors = [f for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("valid") >= 0]
        names = {field.name for field in schema.field("signals").type} if "signals" in schema.names else set()
        signals = [name for name in _SIGNALS if name in names]
        columns = [
            "clip_id",
            "ref_ns",
            *(f"{f.name}.valid" for f in sensors),
            *(f"signals.{n}" for n in signals),
        ]
        table = file.read(columns)
    values = {name: _floats(table, name) for name in signals}
    valid = {f.name: _share(table, f.name) for f in sensors}
    ref_ns = table["ref_ns"].to_numpy().astype(np.int64)
    return ClipFigures(table["clip_id"][0].as_py(), ref_ns, values, valid)


def _floats(table: pa.Table, name: str) -> Array:
    return np.asarray(pc.struct_field(table["signals"], name).to_numpy(), np.float64)


def _share(table: pa.Table, role: str) -> float:
    return round(float(pc.struct_field(table[role], "valid").to_numpy().mean()), 6)


def joined(clips: Sequence[ClipFigures]) -> tuple[Ns, dict[str, Array]]:
    """Times and signals of all clips in order; a clip without a signal gives NaN."""
    times = np.concatenate([clip.ref_ns for clip in clips]) if clips else np.empty(0, np.int64)
    signals = {}
    for name in _SIGNALS:
        parts = [clip.signals.get(name, np.full(len(clip.ref_ns), np.nan)) for clip in clips]
        if any(np.isfinite(part).any() for part in parts):
            signals[name] = np.concatenate(parts)
    return times, signals


def distance_m(times_ns: Ns, signals: Mapping[str, Array]) -> tuple[float | None, str]:
    """Way driven in metres and where it is from: `speed`, else `gnss`, else (None, `none`).

    Trapezoids of speed over time; holes longer than MAX_STEP_S add nothing.
    """
    if "speed_mps" in signals:
        known = np.isfinite(signals["speed_mps"])
        times, speed = times_ns[known], signals["speed_mps"][known]
        steps_s = np.diff(times) / 1e9
        means = (speed[1:] + speed[:-1]) / 2
        return float(np.sum((means * steps_s)[steps_s <= MAX_STEP_S])), "speed"
    if {"latitude_deg", "longitude_deg"} <= signals.keys():
        return _gnss_way_m(times_ns, signals["latitude_deg"], signals["longitude_deg"]), "gnss"
    return None, "none"


def _gnss_way_m(times_ns: Ns, latitude_deg: Array, longitude_deg: Array) -> float:
    """Haversine over fixes about a second apart: at 10 Hz the noise of fixes would add up to a way of
    its own."""
    known = np.flatnonzero(np.isfinite(latitude_deg) & np.isfinite(longitude_deg))
    if not len(known):
        return 0.0
    seconds = (times_ns[known] - times_ns[known[0]]) // 1_000_000_000
    picked = known[np.unique(seconds, return_index=True)[1]]
    lat, lon = np.deg2rad(latitude_deg[picked]), np.deg2rad(longitude_deg[picked])
    half = np.sin(np.diff(lat) / 2) ** 2 + np.cos(lat[1:]) * np.cos(lat[:-1]) * np.sin(np.diff(lon) / 2) ** 2
    return float(np.sum(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(half))))


def middle_fix(times_ns: Ns, signals: Mapping[str, Array]) -> tuple[int, float, float] | None:
    """Time, latitude and longitude of the fix in the middle of the drive; None without fixes."""
    if not {"latitude_deg", "longitude_deg"} <= signals.keys():
        return None
    known = np.flatnonzero(np.isfinite(signals["latitude_deg"]) & np.isfinite(signals["longitude_deg"]))
    if not len(known):
        return None
    at = known[len(known) // 2]
    return int(times_ns[at]), float(signals["latitude_deg"][at]), float(signals["longitude_deg"][at])


def extremes(values: Array | None) -> tuple[float | None, float | None]:
    """Smallest and largest finite value; (None, None) without any."""
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (None, None)


def mean(values: Array | None) -> float | None:
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def count_of(report: Mapping[str, Any], *path: str) -> int:
    """A whole number deep in a report; zero where the report does not say."""
    value: Any = report
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return int(value) if isinstance(value, int) else 0
