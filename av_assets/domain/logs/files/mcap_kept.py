"""What a scan of an MCAP file keeps: blocks, and the messages and bytes of each channel in them.

Belongs here: runs of messages outside of chunks, and counting. Does not belong here: walking the file and judging its
records (`mcap_scan`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from av_assets.domain.logs.files.blocks import MAX_TIME_NS, Block
from av_assets.domain.logs.files.mcap_records import RECORD

if TYPE_CHECKING:
    from av_assets.domain.logs.files.mcap_log import McapLog

RUN_BYTES = 4 << 20  # messages outside chunks are read in runs of this size


@dataclass
class Tally:
    """Counts and time span of one block while it grows."""

    counts: Counter[int] = field(default_factory=Counter)
    bytes: Counter[int] = field(default_factory=Counter)
    start_ns: int = MAX_TIME_NS
    end_ns: int = 0

    def add(self, channel: int, log_ns: int, size: int) -> None:
        self.counts[channel] += 1
        self.bytes[channel] += size
        self.start_ns = min(self.start_ns, log_ns)
        self.end_ns = max(self.end_ns, log_ns)


class Pending(NamedTuple):
    """A message that no checksum covers, until the record behind it shows that its length is right."""

    start: int
    length: int
    channel: int
    log_ns: int


class Kept:
    """Blocks go to the log as they are finished; `pending` is the last message of the run."""

    def __init__(self, log: McapLog) -> None:
        self.pending: Pending | None = None
        self._log = log
        self._start = 0
        self._run = Tally()
        self._seen: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    def message(self, message: Pending) -> None:
        """The next message of a run; the one before it stays."""
        self._keep_pending()
        if self._start and message.start - self._start >= RUN_BYTES:
            self.end_run(message.start)
        self._start = self._start or message.start
        self.pending = message

    def end_run(self, end: int) -> None:
        """The run ends at byte `end`, behind its last message."""
        self._keep_pending()
        if self._run.counts:
            self.block(self._run, self._start, end - self._start, end - self._start, "records")
        self._start, self._run = 0, Tally()

    def block(self, tally: Tally, start: int, length: int, size: int, kind: str) -> None:
        if tally.counts:
            channels = self._log.same_channels(frozenset(tally.counts))
            self._log.blocks.append(Block(tally.start_ns, tally.end_ns, start, length, size, channels, kind))
            self._seen += tally.counts
            self._bytes += tally.bytes

    def near_ns(self) -> int | None:
        """Log time of a message outside of chunks that is not far; None where a chunk came last."""
        if self._run.counts:
            return self._run.end_ns
        runs = [block for block in self._log.blocks[-1:] if block.kind == "records"]
        return runs[0].end_ns if runs else None

    def settle(self, stated: int | None) -> None:
        """Hold the counts against those of the statistics, and give them to the log."""
        found = sum(self._seen.values())
        if stated not in (None, found):
            reason = f"the statistics say {stated} messages, {found} are there"
            self._log.damage.note("count_mismatch", reason)
        for channel, count in sorted(self._seen.items()):
            if channel in self._log.channels:
                self._log.counts[channel] = count
            else:
                reason = f"{count} messages of channel {channel} have no topic"
                self._log.damage.note("unknown_channel", reason, self._bytes[channel])

    def _keep_pending(self) -> None:
        if self.pending is not None:
            self._run.add(self.pending.channel, self.pending.log_ns, RECORD.size + self.pending.length)
        self.pending = None
