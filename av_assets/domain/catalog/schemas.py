"""Columns of the tables drives, streams and clips: name, type and meaning, said once.

The meaning is the metadata `comment` of each field. It travels with the rows: Delta keeps it in the table's own schema,
and from there it reaches `av tables`, the catalog and AWS Glue.

Belongs here: columns. Does not belong here: how they are filled (rows).
"""

from __future__ import annotations

import pyarrow as pa

COMMENT = b"comment"
MADE_FROM = {
    "made_from": "JSON: asset -> content digest of the bundle that the row was made from",
    "run_id": "the Dagster run that wrote the row",
}


def column(name: str, kind: pa.DataType, meaning: str, nullable: bool = True) -> pa.Field:
    """A column that carries its meaning."""
    return pa.field(name, kind, nullable, metadata={COMMENT: meaning.encode()})


def meanings(schema: pa.Schema) -> dict[str, str]:
    """Column -> meaning, of those columns that carry one."""
    found = {f.name: (f.metadata or {}).get(COMMENT, b"").decode() or MADE_FROM.get(f.name) for f in schema}
    return {name: text for name, text in found.items() if text}


_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_DRIVE = column("drive", _TEXT, "drive id")
_START = column("start_ns", _INT, "first moment, nanoseconds since the Unix epoch")
_END = column("end_ns", _INT, "last moment, nanoseconds since the Unix epoch")
_SUN = "elevation of the sun above the horizon in degrees"
_LIGHT = "by the sun: day above the horizon, twilight down to -6 degrees, night below"

DRIVES = pa.schema(
    [
        _DRIVE,
        column("vehicle", _TEXT, "vehicle id as declared in drive.yaml"),
        _START,
        _END,
        column("duration_s", _FLOAT, "from the first message to the last"),
        column("distance_m", _FLOAT, "integral of speed over time; gaps of speed count for nothing"),
        column("mean_speed_mps", _FLOAT, "mean speed where it is known"),
        column("max_speed_mps", _FLOAT, "highest speed"),
        *(
            column(f"{side}_{axis}_deg", _FLOAT, f"bounding box of the cleaned positions: {side} {axis}")
            for axis in ("latitude", "longitude")
            for side in ("min", "max")
        ),
        column("sun_elevation_deg", _FLOAT, f"{_SUN}, at the start"),
        column("light", _TEXT, f"at the start, {_LIGHT}"),
        column("light_reason", _TEXT, "why light is unknown, or how old the position is"),
        *(column(tag, _TEXT, f"{tag} as declared in drive.yaml") for tag in ("weather", "zone", "region")),
        column("sensors", _TEXT, "roles of the recorded streams, by comma"),
        column("messages", _INT, "messages in the log"),
        column("frames", _INT, "rows of all clips"),
        column("clips", _INT, "number of clips"),
        *(
            column(f"{asset}_content", _TEXT, f"content digest of the {asset} that the row describes")
            for asset in ("raw_logs", "log_reports", "synced_shards")
        ),
        column("route_id", _TEXT, "start cell - end cell (H3, res 7) - digest of the cells between (res 8)"),
        column("h3_cells", pa.list_(_TEXT), "H3 cells of resolution 9 in the order of the first visit"),
        column("geometry_wkb", pa.binary(), "simplified LineString, longitude latitude (WGS 84), as WKB"),
        column("position_reason", _TEXT, "why positions are missing, or how many were dropped and why"),
        column("sun_elevation_end_deg", _FLOAT, f"{_SUN}, at the end"),
        column("sensor_health", _FLOAT, "0 to 1: the worst stream's rate, coverage, gaps and matches"),
        column("health_reason", _TEXT, "the worst stream and what it lacks"),
        column("p50_speed_mps", _FLOAT, "median speed"),
        column("p95_speed_mps", _FLOAT, "95th percentile of speed"),
        column("standing_share", _FLOAT, "share of known speeds at which the vehicle stands"),
        column("stops", _INT, "standstills after movement"),
    ]
)
STREAMS = pa.schema(
    [
        _DRIVE,
        column("role", _TEXT, "what the stream is called on every vehicle"),
        column("topic", _TEXT, "what it is called in the log"),
        column("kind", _TEXT, "camera, lidar, radar, imu, gnss, pose, can, signal or other"),
        column("messages", _INT, "messages in the log"),
        column("median_rate_hz", _FLOAT, "one over the median time between messages"),
        column("max_gap_s", _FLOAT, "longest time between messages"),
        column("residual_p95_ns", _INT, "95th percentile of the distance to the expected phase"),
        column("matched", _INT, "rows of the grid that have a sample of it"),
    ]
)
CLIPS = pa.schema(
    [
        _DRIVE,
        column("clip_id", _TEXT, "drive and number of the clip"),
        _START,
        _END,
        column("frames", _INT, "rows of the clip"),
        column("mean_speed_mps", _FLOAT, "mean speed where it is known"),
        column("camera_valid_share", _FLOAT, "share of rows, over all cameras, that have a picture"),
        column("latitude_deg", _FLOAT, "position in the middle of the clip"),
        column("longitude_deg", _FLOAT, "position in the middle of the clip"),
        column("h3_cell", _TEXT, "H3 cell of resolution 9 of that position"),
        column("sun_elevation_deg", _FLOAT, f"{_SUN}, in the middle of the clip"),
        column("light", _TEXT, f"in the middle of the clip, {_LIGHT}"),
        column("light_reason", _TEXT, "why light is unknown, or how old the position is"),
        column("p95_speed_mps", _FLOAT, "95th percentile of speed"),
        column("max_decel_mps2", _FLOAT, "strongest braking, >= 0"),
        column("sensor_health", _FLOAT, "0 to 1: the worst payload stream's share of expected frames"),
    ]
)
