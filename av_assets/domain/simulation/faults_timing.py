"""Faults of times: messages lost, doubled or exchanged, and every way in which a clock goes wrong.

Belongs here: damage to when messages come and what their stamps say. Does not belong here: what is in them
(`faults_content`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from av_assets.domain.simulation.rewrite import Message, rewrite, topic_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy as np

    from av_assets.domain.logs.drive_spec import StreamKind

CLOCK_JUMP_NS = 2_500_000_000
STEP_BACK_NS = 50_000_000
GPS_LEAP_NS = 18_000_000_000
DRIFT = 0.02  # far beyond any quartz, so that a few seconds show it
LOST_SHARE = 0.08


def _restamp(folder: Path, kind: StreamKind, change: Callable[[Message], Message]) -> None:
    topic = topic_of(folder, kind)
    rewrite(folder, lambda message: change(message) if message.topic == topic else message)


def duplicate_stamps(folder: Path, rng: np.random.Generator) -> None:
    every, last = int(rng.integers(3, 6)), [0]

    def change(message: Message) -> Message:
        before, last[0] = last[0], message.sensor_ns
        return message.stamped(before) if message.index % every == every - 1 else message

    _restamp(folder, "lidar", change)


def clock_jump(folder: Path, rng: np.random.Generator) -> None:
    since = float(rng.uniform(0.3, 0.7))

    def change(message: Message) -> Message:
        late = message.index >= since * message.count
        return message.stamped(message.sensor_ns + CLOCK_JUMP_NS) if late else message

    _restamp(folder, "camera", change)


def backward_stamps(folder: Path, rng: np.random.Generator) -> None:
    at = float(rng.uniform(0.2, 0.8))

    def change(message: Message) -> Message:
        hit = message.index == int(at * message.count)
        return message.stamped(message.sensor_ns - STEP_BACK_NS) if hit else message

    _restamp(folder, "imu", change)


def clock_drift(folder: Path, rng: np.random.Generator) -> None:
    first: list[int] = []

    def change(message: Message) -> Message:
        first.append(message.sensor_ns) if not first else None
        return message.stamped(message.sensor_ns + round((message.sensor_ns - first[0]) * DRIFT))

    _restamp(folder, "imu", change)


def uptime_clock(folder: Path, rng: np.random.Generator) -> None:
    started_ns = int(rng.integers(20, 600)) * 1_000_000_000
    first: list[int] = []

    def change(message: Message) -> Message:
        first.append(message.sensor_ns) if not first else None
        return message.stamped(message.sensor_ns - first[0] + started_ns)

    _restamp(folder, "imu", change)


def zero_clock(folder: Path, rng: np.random.Generator) -> None:
    _restamp(folder, "radar", lambda message: message.stamped(0))


def frozen_clock(folder: Path, rng: np.random.Generator) -> None:
    since = float(rng.uniform(0.05, 0.2))
    held: list[int] = []

    def change(message: Message) -> Message:
        if message.index < since * message.count:
            return message
        held.append(message.sensor_ns) if not held else None
        return message.stamped(held[0])

    _restamp(folder, "radar", change)


def gps_leap(folder: Path, rng: np.random.Generator) -> None:
    _restamp(folder, "gnss", lambda message: message.stamped(message.sensor_ns + GPS_LEAP_NS))


def swapped_stamp(folder: Path, rng: np.random.Generator) -> None:
    def change(message: Message) -> Message:
        seconds, nanoseconds = divmod(message.sensor_ns, 1_000_000_000)
        return message.with_stamp(nanoseconds, seconds)

    _restamp(folder, "imu", change)


def message_gap(folder: Path, rng: np.random.Generator) -> None:
    topic, since = topic_of(folder, "lidar"), float(rng.uniform(0.2, 0.5))

    def edit(message: Message) -> Message | None:
        gone = since * message.count <= message.index < (since + 0.3) * message.count
        return None if message.topic == topic and gone else message

    rewrite(folder, edit)


def drop_messages(folder: Path, rng: np.random.Generator) -> None:
    """Single messages only, so that no gap grows long."""
    topic, dropped = topic_of(folder, "imu"), [False]

    def edit(message: Message) -> Message | None:
        inner = 0 < message.index < message.count - 1
        dropped[0] = message.topic == topic and inner and not dropped[0] and rng.random() < LOST_SHARE
        return None if dropped[0] else message

    rewrite(folder, edit)


def duplicate_messages(folder: Path, rng: np.random.Generator) -> None:
    topic = topic_of(folder, "imu")

    def edit(message: Message) -> Iterable[Message]:
        yield message
        if message.topic == topic and rng.random() < 0.05:
            yield replace(message, log_ns=message.log_ns + 50_000)

    rewrite(folder, edit)


def reorder_messages(folder: Path, rng: np.random.Generator) -> None:
    """Neighbours change places in the log: the recorder got the later one first."""
    topic, every = topic_of(folder, "imu"), int(rng.integers(7, 13))
    held: list[Message] = []

    def edit(message: Message) -> Iterable[Message]:
        if message.topic != topic:
            yield message
        elif held:
            early = held.pop()
            yield replace(message, log_ns=early.log_ns)
            yield replace(early, log_ns=message.log_ns)
        elif message.index % every == 0 and message.index < message.count - 1:
            held.append(message)
        else:
            yield message

    rewrite(folder, edit)


def low_rate(folder: Path, rng: np.random.Generator) -> None:
    topic, odd = topic_of(folder, "camera"), int(rng.integers(2))
    rewrite(folder, lambda message: None if message.topic == topic and message.index % 2 == odd else message)


def late_start(folder: Path, rng: np.random.Generator) -> None:
    topic, share = topic_of(folder, "lidar"), float(rng.uniform(0.25, 0.5))
    rewrite(
        folder,
        lambda message: None if message.topic == topic and message.index < share * message.count else message,
    )
