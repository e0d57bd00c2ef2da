"""CAN frames against the DBC of the drive: rolling counters and stated limits, whole buses at once with numpy.

Belongs here: judging frames. Does not belong here: decoding them for other uses (sync).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.logs.integrity.findings import Finding
    from av_assets.domain.logs.integrity.probes import StreamJudge
    from av_assets.domain.logs.integrity.rules import Severity
    from av_assets.policies.integrity import IntegrityPolicy

    Words = np.ndarray[Any, np.dtype[np.uint64]]

TAIL_BYTES = 16  # id, is_rtr, is_extended, is_error, dlc and 8 bytes of data end every can_msgs/Frame
FOLD_FRAMES = 8192
EXTENDED_BIT = 1 << 31
MAX_DBC_BYTES = 16 << 20
COUNTER = re.compile(r"(?i)(^|_)(rolling_?)?(counter|count|cnt|alive|rollcnt|msgcnt|rc|bz)(_?\d*)($|_)")
MAX_COUNTER_BITS = 8
TOLERANCE = 1e-6  # of a limit: scaled limits are rarely exact


@dataclass(frozen=True)
class Signal:
    """One signal of at most 64 bits: `low_bit` counts from the least significant bit of the 8 bytes as read."""

    name: str
    low_bit: int
    length: int
    little: bool
    signed: bool
    scale: float
    offset: float
    minimum: float | None
    maximum: float | None
    first_byte_needed: int

    @property
    def is_counter(self) -> bool:
        return bool(COUNTER.search(self.name)) and 2 <= self.length <= MAX_COUNTER_BITS and not self.signed

    @property
    def modulus(self) -> int:
        """Where the counter wraps: behind its stated maximum, else behind its last bit."""
        top = (1 << self.length) - 1
        stated = None if self.maximum is None else round((self.maximum - self.offset) / (self.scale or 1.0))
        return (stated if stated is not None and 0 < stated < top else top) + 1

    def raw(self, little: Words, big: Words) -> np.ndarray[Any, Any]:
        """Unscaled values of frames given as 64 bit words in both byte orders."""
        words = (little if self.little else big) >> np.uint64(self.low_bit)
        words = words & np.uint64((1 << self.length) - 1)
        if not self.signed:
            return words
        wide = np.uint64(64 - self.length)
        return (words << wide).view(np.int64) >> wide.astype(np.int64)


def load_signals(dbc: Path) -> dict[int, list[Signal]]:
    """Frame id (with EXTENDED_BIT) -> its plain signals; multiplexed and floating point ones are left out.

    Raises:
        ValueError: the file is missing, too large, or no DBC.
    """
    import cantools

    try:
        if dbc.stat().st_size > MAX_DBC_BYTES:
            raise ValueError("the DBC is larger than 16 MiB")
        database = cantools.database.load_file(str(dbc), database_format="dbc")
    except (OSError, KeyError, UnicodeDecodeError, cantools.database.Error) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return {
        message.frame_id | (EXTENDED_BIT if message.is_extended_frame else 0): [
            _signal(s) for s in message.signals if not (s.is_float or s.is_multiplexer or s.multiplexer_ids)
            if s.length <= 64 and message.length <= 8
        ]
        for message in database.messages
    }  # fmt: skip


def _signal(signal: Any) -> Signal:
    """Motorola signals start at their highest bit, counted byte by byte from the least significant one."""
    little = signal.byte_order == "little_endian"
    if little:
        low, last_byte = signal.start, (signal.start + signal.length - 1) // 8
    else:
        high = 63 - 8 * (signal.start // 8) - (7 - signal.start % 8)
        low = high - signal.length + 1
        last_byte = 7 - low // 8
    stated = (signal.minimum, signal.maximum)
    # [0|0] is how a DBC says that no limit is stated.
    minimum, maximum = (None, None) if stated == (0, 0) else stated
    return Signal(
        signal.name, max(0, low), signal.length, little, signal.is_signed, float(signal.scale),
        float(signal.offset), minimum, maximum, last_byte + 1,
    )  # fmt: skip


class CanProbe:
    """Skips of counters and values out of range on one bus."""

    wants_all = True

    def __init__(self, signals: dict[int, list[Signal]], policy: IntegrityPolicy) -> None:
        self.policy = policy
        self._signals = {key: [s for s in of if _is_judged(s)] for key, of in signals.items()}
        self._buffer = bytearray()
        self._last: dict[tuple[int, str], int] = {}
        self.steps: dict[tuple[int, str], int] = {}
        self.skips: dict[tuple[int, str], int] = {}
        self.outside: dict[str, int] = {}
        self.values = 0

    def glance(self, raw: RawMessage) -> None:
        tail = raw.data[-TAIL_BYTES:]
        if len(tail) == TAIL_BYTES and (raw.serialization == "ros1" or raw.data[1] & 1):
            self._buffer += tail
            if len(self._buffer) >= TAIL_BYTES * FOLD_FRAMES:
                self._fold()

    def look(self, raw: RawMessage, message: Any) -> None:
        pass

    def _fold(self) -> None:
        frames = np.frombuffer(bytes(self._buffer), np.uint8).reshape(-1, TAIL_BYTES)
        self._buffer.clear()
        frames = frames[(frames[:, 4] == 0) & (frames[:, 6] == 0)]  # neither remote requests nor errors
        keys = frames[:, :4].copy().view("<u4")[:, 0].astype(np.int64) & 0x1FFFFFFF
        keys |= np.where(frames[:, 5] != 0, EXTENDED_BIT, 0)
        for key in np.unique(keys).tolist():
            signals = self._signals.get(key)
            if not signals:
                continue
            chosen = frames[keys == key]
            data = np.ascontiguousarray(chosen[:, 8:])
            little, big = data.view("<u8")[:, 0], data.view(">u8")[:, 0].astype(np.uint64)
            for signal in signals:
                whole = chosen[:, 7] >= signal.first_byte_needed
                values = signal.raw(little[whole].astype(np.uint64), big[whole])
                self._judge(key, signal, values)

    def _judge(self, key: int, signal: Signal, values: np.ndarray[Any, Any]) -> None:
        if not len(values):
            return
        if signal.is_counter:
            self._count(key, signal, values.astype(np.int64))
            return
        physical = values.astype(np.float64) * signal.scale + signal.offset
        slack = TOLERANCE * (1 + abs(signal.minimum or 0.0) + abs(signal.maximum or 0.0))
        outside = np.zeros(len(physical), dtype=np.bool_)
        if signal.minimum is not None:
            outside |= physical < signal.minimum - slack
        if signal.maximum is not None:
            outside |= physical > signal.maximum + slack
        self.values += len(physical)
        if outside.any():
            self.outside[signal.name] = self.outside.get(signal.name, 0) + int(outside.sum())

    def _count(self, key: int, signal: Signal, values: np.ndarray[Any, Any]) -> None:
        """A repeated value is a repeated frame; anything but the next one is a skip."""
        last = self._last.get((key, signal.name))
        if last is not None:
            values = np.concatenate([[last], values])
        steps = np.diff(values) % signal.modulus
        self._last[key, signal.name] = int(values[-1])
        place = (key, signal.name)
        self.steps[place] = self.steps.get(place, 0) + len(steps)
        self.skips[place] = self.skips.get(place, 0) + int((steps > 1).sum())

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        self._fold()
        yield self._counters(judge)
        if self.values:
            share, limit_share = sum(self.outside.values()) / self.values, self.policy.max_out_of_range_share
            reason = f"outside of the limits of the DBC: {_named(self.outside)}"
            good = share <= limit_share
            yield judge.judge("signals_are_in_range", "warn", good, share, limit_share, reason)
        else:
            yield judge.skip("signals_are_in_range", "warn", "no signal with limits")

    def _counters(self, judge: StreamJudge) -> Finding:
        """Few skips warn, more are an error. What skips more often than not is no rolling counter."""
        rolling = [place for place, steps in self.steps.items() if 2 * self.skips[place] <= steps]
        counted = sum(self.steps[place] for place in rolling)
        if not counted:
            return judge.skip("can_counter_counts", "error", "no frame with a rolling counter")
        named: dict[str, int] = {}
        for key, name in rolling:
            named[name] = named.get(name, 0) + self.skips[key, name]
        skips, limit = sum(named.values()), self.policy.max_counter_skips
        severity: Severity = "error" if skips > self.policy.error_counter_skip_share * counted else "warn"
        reason = f"counters skip: {_named({name: count for name, count in named.items() if count})}"
        return judge.judge("can_counter_counts", severity, skips <= limit, skips, limit, reason)


def _is_judged(signal: Signal) -> bool:
    return signal.is_counter or signal.minimum is not None or signal.maximum is not None


def _named(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    return ", ".join(f"{name} {count} times" for name, count in most)
