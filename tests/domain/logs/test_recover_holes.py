"""Holes in the report on a recovery: silence that does not belong to the rhythm of a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.logs.recovery.report import Stamps
from av_assets.domain.logs.recovery.salvage import salvage_log
from av_assets.policies.salvage import SalvagePolicy

if TYPE_CHECKING:
    from pathlib import Path


POLICY = SalvagePolicy.load()


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(POLICY.hole_periods, 500)), max_size=8),
       st.integers(1, 10**9))  # fmt: skip
def test_holes_are_what_was_taken_out(gaps: list[tuple[int, int]], period_ns: int) -> None:
    """A regular stream with messages taken out; jitter is left to the 1 % of the gap sizes."""
    stamps, now_ns, expected = Stamps(POLICY), 0, []
    for before, missing in [*gaps, (400, 0)]:
        for _ in range(before):
            stamps.add(now_ns)
            now_ns += period_ns
        if missing:
            expected.append((now_ns - period_ns, now_ns + missing * period_ns, missing))
            now_ns += missing * period_ns
    assert stamps.gap_ns(0.5) == period_ns
    assert [tuple(hole) for hole in stamps.holes()] == expected
    assert stamps.unlisted_holes() == (0, 0)


def test_holes_beyond_the_list_are_counted() -> None:
    stamps = Stamps(POLICY.model_copy(update={"max_holes": 10}))
    for i in range(3000):
        stamps.add(i * 1000 + (i // 100) * 20_000)
    assert len(stamps.holes()) == 10
    assert stamps.unlisted_holes() == (19, 19 * 20)


def test_pauses_between_bursts_are_no_holes() -> None:
    stamps = Stamps(POLICY)
    for i in range(5000):
        late_ns = 3_000_000_000 if i >= 2500 else 0
        stamps.add(i // 20 * 10_000_000 + i % 20 * 5_000 + late_ns)
    (hole,) = stamps.holes()
    assert hole.end_ns - hole.start_ns > 3_000_000_000
    assert 5500 < hole.missing < 6500


@pytest.mark.parametrize(("periods", "holes"), [(5, 1), (8, 0)])
def test_the_policy_says_what_a_hole_is(
    small_logs: dict[str, Path], tmp_path: Path, periods: int, holes: int
) -> None:
    policy = POLICY.model_copy(update={"hole_periods": periods})
    stamps = Stamps(policy)
    for i in [*range(50), *range(56, 100)]:  # a gap of seven periods
        stamps.add(i * 1000)
    assert len(stamps.holes()) == holes
    report = salvage_log(small_logs["mcap_lz4"], tmp_path / "out.mcap", policy=policy)
    assert report.to_dict()["policy"] == policy.digest
    assert all(topic.stamps.policy is policy for topic in report.topics.values())
