"""One streaming pass over a drive: times, sizes and chosen contents of every topic, in numbers.

Memory does not grow with the length of the drive, but for 4 bytes a picture or cloud and 24 bytes a position fix.
Belongs here: measuring. Does not belong here: judging (`integrity`).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.integrity.probes import chosen_messages
from av_assets.domain.logs.integrity.time_track import CHUNK_MESSAGES, TimeTrack
from av_assets.domain.logs.messages.payloads import header_stamp_ns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.logs.integrity.probes import Probe
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.integrity import IntegrityPolicy

BY_OFFSET = ("cdr", "ros1")  # encodings whose stamps stand at a fixed place
CDR_REPRESENTATIONS = frozenset(
    (*range(4), *range(6, 12))
)  # second byte of a CDR message, OMG DDSI-RTPS 10.5
NO_STAMP_NS = -(1 << 63)


@dataclass(frozen=True)
class Sampling:
    """How a topic is looked into: the probe, if any, and how many messages are decoded."""

    probe: Probe | None = None
    samples: int = 0


@dataclass
class StreamStats:
    """Measurements of one topic.

    Attributes:
        track: its times. count: messages. bytes: of their payloads.
        repeats: messages equal to the one before in every byte.
        bad_heads: messages that do not begin as their encoding demands.
        frame_id: of the first message that has one.
    """

    topic: str
    msgtype: str
    track: TimeTrack
    bytes: int = 0
    repeats: int = 0
    bad_heads: int = 0
    frame_id: str = ""
    decode_errors: list[str] = field(default_factory=list)
    unknown_type: bool = False
    probe: Probe | None = None

    @property
    def count(self) -> int:
        return self.track.count

    @property
    def log_times(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Log times, thinned on very long topics (see TimeTrack)."""
        return self.track.log_ns

    @property
    def sensor_times(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Sensor times of the messages of `log_times`; empty unless every message has a stamp."""
        return self.track.sensor_ns


class _Intake:
    """Buffers the messages of one topic between folds. Plain attributes: this is touched once a message."""

    def __init__(self, stats: StreamStats, choice: list[int]) -> None:
        self.stats = stats
        self.log_ns: array[int] = array("q")
        self.heads = bytearray()  # the bytes up to the stamp's end, `width` of each message
        self.width = -1
        self.seen = 0
        self.choice = iter(choice)
        self.next_choice = next(self.choice, -1)
        self.looked = -1
        self.fold_at = CHUNK_MESSAGES
        self.bytes, self.repeats = 0, 0
        self.glance = stats.probe.glance if stats.probe is not None and stats.probe.wants_all else None
        self.last: RawMessage | None = None
        self.last_data: bytes | None = None
        self.cdr = True
        self.slow: array[int] | None = None  # stamps of encodings that are no offset away

    def open(self, raw: RawMessage) -> None:
        at = raw.stamp_offset
        self.cdr = raw.serialization == "cdr"
        self.width = at + 8 if at is not None and raw.serialization in BY_OFFSET else 0
        if self.cdr and not self.width:
            self.width = 4
        if raw.serialization not in BY_OFFSET:
            self.slow = array("q")
        self.at = at

    def fold(self) -> None:
        if not self.log_ns:
            return
        stats = self.stats
        log_ns = np.frombuffer(self.log_ns, dtype=np.int64)
        stats.track.fold(log_ns, self._stamps(len(log_ns)))
        self.log_ns, self.heads = array("q"), bytearray()
        self.fold_at = self.seen + CHUNK_MESSAGES
        stats.bytes, stats.repeats = self.bytes, self.repeats
        if self.slow is not None:
            self.slow = array("q")

    def _stamps(self, count: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """Sensor times of the buffered messages; None where one has no stamp."""
        if self.slow is not None:
            found = np.frombuffer(self.slow, dtype=np.int64).copy()
            return None if (found == NO_STAMP_NS).any() else found
        if not self.width:
            return None
        heads = np.frombuffer(self.heads, dtype=np.uint8).reshape(count, self.width)
        if self.cdr:
            good = (heads[:, 0] == 0) & np.isin(heads[:, 1], list(CDR_REPRESENTATIONS))
            self.stats.bad_heads += int((~good).sum())
        if self.at is None or self.stats.bad_heads:
            return None
        words = np.ascontiguousarray(heads[:, self.at : self.at + 8])
        stamps = _nanoseconds(words, "<", signed=self.cdr)
        big = (heads[:, 1] & 1) == 0
        if self.cdr and big.any():
            stamps[big] = _nanoseconds(words[big], ">", signed=True)
        return stamps


def _nanoseconds(
    words: np.ndarray[Any, np.dtype[np.uint8]], order: str, signed: bool
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(N, 8) bytes of seconds and nanoseconds -> int64 ns."""
    seconds = words[:, :4].copy().view(f"{order}i4" if signed else f"{order}u4")[:, 0].astype(np.int64)
    rest = words[:, 4:].copy().view(f"{order}u4")[:, 0].astype(np.int64)
    return np.asarray(seconds * 1_000_000_000 + rest, dtype=np.int64)


def measure(
    reader: LogReader, samplings: Mapping[str, Sampling], policy: IntegrityPolicy
) -> dict[str, StreamStats]:
    """Read every message once; decode the first, the last and some at random of every topic.

    Args:
        samplings: topic -> probe and samples; topics without one are decoded `policy.decode_samples` times.
    """
    intakes: dict[str, _Intake] = {}
    for topic, info in reader.topics.items():
        sampling = samplings.get(topic, Sampling())
        track = TimeTrack(reader.start_ns, reader.end_ns, policy.timeline_bins, policy.steady_window_s)
        stats = StreamStats(topic, info.msgtype, track, probe=sampling.probe)
        samples = sampling.samples or policy.decode_samples
        intakes[topic] = _Intake(stats, chosen_messages(topic, info.count, samples, policy.sample_seed))
    _pass(reader, intakes)
    for intake in intakes.values():
        intake.fold()
        if intake.last is not None and intake.looked != intake.seen - 1:
            _look(reader, intake.stats, intake.last)
    return {topic: intake.stats for topic, intake in intakes.items()}


def _pass(reader: LogReader, intakes: Mapping[str, _Intake]) -> None:
    """The one loop over all messages; what is not needed for each of them is not done here."""
    for raw in reader.messages():
        one, data = intakes[raw[0]], raw[3]
        if one.width < 0:
            one.open(raw)
        one.log_ns.append(raw[2])
        one.bytes += len(data)
        if one.width:
            head = data[: one.width]
            if len(head) < one.width:
                one.stats.bad_heads += 1
                head = head.ljust(one.width, b"\xff")
            one.heads += head
        elif one.slow is not None:
            one.slow.append(_stamp(raw))
        if data == one.last_data:
            one.repeats += 1
        one.last, one.last_data = raw, data
        if one.glance is not None:
            one.glance(raw)
        if one.seen == one.next_choice:
            _look(reader, one.stats, raw)
            one.next_choice = next(one.choice, -1)
            one.looked = one.seen
        one.seen += 1
        if one.seen == one.fold_at:
            one.fold()


def _stamp(raw: RawMessage) -> int:
    try:
        found = header_stamp_ns(raw)
    except LogError:
        return NO_STAMP_NS
    return NO_STAMP_NS if found is None else found


def _look(reader: LogReader, stats: StreamStats, raw: RawMessage) -> None:
    if stats.unknown_type:
        return
    try:
        message = reader.deserialize(raw)
    except LogError as error:
        if error.code == "unknown_type":
            stats.unknown_type = True
        else:
            stats.decode_errors.append(error.reason)
        return
    if not stats.frame_id:
        stats.frame_id = str(getattr(getattr(message, "header", None), "frame_id", "")).lstrip("/")
    if stats.probe is not None:
        stats.probe.look(raw, message)
