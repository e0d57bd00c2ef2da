"""Cutting a drive into scenes, so that every instant of its recording lies in exactly one.

Belongs here: where scenes begin and end. Does not belong here: what is in them (`rows`, `describe`).

Scenes are closed intervals of int64 ns: the next one begins one nanosecond after the last has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from av_assets.domain.sequences.intervals import Interval, touches

if TYPE_CHECKING:
    from av_assets.policies.scenes import WindowLimits

NS_PER_S = 1_000_000_000


class ClipSpan(NamedTuple):
    """A clip and the time that it stands for: up to the next clip, where that follows closely."""

    clip_id: str
    interval: Interval


class _Part(NamedTuple):
    interval: Interval
    quiet: bool


def clip_spans(clips: Iterable[tuple[str, int, int]], clip_gap_s: float) -> list[ClipSpan]:
    """Clips (clip_id, start_ns, end_ns) of one drive in order of time.

    A clip lasts up to the next one where that begins at most clip_gap_s later; overlapping ones are cut at the later's
    start. Clips that lie wholly within an earlier one stand for no time of their own and are left out.
    """
    spans: list[ClipSpan] = []
    for clip_id, start_ns, end_ns in sorted(clips, key=lambda c: (c[1], -c[2], c[0])):
        if spans:
            last = spans[-1]
            if end_ns <= last.interval.end_ns or start_ns <= last.interval.start_ns:
                continue
            if start_ns - last.interval.end_ns <= clip_gap_s * NS_PER_S:
                spans[-1] = ClipSpan(last.clip_id, Interval(last.interval.start_ns, start_ns - 1))
        spans.append(ClipSpan(clip_id, Interval(start_ns, end_ns)))
    return spans


def recordings(spans: Sequence[ClipSpan]) -> list[Interval]:
    """Stretches without a gap."""
    found: list[Interval] = []
    for span in spans:
        if found and span.interval.start_ns == found[-1].end_ns + 1:
            found[-1] = Interval(found[-1].start_ns, span.interval.end_ns)
        else:
            found.append(span.interval)
    return found


def scene_windows(
    spans: Sequence[ClipSpan], events: Sequence[Interval], limits: WindowLimits
) -> list[Interval]:
    """Scenes in order of time; together they are the recordings, and none overlaps another.

    Around events: the padded windows of events, joined where they are close. Between them: quiet scenes, cut at borders
    of clips. A scene is shorter than min_s only where its whole recording is, and never longer than max_s. An event is
    cut only where its joined window is longer than max_s and no border lies outside all events.
    """
    borders = [span.interval.start_ns for span in spans]
    scenes: list[Interval] = []
    for recording in recordings(spans):
        for part in _long_enough(_parts(recording, events, limits), limits):
            longest_s = limits.quiet_s if part.quiet else limits.max_s
            scenes += _cut(part.interval, events, borders, longest_s, limits.min_s)
    return scenes


def _parts(recording: Interval, events: Sequence[Interval], limits: WindowLimits) -> list[_Part]:
    """The recording as windows of events and quiet parts between them."""
    before_ns, after_ns, gap_ns = (
        round(s * NS_PER_S) for s in (limits.before_event_s, limits.after_event_s, limits.merge_gap_s)
    )
    joined: list[Interval] = []
    for event in sorted(e for e in events if touches(e, recording)):
        start_ns = max(recording.start_ns, event.start_ns - before_ns)
        end_ns = min(recording.end_ns, event.end_ns + after_ns)
        if joined and start_ns - joined[-1].end_ns <= max(gap_ns, 1):
            joined[-1] = Interval(joined[-1].start_ns, max(joined[-1].end_ns, end_ns))
        else:
            joined.append(Interval(start_ns, end_ns))
    parts, at = [], recording.start_ns
    for window in joined:
        if at < window.start_ns:
            parts.append(_Part(Interval(at, window.start_ns - 1), True))
        parts.append(_Part(window, False))
        at = window.end_ns + 1
    if at <= recording.end_ns:
        parts.append(_Part(Interval(at, recording.end_ns), True))
    return parts


def _long_enough(parts: Sequence[_Part], limits: WindowLimits) -> list[_Part]:
    """Parts shorter than min_s joined to the one before, the first to the one after; a joined part is an event's."""
    shortest_ns = round(limits.min_s * NS_PER_S)
    kept: list[_Part] = []
    for part in parts:
        if kept and min(_length(part.interval), _length(kept[-1].interval)) < shortest_ns:
            whole = Interval(kept[-1].interval.start_ns, part.interval.end_ns)
            kept[-1] = _Part(whole, kept[-1].quiet and part.quiet)
        else:
            kept.append(part)
    return kept


def _cut(
    part: Interval, events: Sequence[Interval], borders: Sequence[int], longest_s: float, shortest_s: float
) -> list[Interval]:
    """Pieces of at most longest_s and at least shortest_s, cut at the last border of a clip that allows it."""
    longest, shortest = round(longest_s * NS_PER_S), round(shortest_s * NS_PER_S)
    pieces, at, end = [], part.start_ns, part.end_ns + 1
    while end - at > longest:
        allowed = [b for b in borders if at + shortest <= b <= min(at + longest, end - shortest)]
        calm = [b for b in allowed if not any(e.start_ns < b <= e.end_ns for e in events)]
        pieces_left = -(-(end - at) // longest)
        even = at - (at - end) // pieces_left
        cut = max(calm or allowed, default=even)
        pieces.append(Interval(at, cut - 1))
        at = cut
    return [*pieces, Interval(at, end - 1)]


def _length(interval: Interval) -> int:
    return interval.end_ns - interval.start_ns + 1
