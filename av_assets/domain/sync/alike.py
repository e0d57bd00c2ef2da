"""Messages of one type and length as one array of bytes, so that a field of all of them is one slice.

Belongs here: grouping messages by shape and reading fields of a group by offset. Does not belong here: what the
numbers mean (signal_batches), single messages (wire).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from av_assets.domain.logs.messages.payloads import header_stamp_ns
from av_assets.domain.sync.grid import NS_PER_S
from av_assets.domain.sync.wire import Cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.sync.grid import Ns

STAMP_END = 12  # encapsulation or sequence number, then the stamp
_BY_OFFSET = ("cdr", "ros1")


class NotAlikeError(Exception):
    """The messages differ before their numbers, or end before them: read them one by one."""


class Alike(NamedTuple):
    """Messages of one type, serialization and length: `rows` are their places in the batch, `data` is (N, bytes)."""

    first: RawMessage
    rows: Ns
    data: NDArray[np.uint8]

    def cursor(self, texts: int = 0) -> tuple[Cursor, str]:
        """A cursor past the header (and `texts` more texts) of all messages, and the frame of the header.

        Raises:
            NotAlikeError: their headers differ in more than the stamp.
            SyncError: bad_message, they end before that.
        """
        cursor = Cursor(self.first)
        frame = cursor.header()
        for _ in range(texts):
            cursor.text()
        fixed = self.data[:, STAMP_END : cursor.at]
        if (fixed != fixed[0]).any() or not self.has_one_order():
            raise NotAlikeError
        return cursor, frame

    def has_one_order(self) -> bool:
        """Whether all have the byte order of the first."""
        return self.first.serialization != "cdr" or bool((self.data[:, 1] == self.data[0, 1]).all())

    def bytes_at(self, at: int, count: int) -> NDArray[np.uint8]:
        """(N, count), or NotAlikeError where the messages are shorter."""
        if at + count > self.data.shape[1]:
            raise NotAlikeError
        return self.data[:, at : at + count]

    def view(self, at: int, kind: str, count: int) -> NDArray:
        """(N, count) numbers of a numpy kind (`u4`, `f8`) in the byte order of the messages."""
        order = ">" if self.first.serialization == "cdr" and not self.first.data[1] & 1 else "<"
        size = np.dtype(kind).itemsize
        return np.ascontiguousarray(self.bytes_at(at, size * count)).view(order + kind)

    def numbers(self, at: int, count: int) -> Array:
        """(N, count) doubles."""
        return self.view(at, "f8", count).astype(np.float64)


def alike(batch: Sequence[RawMessage]) -> tuple[list[Alike], list[int]]:
    """Groups of messages that can be read by offset, and the places of those that cannot."""
    shapes: dict[tuple[object, ...], list[int]] = {}
    of = [(raw.msgtype, raw.serialization, raw.stamp_offset, len(raw.data)) for raw in batch]
    if len(set(of)) == 1:
        shapes[of[0]] = list(range(len(batch)))
    else:
        shapes = defaultdict(list)
        for row, shape in enumerate(of):
            shapes[shape].append(row)
    groups, others = [], []
    for rows in shapes.values():
        first = batch[rows[0]]
        if first.serialization not in _BY_OFFSET or len(first.data) < STAMP_END:
            others += rows
            continue
        data = np.frombuffer(b"".join([batch[row].data for row in rows]), np.uint8).reshape(len(rows), -1)
        groups.append(Alike(first, np.array(rows, np.int64), data))
    return groups, others


def times(batch: Sequence[RawMessage], groups: Sequence[Alike]) -> Ns:
    """(N, 2): sensor_ns, which is log time where a message has no stamp, and log_ns."""
    log_ns = np.array([raw.log_ns for raw in batch], np.int64)
    sensor_ns, known = log_ns.copy(), np.zeros(len(batch), np.bool_)
    for group in groups:
        at, kind = group.first.stamp_offset, "i4" if group.first.serialization == "cdr" else "u4"
        if at is not None and at + 8 <= group.data.shape[1] and group.has_one_order():
            seconds = group.view(at, kind, 1)[:, 0].astype(np.int64)
            sensor_ns[group.rows] = seconds * NS_PER_S + group.view(at + 4, "u4", 1)[:, 0]
            known[group.rows] = True
    for row in np.flatnonzero(~known).tolist():
        stamp_ns = header_stamp_ns(batch[row])
        if stamp_ns is not None:
            sensor_ns[row] = stamp_ns
    return np.stack([sensor_ns, log_ns], axis=1)
