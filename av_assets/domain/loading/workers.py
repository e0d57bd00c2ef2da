"""Processes that fill batches in shared memory.

Every worker fills every n-th row of each batch, so that a batch is done as soon as all have done their share, and the
memory is that of a few batches however many workers there are. What goes through pipes is numbers only.
Belongs here: starting, asking, and the end of worker processes. Does not belong here: what a sample is.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass, field
from mmap import mmap
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import AvError, TransientError
from av_assets.domain.loading.buffers import BatchLayout, Slot, Slots
from av_assets.domain.loading.making import REAL, SAMPLE, Field, SampleMaker
from av_assets.domain.loading.order import Positions

CLOSE_S = 5.0


@dataclass
class _Pending:
    """A batch that is being filled; `waiting` counts the workers that have not answered."""

    slot: Slot
    count: int
    waiting: int
    skipped: dict[str, str] = field(default_factory=dict)
    error: AvError | None = None
    wanted: bool = True


class WorkerPool:
    """Workers and their batches.

    Raises (all methods):
        TransientError: worker_died, worker_stalled; all workers are gone then.
    """

    def __init__(self, maker: SampleMaker, workers: int, batch_size: int, patience_s: float) -> None:
        self.patience_s, self._batch_size = patience_s, batch_size
        self._pending: dict[int, _Pending] = {}
        self._last = 0
        self._known: list[set[int]] = [set() for _ in range(workers)]
        self._slots: Slots | None = None
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        try:
            for number in range(workers):
                self._start(number, maker)
        except BaseException:
            self.close()
            raise

    def _start(self, number: int, maker: SampleMaker) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True)
        self._pipes.append(ours)
        process.start()
        self._processes.append(process)
        theirs.close()  # the worker alone holds it: its death closes the pipe
        try:
            ours.send(maker)
        except OSError:
            self._died(number)
        except Exception as error:
            raise AvError(
                f"source or transform cannot be sent to workers: {error}",
                code="not_picklable",
                remedy="define it at the top of a module, or use workers=0",
            ) from error

    def prepare(self, position: int, epoch: int) -> None:
        """Learn from one sample what batches look like; the first thing that is asked of a pool."""
        if self._slots is not None:
            return
        self._send(0, ("fields", position, epoch))
        fields, error = self._receive(self._readable([self._pipes[0]])[0])
        if error is not None:
            raise error
        self._slots = Slots(BatchLayout(fields, self._batch_size), shared=True)

    def submit(self, epoch: int, samples: Positions, real: NDArray[np.bool_]) -> int:
        """Ask for a batch; its ticket."""
        assert self._slots is not None
        slot, count = self._slots.take(), len(samples)
        batch = self._slots.write(slot, count)
        batch[SAMPLE][:], batch[REAL][:] = samples, real
        self._last += 1
        asked = min(len(self._pipes), count)
        self._pending[self._last] = _Pending(slot, count, asked)
        for share in range(asked):
            number = (self._last + share) % len(self._pipes)  # the larger shares go round
            if slot.number not in self._known[number]:
                self._share(number, slot)
            self._send(number, ("fill", self._last, slot.number, epoch, range(share, count, asked)))
        return self._last

    def collect(self, ticket: int) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """The arrays of a batch, and reasons by name of the samples that were skipped.

        Raises:
            AvError: what went wrong with a sample.
        """
        assert self._slots is not None
        while self._pending[ticket].waiting:
            for pipe in self._readable(self._pipes):
                self._answered(*self._receive(pipe))
        done = self._pending.pop(ticket)
        if done.error is not None:
            self._slots.give(done.slot)
            raise done.error
        return self._slots.deliver(done.slot, done.count), done.skipped

    def abandon(self, ticket: int) -> None:
        """Nobody will collect it; its memory is used again once the workers are done with it."""
        pending = self._pending.get(ticket)
        if pending is not None:
            pending.wanted = False
            self._free_if_done(ticket)

    def close(self) -> None:
        """End all workers; none is left when this returns."""
        for pipe in self._pipes:
            pipe.close()  # a worker that is between two batches ends by itself
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(CLOSE_S)
            if process.is_alive():
                process.kill()
                process.join()
        if self._slots is not None:
            self._slots.close()
        self._pipes, self._processes = [], []

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def _answered(self, ticket: int, skipped: dict[str, str], error: AvError | None) -> None:
        pending = self._pending[ticket]
        pending.waiting -= 1
        pending.skipped |= skipped
        pending.error = pending.error or error
        self._free_if_done(ticket)

    def _free_if_done(self, ticket: int) -> None:
        pending = self._pending[ticket]
        if not pending.wanted and not pending.waiting and self._slots is not None:
            self._slots.give(self._pending.pop(ticket).slot)

    def _share(self, number: int, slot: Slot) -> None:
        assert self._slots is not None
        assert slot.fd is not None
        self._send(number, ("slot", slot.number, slot.size, self._slots.layout))
        try:
            send_handle(self._pipes[number], slot.fd, self._processes[number].pid)
        except OSError:
            self._died(number)
        self._known[number].add(slot.number)

    def _send(self, number: int, message: tuple[Any, ...]) -> None:
        try:
            self._pipes[number].send(message)
        except OSError:
            self._died(number)

    def _readable(self, pipes: list[Connection]) -> list[Any]:
        ready = wait(pipes, self.patience_s)
        if not ready:
            self.close()
            raise TransientError(
                f"no worker answered for {self.patience_s:.0f} s",
                code="worker_stalled",
                remedy="see whether the source of the shards answers; iterating again goes on where it stopped",
            )
        return ready

    def _receive(self, pipe: Connection) -> Any:
        try:
            return pipe.recv()
        except (EOFError, OSError):
            self._died(self._pipes.index(pipe))

    def _died(self, number: int) -> NoReturn:
        code: int | None = None
        if number < len(self._processes):
            self._processes[number].join(CLOSE_S)
            code = self._processes[number].exitcode
        self.close()
        killed = code is not None and code < 0
        how = f"was killed by {signal.Signals(-code).name}" if killed and code else f"ended with {code}"
        raise TransientError(
            f"worker {number} of the loader {how}",
            code="worker_died",
            remedy="SIGKILL is mostly a lack of memory: use fewer workers or smaller batches; iterating again "
            "goes on where it stopped",
        )


def work(pipe: Connection) -> None:
    """What a worker does until its pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that reads batches
    slots: dict[int, tuple[BatchLayout, mmap]] = {}
    try:
        maker = _received(pipe)
        while True:
            kind, *rest = pipe.recv()
            if kind == "slot":
                slot, size, layout = rest
                fd = recv_handle(pipe)
                slots[slot] = layout, mmap(fd, size)
                os.close(fd)
            elif kind == "fields":
                pipe.send(_fields(maker, *rest))
            else:
                ticket, slot, epoch, rows = rest
                layout, memory = slots[slot]
                batch = layout.arrays(np.frombuffer(memory, np.uint8), rows.stop)
                pipe.send((ticket, *_filled(maker, batch, rows, epoch)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _received(pipe: Connection) -> SampleMaker | AvError:
    try:
        maker: SampleMaker = pipe.recv()
    except (EOFError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever importing somebody's module raises
        return AvError(f"a worker cannot load source or transform: {error}", code="not_picklable")
    return maker


def _fields(
    maker: SampleMaker | AvError, position: int, epoch: int
) -> tuple[dict[str, Field], AvError | None]:
    if isinstance(maker, AvError):
        return {}, maker
    _one_thread()
    try:
        return maker.fields(position, epoch), None
    except AvError as error:
        return {}, error


def _filled(
    maker: SampleMaker | AvError, batch: dict[str, NDArray[Any]], rows: range, epoch: int
) -> tuple[dict[str, str], AvError | None]:
    if isinstance(maker, AvError):
        return {}, maker
    _one_thread()
    try:
        return maker.fill(batch, rows, epoch), None
    except AvError as error:
        return {}, error


def _one_thread() -> None:
    """Workers share the cores as processes: libraries that a transform has loaded get one thread each."""
    for module, setting in (("cv2", "setNumThreads"), ("torch", "set_num_threads")):
        if module in sys.modules:
            getattr(sys.modules[module], setting)(1)
