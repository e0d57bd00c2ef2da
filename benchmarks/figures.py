"""What a benchmark hands over: a figure, its target, and the samples that it was made from.

Belongs here: figures and how contenders take turns. Does not belong here: what is measured, how it is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

Say = Callable[[str], None]
"""Progress in words; shown in a terminal only."""


@dataclass(frozen=True)
class Settings:
    """What the person who runs the benchmarks may choose.

    Attributes:
        work: an empty folder on the disk that is to be measured.
        repeats: how often every contender runs; 0 leaves it to each benchmark.
        ingest_bytes: size of the recordings to ingest.
    """

    work: Path
    repeats: int = 0
    ingest_bytes: int = 1_000_000_000

    def times(self, usual: int) -> int:
        return self.repeats or usual


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        name: stable key, `ingest` or `load.rss`.
        measured: what was divided by what, or what was timed.
        value: the figure, in `unit`.
        unit: "x" for a ratio, else the unit.
        target: the value must not be above this; None where the figure only informs.
        samples: contender -> one value per repeat, in the order they were taken.
        parts: where the time of our side went, in seconds of the last repeat.
        cpu: contender -> seconds of processor time per repeat, children included;
            a busy machine stretches these much less.
        note: what a reader must know to judge the figure.
    """

    name: str
    measured: str
    value: float
    unit: str
    target: float | None
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    cpu: Mapping[str, Sequence[float]] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None where there is no target."""
        return None if self.target is None else self.value <= self.target

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "measured": self.measured, "value": self.value, "unit": self.unit,
            "target": self.target, "met": self.met, "note": self.note, "parts_s": dict(self.parts),
            "samples": {k: list(v) for k, v in self.samples.items()},
            "cpu_s": {k: list(v) for k, v in self.cpu.items()},
        }  # fmt: skip


class Turns(NamedTuple):
    """Contender -> seconds, and processor seconds, of every repeat."""

    seconds: dict[str, list[float]]
    cpu: dict[str, list[float]]


def take_turns(
    ours: tuple[str, Callable[[], None]],
    peer: tuple[str, Callable[[], None]],
    repeats: int,
    say: Say,
    reset: Callable[[], None] = lambda: None,
) -> Turns:
    """Seconds of each contender, A B B A: what else the machine does meanwhile, and what the one before left to be
    written, hits both alike.

    Args:
        reset: clears away what the contender before left; not timed.
    """
    turns = Turns({ours[0]: [], peer[0]: []}, {ours[0]: [], peer[0]: []})
    for number in range(repeats):
        for name, run in (ours, peer)[:: -1 if number % 2 else 1]:
            say(f"{name}, {number + 1} of {repeats}")
            reset()
            started, cpu_s = time.perf_counter(), processor_s()
            run()
            turns.seconds[name].append(time.perf_counter() - started)
            turns.cpu[name].append(processor_s() - cpu_s)
    return turns


def processor_s() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def paired_ratio(samples: Mapping[str, Sequence[float]]) -> float:
    """Median of the ratios of neighbours, first contender over second: a slow minute cancels out."""
    ours, peer = samples.values()
    return median(a / b for a, b in zip(ours, peer, strict=True))
