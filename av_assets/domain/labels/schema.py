"""The files of label bundles: their columns, and writing them so that equal labels give equal bytes.

Belongs here: layout. Does not belong here: making or judging labels.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLASSES: Final = ("vehicle", "pedestrian", "cone")
LABELS_FILE, DRIVABLE_FILE, REPORT_FILE = "labels.parquet", "drivable.parquet", "report.json"
_VERSION: Final = {b"schema_version": b"1"}
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
    ],
    metadata=_VERSION,
)
VERIFIED_LABELS: Final = pa.schema(
    [*AUTO_LABELS, ("annotator", pa.string()), ("status", pa.string()), ("labeller_digest", pa.string())],
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


def write_labels(
    out_dir: Path,
    labels: Sequence[dict[str, Any]],
    drivable: Sequence[dict[str, Any]],
    report: dict[str, Any],
    schema: pa.Schema,
) -> None:
    """Write the three files of a label bundle; rows sorted by time, camera and label."""
    rows = sorted(labels, key=lambda r: (r["ref_ns"], r["camera"], r["label_id"], r["x1"]))
    masks = sorted(drivable, key=lambda r: (r["ref_ns"], r["camera"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out_dir / LABELS_FILE, compression="zstd")
    # PNG does not compress again.
    pq.write_table(pa.Table.from_pylist(masks, schema=DRIVABLE), out_dir / DRIVABLE_FILE, compression="none")
    text = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (out_dir / REPORT_FILE).write_text(text + "\n", "utf-8")
