"""What context needs of a drive's clips: times, positions and a few signals, without any payload.

Belongs here: reading clip files of synced_shards for context. Does not belong here: what is concluded from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.catalog.positions import clean_positions
from av_assets.domain.context.weather import Moments
from av_assets.domain.roads.facts import ClipTrack
from av_assets.domain.roads.tiles import Bounds
from av_assets.domain.roads.traces import believable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.context.weather import Ints
    from av_assets.domain.geometry.transforms import Array
    from av_assets.policies.catalog import CatalogPolicy
    from av_assets.policies.roads import RoadsPolicy

LATITUDE, LONGITUDE = "latitude_deg", "longitude_deg"


@dataclass(frozen=True)
class ContextClip:
    """One clip.

    Attributes:
        ref_ns: (N,) times of its rows, ascending; maybe none.
        latitude_deg, longitude_deg: (N,) NaN where the position is unknown or withheld.
        signals: name -> (N,) of the wanted signals that the vehicle has.
        camera: the first camera by name, empty where there is none.
    """

    clip_id: str
    path: Path
    ref_ns: Ints
    latitude_deg: Array
    longitude_deg: Array
    signals: Mapping[str, Array] = field(default_factory=dict)
    camera: str = ""

    def track(self) -> ClipTrack:
        """Its positions, as matching to roads wants them."""
        return ClipTrack(self.clip_id, self.ref_ns, self.latitude_deg, self.longitude_deg)


def read_clips(paths: Sequence[Path], wanted: Sequence[str] = ()) -> list[ContextClip]:
    """The clips in their order. `wanted` are names of signals, or how their names end after an underscore."""
    return [_read(path, wanted) for path in sorted(paths)]


def cleaned(clips: Sequence[ContextClip], policy: CatalogPolicy) -> list[ContextClip]:
    """The clips of a drive with the positions that the catalog keeps; those off the earth, at 0, 0 and of jumps of the
    receiver are unknown."""
    if not clips:
        return []
    times, latitude, longitude = (
        np.concatenate([getattr(clip, name) for clip in clips])
        for name in ("ref_ns", "latitude_deg", "longitude_deg")
    )
    kept = np.isin(times, clean_positions(times, latitude, longitude, policy).ns)
    found, begin = [], 0
    for clip in clips:
        held = kept[begin : begin + len(clip.ref_ns)]
        latitude, longitude = (np.where(held, v, np.nan) for v in (clip.latitude_deg, clip.longitude_deg))
        found.append(replace(clip, latitude_deg=latitude, longitude_deg=longitude))
        begin += len(clip.ref_ns)
    return found


def clips_of_points(points: pa.Table) -> list[ContextClip]:
    """The clips behind a drive's matched points, with their positions alone; clips without rows leave none.

    Args:
        points: clip_id, ref_ns, latitude_deg, longitude_deg in the order of the clips.
    """
    names = points["clip_id"].to_numpy()
    edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)] if len(names) else [0]
    times = np.asarray(points["ref_ns"].to_numpy(), np.int64)
    latitude, longitude = (np.asarray(points[name].to_numpy(), np.float64) for name in (LATITUDE, LONGITUDE))
    return [
        ContextClip(str(names[a]), Path(), times[a:b], latitude[a:b], longitude[a:b])
        for a, b in pairwise(edges)
    ]


def _read(path: Path, wanted: Sequence[str]) -> ContextClip:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        held = [f.name for f in schema.field("signals").type] if "signals" in schema.names else []
        chosen = [name for name in held if any(name == w or name.endswith(f"_{w}") for w in wanted)]
        places = [name for name in (LATITUDE, LONGITUDE) if name in held]
        columns = ["clip_id", "ref_ns", *(f"signals.{name}" for name in dict.fromkeys([*places, *chosen]))]
        table = file.read(columns=columns)
    values = {name: _floats(table, name) for name in (*places, *chosen)}
    unknown = np.full(table.num_rows, np.nan)
    cameras = sorted(name for name in schema.names if name.startswith("camera"))
    return ContextClip(
        clip_id=table["clip_id"][0].as_py() if table.num_rows else _clip_id(schema, path),
        path=path,
        ref_ns=np.asarray(table["ref_ns"].to_numpy(), np.int64),
        latitude_deg=values.get(LATITUDE, unknown),
        longitude_deg=values.get(LONGITUDE, unknown),
        signals={name: values[name] for name in chosen},
        camera=cameras[0] if cameras else "",
    )


def _clip_id(schema: pa.Schema, path: Path) -> str:
    """The id of a clip without rows, by the drive in its metadata and the name of its file."""
    return f"{(schema.metadata or {}).get(b'drive', b'').decode()}/{path.stem}"


def _floats(table: pa.Table, name: str) -> Array:
    column = table["signals"].combine_chunks()
    leaf = column.field(name) if len(column) else pa.array([], pa.float64())
    return np.asarray(leaf.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def moments(clips: Sequence[ContextClip]) -> Moments:
    """Time and place of the middle of each clip: its known position that is nearest to the middle row."""
    times, latitudes, longitudes = [], [], []
    for clip in clips:
        known = np.flatnonzero(np.isfinite(clip.latitude_deg) & np.isfinite(clip.longitude_deg))
        middle = len(clip.ref_ns) // 2
        at = int(known[np.abs(known - middle).argmin()]) if len(known) else -1
        times.append(int(clip.ref_ns[middle]) if len(clip.ref_ns) else 0)
        latitudes.append(float(clip.latitude_deg[at]) if at >= 0 else np.nan)
        longitudes.append(float(clip.longitude_deg[at]) if at >= 0 else np.nan)
    return Moments(
        np.array(times, np.int64), np.array(latitudes, np.float64), np.array(longitudes, np.float64)
    )


def bounds(clips: Sequence[ContextClip], policy: RoadsPolicy) -> list[Bounds]:
    """Boxes around the believable positions: none without any, two where they lie on both sides of 180 degrees."""
    if not clips:
        return []
    times = np.concatenate([clip.ref_ns for clip in clips])
    latitude, longitude = (
        np.concatenate([getattr(clip, f"{axis}_deg") for clip in clips]) for axis in ("latitude", "longitude")
    )
    kept, _ = believable(times, longitude, latitude, policy.matching)
    latitude, longitude = latitude[kept], longitude[kept]
    wide = len(kept) > 0 and float(np.ptp(longitude)) > 180.0
    sides = [longitude < 0, longitude >= 0] if wide else [np.ones(len(kept), np.bool_)]
    return [
        Bounds(*(float(f(v[side])) for v in (latitude, longitude) for f in (np.min, np.max)))
        for side in sides
        if side.any()
    ]
