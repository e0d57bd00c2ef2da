"""The times of the frames of a video file: a CSV beside it, one row a frame.

Belongs here: finding and reading that CSV. Does not belong here: the video (`video_file`).
"""

from __future__ import annotations

import csv
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.magic import os_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("{}.csv", "{}_timestamps.csv")
MAX_CSV_BYTES = 1 << 30
MAX_ROWS = 20_000_000
_UNITS = {"timestamp_ns": "ns", "timestamp_s": "s", "timestamp": ""}
_FRAMES = ("frame", "frame_index", "frame_number")
_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
# Of a time since 1970: seconds stay below the first bound until the year 5138, and so on by factors of 1000.
_BOUNDS = ((10**11, "s"), (10**14, "ms"), (10**17, "us"))


class FrameTimes(NamedTuple):
    """`times_ns` (N,) int64 since the epoch, in presentation order; `guessed_unit` empty where it was named."""

    path: Path
    times_ns: np.ndarray
    guessed_unit: str


def read_frame_times(video: Path) -> FrameTimes:
    """The times in `<name>.csv` or `<name>_timestamps.csv` beside a video.

    The header names one column of times: timestamp_ns, timestamp_s, or timestamp, whose unit is told by
    magnitude. A column frame (also frame_index, frame_number), from 0 or 1, orders the rows; otherwise they
    stand in presentation order.

    Raises:
        LogError: missing_timestamps without a CSV, bad_timestamps for one that does not say what it must.
    """
    names = [name.format(video.stem) for name in NAMES]
    path = next((video.with_name(name) for name in names if video.with_name(name).is_file()), None)
    if path is None:
        reason = "the video has no times: there is no " + " and no ".join(names) + " beside it"
        raise LogError(reason, code="missing_timestamps", file=video, remedy=f"write {names[0]}")
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise bad_timestamps(f"{path.name} is larger than {MAX_CSV_BYTES} bytes", path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parsed(path, file)
    except OSError as error:
        raise os_error(error, path) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad_timestamps(f"{path.name} is no CSV", path) from error


def bad_timestamps(reason: str, path: Path) -> LogError:
    remedy = "give one row a frame, with a column timestamp_ns, timestamp_s or timestamp"
    return LogError(reason, code="bad_timestamps", file=path, remedy=remedy)


def _parsed(path: Path, lines: Iterator[str]) -> FrameTimes:
    head = next(lines, "")
    delimiter = next((mark for mark in ",;\t" if mark in head), ",")
    names = [name.strip().strip('"').lower() for name in head.split(delimiter)]
    time = next((name for name in _UNITS if name in names), "")
    if not time:
        raise bad_timestamps(f"{path.name} has no column {', '.join(_UNITS)}", path)
    frame = next((name for name in _FRAMES if name in names), "")
    columns = [names.index(name) for name in (time, frame) if name]
    values: list[list[Decimal]] = [[] for _ in columns]
    for number, row in enumerate(csv.reader(lines, delimiter=delimiter), 2):
        if not "".join(row).strip():
            continue
        if len(values[0]) >= MAX_ROWS:
            raise bad_timestamps(f"{path.name} has more than {MAX_ROWS} rows", path)
        for found, column in zip(values, columns, strict=True):
            found.append(_number(row, column, path, number))
    unit = _UNITS[time] or _unit(values[0])
    times_ns = _nanoseconds(values[0], unit, path)
    if frame:
        times_ns = times_ns[_order(values[1], path)]
    return FrameTimes(path, times_ns, "" if _UNITS[time] else unit)


def _number(row: list[str], column: int, path: Path, line: int) -> Decimal:
    try:
        value = Decimal(row[column].strip())
    except (IndexError, InvalidOperation) as error:
        raise bad_timestamps(f"{path.name}, line {line}: no number", path) from error
    if not value.is_finite() or not 0 <= value < 1 << 63:
        raise bad_timestamps(f"{path.name}, line {line}: no time", path)
    return value


def _unit(values: list[Decimal]) -> str:
    middle = sorted(values)[len(values) // 2] if values else Decimal(0)
    return next((unit for bound, unit in _BOUNDS if middle < bound), "ns")


def _nanoseconds(values: list[Decimal], unit: str, path: Path) -> np.ndarray:
    """Exact: a float of seconds since 1970 is good for 0.2 microseconds only."""
    found = [int(value * _NS[unit]) for value in values]
    if max(found, default=0) >= 1 << 63:
        raise bad_timestamps(f"{path.name} holds a time after the year 2262", path)
    return np.array(found, np.int64)


def _order(frames: list[Decimal], path: Path) -> np.ndarray:
    """The rows by their frame number, which must count without a hole from 0 or 1."""
    order = np.argsort(np.array([float(frame) for frame in frames]), kind="stable")
    first = int(min(frames, default=Decimal(0)))
    if first not in (0, 1) or any(frames[row] != first + i for i, row in enumerate(order.tolist())):
        raise bad_timestamps(f"{path.name}: the frame column does not count from 0 or 1", path)
    return order
