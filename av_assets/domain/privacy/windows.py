"""Windows of log time into which a camera's stream is cut, and how much around each must be read for it.

A window is redacted by itself. What its frames look like depends on findings nearby in time, so reading begins some
fills before it and ends one fill after; video begins at the key frame before that.
Belongs here: where windows lie and reading begins. Does not belong here: what is done with the messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Protocol

from av_assets.domain.errors import LogError
from av_assets.domain.logs.messages.payloads import ImagePayload, image_payload
from av_assets.domain.logs.messages.video_units import VIDEO_CODECS, is_keyframe
from av_assets.domain.privacy.parameter_sets import has_parameters, is_parameters_only
from av_assets.domain.privacy.tracks import WARM_UP_FILLS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from av_assets.domain.logs.files.blocks import RawMessage, TopicInfo
    from av_assets.policies.redaction import RedactionPolicy

END_NS: Final = 1 << 63
_LOOK_MESSAGES: Final = 101
_FIRST_STEP_NS: Final = 2_000_000_000


class MessageSource(Protocol):
    """The part of the log reader that redaction uses."""

    @property
    def topics(self) -> Mapping[str, TopicInfo]: ...

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, end_ns: int = END_NS
    ) -> Iterator[RawMessage]: ...

    def deserialize(self, raw: RawMessage) -> Any: ...


@dataclass(frozen=True)
class CameraStream:
    """One camera as its first messages show it: `period_ns` between frames, `codec` where it is video."""

    topic: str
    first_ns: int
    period_ns: int
    codec: str | None


@dataclass(frozen=True)
class Window:
    """Frames of the log time [start_ns, end_ns) are released; those of [look_ns, tail_ns) are looked at."""

    start_ns: int
    end_ns: int
    look_ns: int
    tail_ns: int
    fill_ns: int

    def holds(self, log_ns: int) -> bool:
        return self.start_ns <= log_ns < self.end_ns

    def near(self, log_ns: int) -> bool:
        return self.look_ns <= log_ns < self.tail_ns


def camera_stream(reader: MessageSource, topic: str, rate_hz: float | None) -> CameraStream | None:
    """A look at the first messages of a topic; None without any. The slower of declared and seen rate holds."""
    times, codec = [], None
    for raw in islice(reader.messages({topic}), _LOOK_MESSAGES):
        times.append(raw.log_ns)
        payload = _payload(raw) if codec is None else None
        codec = VIDEO_CODECS.get(payload.encoding) if payload else codec
    if not times:
        return None
    seen_ns = round(median(b - a for a, b in pairwise(times))) if len(times) > 1 else 0
    return CameraStream(topic, times[0], max(seen_ns, round(1e9 / rate_hz) if rate_hz else 0), codec)


def windows(reader: MessageSource, stream: CameraStream, policy: RedactionPolicy) -> Iterator[Window]:
    """The windows of the grid from the first message on that hold messages, in order.

    Empty ones are skipped without being counted, so that a stamp a century off costs nothing.
    """
    length, fill_ns = round(policy.segment_s * 1e9), policy.fill_ns(stream.period_ns)
    first = next(reader.messages({stream.topic}, stream.first_ns), None)
    while first is not None:
        start = stream.first_ns + (first.log_ns - stream.first_ns) // length * length
        end = start + length
        yield Window(start, end, start - WARM_UP_FILLS * fill_ns, end + fill_ns, fill_ns)
        first = next(reader.messages({stream.topic}, end), None)


def messages_of(reader: MessageSource, stream: CameraStream, window: Window) -> Iterator[RawMessage]:
    """All messages that the window needs, the key frame that its video is entered by first."""
    begin = max(window.look_ns, stream.first_ns)
    if stream.codec is not None:
        begin = _entry_ns(reader, stream, begin)
    return reader.messages({stream.topic}, begin, window.tail_ns)


def _entry_ns(reader: MessageSource, stream: CameraStream, at_ns: int) -> int:
    """Log time of the last key frame with parameter sets at or before `at_ns`; the first message without one."""
    step, high = _FIRST_STEP_NS, at_ns + 1
    while high > stream.first_ns:
        low = max(high - step, stream.first_ns)
        *_, last = (None, *_entries(reader.messages({stream.topic}, low, high)))
        if last is not None:
            return last
        step, high = step * 2, low
    return stream.first_ns


def _entries(messages: Iterator[RawMessage]) -> Iterator[int]:
    """Log times from which a decoder knows all that it needs: parameter sets may come as a message of their own."""
    before = None
    for raw in messages:
        payload = _payload(raw)
        if payload is None:
            continue
        if is_keyframe(payload.encoding, payload.data):
            if has_parameters(payload):
                yield raw.log_ns
            elif before is not None:
                yield before
        before = raw.log_ns if is_parameters_only(payload) else None


def _payload(raw: RawMessage) -> ImagePayload | None:
    try:
        return image_payload(raw)
    except LogError:
        return None
