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
from av_assets.domain.privacy.sessions import open_session
from av_assets.domain.search.efficientnet import FEATURES, INPUT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from av_assets.policies.embeddings import EmbeddingsPolicy

EMBEDDING_SCHEMA: Final = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("clip_id", "camera", "model_digest", "preproc_digest")
    ]
    + [pa.field("embedding", pa.list_(pa.float32(), FEATURES), nullable=False)],
    metadata={b"schema_version": b"1"},
)


@dataclass(frozen=True)
class ClipEmbedding:
    """One row: key (clip_id, camera, model_digest, preproc_digest) and a (1280,) float32 unit vector."""

    clip_id: str
    camera: str
    model_digest: str
    preproc_digest: str
    embedding: np.ndarray


@dataclass(frozen=True)
class EmbeddingSet:
    """Vectors of one maker. `vectors` is (N, 1280) float32, rows as `clip_ids` and `cameras`."""

    clip_ids: tuple[str, ...]
    cameras: tuple[str, ...]
    vectors: np.ndarray
    model_digest: str
    preproc_digest: str


class ClipEmbedder:
    """Redacted frames of one clip -> one unit vector, on the CPU.

    Raises:
        ModelError: the weights are missing or no ONNX model.
    """

    def __init__(self, onnx_path: Path, policy: EmbeddingsPolicy) -> None:
        self._session = open_session(onnx_path, policy.threads)
        self._policy = policy
        self.model_digest = sha256_file(onnx_path)
        self.preproc_digest = sha256_json(
            {"resize": "area", "size": INPUT_SIZE, "keyframes": policy.keyframes, "mean": policy.mean,
             "scale": policy.scale, "pool": "mean of unit vectors"}
        )  # fmt: skip

    def embed(self, frames: Sequence[RedactedFrame]) -> np.ndarray:
        """(1280,) float32: the mean of the frames' unit vectors, scaled to length 1.

        Raises:
            RedactionError: a picture that did not come out of redaction.
            ModelError: `no_frames`.
        """
        if not frames:
            raise ModelError("a clip without frames has no vector", code="no_frames")
        # One at a time: a vector must not depend on which other frames shared its batch.
        vectors = np.concatenate([self._features(frame) for frame in frames])
        return _unit(_unit(vectors).mean(axis=0))

    def _features(self, frame: RedactedFrame) -> np.ndarray:
        import cv2

        if not isinstance(frame, RedactedFrame):
            raise RedactionError("only redacted frames are embedded", code="unredacted_frame")
        picture = cv2.resize(frame.pixels(), (INPUT_SIZE, INPUT_SIZE), interpolation=cv2.INTER_AREA)
        planes = (picture.astype(np.float32) - self._policy.mean) / self._policy.scale
        image = np.ascontiguousarray(planes.transpose(2, 0, 1))[None].astype(np.float32)
        return np.asarray(self._session.run(["embedding"], {"image": image})[0])

    def embed_shard(self, clip_parquet: Path, camera_role: str) -> ClipEmbedding | None:
        """The vector of one clip file of synced shards; None if this camera gave no frame in it."""
        with pq.ParquetFile(clip_parquet) as source:
            if camera_role not in source.schema_arrow.names or not source.metadata.num_rows:
                return None
            table = source.read(columns=["clip_id", camera_role])
        frames = [f for f in frames_from_shard(table, camera_role) if f is not None]
        if not frames:
            return None
        vector = self.embed(keyframes(frames, self._policy.keyframes))
        clip_id = str(table["clip_id"][0].as_py())
        return ClipEmbedding(clip_id, camera_role, self.model_digest, self.preproc_digest, vector)


def keyframes(frames: Sequence[RedactedFrame], count: int) -> list[RedactedFrame]:
    """`count` frames from the middles of equal stretches; all of them if there are fewer."""
    if len(frames) <= count:
        return list(frames)
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]


def write_embeddings(rows: Iterable[ClipEmbedding], path: Path) -> int:
    """Write rows sorted by clip and camera; gives their number. Same rows, same bytes."""
    ordered = sorted(rows, key=lambda r: (r.clip_id, r.camera, r.model_digest, r.preproc_digest))
    vectors = np.stack([r.embedding for r in ordered]) if ordered else np.zeros((0, FEATURES))
    flat = pa.array(vectors.astype(np.float32).reshape(-1))
    columns = [pa.array([getattr(r, f.name) for r in ordered], f.type) for f in list(EMBEDDING_SCHEMA)[:-1]]
    columns.append(pa.FixedSizeListArray.from_arrays(flat, FEATURES))
    pq.write_table(pa.table(columns, schema=EMBEDDING_SCHEMA), path, compression="none")
    return len(ordered)


def read_embeddings(paths: Iterable[Path]) -> EmbeddingSet:
    """All vectors of the files.

    Raises:
        ModelError: `mixed_models`, they were not all made by one model and one preparation; `no_embeddings`.
    """
    tables = [pq.read_table(path) for path in paths]
    table = pa.concat_tables(tables) if tables else pa.table([[]] * 5, schema=EMBEDDING_SCHEMA)
    makers = set(zip(table["model_digest"].to_pylist(), table["preproc_digest"].to_pylist(), strict=True))
    if len(makers) != 1:
        code = "mixed_models" if makers else "no_embeddings"
        raise ModelError(f"vectors of {len(makers)} makers cannot be searched as one", code=code)
    model, preparation = makers.pop()
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    clip_ids, cameras = (tuple(table[column].to_pylist()) for column in ("clip_id", "camera"))
    return EmbeddingSet(clip_ids, cameras, flat.reshape(-1, FEATURES), model, preparation)


def nearest(embeddings: np.ndarray, query: np.ndarray, k: int) -> list[tuple[int, float]]:
    """Exact cosine search: (N, D) unit rows, (D,) query -> best k of (row, similarity); ties by row."""
    if not len(embeddings) or k <= 0:
        return []
    similarity = embeddings @ _unit(np.asarray(query, np.float32))
    best = np.argsort(-similarity, kind="stable")[:k]
    return [(int(row), float(similarity[row])) for row in best]


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
