from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.errors import ModelError, RedactionError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.mining.dhash import frame_hash
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard
from av_assets.domain.search.efficientnet import FEATURES, embedding_onnx
from av_assets.domain.search.embedding import (
    ClipEmbedder,
    ClipEmbedding,
    keyframes,
    nearest,
    read_embeddings,
    write_embeddings,
)
from av_assets.domain.search.keyframe_hashes import (
    hash_rows,
    keyframe_hashes,
    middle_hashes,
    write_hashes,
)
from av_assets.policies.embeddings import EmbeddingsPolicy

Shard = Callable[..., Path]


@pytest.fixture(scope="session")
def embedder(weights: Path) -> ClipEmbedder:
    return ClipEmbedder(weights / "embedding.onnx", EmbeddingsPolicy.load())


def scene(hue: int, shift: int = 0) -> np.ndarray:
    rgb = np.full((96, 160, 3), hue, np.uint8)
    cv2.circle(rgb, (50 + shift, 48), 30, (255 - hue, 80, hue // 2), -1)
    return rgb


def shard(path: Path, pictures: list[np.ndarray | None], clip_id: str = "veh001/00000") -> Path:
    cells = []
    for index, rgb in enumerate(pictures):
        data = None if rgb is None else bytes(cv2.imencode(".jpg", rgb[..., ::-1])[1])
        cells.append({"data": data, "encoding": "jpeg", "sensor_ns": index, "valid": rgb is not None})
    clip = pa.table({"clip_id": [clip_id] * len(cells), "camera_front": cells})
    pq.write_table(clip.replace_schema_metadata({"redacted": "true"}), path)
    return path


def frames_of(path: Path) -> list[RedactedFrame]:
    return [f for f in frames_from_shard(pq.read_table(path), "camera_front") if f is not None]


def rows(count: int, model: str = "a") -> list[ClipEmbedding]:
    vectors = np.random.default_rng(0).normal(size=(count, FEATURES))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [ClipEmbedding(f"d/{i:05d}", "camera_front", model, "p", v) for i, v in enumerate(vectors)]


def test_clip_is_a_unit_vector_and_the_same_twice(embedder: ClipEmbedder, tmp_path: Path):
    path = shard(tmp_path / "0.parquet", [None, *(scene(90, i) for i in range(8))])
    first, second = (embedder.embed_shard(path, "camera_front") for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.clip_id == "veh001/00000"
    assert first.embedding.shape == (FEATURES,)
    assert np.linalg.norm(first.embedding) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(first.embedding, second.embedding)


def test_near_duplicate_is_nearer_than_another_scene(embedder: ClipEmbedder, tmp_path: Path):
    pictures = [scene(90), scene(220, 40), scene(20, 10)]
    vectors = []
    for index, rgb in enumerate([*pictures, scene(90, 2)]):
        found = embedder.embed_shard(shard(tmp_path / f"{index}.parquet", [rgb]), "camera_front")
        assert found is not None
        vectors.append(found.embedding)
    best = nearest(np.stack(vectors[:3]), vectors[3], 3)
    assert best[0][0] == 0
    assert best[0][1] > best[1][1] + 0.02


@pytest.mark.parametrize(
    ("frames", "asked", "middle"), [(9, 3, 4), (8, 3, 4), (2, 3, 1), (1, 3, 0), (8, 2, None)]
)
def test_hashes_are_those_of_the_frames_that_were_embedded(
    weights: Path, tmp_path: Path, frames: int, asked: int, middle: int | None
):
    """Frames without a picture count for nothing; where the middle frame was not decoded, nothing is said of it."""
    policy = EmbeddingsPolicy.load().model_copy(update={"keyframes": asked})
    path = shard(tmp_path / "0.parquet", [None, *(scene(20 * i, 5 * i) for i in range(frames))])
    found = ClipEmbedder(weights / "embedding.onnx", policy).embed_shard(path, "camera_front")
    assert found is not None
    seen = frames_of(path)
    write_hashes(
        hash_rows(found.clip_id, "camera_front", "f" * 64, asked, found.hashes), tmp_path / "h.parquet"
    )
    table = pq.read_table(tmp_path / "h.parquet")
    wanted = {"f" * 64: [frame_hash(f) for f in keyframes(seen, asked)]}
    assert keyframe_hashes(table, "camera_front", asked) == wanted
    assert (
        keyframe_hashes(table, "camera_front", asked + 1)
        == keyframe_hashes(table, "camera_rear", asked)
        == {}
    )
    noted = middle_hashes(table, "camera_front")
    assert list(noted) == ([] if middle is None else ["f" * 64])
    for one in noted.values():
        assert middle is not None
        frame = seen[middle]
        assert one == (frame.sensor_ns, frame_hash(frame), sha256_bytes(frame.pixels().tobytes()))


def test_clip_without_the_camera_has_no_vector(embedder: ClipEmbedder, tmp_path: Path):
    assert embedder.embed_shard(shard(tmp_path / "0.parquet", [None, None]), "camera_front") is None
    assert embedder.embed_shard(shard(tmp_path / "1.parquet", [scene(9)]), "camera_rear") is None


def test_only_redacted_frames_are_embedded(embedder: ClipEmbedder):
    with pytest.raises(RedactionError):
        embedder.embed([scene(90)])  # type: ignore[list-item]
    with pytest.raises(ModelError):
        embedder.embed([])


def test_preparation_is_part_of_the_key(weights: Path, embedder: ClipEmbedder):
    other = EmbeddingsPolicy.load().model_copy(update={"keyframes": 5})
    assert ClipEmbedder(weights / "embedding.onnx", other).preproc_digest != embedder.preproc_digest


def test_keyframes_are_spread_over_the_clip(tmp_path: Path):
    frames = frames_of(shard(tmp_path / "0.parquet", [scene(90)] * 12))
    assert [f.sensor_ns for f in keyframes(frames, 3)] == [2, 6, 10]
    assert len(keyframes(frames[:2], 3)) == 2


def test_table_comes_back_as_written_in_any_order(tmp_path: Path):
    made = rows(5)
    assert write_embeddings(made, tmp_path / "a.parquet") == 5
    write_embeddings(reversed(made), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    found = read_embeddings([tmp_path / "a.parquet"])
    assert found.clip_ids == tuple(r.clip_id for r in made)
    assert np.allclose(found.vectors, np.stack([r.embedding for r in made]), atol=1e-7)
    for row in range(5):
        assert nearest(found.vectors, found.vectors[row], 1)[0][0] == row


def test_vectors_of_two_models_are_never_searched_as_one(tmp_path: Path):
    write_embeddings(rows(2), tmp_path / "a.parquet")
    write_embeddings([replace(r, model_digest="b") for r in rows(2)], tmp_path / "b.parquet")
    with pytest.raises(ModelError) as caught:
        read_embeddings([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert caught.value.code == "mixed_models"
    write_embeddings([], tmp_path / "c.parquet")
    with pytest.raises(ModelError) as caught:
        read_embeddings([tmp_path / "c.parquet"])
    assert caught.value.code == "no_embeddings"


def test_ties_go_to_the_earlier_row():
    same = np.ones((3, 4), np.float32) / 2
    assert [row for row, _ in nearest(same, same[0], 2)] == [0, 1]
    assert nearest(same, same[0], 0) == []


def test_network_takes_its_weights_strictly():
    with pytest.raises(ModelError, match=r"_conv_stem\.weight"):
        embedding_onnx({})
