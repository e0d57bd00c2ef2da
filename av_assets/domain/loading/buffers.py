"""Memory of batches: made once, filled again and again, also by other processes.

A batch that nobody holds any longer gives its memory back by itself; one that is held keeps it. Fresh memory for every
batch would cost about as much as decoding into it: the kernel clears each page.
Belongs here: the layout of a batch and its memory. Does not belong here: who fills it.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.loading.making import REAL, SAMPLE, Field

ALIGNED: Final = 64


class BatchLayout:
    """Where the arrays of a batch lie in its memory.

    Attributes:
        bytes: size of the memory.
    """

    def __init__(self, fields: Mapping[str, Field], batch_size: int) -> None:
        self.batch_size = batch_size
        self._fields = {SAMPLE: Field((), "<i8"), REAL: Field((), "|b1"), **fields}
        self._starts: dict[str, int] = {}
        self.bytes = 0
        for name, field in self._fields.items():
            self._starts[name] = self.bytes
            size = batch_size * int(np.prod(field.shape, dtype=np.int64)) * np.dtype(field.dtype).itemsize
            self.bytes += -(-size // ALIGNED) * ALIGNED

    def arrays(self, memory: NDArray[np.uint8], count: int) -> dict[str, NDArray[Any]]:
        """(count, ...) views of the memory by name."""
        return {
            name: np.ndarray((count, *field.shape), field.dtype, memory, self._starts[name])
            for name, field in self._fields.items()
        }


class Slot:
    """The memory of one batch.

    Attributes:
        fd: for other processes to map it; None where it is not shared.
    """

    def __init__(self, number: int, size: int, shared: bool) -> None:
        self.number, self.size = number, size
        # No name in /dev/shm: containers make that small, and a process that is killed would leave it behind.
        self.fd = os.memfd_create("batch", os.MFD_CLOEXEC) if shared else None
        if self.fd is not None:
            os.ftruncate(self.fd, size)
        self.memory = mmap.mmap(-1 if self.fd is None else self.fd, size)

    def close(self) -> None:
        """Give up the descriptor; the memory goes with the last array that lies in it."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Slots:
    """As many slots as were ever needed at a time."""

    def __init__(self, layout: BatchLayout, shared: bool) -> None:
        self.layout, self._shared = layout, shared
        self._all: list[Slot] = []
        self._free: list[Slot] = []

    def take(self) -> Slot:
        if self._free:
            return self._free.pop()
        slot = Slot(len(self._all), max(1, self.layout.bytes), self._shared)
        self._all.append(slot)
        return slot

    def give(self, slot: Slot) -> None:
        self._free.append(slot)

    def write(self, slot: Slot, count: int) -> dict[str, NDArray[Any]]:
        """The arrays of a slot, for filling it."""
        return self.layout.arrays(np.frombuffer(slot.memory, np.uint8), count)

    def deliver(self, slot: Slot, count: int) -> dict[str, NDArray[Any]]:
        """The arrays of a slot that comes back when the last of them, and of what was made of them, is gone."""
        memory = np.frombuffer(slot.memory, np.uint8)
        weakref.finalize(memory, self._free.append, slot).atexit = False
        return self.layout.arrays(memory, count)

    def close(self) -> None:
        for slot in self._all:
            slot.close()
