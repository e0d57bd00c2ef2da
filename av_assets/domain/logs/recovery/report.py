"""What a recovery kept and lost, per file and per topic, with the holes in time.

Memory does not grow with the log: gaps are counted by size, and only the widest are kept one by one.
Belongs here: the report. Does not belong here: reading or writing logs.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from av_assets.policies.salvage import SalvagePolicy

REPORT_SCHEMA = 1
_STEPS = 64  # gap sizes are told apart by 1/64 of an octave
_DIGEST_MOD = 1 << 128


class Digest:
    """A digest over a set of messages that does not depend on their order (sum of BLAKE2b, 128 bit).

    `content` covers log time and bytes, `whole` also time of publication and sequence.
    """

    def __init__(self) -> None:
        self.count = 0
        self._content = 0
        self._whole = 0

    def add(self, log_ns: int, data: bytes, publish_ns: int | None = None, sequence: int = 0) -> None:
        one = hashlib.blake2b(data, digest_size=16, person=struct.pack("<Q", log_ns)).digest()
        self._content = (self._content + int.from_bytes(one, "little")) % _DIGEST_MOD
        if publish_ns is not None:
            head = struct.pack("<QI", publish_ns, sequence)
            whole = hashlib.blake2b(one, digest_size=16, key=head).digest()
            self._whole = (self._whole + int.from_bytes(whole, "little")) % _DIGEST_MOD
        self.count += 1

    @property
    def content(self) -> str:
        return f"{self.count}:{self._content:032x}"

    @property
    def whole(self) -> str:
        return f"{self.count}:{self._whole:032x}"


class Hole(NamedTuple):
    """A gap between two messages of a topic; `missing` is what its rate times the gap would have given."""

    start_ns: int
    end_ns: int
    missing: int


class Stamps:
    """Log times of one topic in order of time, in bounded memory."""

    def __init__(self, policy: SalvagePolicy) -> None:
        self.policy = policy
        self.count = 0
        self.first_ns = 0
        self.last_ns = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # bucket -> count and sum of gaps
        self._widest: list[tuple[int, int]] = []  # (gap, start)

    def add(self, log_ns: int) -> None:
        if self.count:
            # A log that came out of order past the memory bound of the merge has no gap there.
            gap = max(0, log_ns - self.last_ns)
            number, total = self._sizes.get(bucket := _bucket(gap), (0, 0))
            self._sizes[bucket] = (number + 1, total + gap)
            entry = (gap, self.last_ns)
            if len(self._widest) < self.policy.max_holes:
                heapq.heappush(self._widest, entry)
            elif entry > self._widest[0]:
                heapq.heapreplace(self._widest, entry)
        self.first_ns = min(self.first_ns, log_ns) if self.count else log_ns
        self.last_ns = max(self.last_ns, log_ns)
        self.count += 1

    def gap_ns(self, share: float) -> int:
        """The gap that `share` of all gaps do not exceed, as the mean of those of its size (1 %); 0 below three
        messages."""
        if self.count < 3:
            return 0
        rank, seen = share * (self.count - 1), 0
        for bucket in sorted(self._sizes):
            number, total = self._sizes[bucket]
            seen += number
            if seen > rank:
                return round(total / number)
        return round(total / number)

    def _hole_ns(self) -> int:
        """What a gap must exceed to be a hole: so many median periods as the policy says.

        Topics that come in bursts (CAN) pause between them: many wide gaps, which take most of the time. There the
        pauses are what a hole is measured by.
        """
        periods, median_ns = self.policy.hole_periods, self.gap_ns(0.5)
        hole_ns = periods * median_ns
        wide = sum(n for n, total in self._sizes.values() if total > n * hole_ns)
        span_ns = sum(total for _, total in self._sizes.values())
        usual_ns = self.policy.burst_ratio * median_ns * (self.count - 1)
        in_bursts = wide >= self.policy.min_pauses and span_ns > usual_ns
        return periods * self.gap_ns(0.995) if in_bursts else hole_ns

    def _period_ns(self) -> float:
        """The mean period outside of holes."""
        hole_ns = self._hole_ns()
        usual = [(n, total) for n, total in self._sizes.values() if total <= n * hole_ns]
        return sum(total for _, total in usual) / max(1, sum(n for n, _ in usual))

    def holes(self) -> list[Hole]:
        """The widest holes, in order of time."""
        hole_ns, period_ns = self._hole_ns(), self._period_ns()
        if not period_ns:
            return []
        wide = [(start, gap) for gap, start in self._widest if gap > hole_ns]
        return [Hole(start, start + gap, max(0, round(gap / period_ns) - 1)) for start, gap in sorted(wide)]

    def unlisted_holes(self) -> tuple[int, int]:
        """Number of the holes beyond those that are listed, and the messages they miss by estimate."""
        listed = self.holes()
        if len(listed) < self.policy.max_holes:
            return 0, 0
        hole_ns = self._hole_ns()
        wide = [(n, total) for n, total in self._sizes.values() if total > n * hole_ns]
        number = max(0, sum(n for n, _ in wide) - len(listed))
        span = sum(total for _, total in wide) - sum(hole.end_ns - hole.start_ns for hole in listed)
        return number, max(0, round(span / self._period_ns()) - number)


def _bucket(gap: int) -> int:
    """Whole steps of 1/64 octave, in integers only."""
    octave = gap.bit_length()
    mantissa = (gap << 7 >> octave) - 64 if octave else 0  # 0..63
    return octave * _STEPS + mantissa


@dataclass
class TopicLoss:
    """One topic of the recovered log.

    `promised` is what the files that have an index say, `lost` what of it is not there; both are None where no
    file has one.
    """

    msgtype: str
    serialization: str
    stamps: Stamps
    digest: Digest = field(default_factory=Digest)
    promised: int | None = None
    lost: int | None = None

    @property
    def kept(self) -> int:
        return self.stamps.count

    def promise(self, promised: int, kept: int) -> None:
        """Add what one file promised and gave."""
        self.promised = (self.promised or 0) + promised
        self.lost = (self.lost or 0) + max(0, promised - kept)

    def to_dict(self) -> dict[str, object]:
        holes = self.stamps.holes()
        number, missing = self.stamps.unlisted_holes()
        return {
            "type": self.msgtype,
            "serialization": self.serialization,
            "kept": self.kept,
            "promised": self.promised,
            "lost": self.lost,
            "start_ns": self.stamps.first_ns,
            "end_ns": self.stamps.last_ns,
            "median_period_ns": self.stamps.gap_ns(0.5),
            "holes": [hole._asdict() for hole in holes],
            "holes_not_listed": number,
            "lost_in_holes_estimate": sum(hole.missing for hole in holes) + missing,
            "digest": self.digest.content,
        }


@dataclass(frozen=True)
class FileLoss:
    """One file: `damage` as `Damage.to_dict` tells it."""

    file: str
    format: str
    indexed: bool
    kept: int
    promised: int | None
    definitions_added: tuple[str, ...]
    damage: dict[str, object]

    def to_dict(self) -> dict[str, object]:
        named = {name: value for name, value in vars(self).items() if name != "damage"}
        return {**named, "definitions_added": list(self.definitions_added), **self.damage}


@dataclass(frozen=True)
class SalvageReport:
    """What `salvage_log` kept and lost.

    Attributes:
        files: the loss account of each file that was opened.
        rejected: (file, code, reason) of those that could not be.
        topics: by name.
        messages, start_ns, end_ns: of the recovered log.
        attachments, metadata: how many of each were kept.
        verified: what re-opening the output counted, by reader.
        output: its name; `output_bytes` and `output_sha256` are of the finished file.
        codes: all reason codes, sorted; empty for logs that were whole.
        policy: digest of the policy by which holes were told from gaps.
    """

    files: tuple[FileLoss, ...]
    rejected: tuple[tuple[str, str, str], ...]
    topics: dict[str, TopicLoss]
    messages: int
    start_ns: int
    end_ns: int
    attachments: int
    metadata: int
    verified: dict[str, int]
    output: str
    output_bytes: int
    output_sha256: str
    codes: tuple[str, ...]
    policy: str

    @property
    def lost(self) -> int | None:
        """Messages that indexes promised and that are not there; None where no file had an index."""
        known = [topic.lost for topic in self.topics.values() if topic.lost is not None]
        return sum(known) if known else None

    def to_dict(self) -> dict[str, object]:
        return {
            "schema": REPORT_SCHEMA,
            "policy": self.policy,
            "codes": list(self.codes),
            "messages": self.messages,
            "lost": self.lost,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "files": [file.to_dict() for file in self.files],
            "rejected": [
                dict(zip(("file", "code", "reason"), entry, strict=True)) for entry in self.rejected
            ],
            "topics": {name: topic.to_dict() for name, topic in sorted(self.topics.items())},
            "attachments": self.attachments,
            "metadata": self.metadata,
            "verification": dict(sorted(self.verified.items())),
            "output": {"file": self.output, "bytes": self.output_bytes, "sha256": self.output_sha256},
        }
