"""Copies of a log that are broken at random places, and which of its bytes are still there.

Belongs here: the changes and their book-keeping. Does not belong here: what a reader must make of them
(`loss_accounts`, `test_fuzz`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn
    from numpy.typing import NDArray

KINDS = ("cut", "flip", "zero", "noise", "claim", "copy", "swap", "repeat", "remove")
MIN_BYTES = 64  # less is another test's business
NEAR_BYTES = 256  # a record header stands before its message, and says whose it is and when it came
GONE = -1


class Change(NamedTuple):
    kind: str
    at: float
    length: int
    other: float
    value: int


class Broken:
    """A damaged copy of `whole`. `touched` are ranges of it that are not as they were."""

    def __init__(self, whole: bytes) -> None:
        self.data = bytearray(whole)
        self.touched: list[tuple[int, int]] = []
        self.only_cut = True
        self._size = len(whole)
        self._origin: NDArray[np.int64] = np.arange(len(whole), dtype=np.int64)  # of each byte; GONE: changed

    def apply(self, change: Change) -> None:
        size = len(self.data)
        if size < MIN_BYTES:
            return
        at = min(size - 1, int(change.at * size))
        end = min(size, at + change.length)
        other = min(size - 1, int(change.other * size))
        block, origin = bytes(self.data[at:end]), self._origin[at:end].copy()
        self.only_cut &= change.kind == "cut"
        if change.kind == "cut":
            del self.data[max(MIN_BYTES, at) :]
            self._origin = self._origin[: max(MIN_BYTES, at)]
        elif change.kind == "flip":
            self._set(at, bytes([self.data[at] ^ (change.value % 255 + 1)]))
        elif change.kind == "zero":
            self._set(at, bytes(end - at))
        elif change.kind == "noise":
            self._set(at, bytes((b * 31 + change.value) % 256 for b in block))
        elif change.kind == "claim":  # a length that promises the moon
            self._set(at, (1 << (change.value % 63)).to_bytes(8, "little")[: 4 + 4 * (change.value % 2)])
        elif change.kind == "copy":
            self._set(other, block, origin)
        elif change.kind == "swap":
            there = bytes(self.data[other : other + len(block)])
            there_from = self._origin[other : other + len(block)].copy()
            self._set(at, there, there_from)
            self._set(other, block, origin)
        elif change.kind == "repeat":
            self._insert(other, block, origin)
        else:
            self._remove(at, end)

    def survivors(self) -> NDArray[np.int64]:
        """How many of the first n bytes of the whole log are still somewhere in the copy, for all n."""
        there = np.zeros(self._size, np.int64)
        there[self._origin[self._origin != GONE]] = 1
        return np.concatenate([[0], np.cumsum(there)])

    def shows(self, data: bytes) -> bool:
        """Whether a message with these bytes stands where something was changed, its header included."""
        near = ((max(0, a - len(data)), b + NEAR_BYTES + len(data)) for a, b in self.touched)
        return any(data in self.data[start:end] for start, end in near)

    def blocks(self, size: int) -> int:
        """How many blocks of at least that size the changes can have reached."""
        return sum((b - a) // size + 2 for a, b in self.touched)

    def _set(self, at: int, block: bytes, origin: NDArray[np.int64] | None = None) -> None:
        block = block[: len(self.data) - at]
        end = at + len(block)
        if origin is None:  # a byte that was set to what it was is still there
            same = np.frombuffer(block, np.uint8) == np.frombuffer(bytes(self.data[at:end]), np.uint8)
            origin = np.where(same, self._origin[at:end], GONE)
        self.data[at:end] = block
        self._origin[at:end] = origin[: len(block)]
        self.touched.append((at, end))

    def _insert(self, at: int, block: bytes, origin: NDArray[np.int64]) -> None:
        self.data[at:at] = block
        self._origin = np.insert(self._origin, at, origin)
        self.touched = [(a + len(block), b + len(block)) if a >= at else (a, b) for a, b in self.touched]
        self.touched.append((at, at + len(block)))

    def _remove(self, at: int, end: int) -> None:
        del self.data[at:end]
        self._origin = np.delete(self._origin, np.s_[at:end])
        self.touched = [(max(at, a - (end - at)), max(at, b - (end - at))) if a >= at else (a, b)
                        for a, b in self.touched]  # fmt: skip
        self.touched.append((at, at + 1))


@st.composite
def changes(draw: DrawFn, places: Sequence[float], size: int) -> list[Change]:
    """One to three changes, a third of them where the structure of the file is."""
    # Scattered, because small numbers come more often and most of a file is not its beginning.
    anywhere = st.integers(0, (1 << 32) - 1).map(lambda n: (n + 1) * 2654435761 % (1 << 32) / (1 << 32))
    somewhere = st.one_of(anywhere, anywhere, st.sampled_from(list(places)))
    one = st.builds(
        Change,
        st.sampled_from(KINDS),
        somewhere,
        st.one_of(st.integers(1, 64), st.integers(1, size // 20)),
        somewhere,
        st.integers(0, 1 << 16),
    )
    return draw(st.lists(one, min_size=1, max_size=3))
