"""Hashes of the frames that embedding decodes anyway: what looks alike is found later without decoding again.

Belongs here: the rows of `hashes.parquet` of clip_embeddings, made, written and read. Does not belong here: the hash
itself (mining/dhash), what counts as alike.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.mining.dhash import dhash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

HASHES_FILE: Final = "hashes.parquet"
HASHES: Final = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("camera", pa.string(), nullable=False),
        pa.field("shard_sha256", pa.string(), nullable=False),
        pa.field("asked", pa.int32(), nullable=False),
        pa.field("keyframe", pa.int32(), nullable=False),
        pa.field("sensor_ns", pa.int64(), nullable=False),
        pa.field("dhash", pa.uint64(), nullable=False),
        pa.field("picture_sha256", pa.string()),
    ],
    metadata={b"schema_version": b"1"},
)


class KeyframeHash(NamedTuple):
    """One keyframe: its 64-bit difference hash; the sha256 of its RGB pixels where it is the clip's middle frame."""

    sensor_ns: int
    dhash: int
    picture_sha256: str | None


def keyframe_hash(sensor_ns: int, rgb: NDArray[np.uint8], middle: bool) -> KeyframeHash:
    """Of the (H, W, 3) RGB of a redacted frame."""
    return KeyframeHash(sensor_ns, dhash(rgb), sha256_bytes(rgb.tobytes()) if middle else None)


def hash_rows(
    clip: str, camera: str, shard_sha256: str, asked: int, hashes: Iterable[KeyframeHash]
) -> list[dict[str, Any]]:
    """Rows of one clip and camera, in the order of its keyframes.

    Args:
        shard_sha256: digest of the clip's file: hashes speak of that file alone.
        asked: how many keyframes the clip was to give; one with fewer frames gave all of them.
    """
    return [
        {"clip_id": clip, "camera": camera, "shard_sha256": shard_sha256, "asked": asked, "keyframe": number,
         **one._asdict()}
        for number, one in enumerate(hashes)
    ]  # fmt: skip


def write_hashes(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows sorted by clip, camera and keyframe."""
    ordered = sorted(rows, key=lambda r: (r["clip_id"], r["camera"], r["keyframe"]))
    pq.write_table(pa.Table.from_pylist(ordered, schema=HASHES), path)


def middle_hashes(hashes: pa.Table, camera: str) -> dict[str, KeyframeHash]:
    """sha256 of a clip's file -> hash of the middle frame of `camera`; none where that frame was no keyframe."""
    return {
        row["shard_sha256"]: KeyframeHash(row["sensor_ns"], row["dhash"], row["picture_sha256"])
        for row in hashes.to_pylist()
        if row["camera"] == camera and row["picture_sha256"] is not None
    }


def keyframe_hashes(hashes: pa.Table, camera: str, count: int) -> dict[str, list[int]]:
    """sha256 of a clip's file -> difference hashes of its keyframes, in order, where `count` of them were asked for."""
    found: dict[str, list[int]] = defaultdict(list)
    for row in hashes.to_pylist():
        if row["camera"] == camera and row["asked"] == count:
            found[row["shard_sha256"]].append(row["dhash"])
    return dict(found)
