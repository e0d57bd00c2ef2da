"""What the format scanners give and the reader merges: channels, blocks, raw messages, damage.

A block is a run of messages that can be read and decoded by itself: a chunk, or records outside of chunks.
Belongs here: those types, the bounds on sizes, and the merge of blocks by time. Does not belong here: any
file format.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

MAX_CHUNK_BYTES = 1 << 30  # one decoded chunk; recorders write 1..32 MiB
MAX_OPEN_BYTES = 2 << 30  # decoded bytes that the merge by time may hold at once
MAX_TIME_NS = (1 << 63) - 1


class RawMessage(NamedTuple):
    """One message as recorded.

    `stamp_offset` is where sensor seconds and nanoseconds stand in `data` (2 x 32 bit), None without a stamp;
    4 is right for every message that starts with std_msgs/Header, in CDR as in ROS 1.
    """

    topic: str
    msgtype: str
    log_ns: int
    data: bytes
    serialization: str = "cdr"
    stamp_offset: int | None = 4


@dataclass(frozen=True)
class TopicInfo:
    """One topic over all files of a drive. `msgtype` is in ROS 2 form (`sensor_msgs/msg/Imu`)."""

    topic: str
    msgtype: str
    count: int
    serialization: str


class Channel(NamedTuple):
    """One connection of one file; `definition` is the embedded schema text, `encoding` how to parse it."""

    topic: str
    msgtype: str
    serialization: str
    definition: str
    encoding: str
    stamp_offset: int | None


class Block(NamedTuple):
    """A run of messages between two log times.

    `size` is its decoded size in bytes, `channels` those inside (None: any). `kind` is chunk, records
    (outside of chunks) or cut (a chunk of which only the beginning survives).
    """

    start_ns: int
    end_ns: int
    offset: int
    length: int
    size: int
    channels: frozenset[int] | None
    kind: str = "chunk"


@dataclass
class Damage:
    """The loss account of one file: what could not be read, and why.

    `bytes_lost` counts bytes of the file, decoded where the file as a whole is compressed; `reasons` counts
    events by code. `remarks` are assumptions that cost nothing and that a reader of the report should know.
    """

    bytes_total: int = 0
    bytes_lost: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: str = ""
    remarks: list[str] = field(default_factory=list)

    def note(self, code: str, reason: str, bytes_lost: int = 0) -> None:
        self.reasons[code] += 1
        self.first = self.first or reason
        self.bytes_lost = min(self.bytes_total, self.bytes_lost + max(0, bytes_lost))

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def to_dict(self) -> dict[str, object]:
        return {
            "bytes_total": self.bytes_total,
            "bytes_kept": self.bytes_total - self.bytes_lost,
            "bytes_lost": self.bytes_lost,
            "reasons": dict(sorted(self.reasons.items())),
            "first": self.first,
        }


@runtime_checkable
class LogSource(Protocol):
    """One open log file, whatever its format."""

    path: Path
    format: str
    channels: dict[int, Channel]
    counts: dict[int, int]
    blocks: list[Block]
    damage: Damage
    indexed: bool

    def read(self, block: Block, wanted: frozenset[int]) -> Iterable[RawMessage]:
        """Messages of the wanted channels in one block, sorted by log time. Damage is noted, never raised."""

    def close(self) -> None: ...


def sorted_by_time(messages: list[RawMessage]) -> list[RawMessage]:
    """Stable: messages of one time stay in recorded order. Most blocks are sorted already."""
    messages.sort(key=lambda message: message.log_ns)
    return messages


def merge_by_time(
    work: Sequence[tuple[LogSource, Block]], read: Callable[[LogSource, Block], Iterable[RawMessage]]
) -> Iterator[RawMessage]:
    """Messages of all blocks in log time order, opening a block only when its time has come.

    Holds the decoded blocks that overlap in time, at most MAX_OPEN_BYTES of them: past that bound a log
    whose every block claims the same time comes out in block order.
    """
    queue = sorted(work, key=lambda item: (item[1].start_ns, item[1].offset))
    queue.reverse()
    heap: list[tuple[int, int, RawMessage, Iterator[RawMessage], int]] = []
    opened, open_bytes = 0, 0
    while queue or heap:
        while queue and (not heap or (queue[-1][1].start_ns <= heap[0][0] and open_bytes < MAX_OPEN_BYTES)):
            source, block = queue.pop()
            messages = iter(read(source, block))
            first = next(messages, None)
            if first is not None:
                heapq.heappush(heap, (first.log_ns, opened, first, messages, block.size))
                opened, open_bytes = opened + 1, open_bytes + block.size
        if not heap:
            return
        _, order, message, messages, size = heap[0]
        # The head stays the earliest until another open block or the next closed one comes before it.
        limit = min((entry[0] for entry in heap[1:3]), default=MAX_TIME_NS)
        limit = min(limit, queue[-1][1].start_ns if queue else MAX_TIME_NS)
        yield message
        following = next(messages, None)
        while following is not None and following.log_ns < limit:
            yield following
            following = next(messages, None)
        if following is None:
            heapq.heappop(heap)
            open_bytes -= size
        else:
            heapq.heapreplace(heap, (following.log_ns, order, following, messages, size))
