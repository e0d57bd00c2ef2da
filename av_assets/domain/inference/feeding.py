"""Shards in, batches for the network out, read and decoded while the network works on the batch before.

No batch holds rows of two shards: what a batch holds must not depend on where a run that was interrupted goes on, since
the last digits of a network's answers depend on it.
Belongs here: opening shards, the loader, reading ahead, cutting into batches. Does not belong here: the network, rows.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import AvError, EvidenceError, PoisonError
from av_assets.domain.evidence.timing import Stopwatch

if TYPE_CHECKING:
    from av_assets.domain.inference.seeing import SeeRow
    from av_assets.domain.loading.sample_index import SampleIndex, SampleKey
    from av_assets.domain.loading.sources import ShardRef, ShardSource

T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]


class Chunk(NamedTuple):
    """Rows of one shard, in order: what they are called, and their arrays."""

    shard: int
    keys: tuple[SampleKey, ...]
    arrays: Arrays


@dataclass(frozen=True)
class Pace:
    """How fast reading goes ahead; nothing of it changes what comes out."""

    batch_size: int
    workers: int
    prefetch: int


@dataclass
class Feed:
    """All batches of some shards of one drive, in their order.

    Attributes:
        failed: number of a shard -> why it cannot be read, as far as that is known.
    """

    refs: Mapping[int, ShardRef]
    source: ShardSource
    see: SeeRow
    roles: Sequence[str]
    calibration: Mapping[str, Any]
    pace: Pace
    watch: Stopwatch
    failed: dict[int, AvError] = field(default_factory=dict)

    def chunks(self, start: int) -> Generator[Chunk, None, None]:
        """Batches of the shards from number `start` on that have not failed.

        Raises:
            AvError: a shard that opened well could not be read after all; it is in `failed` then.
        """
        index, numbers = self._open([n for n in sorted(self.refs) if n >= start and n not in self.failed])
        if index is None or not len(index):
            return
        try:
            with closing(self._batches(index)) as batches:
                yield from cut(batches, index, numbers, self.pace.batch_size)
        except (PoisonError, EvidenceError) as error:
            guilty = [n for n in numbers if error.file and error.file.endswith(self.refs[n].path)]
            if not guilty:
                raise
            self.failed[guilty[0]] = error
            raise

    def _open(self, numbers: Sequence[int]) -> tuple[SampleIndex | None, list[int]]:
        """One index over all shards that open and whose bytes are those of their digest."""
        from av_assets.domain.loading.sample_index import SampleIndex

        good: dict[int, SampleIndex] = {}
        for number in numbers:
            try:
                with self.watch("read"):
                    good[number] = SampleIndex.of_shards([self.refs[number]], self.source)
            except (PoisonError, EvidenceError) as error:
                self.failed[number] = error
        if not good:
            return None, []
        return SampleIndex.joined(list(good.values())), list(good)

    def _batches(self, index: SampleIndex) -> Generator[Arrays, None, None]:
        from av_assets.domain.loading.loader import Loader

        with Loader(
            index, self.source, self.see, columns=tuple(self.roles), batch_size=self.pace.batch_size, seed=0,
            workers=self.pace.workers, prefetch=self.pace.prefetch, shuffle=False, last_batch="keep",
            on_bad="raise", calibrations={drive: dict(self.calibration) for drive in index.drives},
        ) as loader, ahead(map(_arrays, loader), self.pace.prefetch) as held:  # fmt: skip
            while True:
                with self.watch("wait"):
                    batch = next(held, None)
                if batch is None:
                    return
                yield batch


def _arrays(batch: Mapping[str, Any]) -> Arrays:
    return {name: value.numpy() for name, value in batch.items() if name != "real"}


def cut(batches: Iterable[Arrays], index: SampleIndex, numbers: Sequence[int], size: int) -> Iterator[Chunk]:
    """The rows of batches, anew in batches of at most `size` that never hold rows of two shards.

    Args:
        batches: with a key "sample", the place of each row in `index`, rising.
        numbers: what the shards of the index are called.
    """
    held: list[Arrays] = []
    shard = -1
    for batch in batches:
        shards = index.shard[batch["sample"]]
        for part in np.split(np.arange(len(shards)), np.flatnonzero(np.diff(shards)) + 1):
            if held and shards[part[0]] != shard:
                yield _chunk(held, index, numbers[shard])
                held = []
            shard = int(shards[part[0]])
            held.append({name: value[part[0] : part[-1] + 1] for name, value in batch.items()})
            while sum(len(one["sample"]) for one in held) >= size:
                whole = _joined(held)
                yield _chunk([{name: value[:size] for name, value in whole.items()}], index, numbers[shard])
                held = (
                    [{name: value[size:] for name, value in whole.items()}]
                    if len(whole["sample"]) > size
                    else []
                )
    if held:
        yield _chunk(held, index, numbers[shard])


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _chunk(parts: Sequence[Arrays], index: SampleIndex, number: int) -> Chunk:
    arrays = _joined(parts)
    keys = tuple(index.key(int(position)) for position in arrays.pop("sample"))
    return Chunk(number, keys, arrays)


@contextmanager
def ahead(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """The same items, made by a thread that is up to `depth` of them ahead; what it raises is raised at its place.

    The thread ends with the block, at the latest after the item that it is making.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    ended = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not ended.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the item is asked for
            put((False, error))

    def take() -> Iterator[T]:
        while True:
            good, item = waiting.get()
            if good:
                yield item
            elif item is None:
                return
            else:
                raise item

    thread = threading.Thread(target=make, name="reading ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        ended.set()
        thread.join()
