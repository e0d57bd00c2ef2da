"""The table clip_context: road, weather and on-vehicle evidence of each clip, and a report of what is missing and why.

Belongs here: columns, completeness of reasons, the report. Does not belong here: how the parts are found (roads,
weather, evidence).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from av_assets.domain.catalog.schemas import column
from av_assets.domain.context import evidence, weather
from av_assets.domain.roads.facts import ROAD_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_TYPES: Final = {
    **dict.fromkeys(
        ("drive", "clip_id", "road_class", "road_class_source", "speed_limit_source", "road_reason", "weather",
         "weather_source", "weather_reason", "evidence_weather", "evidence_reason"), _TEXT,
    ),
    "way_id": _INT,
    "weather_code": pa.int32(),
    "weather_conflict": pa.bool_(),
}  # fmt: skip
GROUPS: Final = {"road": ROAD_COLUMNS, "weather": weather.COLUMNS, "evidence": evidence.COLUMNS}
"""Group -> its columns; the last one is the reason for what is null in the others."""
_MEANINGS: Final = {
    "drive": "drive id",
    "clip_id": "drive and number of the clip",
    "way_id": "way of the map that most of the clip lies on",
    "road_class": "class of that way",
    "road_class_source": "where the class comes from",
    "speed_limit_mps": "speed limit of that way",
    "speed_limit_source": "the tag, or a default of the policy roads",
    "curvature_1pm": "curvature of the driven road in 1/m: a high quantile (policy roads)",
    "junction_distance_m": "least distance to a junction in the clip",
    "snapped_share": "share of known positions that lie on a road",
    "offset_p95_m": "95th percentile of the distance between position and road",
    "road_reason": "why columns of the road are null",
    "weather": "clear, cloudy, rain, snow, fog or storm, of the nearest observation",
    "weather_code": "weather code of the observation; a grid gives none",
    "weather_source": "station or grid of the observation",
    "weather_lag_s": "time of the clip minus that of the observation",
    "weather_distance_m": "distance to the station or grid point",
    "temperature_c": "air temperature in degrees Celsius",
    "precipitation_mmph": "precipitation in mm per hour",
    "weather_reason": "why columns of the weather are null",
    "wiper_level": "highest level of the wipers",
    "rain_sensor": "highest value of the rain sensor",
    "evidence_weather": "rain where the vehicle shows it; nothing else is concluded",
    "image_luma": "mean luma of redacted pictures, 0 to 1",
    "image_contrast": "RMS contrast of redacted pictures, on the scale of image_luma",
    "evidence_reason": "why columns of the evidence are null",
    "weather_conflict": "whether weather and evidence_weather contradict each other",
}
CLIP_CONTEXT: Final = pa.schema(
    [
        column(name, _TYPES.get(name, _FLOAT), _MEANINGS[name])
        for name in (
            "drive",
            "clip_id",
            *(c for columns in GROUPS.values() for c in columns),
            "weather_conflict",
        )
    ]
)


def context_rows(
    drive: str,
    clip_ids: Sequence[str],
    parts: Sequence[Sequence[Mapping[str, Any]]],
    conflicts: Sequence[bool | None],
) -> pa.Table:
    """CLIP_CONTEXT, a row per clip.

    Args:
        parts: road, weather and evidence, each with a mapping per clip in the order of `clip_ids`.
        conflicts: per clip whether weather and evidence disagree.
    """
    rows = []
    for clip_id, *cells, conflict in zip(clip_ids, *parts, conflicts, strict=True):
        row: dict[str, Any] = {"drive": drive, "weather_conflict": conflict}
        for cell in cells:
            row |= cell
        rows.append(_explained(row | {"clip_id": clip_id}))
    return pa.Table.from_pylist(rows, schema=CLIP_CONTEXT)


def _explained(row: dict[str, Any]) -> dict[str, Any]:
    """Name what the road leaves open without a reason, so that nobody takes it for nothing."""
    missing = [name for name in ROAD_COLUMNS[:-1] if row.get(name) is None]
    if missing and not row.get("road_reason"):
        row["road_reason"] = f"not known here: {', '.join(missing)}"
    return row


def unexplained(rows: pa.Table) -> list[dict[str, str]]:
    """Clips and columns that are null without a reason in their group."""
    found = []
    for row in rows.to_pylist():
        for *columns, reason in GROUPS.values():
            found += [
                {"clip_id": row["clip_id"], "column": name}
                for name in columns
                if row[name] is None and not row[reason]
            ]
        known = row["weather"] is not None and row["evidence_weather"] is not None
        if row["weather_conflict"] is None and known:
            found.append({"clip_id": row["clip_id"], "column": "weather_conflict"})
    return found


def context_report(rows: pa.Table, points: pa.Table) -> dict[str, Any]:
    """Quality of the match and counts: what is known in how many clips, and each reason with its clips.

    Args:
        points: the drive's matched positions, with way_id, distance_m and reason.
    """
    cells = rows.to_pylist()
    distances = points["distance_m"].drop_null().to_numpy() if points.num_rows else np.empty(0)
    placed = points.num_rows - points["reason"].to_pylist().count("no position")
    snapped = points.num_rows - points["way_id"].null_count
    return {
        "clips": rows.num_rows,
        "points": points.num_rows,
        "snapped_share": snapped / placed if placed else None,
        "offset_p95_m": float(np.quantile(distances, 0.95)) if len(distances) else None,
        "known": {
            group: sum(row[columns[0]] is not None for row in cells) for group, columns in GROUPS.items()
        },
        "weather": dict(sorted(Counter(row["weather"] for row in cells if row["weather"]).items())),
        "conflicts": sum(bool(row["weather_conflict"]) for row in cells),
        "reasons": {
            group: dict(sorted(Counter(row[columns[-1]] for row in cells if row[columns[-1]]).items()))
            for group, columns in GROUPS.items()
        },
    }


def report_json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def note_of(report: Mapping[str, Any]) -> str:
    """What a reader should know first: empty where road and weather are known for some clip."""
    if not report["clips"]:
        return "no clip in this drive"
    lacks = [group for group in ("road", "weather") if not report["known"][group]]
    words = [
        f"no {group} known: {max(report['reasons'][group], key=report['reasons'][group].get)}"
        for group in lacks
    ]
    return "; ".join(words)
