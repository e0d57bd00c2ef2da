"""Clips as unit vectors of an image network, and the exact search among them.

A vector is bound to the model and preparation that made it; vectors of different makers are never compared.
Belongs here: making, storing and comparing clip vectors. Does not belong here: approximate indexes, text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import ModelError, RedactionError
from av_assets.domain.evidence.digests import sha256_file, sha256_json
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard
from av_assets.domain.search.efficientnet import FEATURES
from av_assets.domain.search.encoders import ImageEncoder
from av_assets.domain.search.keyframe_hashes import KeyframeHash, keyframe_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from av_assets.policies.embeddings import EmbeddingsPolicy

KEY: Final = ("clip_id", "camera", "model_digest", "preproc_digest")


def embedding_schema(dimension: int) -> pa.Schema:
    """Rows of `embeddings.parquet` with vectors of this length."""
    return pa.schema(
        [pa.field(name, pa.string(), nullable=False) for name in KEY]
        + [pa.field("embedding", pa.list_(pa.float32(), dimension), nullable=False)],
        metadata={b"schema_version": b"1"},
    )


@dataclass(frozen=True)
class ClipEmbedding:
    """One row: key (clip_id, camera, model_digest, preproc_digest) and a (D,) float32 unit vector; and the hashes of
    the keyframes that the vector was made from.
    """

    clip_id: str
    camera: str
    model_digest: str
    preproc_digest: str
    embedding: np.ndarray
    hashes: tuple[KeyframeHash, ...] = ()


@dataclass(frozen=True)
class EmbeddingSet:
    """Vectors of one maker. `vectors` is (N, D) float32, rows as `clip_ids` and `cameras`."""

    clip_ids: tuple[str, ...]
    cameras: tuple[str, ...]
    vectors: np.ndarray
    model_digest: str
    preproc_digest: str


class ClipEmbedder:
    """Redacted frames of one clip -> one unit vector, on the CPU.

    Raises:
        ModelError: the weights are missing, no ONNX model, or no image encoder.
    """

    def __init__(self, onnx_path: Path, policy: EmbeddingsPolicy) -> None:
        self._encoder = ImageEncoder(onnx_path, policy)
        self._keyframes = policy.keyframes
        self.dimension = self._encoder.dimension
        self.model_digest = sha256_file(onnx_path)
        prepared = self._encoder.preparation
        self.preproc_digest = sha256_json(
            {"resize": "area", "size": prepared.size, "keyframes": policy.keyframes, "mean": prepared.mean,
             "scale": prepared.scale, "pool": "mean of unit vectors"}
        )  # fmt: skip

    def embed(self, frames: Sequence[RedactedFrame]) -> np.ndarray:
        """(D,) float32: the mean of the frames' unit vectors, scaled to length 1.

        Raises:
            RedactionError: a picture that did not come out of redaction.
            ModelError: `no_frames`.
        """
        if not frames:
            raise ModelError("a clip without frames has no vector", code="no_frames")
        return self._mean([self._encoder.features(_pixels(frame)) for frame in frames])

    def _mean(self, features: Sequence[np.ndarray]) -> np.ndarray:
        # Made one at a time: a vector must not depend on which other frames shared its batch.
        return unit(unit(np.concatenate(features)).mean(axis=0))

    def embed_shard(self, clip_parquet: Path, camera_role: str) -> ClipEmbedding | None:
        """Vector and hashes of one clip file of synced shards; None if this camera gave no frame in it."""
        with pq.ParquetFile(clip_parquet) as source:
            if camera_role not in source.schema_arrow.names or not source.metadata.num_rows:
                return None
            table = source.read(columns=["clip_id", camera_role])
        frames = [f for f in frames_from_shard(table, camera_role) if f is not None]
        if not frames:
            return None
        (middle,) = keyframes(frames, 1)
        features, hashes = [], []
        for frame in keyframes(frames, self._keyframes):
            rgb = _pixels(frame)
            features.append(self._encoder.features(rgb))
            hashes.append(keyframe_hash(frame.sensor_ns, rgb, frame is middle))
        clip_id, vector = str(table["clip_id"][0].as_py()), self._mean(features)
        return ClipEmbedding(
            clip_id, camera_role, self.model_digest, self.preproc_digest, vector, tuple(hashes)
        )


def _pixels(frame: RedactedFrame) -> np.ndarray:
    if not isinstance(frame, RedactedFrame):
        raise RedactionError("only redacted frames are embedded", code="unredacted_frame")
    return frame.pixels()


def keyframes(frames: Sequence[RedactedFrame], count: int) -> list[RedactedFrame]:
    """`count` frames from the middles of equal stretches; all of them if there are fewer."""
    if len(frames) <= count:
        return list(frames)
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]


def write_embeddings(rows: Iterable[ClipEmbedding], path: Path, dimension: int = FEATURES) -> int:
    """Write rows sorted by clip and camera; gives their number. Same rows, same bytes.

    Args:
        dimension: length of the vectors, for a file that has none.
    """
    ordered = sorted(rows, key=lambda r: (r.clip_id, r.camera, r.model_digest, r.preproc_digest))
    vectors = np.stack([r.embedding for r in ordered]) if ordered else np.zeros((0, dimension))
    flat = pa.array(vectors.astype(np.float32).reshape(-1))
    columns = [pa.array([getattr(r, name) for r in ordered], pa.string()) for name in KEY]
    columns.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
    pq.write_table(pa.table(columns, schema=embedding_schema(vectors.shape[1])), path, compression="none")
    return len(ordered)


def read_embeddings(paths: Iterable[Path]) -> EmbeddingSet:
    """All vectors of the files.

    Raises:
        ModelError: `mixed_models`, they were not all made by one model and one preparation; `no_embeddings`.
    """
    tables = [table for path in paths if (table := pq.read_table(path)).num_rows]
    makers = {
        maker
        for table in tables
        for maker in zip(*(table[c].to_pylist() for c in ("model_digest", "preproc_digest")), strict=True)
    }
    if len(makers) != 1:
        code = "mixed_models" if makers else "no_embeddings"
        raise ModelError(f"vectors of {len(makers)} makers cannot be searched as one", code=code)
    model, preparation = makers.pop()
    table = pa.concat_tables(tables)
    clip_ids, cameras = (tuple(table[column].to_pylist()) for column in ("clip_id", "camera"))
    return EmbeddingSet(clip_ids, cameras, vectors_of(table["embedding"]), model, preparation)


def vectors_of(column: pa.ChunkedArray) -> np.ndarray:
    """A column of fixed-size lists -> (N, D) float32."""
    joined = column.combine_chunks()
    return np.asarray(joined.flatten()).reshape(-1, column.type.list_size)


def nearest(embeddings: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    """Exact cosine search: (N, D) unit rows, (D,) query -> best k of (row, similarity); ties by row."""
    if not len(embeddings) or k <= 0:
        return []
    similarity = embeddings @ unit(np.asarray(query, np.float32))
    best = np.argsort(-similarity, kind="stable")[:k]
    return [(int(row), float(similarity[row])) for row in best]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scaled to length 1 along the last axis; zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
