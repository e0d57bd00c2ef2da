"""What the road says of each clip: class, speed limit, curvature, the next junction; null with a reason otherwise.

Belongs here: from matched positions to facts of clips. Does not belong here: matching, maps, weather.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from av_assets.domain.errors import PoisonError
from av_assets.domain.roads.matching import NO_MAP, Matched, Matcher
from av_assets.domain.roads.plane import Floats
from av_assets.domain.roads.road_shape import RoadShape
from av_assets.domain.roads.traces import NO_POSITION

if TYPE_CHECKING:
    from av_assets.domain.roads.graph import Ints, RoadGraph
    from av_assets.policies.roads import RoadsPolicy

CLASS_SOURCE = "tag"
ROAD_COLUMNS = (
    "way_id", "road_class", "road_class_source", "speed_limit_mps", "speed_limit_source", "curvature_1pm",
    "junction_distance_m", "snapped_share", "offset_p95_m", "road_reason",
)  # fmt: skip
POINTS = pa.schema(
    [
        *(("clip_id", pa.string()), ("ref_ns", pa.int64()), ("latitude_deg", pa.float64())),
        *(("longitude_deg", pa.float64()), ("way_id", pa.int64()), ("offset_m", pa.float64())),
        *(("distance_m", pa.float64()), ("confidence", pa.float64()), ("reason", pa.string())),
    ]
)


@dataclass(frozen=True)
class ClipTrack:
    """Positions of a clip, (N,) each; NaN where unknown."""

    clip_id: str
    times_ns: Ints
    latitude_deg: Floats
    longitude_deg: Floats


@dataclass(frozen=True)
class DriveMatch:
    """The clips of one drive, matched as one trace: `matched` holds their points one clip after the other."""

    clips: tuple[ClipTrack, ...]
    graph: RoadGraph | None
    matched: Matched | None


def match_clips(clips: Sequence[ClipTrack], graph: RoadGraph | None, policy: RoadsPolicy) -> DriveMatch:
    """Match all clips of a drive together: a clip's first points are known better from the clip before.

    Raises:
        PoisonError: arrays of a clip differ in length (code bad_track).
    """
    for clip in clips:
        if not len(clip.times_ns) == len(clip.latitude_deg) == len(clip.longitude_deg):
            raise PoisonError(f"times and positions of {clip.clip_id} differ in length", code="bad_track")
    if graph is None or not clips:
        return DriveMatch(tuple(clips), None, None)
    times = np.concatenate([np.asarray(clip.times_ns, np.int64) for clip in clips])
    lat, lon = (
        np.concatenate([np.asarray(getattr(clip, f"{axis}_deg"), np.float64) for clip in clips])
        for axis in ("latitude", "longitude")
    )
    return DriveMatch(tuple(clips), graph, Matcher(graph, policy).match(times, lat, lon))


def road_context(
    clips: Sequence[ClipTrack],
    graph: RoadGraph | None,
    policy: RoadsPolicy,
    found: DriveMatch | None = None,
) -> list[dict[str, Any]]:
    """One dict per clip with `clip_id` and ROAD_COLUMNS; what is not known is None, and `road_reason` says why.

    Args:
        clips: of one drive, in time order.
        graph: None where there is no map at all.
        found: the answer of `match_clips`, where it is there already.
    """
    found = found or match_clips(clips, graph, policy)
    if found.graph is None or found.matched is None:
        return [_nothing(clip) for clip in found.clips]
    local = RoadShape(found.graph, found.matched, policy.facts)
    rows, begin = [], 0
    for clip in found.clips:
        end = begin + len(clip.times_ns)
        rows.append({"clip_id": clip.clip_id} | _facts(found.graph, found.matched, local, begin, end, policy))
        begin = end
    return rows


def matched_points(
    clips: Sequence[ClipTrack],
    graph: RoadGraph | None,
    policy: RoadsPolicy,
    found: DriveMatch | None = None,
) -> pa.Table:
    """One row per point with the schema POINTS, in the order of the clips; arguments as for `road_context`."""
    found = found or match_clips(clips, graph, policy)
    tables = []
    begin = 0
    for clip in found.clips:
        count = len(clip.times_ns)
        columns = _point_columns(found, begin, begin + count, clip)
        tables.append(pa.Table.from_pydict(columns, schema=POINTS))
        begin += count
    return pa.concat_tables(tables) if tables else POINTS.empty_table()


def _point_columns(found: DriveMatch, begin: int, end: int, clip: ClipTrack) -> dict[str, Any]:
    lat, lon = (np.asarray(v, np.float64) for v in (clip.latitude_deg, clip.longitude_deg))
    columns: dict[str, Any] = {
        "clip_id": [clip.clip_id] * (end - begin),
        "ref_ns": np.asarray(clip.times_ns, np.int64),
        "latitude_deg": pa.array(lat, from_pandas=True),
        "longitude_deg": pa.array(lon, from_pandas=True),
    }
    if found.graph is None or found.matched is None:
        there = np.isfinite(lat) & np.isfinite(lon)
        empty = pa.nulls(end - begin)
        return columns | {
            **dict.fromkeys(("way_id", "offset_m", "distance_m", "confidence"), empty),
            "reason": [NO_MAP if known else NO_POSITION for known in there],
        }
    matched, part = found.matched, slice(begin, end)
    segment = matched.segment[part]
    way = found.graph.way_id[segment] if found.graph.segments else segment
    return columns | {
        "way_id": pa.array(way, mask=segment < 0),
        **{
            name: pa.array(getattr(matched, name)[part], from_pandas=True)
            for name in ("offset_m", "distance_m", "confidence")
        },
        "reason": [reason or None for reason in matched.reason[part]],
    }


def _nothing(clip: ClipTrack) -> dict[str, Any]:
    there = np.isfinite(clip.latitude_deg) & np.isfinite(clip.longitude_deg)
    reason = NO_MAP if there.any() else NO_POSITION
    return {"clip_id": clip.clip_id} | dict.fromkeys(ROAD_COLUMNS) | {"road_reason": reason}


def _facts(
    graph: RoadGraph, matched: Matched, local: RoadShape, begin: int, end: int, policy: RoadsPolicy
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ROAD_COLUMNS)
    segment, reasons = matched.segment[begin:end], matched.reason[begin:end]
    known = sum(reason != NO_POSITION for reason in reasons)
    if not known:
        return row | {"road_reason": NO_POSITION}
    on_road = np.flatnonzero(segment >= 0)
    row["snapped_share"] = len(on_road) / known
    if row["snapped_share"] < policy.facts.min_snapped_share:
        others = Counter(r for r in reasons if r and r != NO_POSITION)
        return row | {"road_reason": others.most_common(1)[0][0]}
    row["offset_p95_m"] = float(np.quantile(matched.distance_m[begin:end][on_road], 0.95))
    chosen = _most(segment[on_road], graph.way_id[segment[on_road]])
    limit = graph.limits[int(graph.limit[chosen])]
    return row | {
        "way_id": int(graph.way_id[chosen]),
        "road_class": graph.classes[int(graph.road_class[chosen])],
        "road_class_source": CLASS_SOURCE,
        "speed_limit_mps": limit.mps,
        "speed_limit_source": limit.source,
        "curvature_1pm": _quantile(local.curvature_1pm[begin:end], policy.facts.curvature_share),
        "junction_distance_m": _quantile(local.junction_m[begin:end], 0.0),
        "road_reason": limit.reason,
    }


def _most(segments: Ints, ways: Ints) -> int:
    """The segment that most points lie on, of the way that most points lie on; of equal ones the first driven."""
    way = Counter(ways.tolist()).most_common(1)[0][0]
    return int(Counter(segments[ways == way].tolist()).most_common(1)[0][0])


def _quantile(values: Floats, share: float) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else None
