"""The columns that a mining spec may ask for, and the one row per clip that they are columns of.

Belongs here: the closed list, and joining the catalogue's tables into it. Does not belong here: judging a row
(where), reading tables from a lake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["text", "number", "list"]
UNKNOWN: Final = "unknown"
TABLES: Final = ("clips", "drives", "clip_context", "events", "scenes")

_CLIPS: Final[dict[str, pa.DataType]] = {
    **dict.fromkeys(("drive", "clip_id", "light", "light_reason", "h3_cell"), pa.string()),
    **dict.fromkeys(("start_ns", "end_ns", "frames"), pa.int64()),
    **dict.fromkeys(
        ("mean_speed_mps", "p95_speed_mps", "max_decel_mps2", "camera_valid_share", "sensor_health"),
        pa.float64(),
    ),
    "sun_elevation_deg": pa.float64(),
}
_DRIVES: Final[dict[str, pa.DataType]] = dict.fromkeys(("drive", "vehicle", "zone", "region"), pa.string())
_CONTEXT: Final[dict[str, pa.DataType]] = {
    **dict.fromkeys(("clip_id", "road_class", "road_reason", "weather", "weather_reason"), pa.string()),
    **dict.fromkeys(("evidence_weather", "evidence_reason"), pa.string()),
    **dict.fromkeys(
        ("speed_limit_mps", "curvature_1pm", "junction_distance_m", "temperature_c", "precipitation_mmph"),
        pa.float64(),
    ),
    **dict.fromkeys(("wiper_level", "rain_sensor", "image_luma", "image_contrast"), pa.float64()),
}
_EVENTS: Final[dict[str, pa.DataType]] = {
    **dict.fromkeys(("drive", "kind", "clip_id"), pa.string()),
    **dict.fromkeys(("level", "start_ns", "end_ns"), pa.int64()),
    "tags": pa.list_(pa.string()),
}
_SCENES: Final[dict[str, pa.DataType]] = {
    "drive": pa.string(),
    **dict.fromkeys(("clip_ids", "tags"), pa.list_(pa.string())),
    **dict.fromkeys(("max_level", "vehicles", "pedestrians", "occluded_pedestrians"), pa.int64()),
}
_SCHEMAS: Final = {
    "clips": _CLIPS, "drives": _DRIVES, "clip_context": _CONTEXT, "events": _EVENTS, "scenes": _SCENES
}  # fmt: skip

COLUMNS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("drive", "clip_id", "vehicle", "zone", "region", "h3_cell"), "text"),
    **dict.fromkeys(("light", "weather", "evidence_weather", "road_class"), "text"),
    **dict.fromkeys(("start_ns", "mean_speed_mps", "p95_speed_mps", "max_decel_mps2"), "number"),
    **dict.fromkeys(("camera_valid_share", "sensor_health", "sun_elevation_deg"), "number"),
    **dict.fromkeys(("speed_limit_mps", "curvature_1pm", "junction_distance_m"), "number"),
    **dict.fromkeys(("temperature_c", "precipitation_mmph", "wiper_level", "rain_sensor"), "number"),
    **dict.fromkeys(("image_luma", "image_contrast", "event_level", "scene_level", "road_users"), "number"),
    **dict.fromkeys(("vehicles", "pedestrians", "occluded_pedestrians"), "number"),
    **dict.fromkeys(("events", "tags"), "list"),
}  # type: ignore[dict-item]
"""What a spec may name. `events` are the kinds of events that touch the clip and `event_level` their highest level;
`vehicles`, `pedestrians` and `occluded_pedestrians` are the largest counts of the scenes that hold the clip;
`road_users` is the mean number of labelled vehicles and pedestrians per labelled frame."""

REASONS: Final = {
    **dict.fromkeys(("light", "sun_elevation_deg"), "light_reason"),
    **dict.fromkeys(("road_class", "speed_limit_mps", "curvature_1pm", "junction_distance_m"), "road_reason"),
    **dict.fromkeys(("weather", "temperature_c", "precipitation_mmph"), "weather_reason"),
    **dict.fromkeys(("evidence_weather", "image_luma", "image_contrast"), "evidence_reason"),
}
"""Where a null of the column explains itself."""

_SQL: Final = """
with touching as (
    select c.clip_id, list_sort(list_distinct(list(e.kind))) as events, max(e.level) as event_level,
           flatten(list(coalesce(e.tags, []))) as event_tags
    from clips c join events e on e.drive = c.drive
        and (e.clip_id = c.clip_id or (e.start_ns <= c.end_ns and e.end_ns >= c.start_ns))
    group by c.clip_id),
holding as (
    select clip_id, max(max_level) as scene_level, max(vehicles) as vehicles, max(pedestrians) as pedestrians,
           max(occluded_pedestrians) as occluded_pedestrians, flatten(list(coalesce(tags, []))) as scene_tags
    from (select unnest(clip_ids) as clip_id, * exclude (clip_ids) from scenes) group by clip_id)
select c.*, d.* exclude (drive), x.* exclude (clip_id), t.events, t.event_level, h.* exclude (clip_id, scene_tags),
    list_sort(list_distinct(list_concat(coalesce(t.event_tags, []), coalesce(h.scene_tags, [])))) as tags
from clips c
    left join drives d on d.drive = c.drive
    left join clip_context x on x.clip_id = c.clip_id
    left join touching t on t.clip_id = c.clip_id
    left join holding h on h.clip_id = c.clip_id
order by c.clip_id"""


def clip_rows(
    tables: Mapping[str, pa.Table | None], road_users: Mapping[str, float] | None = None
) -> pa.Table:
    """One row per clip with all of COLUMNS, their reasons, `end_ns` and `frames`, sorted by clip id.

    Args:
        tables: those of TABLES that there are; a table or column that is missing reads as null. Without an event
            `events` and `tags` are empty lists where the table events is there, null where it is not.
        road_users: clip id -> mean number of labelled vehicles and pedestrians per labelled frame.
    """
    import duckdb

    with duckdb.connect() as connection:
        for name, columns in _SCHEMAS.items():
            connection.register(name, _padded(tables.get(name), columns))
        rows = connection.sql(_SQL).to_arrow_table()
    if tables.get("events") is not None:
        rows = _filled(rows, "events")
    known = road_users or {}
    users = pa.array([known.get(clip) for clip in rows["clip_id"].to_pylist()], pa.float64())
    return rows.append_column("road_users", users)


def _padded(table: pa.Table | None, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """`table` with exactly these columns; those that it has not are null."""
    if table is None:
        return pa.table({name: pa.array([], kind) for name, kind in columns.items()})
    held = set(table.column_names)
    return pa.table(
        {
            name: table[name].cast(kind) if name in held else pa.nulls(table.num_rows, kind)
            for name, kind in columns.items()
        }
    )


def _filled(rows: pa.Table, name: str) -> pa.Table:
    filled = pa.array([value or [] for value in rows[name].to_pylist()], pa.list_(pa.string()))
    return rows.set_column(rows.column_names.index(name), name, filled)
