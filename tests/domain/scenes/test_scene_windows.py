"""Scenes cut a recording without gap or overlap, keep their lengths, and leave events whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.scenes.windows import ClipSpan, clip_spans, recordings, scene_windows
from av_assets.domain.sequences.intervals import Interval
from av_assets.policies.scenes import ScenesPolicy, WindowLimits

NS = 1_000_000_000
LIMITS = ScenesPolicy.load().windows


def drive(*seconds: float, start_s: float = 0.0, gap_s: float = 0.1) -> list[tuple[str, int, int]]:
    """Clips of these lengths one after another, each with its last frame gap_s before the next."""
    clips, at = [], round(start_s * NS)
    for number, length in enumerate(seconds):
        end = at + round(length * NS)
        clips.append((f"d/{number:05d}", at, end - round(gap_s * NS)))
        at = end
    return clips


def event(start_s: float, end_s: float) -> Interval:
    return Interval(round(start_s * NS), round(end_s * NS))


def seconds_of(scenes: list[Interval]) -> list[float]:
    return [round((s.end_ns + 1 - s.start_ns) / NS, 3) for s in scenes]


@st.composite
def recorded(draw: st.DrawFn) -> list[ClipSpan]:
    clips, at = [], draw(st.integers(0, 10**18))
    for number in range(draw(st.integers(1, 30))):
        length = draw(st.sampled_from([5 * NS, 5 * NS, NS, 130 * NS, 1]))
        clips.append((f"d/{number:05d}", at, at + length))
        at += length + draw(st.sampled_from([NS // 10, NS // 10, NS // 10, 4 * NS]))
    return clip_spans(clips, LIMITS.clip_gap_s)


@st.composite
def happenings(draw: st.DrawFn, spans: list[ClipSpan]) -> list[Interval]:
    first, last = spans[0].interval.start_ns, spans[-1].interval.end_ns
    starts = draw(st.lists(st.integers(first - NS, last + NS), max_size=8))
    return [Interval(s, s + draw(st.sampled_from([0, NS, 7 * NS, 90 * NS]))) for s in starts]


limits = st.builds(
    lambda shortest, quiet, longest, pad: LIMITS.model_copy(
        update={
            "min_s": shortest,
            "quiet_s": 2 * shortest + quiet,
            "max_s": 2 * shortest + quiet + longest,
            "before_event_s": pad,
            "after_event_s": pad,
        }
    ),
    st.sampled_from([1.0, 3.0, 4.5]),
    st.sampled_from([0.0, 10.0]),
    st.sampled_from([0.0, 30.0]),
    st.sampled_from([0.0, 2.0]),
)


@given(st.data(), limits)
def test_every_instant_is_in_exactly_one_scene_of_allowed_length(
    data: st.DataObject, rules: WindowLimits
) -> None:
    spans = data.draw(recorded())
    scenes = scene_windows(spans, data.draw(happenings(spans)), rules)
    whole = recordings(spans)
    for recording in whole:
        own = [s for s in scenes if recording.start_ns <= s.start_ns <= recording.end_ns]
        assert [s.start_ns for s in own] == [recording.start_ns, *(s.end_ns + 1 for s in own[:-1])]
        assert own[-1].end_ns == recording.end_ns
        assert all(s.end_ns + 1 - s.start_ns <= rules.max_s * NS for s in own)
        short = [s for s in own if s.end_ns + 1 - s.start_ns < rules.min_s * NS]
        assert not short or own == [recording]
    assert len(scenes) == sum(any(r.start_ns <= s.start_ns <= r.end_ns for r in whole) for s in scenes)


@given(st.data())
def test_short_lone_events_are_whole(data: st.DataObject) -> None:
    spans = data.draw(recorded())
    for recording in recordings(spans):
        start = data.draw(st.integers(recording.start_ns, recording.end_ns))
        lone = Interval(start, min(start + 7 * NS, recording.end_ns))
        scenes = scene_windows(spans, [lone], LIMITS)
        assert any(s.start_ns <= lone.start_ns and lone.end_ns <= s.end_ns for s in scenes)


@given(st.data(), st.integers(-(10**9), 10**9))
def test_shift_and_order_change_nothing(data: st.DataObject, by: int) -> None:
    spans = data.draw(recorded())
    events = data.draw(happenings(spans))
    moved = [ClipSpan(s.clip_id, Interval(s.interval.start_ns + by, s.interval.end_ns + by)) for s in spans]
    later = [Interval(e.start_ns + by, e.end_ns + by) for e in data.draw(st.permutations(events))]
    expected = [Interval(s.start_ns + by, s.end_ns + by) for s in scene_windows(spans, events, LIMITS)]
    assert scene_windows(moved, later, LIMITS) == expected


def test_quiet_drive_is_cut_at_clip_borders() -> None:
    spans = clip_spans(drive(*[5.0] * 10), LIMITS.clip_gap_s)
    assert seconds_of(scene_windows(spans, [], LIMITS)) == [20.0, 20.0, 9.9]


def test_events_close_together_share_a_scene_and_take_short_rests_along() -> None:
    spans = clip_spans(drive(*[5.0] * 8), LIMITS.clip_gap_s)
    scenes = scene_windows(spans, [event(10, 11), event(15.5, 16)], LIMITS)
    assert seconds_of(scenes) == [8.0, 10.0, 17.0, 4.9]
    near_start = scene_windows(spans, [event(4, 5)], LIMITS)
    assert seconds_of(near_start)[0] == 7.0  # 2 s of quiet are no scene of their own


def test_long_event_is_cut_at_a_clip_border() -> None:
    spans = clip_spans(drive(*[5.0] * 20), LIMITS.clip_gap_s)
    assert seconds_of(scene_windows(spans, [event(3, 97)], LIMITS)) == [60.0, 39.9]


def test_gap_in_the_recording_parts_scenes() -> None:
    clips = drive(5.0, 5.0) + [(f"e{c}", s, e) for c, s, e in drive(5.0, start_s=20.0)]
    spans = clip_spans(clips, LIMITS.clip_gap_s)
    scenes = scene_windows(spans, [event(8, 22)], LIMITS)
    assert seconds_of(scenes) == [6.0, 3.9, 4.9]


def test_recording_shorter_than_a_scene_is_one_scene() -> None:
    assert seconds_of(scene_windows(clip_spans(drive(1.0), 0.5), [event(0.2, 0.4)], LIMITS)) == [0.9]
    assert scene_windows([], [], LIMITS) == []


def test_limits_that_cannot_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="2 min_s <= quiet_s"):
        WindowLimits(**(LIMITS.model_dump() | {"min_s": 11.0}))
