"""One row per labelled frame with what the platform knows of it: what slices are cut by and datasets index.

Belongs here: joining, and the closed list of columns. Does not belong here: reading tables from a lake, predicates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from av_assets.domain.mining.columns import COLUMNS as CLIP_COLUMNS
from av_assets.domain.mining.columns import clip_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.datasets.predicates import Kind

LABELS: Final = {
    **dict.fromkeys(("clip_id", "camera", "cls"), pa.string()),
    "ref_ns": pa.int64(),
    **dict.fromkeys(("occlusion", "distance_m"), pa.float64()),
}
FRAMES: Final = {
    **dict.fromkeys(("drive", "clip_id", "camera", "stratum"), pa.string()),
    "ref_ns": pa.int64(),
}
ROWS: Final = {"clip_id": pa.string(), "ref_ns": pa.int64()}
INDEX: Final = pa.schema(
    [
        pa.field("drive", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("ref_ns", pa.int64(), nullable=False),
        pa.field("camera", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("shard_sha256", pa.string(), nullable=False),
        pa.field("row", pa.int32()),
        pa.field("boxes", pa.int32(), nullable=False),
        pa.field("slices", pa.list_(pa.string()), nullable=False),
    ],
    metadata={b"schema_version": b"1"},
)
"""Rows of `index.parquet`: `shard` is a file of the dataset, `row` the frame's row in it (null: not known)."""

_NOT_HERE: Final = ("events", "event_level", "road_users")  # of clips; nothing here gives them


def frame_columns(classes: Sequence[str]) -> dict[str, Kind]:
    """Column -> kind of everything that a predicate over frames may name.

    `boxes_<class>` counts verified boxes of the frame, `occluded_<class>` those that are hidden by at least the share
    of the policy, `nearest_m` is the least distance of a box; the others are those of the frame's clip, as in mining.
    """
    found: dict[str, Kind] = {n: k for n, k in CLIP_COLUMNS.items() if n not in _NOT_HERE}
    found |= {
        "camera": "text",
        "stratum": "text",
        "ref_ns": "number",
        "boxes": "number",
        "nearest_m": "number",
    }
    return found | {f"{what}_{cls}": "number" for cls in classes for what in ("boxes", "occluded")}


def frame_rows(
    frames: pa.Table,
    labels: pa.Table,
    rows: pa.Table,
    context: Mapping[str, pa.Table | None],
    classes: Sequence[str],
    occluded_from: float,
) -> pa.Table:
    """One row per labelled frame, with `frame_columns` and `row`, by drive, time and clip.

    Args:
        frames: FRAMES, those that are labelled for good.
        labels: LABELS of all drives; boxes of other frames are not counted.
        rows: ROWS of all synchronized frames, which give the row of a frame in its clip.
        context: tables clips, drives, clip_context and scenes as in the lake; one that is missing reads as null.
    """
    import duckdb

    with duckdb.connect(config={"enable_external_access": False}) as connection:
        connection.register("frames", frames)
        connection.register("labels", labels)
        connection.register("every", rows)
        connection.register("known", clip_rows(context).drop_columns(list(_NOT_HERE)))
        counted = ", ".join(_counts(number, cls) for number, cls in enumerate(classes))
        named = {f"class{number}": cls for number, cls in enumerate(classes)}
        sql = _SQL.format(counted=counted, filled=", ".join(_filled(cls) for cls in classes))
        return connection.sql(sql, params={**named, "occluded": occluded_from}).to_arrow_table()


def index_rows(
    frames: pa.Table, splits: Mapping[str, str], shards: Mapping[str, str], slices: Sequence[Sequence[str]]
) -> pa.Table:
    """INDEX of frames.

    Args:
        shards: clip id -> sha256 of its file.
        slices: names of the slices of each frame.
    """
    drives, clips = frames["drive"].to_pylist(), frames["clip_id"].to_pylist()
    columns: dict[str, Any] = {
        name: frames[name] for name in ("drive", "clip_id", "ref_ns", "camera", "row", "boxes")
    }
    columns["split"] = [splits[drive] for drive in drives]
    columns["shard"] = [shard_path(clip) for clip in clips]
    columns["shard_sha256"] = [shards[clip] for clip in clips]
    columns["slices"] = pa.array([list(names) for names in slices], pa.list_(pa.string()))
    return pa.table([_cast(columns[f.name], f.type) for f in INDEX], schema=INDEX)


def shard_path(clip_id: str) -> str:
    """The file of a clip within a frozen dataset."""
    drive, _, number = clip_id.rpartition("/")
    return f"drives/{drive}/clips/{number}.parquet"


def padded(table: pa.Table, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """`table` with exactly these columns; those that it has not are null."""
    held = set(table.column_names)
    return pa.table(
        {
            name: table[name].cast(kind) if name in held else pa.nulls(table.num_rows, kind)
            for name, kind in columns.items()
        }
    )


def _cast(values: Any, kind: pa.DataType) -> Any:
    return values.cast(kind) if isinstance(values, (pa.ChunkedArray, pa.Array)) else pa.array(values, kind)


def _counts(number: int, cls: str) -> str:
    mine = f"cls = $class{number}"
    return (
        f'count(*) FILTER ({mine}) AS "boxes_{cls}", '
        f'count(*) FILTER ({mine} AND occlusion >= $occluded) AS "occluded_{cls}"'
    )


def _filled(cls: str) -> str:
    return ", ".join(f'coalesce(b."{w}_{cls}", 0)::INTEGER AS "{w}_{cls}"' for w in ("boxes", "occluded"))


_SQL: Final = """
WITH counted AS (
    SELECT clip_id, ref_ns, camera, count(*) AS boxes, min(distance_m) AS nearest_m, {counted}
    FROM labels GROUP BY clip_id, ref_ns, camera),
placed AS (
    SELECT clip_id, ref_ns, row_number() OVER (PARTITION BY clip_id ORDER BY ref_ns) - 1 AS row FROM every)
SELECT f.drive, f.clip_id, f.camera, f.ref_ns, f.stratum, p.row::INTEGER AS row, coalesce(b.boxes, 0)::INTEGER AS boxes,
    b.nearest_m, {filled}, k.* EXCLUDE (drive, clip_id, frames)
FROM frames f
    LEFT JOIN counted b ON b.clip_id = f.clip_id AND b.ref_ns = f.ref_ns AND b.camera = f.camera
    LEFT JOIN placed p ON p.clip_id = f.clip_id AND p.ref_ns = f.ref_ns
    LEFT JOIN known k ON k.clip_id = f.clip_id
ORDER BY f.drive, f.ref_ns, f.clip_id"""
