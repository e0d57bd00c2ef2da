from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.privacy.tracks import WARM_UP_FILLS, Region, TemporalFill
from av_assets.policies.redaction import RedactionPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILL_NS = 5
POLICY = RedactionPolicy.load()


def filled(
    findings: Mapping[int, Sequence[Sequence[float]]], times: Sequence[int], start: int, end: int
) -> dict[int, list[Region]]:
    """Regions of the frames whose time is in [start, end), looking at what a window looks at."""
    fill = TemporalFill(POLICY, FILL_NS)
    near = [t for t in times if start - WARM_UP_FILLS * FILL_NS <= t < end + FILL_NS]
    waiting: list[tuple[int, int]] = []
    regions: dict[int, list[Region]] = {}

    def release() -> None:
        index, at = waiting.pop(0)
        found = fill.regions(index, at)
        if start <= at < end:
            regions[at] = found

    for index, at in enumerate(near):
        while waiting and waiting[0][1] + FILL_NS < at:
            release()
        fill.add(index, at, "face", np.array(findings.get(at, ()), np.float32).reshape(-1, 5))
        waiting.append((index, at))
    while waiting:
        release()
    return regions


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[int, list[list[float]]], list[int]]:
    """Up to three faces on lanes of their own, moving steadily, seen now and then, by a camera that drops frames."""
    times = sorted(draw(st.sets(st.integers(0, 79), min_size=30)))
    findings: dict[int, list[list[float]]] = {t: [] for t in times}
    for lane in range(draw(st.integers(1, 3))):
        pace = draw(st.floats(-3, 3))
        for index, t in enumerate(times):
            if draw(st.integers(0, 3)) == 0:
                x = 300 + pace * index
                findings[t].append([x, lane * 200, x + 30, lane * 200 + 40, 0.9])
    return findings, times


@given(scenes(), st.integers(10, 60))
@settings(max_examples=150, deadline=None)
def test_a_window_sees_what_the_whole_would_see(scene: tuple[dict, list[int]], border: int):
    findings, times = scene
    whole = filled(findings, times, 0, 80)
    parts = filled(findings, times, 0, border) | filled(findings, times, border, 80)
    assert parts.keys() == whole.keys()
    for at, regions in whole.items():
        boxes = sorted((r.found, *map(float, r.box)) for r in regions)
        assert boxes == sorted((r.found, *map(float, r.box)) for r in parts[at])


@given(scenes())
@settings(max_examples=100, deadline=None)
def test_every_finding_covers_its_object_for_the_time_of_the_fill(scene: tuple[dict, list[int]]):
    findings, times = scene
    whole = filled(findings, times, 0, 80)
    for at, boxes in findings.items():
        for box in boxes:
            lane = box[1]
            for other in times:
                if abs(other - at) <= FILL_NS:
                    assert any(abs(r.box[1] - lane) < 60 for r in whole[other])


def test_state_does_not_grow_with_the_drive():
    fill = TemporalFill(POLICY, FILL_NS)
    for t in range(3000):
        fill.add(
            t, t, "face", np.array([[10, 10, 40, 40, 0.9], [t * 50, 500, t * 50 + 9, 509, 0.9]], np.float32)
        )
        if t >= FILL_NS:
            fill.regions(t - FILL_NS, t - FILL_NS)
    assert sum(len(track.frames) for track in fill._tracks) < 60


def test_bursts_of_equal_log_times_do_no_harm():
    times = [0] * 6 + [7] * 6
    fill = TemporalFill(POLICY, FILL_NS)
    for index, at in enumerate(times):
        box = [10.0 + index, 10, 40.0 + index, 40, 0.9]
        fill.add(index, at, "face", np.array([box] if index % 2 == 0 else [], np.float32).reshape(-1, 5))
    assert all(np.isfinite(r.box).all() for i, at in enumerate(times) for r in fill.regions(i, at))
