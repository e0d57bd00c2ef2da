"""Batches of tensors out of shards: the one thing that training, evaluation and inference read through.

Belongs here: an epoch as an iteration that can be stopped anywhere and taken up again. Does not belong here: how
samples are made (`making`), by whom (`workers`), in which order (`order`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.loading.buffers import BatchLayout, Slots
from av_assets.domain.loading.making import OnBad, SampleMaker
from av_assets.domain.loading.order import LastBatch, Positions, Share, epoch_order
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.samples import Transform
from av_assets.domain.loading.sources import ShardSource
from av_assets.domain.loading.workers import WorkerPool

if TYPE_CHECKING:
    import torch

STATE_VERSION: Final = 1
Made = tuple[dict[str, NDArray[Any]], dict[str, str]]


class Loader:
    """Iterating gives the batches of the current epoch from the current position, then the next epoch is current.

    A batch maps what the transform gives to tensors (N, ...), and has `sample` (N,) int64, positions in the index, and
    `real` (N,) bool, False for padding and for samples that stand in for bad ones. It is the caller's for as long as
    any of its tensors lives. The order, and what transforms draw, depend on seed, epoch and index alone.

    Args:
        columns: sensors that the transform reads.
        rank, world_size: which share of each global batch this process takes.
        workers: processes that decode; 0 decodes here.
        prefetch: batches that workers are ahead.
        last_batch: what becomes of the samples that do not fill a batch on all ranks: "drop" leaves them out of this
            epoch; "keep" gives a smaller batch, empty on ranks for which nothing is left; "pad" repeats the first
            samples of the epoch. All ranks give equally many batches.
        on_bad: "raise" names shard and row; "skip" puts another sample there, and notes the bad one in `skipped`.
        calibrations: calibration.json by drive.
        mixed_shards: 0 shuffles all samples among each other; else see `order.epoch_order`.
        open_shards: files that each process keeps open, and its source in place, at a time.
        patience_s: how long no worker may answer.

    Attributes:
        epoch: the current one, from 0.
        position: samples of it that all ranks have got; it grows before a batch is handed out.
        skipped: reason by name of bad samples that this process met.
        waited_s: seconds that iterating waited for batches.

    Raises:
        ValueError: sizes that make no sense.
        DatasetError: empty_index; a bad sample, while iterating.
        TransientError: worker_died, worker_stalled, while iterating; iterating again goes on from `position`.
    """

    def __init__(
        self,
        index: SampleIndex,
        source: ShardSource,
        transform: Transform,
        *,
        columns: Sequence[str],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch: int = 2,
        shuffle: bool = True,
        last_batch: LastBatch = "drop",
        on_bad: OnBad = "raise",
        calibrations: Mapping[str, Mapping[str, Any]] | None = None,
        mixed_shards: int = 0,
        open_shards: int = 16,
        patience_s: float = 600.0,
    ) -> None:
        if batch_size < 1 or prefetch < 1 or workers < 0 or open_shards < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch_size {batch_size}, prefetch {prefetch}, workers {workers}, rank {rank}")
        if not len(index):
            raise DatasetError("there is no sample to load", code="empty_index")
        self.index, self.seed, self.shuffle, self.mixed_shards = index, seed, shuffle, mixed_shards
        self.share = Share(len(index), batch_size, rank, world_size, last_batch)
        self._maker = SampleMaker(
            index, source, transform, tuple(columns), dict(calibrations or {}), seed, on_bad, open_shards
        )
        self._workers, self._prefetch, self._patience_s = workers, prefetch, patience_s
        self._pool: WorkerPool | None = None
        self._slots: Slots | None = None
        self.epoch = self.position = 0
        self.skipped: dict[str, str] = {}
        self.waited_s = 0.0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self.share.batches()

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        import torch

        order = self._order()
        count = self.share.batches(self.position)
        starts = range(self.position, self.position + count * self.share.step, self.share.step)
        found = self._by_workers(order, starts) if self._workers else self._here(order, starts)
        try:
            for start in starts:
                began = time.perf_counter()
                arrays, skipped = next(found)
                self.waited_s += time.perf_counter() - began
                self.skipped |= skipped
                self.position = min(start + self.share.step, self.share.samples)
                batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
                del arrays  # whoever holds it keeps the memory of the batch
                yield batch
                del batch
        finally:
            found.close()
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to give exactly the next sample; plain numbers and text.

        After the last batch of an epoch it still belongs to this epoch, of which nothing is left.
        """
        return {
            "version": STATE_VERSION,
            **self._identity(),
            "epoch": self.epoch,
            "position": self.position,
            "skipped": dict(self.skipped),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another loader was; ranks, workers and batch sizes may differ.

        Raises:
            DatasetError: foreign_state, of other samples or in another order.
        """
        expected = {"version": STATE_VERSION, **self._identity()}
        if wrong := [name for name, value in expected.items() if state.get(name) != value]:
            raise DatasetError(
                f"the loader's state is of another {', '.join(wrong)}",
                code="foreign_state",
                remedy="resume with the dataset, seed and order that the checkpoint was made with",
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self.skipped = dict(state["skipped"])

    def close(self) -> None:
        """End the workers and close all files; iterating starts them again."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self._maker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _identity(self) -> dict[str, Any]:
        return {
            "index": self.index.digest,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "mixed_shards": self.mixed_shards,
        }

    def _order(self) -> Positions:
        if not self.shuffle:
            return np.arange(len(self.index), dtype=np.int64)
        return epoch_order(len(self.index), self.seed, self.epoch, self.index.shard, self.mixed_shards)

    def _here(self, order: Positions, starts: range) -> Generator[Made]:
        for start in starts:
            if self._slots is None:
                fields = self._maker.fields(int(order[start]), self.epoch)
                self._slots = Slots(BatchLayout(fields, self.share.batch_size), shared=False)
            places, real = self.share.places(start)
            slot = self._slots.take()
            arrays = self._slots.deliver(slot, len(places))
            arrays["sample"][:], arrays["real"][:] = order[places], real
            yield arrays, self._maker.fill(arrays, range(len(places)), self.epoch)
            del arrays

    def _by_workers(self, order: Positions, starts: range) -> Generator[Made]:
        pool, tickets, ahead = self._started(), deque[int](), iter(starts)
        try:
            for start in starts:
                pool.prepare(int(order[start]), self.epoch)
                while len(tickets) <= self._prefetch and (following := next(ahead, None)) is not None:
                    places, real = self.share.places(following)
                    tickets.append(pool.submit(self.epoch, order[places], real))
                yield pool.collect(tickets.popleft())
        finally:
            for ticket in tickets:
                pool.abandon(ticket)

    def _started(self) -> WorkerPool:
        if self._pool is None or not self._pool.pids:
            self._pool = WorkerPool(self._maker, self._workers, self.share.batch_size, self._patience_s)
        return self._pool
