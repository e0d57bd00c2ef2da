"""Features of one drive that drift is judged on: brightness, contrast, what was detected, what the clip
looks like.

Belongs here: measuring. Does not belong here: bins, comparison. Pictures are read through RedactedFrame
only and decoded at an eighth of their size, which is what a mean brightness needs.
"""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.policies.drift import DriftPolicy

CAMERA = "camera_front"
SMALL_PX = (80, 48)
OBJECT_CLASSES = ("vehicle", "pedestrian", "cone")
SCHEMA = pa.schema(
    [
        ("drive", pa.string()),
        ("clip_id", pa.string()),
        ("ref_ns", pa.int64()),
        ("brightness_mean", pa.float64()),
        ("contrast", pa.float64()),
        ("sharpness", pa.float64()),
        *((f"{cls}_count", pa.float64()) for cls in OBJECT_CLASSES),
        ("box_height_median_px", pa.float64()),
        ("embedding", pa.list_(pa.float32())),
    ]
)


def drive_features(
    clips: Sequence[Path],
    policy: DriftPolicy,
    labels: Path | None = None,
    embeddings: Path | None = None,
    camera: str = CAMERA,
) -> pa.Table:
    """One row per measured frame of a drive; columns as SCHEMA.

    Args:
        clips: clip files of synced_shards.
        labels: `labels.parquet` (clip_id, ref_ns, cls, y1, y2) of detections or labels; without it counts
        are null.
            A frame without boxes counts 0. Frames are taken where labels were made when every k-th is
            labelled.
        embeddings: `embeddings.parquet` (clip_id, embedding); without it the column is null.

    Rows are those of every k-th frame (policy); a frame without picture has null picture features.
    """
    boxes = _boxes(labels)
    vectors = _vectors(embeddings, camera)
    rows: list[dict[str, Any]] = []
    for path in sorted(clips):
        rows += _clip_rows(path, policy.every_kth_frame, camera, boxes, vectors)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _clip_rows(
    path: Path,
    every: int,
    camera: str,
    boxes: Mapping[tuple[str, int], list[tuple[str, float]]] | None,
    vectors: Mapping[str, list[float]],
) -> list[dict[str, Any]]:
    names = pq.read_schema(path).names
    wanted = ["clip_id", "frame_index", "ref_ns", *([camera] if camera in names else [])]
    table = pq.read_table(path, columns=wanted)
    table = table.filter(pa.array(table["frame_index"].to_numpy() % every == 0))
    frames = list(frames_from_shard(table, camera)) if camera in names else [None] * table.num_rows
    rows = []
    keys = zip(table["clip_id"].to_pylist(), table["ref_ns"].to_pylist(), strict=True)
    for (clip_id, ref_ns), frame in zip(keys, frames, strict=True):
        row: dict[str, Any] = {"drive": clip_id.rsplit("/", 1)[0], "clip_id": clip_id, "ref_ns": ref_ns}
        row |= _picture(frame) if frame is not None else {}
        row |= _counts(boxes.get((clip_id, ref_ns), [])) if boxes is not None else {}
        rows.append({**row, "embedding": vectors.get(clip_id)})
    return rows


def _picture(frame: RedactedFrame) -> dict[str, float | None]:
    """Mean and standard deviation of luma (0..255) and mean absolute horizontal step of a small grey
    picture.
    """
    from PIL import Image

    try:
        with Image.open(BytesIO(frame.data)) as image:
            image.draft("L", SMALL_PX)  # JPEG: decodes 1/8 of the pixels straight from the DCT
            grey = np.asarray(image.convert("L").resize(SMALL_PX), dtype=np.float64)
    except OSError:
        return {}
    steps = np.abs(np.diff(grey, axis=1))
    return {
        "brightness_mean": float(grey.mean()),
        "contrast": float(grey.std()),
        "sharpness": float(steps.mean()),
    }


def _boxes(labels: Path | None) -> dict[tuple[str, int], list[tuple[str, float]]] | None:
    if labels is None:
        return None
    found: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for row in pq.read_table(labels, columns=["clip_id", "ref_ns", "cls", "y1", "y2"]).to_pylist():
        found.setdefault((row["clip_id"], row["ref_ns"]), []).append((row["cls"], row["y2"] - row["y1"]))
    return found


def _counts(boxes: Sequence[tuple[str, float]]) -> dict[str, float | None]:
    count = Counter(cls for cls, _ in boxes)
    heights = [height for _, height in boxes]
    median = float(np.median(heights)) if heights else None
    return {f"{c}_count": float(count[c]) for c in OBJECT_CLASSES} | {"box_height_median_px": median}


def _vectors(embeddings: Path | None, camera: str) -> dict[str, list[float]]:
    if embeddings is None:
        return {}
    table = pq.read_table(embeddings, columns=["clip_id", "camera", "embedding"])
    return {r["clip_id"]: r["embedding"] for r in table.to_pylist() if r["camera"] == camera}
