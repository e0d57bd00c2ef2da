"""Many CAN frames at once: the signals of all frames of one identifier by shifts and masks on 64-bit words.

What does not fit a 64-bit word of integers (multiplexed or containered messages, floats) goes through cantools
frame by frame and gives the same numbers, slower.
Belongs here: batches of one bus. Does not belong here: loading a DBC (canbus), reading frames out of bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.sync.canbus import EXTENDED_FLAG, CanDecoder
from av_assets.domain.sync.wire import CanFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from av_assets.domain.geometry.transforms import Array

CLASSIC_BYTES = 8


class CanFrames(NamedTuple):
    """N classic frames: keys (N,) int64 with EXTENDED_FLAG, is_data (N,), sizes (N,), data (N, 8) zero-padded."""

    keys: NDArray[np.int64]
    is_data: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    data: NDArray[np.uint8]


class SignalRows(NamedTuple):
    """Signals `names` (K,) of the frames `rows` (M,) of a batch: values (M, K)."""

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    values: Array


class BatchCanDecoder(CanDecoder):
    """Decodes as CanDecoder does, many frames in one call."""

    def decode_many(self, frames: CanFrames) -> Iterator[SignalRows]:
        """Signals by identifier, in the units of the DBC; counts unknown and broken frames as `decode` does."""
        order = np.argsort(frames.keys, kind="stable")
        keys, starts = np.unique(frames.keys[order], return_index=True)
        for key, rows in zip(keys.tolist(), np.split(order, starts[1:]), strict=True):
            message = self._messages.get(key)
            if message is None:
                self.unknown += len(rows)
            elif _is_plain(message):
                usable = frames.is_data[rows]
                self.unknown += int((~usable).sum())
                whole = usable & (frames.sizes[rows] >= message.length)
                if cut := int((usable & ~whole).sum()):
                    self.failed["DecodeError"] += cut
                yield _plain(message, rows[whole], frames.data[rows[whole]])
            else:
                yield from self._singly(frames, key, rows)

    def _singly(self, frames: CanFrames, key: int, rows: NDArray[np.int64]) -> Iterator[SignalRows]:
        extended = bool(key & EXTENDED_FLAG)
        for row in rows.tolist():
            data = frames.data[row].tobytes()[: int(frames.sizes[row])]
            frame = CanFrame(key & ~EXTENDED_FLAG, extended, bool(frames.is_data[row]), data)
            if found := list(self.decode(frame)):
                values = np.array([[value for _, value in found]])
                yield SignalRows(tuple(name for name, _ in found), np.array([row]), values)


def _is_plain(message: Any) -> bool:
    """Whether all signals are integers at fixed places in one 64-bit word."""
    floats = any(signal.conversion.is_float for signal in message.signals)
    nested = message.is_multiplexed() or getattr(message, "is_container", False)
    return message.length <= CLASSIC_BYTES and not nested and not floats


def _plain(message: Any, rows: NDArray[np.int64], data: NDArray[np.uint8]) -> SignalRows:
    little = np.ascontiguousarray(data).view("<u8").ravel()
    big = np.ascontiguousarray(data).view(">u8").ravel().astype(np.uint64)
    names = tuple(signal.name for signal in message.signals)
    columns = [
        _signal(signal, big if signal.byte_order == "big_endian" else little) for signal in message.signals
    ]
    return SignalRows(names, rows, np.stack(columns, axis=1) if columns else np.empty((len(rows), 0)))


def _signal(signal: Any, words: NDArray[np.uint64]) -> Array:
    """Scaled values. In a big-endian word the start bit is the highest one, counted by byte from its top."""
    shift = signal.start
    if signal.byte_order == "big_endian":
        shift = 64 - (8 * (signal.start // 8) + 7 - signal.start % 8) - signal.length
    raw = words >> np.uint64(shift) & np.uint64((1 << signal.length) - 1)
    if signal.is_signed:
        left = np.uint64(64 - signal.length)
        number = ((raw << left).astype(np.int64) >> np.int64(64 - signal.length)).astype(np.float64)
    else:
        number = raw.astype(np.float64)
    return np.asarray(number * float(signal.conversion.scale) + float(signal.conversion.offset))
