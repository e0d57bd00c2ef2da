"""Hashes of pictures and both kinds of duplicates, each against a second way of getting them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from av_assets.domain.errors import RedactionError
from av_assets.domain.mining.dhash import dhash, frame_hash, hamming
from av_assets.domain.mining.duplicates import by_hash, by_vector
from tests.domain.mining import mining_cases as cases


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def test_known_vectors() -> None:
    rising = np.tile(np.arange(9) * 20, (8, 1))
    assert dhash(grey(rising)) == 2**64 - 1
    assert dhash(grey(rising[:, ::-1])) == 0
    assert dhash(grey(np.full((8, 9), 77))) == 0
    first = np.zeros((8, 9))
    first[0, 1] = 255  # brighter than its left neighbour: the first bit of the first row
    assert dhash(grey(first)) == 1 << 63
    last = np.zeros((8, 9))
    last[7, 8] = 255
    assert dhash(grey(last)) == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_same_bits_as_pillow_gives(seed: int, wide: int, high: int) -> None:
    rng = np.random.default_rng(seed)
    # Cells far enough apart that rounding of the averages decides nothing.
    cells = rng.permuted(np.tile(np.arange(9) * 25, (8, 1)), axis=1)
    picture = np.kron(cells, np.ones((high, wide))) + rng.integers(0, 5, (8 * high, 9 * wide))
    small = np.asarray(
        Image.fromarray(picture.astype(np.uint8)).resize((9, 8), Image.Resampling.BOX), np.int16
    )
    bits = "".join("1" if row[c + 1] > row[c] else "0" for row in small for c in range(8))
    assert dhash(grey(picture)) == int(bits, 2)


def test_only_redacted_frames_are_hashed() -> None:
    with pytest.raises(RedactionError, match="unredacted_frame"):
        frame_hash(np.zeros((8, 9, 3), np.uint8))  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8), st.integers(0, 2**64 - 1))
def test_hamming_counts_bits(others: list[int], one: int) -> None:
    found = hamming(np.array(others, np.uint64), np.array(one, np.uint64))
    assert found.tolist() == [bin(other ^ one).count("1") for other in others]


@given(
    st.lists(st.lists(st.integers(0, 255), min_size=2, max_size=2), min_size=1, max_size=20),
    st.integers(0, 4),
)
def test_hashes_keep_the_oldest_of_alike_clips(hashes: list[list[int]], bits: int) -> None:
    clips = [f"c{n:02d}" for n in range(len(hashes))]
    known = dict(zip(clips, hashes, strict=True))
    found = {d.clip_id: d for d in by_hash(clips, known, bits)}
    kept = [c for c in clips if c not in found]

    def apart(a: str, b: str) -> int:
        return max(bin(x ^ y).count("1") for x, y in zip(known[a], known[b], strict=True))

    for clip, duplicate in found.items():
        assert duplicate.of in kept
        assert duplicate.of < clip
        assert apart(clip, duplicate.of) == duplicate.measure <= bits
    assert all(apart(a, b) > bits for n, a in enumerate(kept) for b in kept[:n])


def test_clips_without_pictures_or_with_other_numbers_of_them_stay() -> None:
    assert by_hash(["a", "b", "c"], {"a": [1], "b": [1, 1]}, 64) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6), st.integers(2, 40))
def test_one_of_each_group_of_copies_is_kept(seed: int, groups: int, copies: int, cell: int) -> None:
    rng = np.random.default_rng(seed)
    middles = np.linalg.qr(rng.normal(size=(8, 8)))[0][:groups]
    clips = [f"c{n:02d}" for n in rng.permutation(groups * copies)]
    vectors = {clip: middles[n % groups].astype(np.float32) for n, clip in enumerate(clips)}
    found = by_vector(clips, vectors, 0.01, cell, seed=8)
    gone = {d.clip_id for d in found}
    assert [c for c in clips if c not in gone] == clips[:groups]  # the oldest of each
    shuffled = by_vector(clips, dict(sorted(vectors.items())), 0.01, cell, seed=8)
    assert shuffled == found


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.5))
def test_one_cell_misses_no_pair(seed: int, eps: float) -> None:
    rng = np.random.default_rng(seed)
    clips = [f"c{n:02d}" for n in range(20)]
    vectors = {clip: cases.unit(*rng.normal(size=3)) for clip in clips}
    gone = {d.clip_id: d for d in by_vector(clips, vectors, eps, 100, seed=1)}
    kept = [c for c in clips if c not in gone]
    assert all(vectors[a] @ vectors[b] <= 1 - eps + 1e-6 for n, a in enumerate(kept) for b in kept[:n])
    assert all(vectors[c] @ vectors[d.of] > 1 - eps - 1e-6 and d.of in kept for c, d in gone.items())
