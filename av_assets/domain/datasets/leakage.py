"""Does a split leak into another: the same drive twice, the same content under two ids, clips that look
alike.

Belongs here: the checks. Does not belong here: what to do about a leak; similarity search over a fleet.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from av_assets.domain.datasets.members import SPLITS, Split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

BLOCK = 2048


@dataclass(frozen=True)
class Leak:
    """Two items of different splits that should not both be there; `a` is of the earlier split."""

    kind: Literal["shared_drive", "same_content", "near_duplicate"]
    split_a: Split
    split_b: Split
    a: str
    b: str
    cosine: float | None = None


def shared_drives(members: Sequence[tuple[str, Split, str]]) -> list[Leak]:
    """Leaks among (drive, split, content digest): a drive in two splits, or equal content under two
    drives.
    """
    leaks = []
    for kind, column in (("shared_drive", 0), ("same_content", 2)):
        groups: dict[str, list[tuple[str, Split, str]]] = defaultdict(list)
        for member in sorted(members, key=lambda m: (SPLITS.index(m[1]), m[0])):
            if member[column]:
                groups[member[column]].append(member)
        for group in groups.values():
            leaks += [
                Leak(kind, first[1], second[1], first[0], second[0])  # type: ignore[arg-type]
                for i, first in enumerate(group)
                for second in group[i + 1 :]
                if first[1] != second[1]
            ]
    return leaks


def near_duplicates(
    embeddings: Mapping[str, pa.Table], splits: Mapping[str, Split], cosine: float, most: int = 50
) -> list[Leak]:
    """Pairs of clips of different splits with cosine similarity of at least `cosine`, most alike first.

    `embeddings` maps drives to tables with `clip_id` and `embedding` (list<float>); drives without a split
    are skipped. Comparison is exact, in blocks: memory stays at BLOCK x BLOCK similarities.
    """
    sides = {split: _stack(embeddings, splits, split) for split in SPLITS}
    found: list[Leak] = []
    for i, a in enumerate(SPLITS):
        for b in SPLITS[i + 1 :]:
            (ids_a, vectors_a), (ids_b, vectors_b) = sides[a], sides[b]
            for row, column, value in _alike(vectors_a, vectors_b, cosine):
                found.append(Leak("near_duplicate", a, b, ids_a[row], ids_b[column], value))
    return sorted(found, key=lambda leak: (-(leak.cosine or 0.0), leak.a, leak.b))[:most]


def _stack(
    embeddings: Mapping[str, pa.Table], splits: Mapping[str, Split], split: Split
) -> tuple[list[str], np.ndarray]:
    ids: list[str] = []
    rows: list[list[float]] = []
    for drive in sorted(embeddings):
        if splits.get(drive) == split:
            ids += embeddings[drive]["clip_id"].to_pylist()
            rows += embeddings[drive]["embedding"].to_pylist()
    vectors = np.asarray(rows, dtype=np.float32).reshape(len(rows), -1 if rows else 0)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return ids, vectors / np.maximum(norm, 1e-12)


def _alike(a: np.ndarray, b: np.ndarray, cosine: float) -> list[tuple[int, int, float]]:
    pairs: list[tuple[int, int, float]] = []
    if not len(a) or not len(b):
        return pairs
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            likeness = a[i : i + BLOCK] @ b[j : j + BLOCK].T
            # float32 products of equal unit vectors can come out just below 1.
            rows, columns = np.nonzero(likeness >= cosine - 1e-6)
            pairs += [
                (i + int(r), j + int(c), round(float(likeness[r, c]), 6))
                for r, c in zip(rows, columns, strict=True)
            ]
    return pairs
