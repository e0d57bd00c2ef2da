"""What a model says of every frame of a shard, as a table without pixels.

Belongs here: the columns, from a network's arrays to rows, writing and reading them. Does not belong here: running it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from av_assets.domain.errors import EvidenceError
from av_assets.domain.mining.ranking import uncertainty

SCHEMA: Final = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("ref_ns", pa.int64(), nullable=False),
        pa.field("camera", pa.string(), nullable=False),
        pa.field("width", pa.int32()),  # px of the picture that boxes are in
        pa.field("height", pa.int32()),
        pa.field("boxes", pa.list_(pa.float32())),  # x1 y1 x2 y2 of all boxes, best first
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("classes", pa.list_(pa.int32())),  # places in the ledger's list of classes
        pa.field(
            "boxes3d", pa.list_(pa.float32())
        ),  # x y z l w h yaw vx vy, ego frame; null without such a head
        pa.field("scores3d", pa.list_(pa.float32())),
        pa.field("classes3d", pa.list_(pa.int32())),
        pa.field("uncertainty", pa.float32()),  # bits; null without a box
        pa.field("reason", pa.string()),  # why nothing was predicted; null where something was
    ],
    metadata={b"schema_version": b"1"},
)
OUTPUTS: Final = ("boxes", "scores", "classes")
OUTPUTS_3D: Final = ("boxes3d", "scores3d", "classes3d")
NO_PICTURE: Final = "no_picture"
Row = dict[str, Any]


def prediction_row(
    out: Mapping[str, NDArray[Any]],
    index: int,
    size: tuple[int, int],
    input_size: tuple[int, int],
    floor: float,
    doubt: tuple[int, float],
) -> Row:
    """The part of a row that the network gives.

    Args:
        out: its named outputs, of which row `index` is taken.
        size, input_size: width and height in px of the camera's picture, and of the network's.
        floor: detections with a lower score are left out.
        doubt: how many boxes make the uncertainty, and from which score on.
    """
    keep = out["scores"][index] >= floor
    scores = out["scores"][index][keep]
    scale = np.array([size[0] / input_size[0], size[1] / input_size[1]] * 2, np.float32)
    worst, least = doubt
    row: Row = {
        "width": size[0],
        "height": size[1],
        "boxes": (out["boxes"][index][keep] * scale).astype(np.float32).ravel(),
        "scores": scores,
        "classes": out["classes"][index][keep].astype(np.int32),
        "uncertainty": uncertainty(scores[scores >= least].tolist(), worst, "entropy"),
    }
    if all(name in out for name in OUTPUTS_3D):
        keep = out["scores3d"][index] >= floor
        row["boxes3d"] = out["boxes3d"][index][keep].astype(np.float32).ravel()
        row["scores3d"] = out["scores3d"][index][keep]
        row["classes3d"] = out["classes3d"][index][keep].astype(np.int32)
    return row


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Equal rows give equal bytes."""
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in SCHEMA]
    pq.write_table(pa.table(columns, schema=SCHEMA), path, compression="zstd", compression_level=3)


def read_rows(data: pa.BufferReader | Path, file: str) -> list[Row]:
    """The rows of a file of predictions.

    Raises:
        EvidenceError: bad_predictions, it is no such table.
    """
    try:
        table = pq.read_table(data)
        return list(table.select(SCHEMA.names).cast(SCHEMA).to_pylist())
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise EvidenceError(f"no predictions: {error}", code="bad_predictions", file=file) from error


def span_s(times_ns: Sequence[int]) -> float:
    """Seconds of driving that rows stand for: from the first to the last, and one median step for the last."""
    if len(times_ns) < 2:
        return 0.0
    steps = np.diff(np.sort(np.asarray(times_ns, np.int64)))
    return float((steps.sum() + np.median(steps)) / 1e9)
