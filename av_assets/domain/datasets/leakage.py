"""Does a split leak into another: the same drive twice, the same picture under two ids, clips or frames that look
alike, one place on one day.

Everything is compared exactly, in blocks: memory grows with the number of clips, never with its square.
Belongs here: the checks. Does not belong here: what to do about a leak (verdicts); similarity search over a fleet.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from av_assets.domain.datasets.members import SPLITS, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

BLOCK: Final = 4096
NS_PER_DAY: Final = 86_400 * 10**9
LeakKind = Literal["shared_drive", "same_content", "near_duplicate", "near_duplicate_frame", "shared_place"]


@dataclass(frozen=True)
class Leak:
    """Two items of different splits that should not both be there; `a` is of the earlier split.

    Attributes:
        measure: cosine of near duplicates, bits that differ of near duplicate frames.
        at: H3 cell and day of a shared place.
    """

    kind: LeakKind
    split_a: Split
    split_b: Split
    a: str
    b: str
    measure: float | None = None
    at: str = ""


@dataclass
class Found:
    """Leaks of one kind: every item of an earlier split with the item of a later one that it is most like.

    Attributes:
        pairs: how many pairs there are; more than leaks, where items are alike in groups.
    """

    pairs: int = 0
    leaks: list[Leak] = field(default_factory=list)


def shared(kind: LeakKind, rows: Iterable[tuple[str, Split, str, str]]) -> Found:
    """Leaks among (item, split, key, at): items of two splits with one key; an empty key is shared with nobody."""
    groups: dict[str, dict[Split, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for item, split, key, at in rows:
        if key:
            groups[key][split].append((item, at))
    found = Found()
    for key in sorted(groups):
        by_split = groups[key]
        for i, a in enumerate(SPLITS):
            for b in SPLITS[i + 1 :]:
                if a in by_split and b in by_split:
                    found.pairs += len(by_split[a]) * len(by_split[b])
                    other = min(by_split[b])[0]
                    found.leaks += [
                        Leak(kind, a, b, item, other, None, at) for item, at in sorted(by_split[a])
                    ]
    return found


def shared_drives(members: Iterable[tuple[str, Split]]) -> Found:
    """Leaks among (drive, split)."""
    return shared("shared_drive", ((drive, split, drive, "") for drive, split in members))


def shared_places(clips: Iterable[tuple[str, Split, str | None, int]]) -> Found:
    """Leaks among (drive, split, fine H3 cell, start_ns): one cell on one day (UTC) in two splits; drives are named."""
    rows = {
        (drive, split, f"{cell}/{start_ns // NS_PER_DAY}", f"{cell} on {_day(start_ns)}")
        for drive, split, cell, start_ns in clips
        if cell
    }
    return shared("shared_place", sorted(rows))


def near_duplicates(
    ids: Sequence[str], splits: Sequence[Split], vectors: NDArray[np.float32], cosine: float
) -> Found:
    """Items of different splits whose vectors have at least this cosine similarity.

    Args:
        vectors: (N, D), any length but 0; of one model only.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
    # float32 products of equal unit vectors can come out just below 1
    return _across(
        "near_duplicate", ids, splits, unit, lambda a, b: np.asarray(a @ b.T, np.float32), cosine - 1e-6
    )


def near_frames(
    ids: Sequence[str], splits: Sequence[Split], hashes: NDArray[np.uint64], bits: int, least: int
) -> Found:
    """Items of different splits whose 64-bit hashes differ in at most `bits` bits.

    Args:
        least: hashes with fewer bits set, or unset, are of pictures without structure, and are not compared.
    """
    ones = np.bitwise_count(hashes)
    says = (ones >= least) & (ones <= 64 - least)

    def likeness(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(-np.bitwise_count(a[:, None] ^ b[None, :]).astype(np.float32), np.float32)

    kept = np.flatnonzero(says).tolist()
    found = _across(
        "near_duplicate_frame",
        [ids[i] for i in kept],
        [splits[i] for i in kept],
        hashes[kept],
        likeness,
        -float(bits),
    )
    found.leaks = [Leak(**{**leak.__dict__, "measure": abs(leak.measure or 0.0)}) for leak in found.leaks]
    return found


def _across(
    kind: LeakKind,
    ids: Sequence[str],
    splits: Sequence[Split],
    values: NDArray[Any],
    likeness: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]],
    least: float,
) -> Found:
    side = np.asarray([SPLITS.index(split) for split in splits], np.int8)
    rows = [np.flatnonzero(side == number) for number in range(len(SPLITS))]
    found = Found()
    for i, a in enumerate(SPLITS):
        for j in range(i + 1, len(SPLITS)):
            pairs, best, partner = _best(values[rows[i]], values[rows[j]], likeness, least)
            found.pairs += pairs
            found.leaks += [
                Leak(kind, a, SPLITS[j], ids[rows[i][k]], ids[rows[j][partner[k]]], round(float(best[k]), 6))
                for k in np.flatnonzero(best >= least)
            ]
    found.leaks.sort(key=lambda leak: (-(leak.measure or 0.0), leak.a, leak.b))
    return found


def _best(
    a: NDArray[Any],
    b: NDArray[Any],
    likeness: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float32]],
    least: float,
) -> tuple[int, NDArray[np.float32], NDArray[np.int64]]:
    """Pairs at least this alike, and for every row of `a` its best partner in `b` and how alike they are."""
    best, partner, pairs = np.full(len(a), -np.inf, np.float32), np.zeros(len(a), np.int64), 0
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            block = likeness(a[i : i + BLOCK], b[j : j + BLOCK])
            top = block.max(axis=1)
            better = np.flatnonzero((top >= least) & (top > best[i : i + BLOCK]))
            if (top >= least).any():
                pairs += int((block[top >= least] >= least).sum())
            best[i + better] = top[better]
            partner[i + better] = j + block[better].argmax(axis=1)
    return pairs, best, partner


def _day(start_ns: int) -> str:
    return str(np.datetime64(start_ns // NS_PER_DAY, "D"))
