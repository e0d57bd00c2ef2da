"""The columns of every file that human labelling writes, and writing them so that equal rows give equal bytes.

Belongs here: layout. Does not belong here: what the rows say, the files of auto-labels (schema).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.labels.schema import CUBOIDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_VERSION: Final = {b"schema_version": b"1"}
_TEXT, _LONG, _REAL = pa.string(), pa.int64(), pa.float64()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()), metadata=_VERSION)


TASKS: Final = _schema(
    task_id=_TEXT,
    clip_id=_TEXT,
    ref_ns=_LONG,
    camera=_TEXT,
    camera_ns=_LONG,
    width=pa.int32(),
    height=pa.int32(),
    frame_digest=_TEXT,
    stratum=_TEXT,
    priority=_REAL,
    uncertainty=_REAL,
    rarity=_REAL,
    mistakenness=_REAL,
    annotations_wanted=pa.int8(),
    gold=pa.bool_(),
)
SUBMISSIONS: Final = _schema(
    submission_id=_TEXT,
    task_id=_TEXT,
    annotator=_TEXT,
    role=_TEXT,
    seconds=_REAL,
    boxes=pa.int32(),
    origin=_TEXT,
)
BOXES: Final = _schema(
    submission_id=_TEXT,
    task_id=_TEXT,
    row=pa.int32(),
    cls=_TEXT,
    x1=_REAL,
    y1=_REAL,
    x2=_REAL,
    y2=_REAL,
    label_id=_TEXT,
    occlusion=_REAL,
    distance_m=_REAL,
    object_id=_LONG,
)
REJECTED: Final = _schema(
    origin=_TEXT,
    submission=pa.int32(),
    row=pa.int32(),
    task_id=_TEXT,
    annotator=_TEXT,
    constraint=_TEXT,
    value=_TEXT,
)
AUDIT: Final = _schema(
    task_id=_TEXT,
    step=pa.int32(),
    state_from=_TEXT,
    state_to=_TEXT,
    by=_TEXT,
    role=_TEXT,
    reason=_TEXT,
    seconds=_REAL,
)
FRAMES: Final = _schema(
    task_id=_TEXT,
    clip_id=_TEXT,
    ref_ns=_LONG,
    camera=_TEXT,
    state=_TEXT,
    stratum=_TEXT,
    annotators=_TEXT,
    agreement=_REAL,
    seconds=_REAL,
    gold=pa.bool_(),
)
FRAME_MEANINGS: Final = {
    "drive": "drive id",
    "task_id": "drive, camera and reference stamp of the frame",
    "clip_id": "clip that holds the frame",
    "ref_ns": "reference stamp, nanoseconds since the Unix epoch",
    "camera": "camera role",
    "state": "queued, in_review, adjudication, final or rework",
    "stratum": "why it is asked as often as it is: safety, sample, acceptance or review",
    "annotators": "people whose work stands, joined by +",
    "agreement": "share of its objects that the first two independent people drew alike; null where there were not two",
    "seconds": "that people spent on it",
    "gold": "whether its answer was known, hidden from people",
}
_SMALL = pa.float32()
VERIFIED_LABELS: Final = _schema(
    clip_id=_TEXT,
    ref_ns=_LONG,
    camera=_TEXT,
    label_id=_TEXT,
    cls=_TEXT,
    x1=_SMALL,
    y1=_SMALL,
    x2=_SMALL,
    y2=_SMALL,
    score=_SMALL,
    source=_TEXT,
    occlusion=_SMALL,
    distance_m=_SMALL,
    annotator=_TEXT,
    status=_TEXT,
    labeller_digest=_TEXT,
    task_id=_TEXT,
    rule=_TEXT,
)
VERIFIED_CUBOIDS: Final = CUBOIDS.append(pa.field("task_id", _TEXT)).with_metadata(_VERSION)
"""Columns of auto cuboids; class and label id are those that people gave, `task_id` names the frame."""


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write `rows` in their order."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf-8")
