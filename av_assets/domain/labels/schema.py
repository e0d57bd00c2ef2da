"""The files of auto-label bundles: their columns, and writing them so that equal labels give equal bytes.

Belongs here: layout. Does not belong here: making or judging labels, files of people's labels (label_files).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CLASSES: Final = ("vehicle", "pedestrian", "cone")
LABELS_FILE, DRIVABLE_FILE, REPORT_FILE = "labels.parquet", "drivable.parquet", "report.json"
CUBOIDS_FILE, TRACKS_FILE, CANDIDATES_FILE = "cuboids.parquet", "tracks.parquet", "candidates.parquet"
SCORE_DIGITS: Final = 4
"""Decimal places of scores in all files."""
_VERSION: Final = {b"schema_version": b"2"}
AUTO_LABELS: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("ref_ns", pa.int64()),
        ("camera", pa.string()),
        ("label_id", pa.string()),
        ("cls", pa.string()),
        *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")),
        ("source", pa.string()),
        ("occlusion", pa.float32()),
        ("distance_m", pa.float32()),
        ("rule", pa.string()),
        ("labeller_digest", pa.string()),
        ("model_digest", pa.string()),
        ("frame_digest", pa.string()),
        ("state", pa.string()),
    ],
    metadata=_VERSION,
)
CUBOIDS: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("ref_ns", pa.int64()),
        ("label_id", pa.string()),
        ("cls", pa.string()),
        *(
            (name, pa.float32())
            for name in ("x_m", "y_m", "z_m", "length_m", "width_m", "height_m", "yaw_rad")
        ),
        *((name, pa.float32()) for name in ("vx_mps", "vy_mps", "score")),
        ("points", pa.int32()),
        ("rule", pa.string()),
        ("state", pa.string()),
        ("labeller_digest", pa.string()),
        ("model_digest", pa.string()),
        ("sweep_digest", pa.string()),
    ],
    metadata=_VERSION,
)
TRACKS: Final = pa.schema(
    [
        ("label_id", pa.string()),
        ("cls", pa.string()),
        ("first_ns", pa.int64()),
        ("last_ns", pa.int64()),
        *((name, pa.int32()) for name in ("frames", "observed", "bridged")),
        *((name, pa.float32()) for name in ("mean_score", "length_m", "width_m", "height_m")),
        *((name, pa.float32()) for name in ("speed_residual_mps", "size_spread", "reprojection_px")),
    ],
    metadata=_VERSION,
)
CANDIDATES: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("ref_ns", pa.int64()),
        ("camera", pa.string()),
        ("track", pa.int64()),
        ("cls", pa.string()),
        *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "score")),
        ("rule", pa.string()),
        ("slice", pa.string()),
        ("distance_m", pa.float32()),
        ("sources", pa.string()),
    ],
    metadata=_VERSION,
)
DRIVABLE: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("ref_ns", pa.int64()),
        ("camera", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mask", pa.binary()),
        ("score", pa.float32()),
    ],
    metadata=_VERSION,
)


def write_bundle(
    out_dir: Path, tables: Mapping[str, Sequence[dict[str, Any]]], report: dict[str, Any]
) -> None:
    """Write all files of an auto-label bundle; `tables` gives rows by file name, missing ones are empty.

    Rows are sorted by time, then by all that names them.
    """
    for name, (schema, key) in _FILES.items():
        rows = sorted(tables.get(name, ()), key=lambda r: tuple(r[column] for column in key))
        # PNG does not compress again.
        how = "none" if name == DRIVABLE_FILE else "zstd"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), out_dir / name, compression=how)
    text = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (out_dir / REPORT_FILE).write_text(text + "\n", "utf-8")


_FILES: Final = {
    LABELS_FILE: (AUTO_LABELS, ("ref_ns", "camera", "label_id")),
    CUBOIDS_FILE: (CUBOIDS, ("ref_ns", "label_id")),
    TRACKS_FILE: (TRACKS, ("label_id",)),
    CANDIDATES_FILE: (CANDIDATES, ("ref_ns", "camera", "track")),
    DRIVABLE_FILE: (DRIVABLE, ("ref_ns", "camera")),
}
