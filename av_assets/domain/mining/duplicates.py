"""Clips that show the same: by the bits of their keyframes, then by their vectors.

Both ways keep the oldest clip of each group of alike ones: clips are taken by (start, id), and one goes where it is
alike to one that was kept. The order of the input plays no part.
Belongs here: finding duplicates. Does not belong here: hashing, embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.mining.dhash import hamming

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Duplicate:
    """`clip_id` shows the same as `of`, which is kept. `measure` is bits (dHash) or cosine."""

    clip_id: str
    of: str
    measure: float


def by_hash(
    oldest_first: Sequence[str], hashes: Mapping[str, Sequence[int]], most_bits: int
) -> list[Duplicate]:
    """Clips all of whose keyframes differ in at most `most_bits` bits from those of a kept clip, in their order.

    Clips with another number of keyframes are not compared; clips without a hash stay.
    """
    kept: dict[int, list[str]] = {}
    held: dict[int, NDArray[np.uint64]] = {}
    found = []
    for clip in oldest_first:
        mine = np.array(hashes.get(clip, ()), np.uint64)
        if not len(mine):
            continue
        names = kept.setdefault(len(mine), [])
        others = held.setdefault(len(mine), np.empty((len(oldest_first), len(mine)), np.uint64))
        if names:
            bits = hamming(others[: len(names)], mine).max(axis=1)
            best = int(np.argmin(bits))  # the first of equals, which is the oldest
            if bits[best] <= most_bits:
                found.append(Duplicate(clip, names[best], float(bits[best])))
                continue
        others[len(names)] = mine
        names.append(clip)
    return found


def by_vector(
    oldest_first: Sequence[str], vectors: Mapping[str, NDArray[np.float32]], eps: float, cell: int, seed: int
) -> list[Duplicate]:
    """SemDeDup (Abbas et al. 2023): within k-means cells, clips whose cosine with a kept one exceeds 1 - eps.

    Unlike there the oldest of a group is kept, not the one farthest from the middle of its cell: a clip that was
    chosen once stays when a copy comes. Alike clips that fall into two cells are both kept, which is the price of
    not comparing all with all; up to `cell` clips make one cell, so nothing is missed among them.

    Args:
        vectors: clip id -> (D,) unit vector; clips without one stay.
    """
    known = [clip for clip in oldest_first if clip in vectors]
    if not known:
        return []
    place = {clip: index for index, clip in enumerate(known)}
    by_id = sorted(known)  # k-means sees one order, whatever the ages
    matrix = np.stack([vectors[clip] for clip in by_id])
    cells = _cells(matrix, cell, seed)
    found: list[Duplicate] = []
    for number in range(int(cells.max()) + 1):
        inside = sorted((by_id[i] for i in np.flatnonzero(cells == number)), key=place.__getitem__)
        found += _within(inside, vectors, 1.0 - eps)
    return sorted(found, key=lambda d: place[d.clip_id])


def _within(
    clips: Sequence[str], vectors: Mapping[str, NDArray[np.float32]], cosine: float
) -> list[Duplicate]:
    if not clips:
        return []
    kept: list[str] = []
    held = np.empty((len(clips), len(vectors[clips[0]])), np.float32)
    found = []
    for clip in clips:
        likeness = held[: len(kept)] @ vectors[clip]
        best = int(np.argmax(likeness)) if len(kept) else -1
        if best >= 0 and likeness[best] > cosine:
            found.append(Duplicate(clip, kept[best], round(float(likeness[best]), 6)))
            continue
        held[len(kept)] = vectors[clip]
        kept.append(clip)
    return found


def _cells(matrix: NDArray[np.float32], cell: int, seed: int) -> NDArray[np.int32]:
    """(N,) cell of every row."""
    count = -(-len(matrix) // cell)
    if count > 1:
        count = min(count, len(np.unique(matrix, axis=0)))
    if count <= 1:
        return np.zeros(len(matrix), np.int32)
    from sklearn.cluster import KMeans

    model = KMeans(n_clusters=count, n_init=1, max_iter=50, random_state=seed)
    return np.asarray(model.fit_predict(matrix), np.int32)
