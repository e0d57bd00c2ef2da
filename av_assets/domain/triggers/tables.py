"""Columns of the tables that a back-test gives. Belongs here: schemas. Does not belong here: their rows."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_MEASURES: Final = [
    field
    for side in ("active", "proposed")
    for field in (
        (f"{side}_alerts", pa.int64()),
        (f"{side}_unjudged", pa.int64()),
        *(
            (f"{side}_{measure}{end}", pa.float64())
            for measure in ("per_h", "recall", "precision")
            for end in ("", "_low", "_high")
        ),
    )
]
KIND_SCHEMA: Final = pa.schema(
    [
        ("policy", pa.string()),
        ("kind", pa.string()),
        ("hours", pa.float64()),
        ("judged_true", pa.int64()),
        ("judged_false", pa.int64()),
        *_MEASURES,
    ]
)
CHANGE_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("policy", "change", "drive", "kind")),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("active_level", pa.int32()),
        ("proposed_level", pa.int32()),
        ("h3_cell", pa.string()),
        ("verdict", pa.bool_()),
    ]
)
CELL_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("policy", "h3_cell", "kind")),
        ("active", pa.int64()),
        ("proposed", pa.int64()),
    ]
)
