"""Which recorded columns the catalog's columns are made from.

Belongs here: the lineage of columns. Does not belong here: making them (rows), showing it (tables_metadata).
"""

from __future__ import annotations

from typing import Final

_SHARDS, _LOG = "synced_shards", "log_reports"
_POSITION = [(_SHARDS, "signals.latitude_deg"), (_SHARDS, "signals.longitude_deg"), (_SHARDS, "ref_ns")]
_SPEED = [(_SHARDS, "signals.speed_mps"), (_SHARDS, "ref_ns")]
_SUN = [*_POSITION, (_LOG, "start_ns"), (_LOG, "end_ns")]
_HEALTH = [(_LOG, "rules"), (_LOG, "streams"), (_SHARDS, "sync_report.streams")]
_ROWS = [(_SHARDS, "ref_ns")]
_BOX = [f"{side}_{axis}_deg" for axis in ("latitude", "longitude") for side in ("min", "max")]
_SPEEDS = [
    "distance_m",
    "mean_speed_mps",
    "max_speed_mps",
    "p50_speed_mps",
    "p95_speed_mps",
    "standing_share",
]

DRIVES_FROM: Final[dict[str, list[tuple[str, str]]]] = {
    "vehicle": [("raw_logs", "drive.yaml")],
    **{tag: [("raw_logs", "drive.yaml")] for tag in ("weather", "zone", "region")},
    **{column: [(_LOG, column)] for column in ("start_ns", "end_ns", "messages")},
    "duration_s": [(_LOG, "start_ns"), (_LOG, "end_ns")],
    "sensors": [(_LOG, "streams")],
    **dict.fromkeys([*_SPEEDS, "stops"], _SPEED),
    **dict.fromkeys([*_BOX, "route_id", "h3_cells", "geometry_wkb", "position_reason"], _POSITION),
    **dict.fromkeys(["sun_elevation_deg", "sun_elevation_end_deg", "light", "light_reason"], _SUN),
    **dict.fromkeys(["sensor_health", "health_reason"], _HEALTH),
    **dict.fromkeys(["frames", "clips"], _ROWS),
}
"""Column of `drives` -> (asset, column) pairs."""
