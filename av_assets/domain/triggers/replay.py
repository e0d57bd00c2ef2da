"""One drive of history under two versions of the events policy; drives on which nothing can change are left alone.

Belongs here: what a change can reach, and running the detectors. Does not belong here: comparing (`backtest`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from av_assets.domain.events.detectors import KINDS, detect_events
from av_assets.domain.triggers.backtest import Alert, Replay
from av_assets.domain.triggers.versions import touched

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.policies.events import EventsPolicy
    from av_assets.policies.triggers import GeofencesPolicy, Section

    Numbers = tuple[EventsPolicy, GeofencesPolicy]

NS_PER_H = 3600 * 10**9


class Track(NamedTuple):
    """Where a drive was: times (N,) in ns, latitude and longitude (N,) in degrees, NaN where not known."""

    ref_ns: np.ndarray
    latitude_deg: np.ndarray
    longitude_deg: np.ndarray

    @property
    def bbox(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north in degrees; None without any position."""
        known = np.isfinite(self.latitude_deg) & np.isfinite(self.longitude_deg)
        if not known.any():
            return None
        longitude, latitude = self.longitude_deg[known], self.latitude_deg[known]
        return float(longitude.min()), float(latitude.min()), float(longitude.max()), float(latitude.max())


def sections_reached(before: Numbers, after: Numbers) -> list[str]:
    """Sections whose numbers can differ on any drive: those of the base policy, and those that geofences change."""
    found = set(touched(before[0].model_dump(mode="json"), after[0].model_dump(mode="json")))
    if (before[0].digest, before[1].digest) != (after[0].digest, after[1].digest):
        for base, geofences in (before, after):
            if geofences.base == base.digest:
                every = [geofences.overrides, *(region.overrides for region in geofences.regions)]
                found |= {key.split(".")[0] for overrides in every for key in overrides}
    return sorted(found)


def kinds_touched(sections: Iterable[str], known: Mapping[str, Section]) -> list[str]:
    """Kinds of events that a change of these sections can concern; all where one of them is not known."""
    named = list(sections)
    if any(name not in known for name in named):
        return sorted(KINDS)
    return sorted({kind for name in named for kind in known[name].kinds})


def can_change(sections: Iterable[str], known: Mapping[str, Section], signals: frozenset[str]) -> bool:
    """Whether a drive that has these signals can have other events after a change of these sections."""
    return any(
        name not in known
        or all(any(choice in signals for choice in need.split("|")) for need in known[name].needs)
        for name in sections
    )


def available(clips: Sequence[Path]) -> frozenset[str]:
    """Names of signals that any clip has a column for, and `tracks` where a radar has; only footers are read."""
    found: set[str] = set()
    for path in clips:
        schema = pq.read_schema(path)
        for field in schema:
            if pa.types.is_struct(field.type):
                if field.name == "signals":
                    found |= {inner.name for inner in field.type}
                elif field.type.get_field_index("tracks") >= 0:
                    found.add("tracks")
    return frozenset(found)


def track_of(clips: Sequence[Path]) -> Track:
    """Times and positions of all frames."""
    times: list[np.ndarray] = []
    latitudes: list[np.ndarray] = []
    longitudes: list[np.ndarray] = []
    for path in sorted(clips):
        with pq.ParquetFile(path) as file:
            has_signals = "signals" in file.schema_arrow.names
            table = file.read(columns=["ref_ns", *(["signals"] if has_signals else [])])
        held = table["signals"].combine_chunks() if has_signals else None
        times.append(table["ref_ns"].to_numpy().astype(np.int64))
        for values, name in ((latitudes, "latitude_deg"), (longitudes, "longitude_deg")):
            known = held is not None and held.type.get_field_index(name) >= 0
            column = pc.struct_field(held, name).to_numpy(zero_copy_only=False) if known else None
            values.append(np.full(len(table), np.nan) if column is None else np.asarray(column, np.float64))
    if not times:
        empty = np.empty(0)
        return Track(np.empty(0, np.int64), empty, empty)
    return Track(np.concatenate(times), np.concatenate(latitudes), np.concatenate(longitudes))


def replay(
    drive: str, clips: Sequence[Path], active: EventsPolicy, proposed: EventsPolicy, resolution: int
) -> Replay:
    """Both versions over the same clips; hours are those between the first and the last frame."""
    track = track_of(clips)
    hours = float(track.ref_ns[-1] - track.ref_ns[0]) / NS_PER_H if len(track.ref_ns) else 0.0
    before, after = (
        tuple(_alert(row, track, resolution) for row in detect_events(clips, policy).to_pylist())
        for policy in (active, proposed)
    )
    return Replay(drive, hours, before, after)


def _alert(row: Mapping[str, Any], track: Track, resolution: int) -> Alert:
    return Alert(
        row["kind"], row["level"], row["start_ns"], row["end_ns"], _cell(row["start_ns"], track, resolution)
    )


def _cell(start_ns: int, track: Track, resolution: int) -> str | None:
    import h3

    index = max(0, int(np.searchsorted(track.ref_ns, start_ns, "right")) - 1)
    latitude, longitude = float(track.latitude_deg[index]), float(track.longitude_deg[index])
    if not (np.isfinite(latitude) and np.isfinite(longitude)):
        return None
    return str(h3.latlng_to_cell(latitude, longitude, resolution))
