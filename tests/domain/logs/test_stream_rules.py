"""Rates that sag, messages that are lost, bursts that only look so, and rules over whole files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.logs.drive_spec import StreamSpec
from av_assets.domain.logs.integrity.findings import Finding
from av_assets.domain.logs.integrity.stream_rules import stream_findings
from av_assets.domain.logs.integrity.stream_stats import StreamStats
from av_assets.domain.logs.integrity.time_track import TimeTrack
from av_assets.policies.integrity import IntegrityPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray

POLICY = IntegrityPolicy.load()
PERIOD_NS = 100_000_000


def judged(steps: NDArray[np.int64] | list[int], kind: str = "camera", **spec: object) -> dict[str, Finding]:
    log = np.cumsum(np.asarray(steps, dtype=np.int64) * PERIOD_NS // 100)
    track = TimeTrack(int(log[0]), int(log[-1]), 10, POLICY.steady_window_s)
    track.fold(log, log)
    stats = StreamStats("/x", "sensor_msgs/msg/Image", track)
    stream = StreamSpec.model_validate({"topic": "/x", "kind": kind, **spec})
    found = stream_findings("x", stream, stats, (int(log[0]), int(log[-1])), POLICY)
    return {finding.rule: finding for finding in found}


def test_a_rate_that_sags_is_told() -> None:
    steps = [100] * 40 + [150] * 8 + [100] * 40
    found = judged(steps)["rate_is_steady"]
    assert (found.status, found.severity) == ("failed", "warn")
    assert found.measured == pytest.approx(1 / 1.5, abs=0.01)


@given(st.integers(0, 2**32 - 1), st.integers(30, 80))
def test_independent_jitter_is_no_fault(seed: int, count: int) -> None:
    found = judged(np.random.default_rng(seed).integers(85, 116, count))
    assert {rule for rule, finding in found.items() if finding.status == "failed"} == set()


@given(st.integers(2, 60))
def test_one_lost_message_neither_sags_nor_counts(at: int) -> None:
    steps = [100] * 70
    steps[at] = 200
    found = judged(steps)
    assert found["rate_is_steady"].status == "passed"
    assert found["no_message_is_lost"].status == "passed"


def test_many_lost_messages_are_counted() -> None:
    found = judged(([100] * 9 + [200]) * 10)["no_message_is_lost"]
    assert (found.status, found.measured) == ("failed", pytest.approx(1 / 11, abs=0.01))


def test_bursts_are_not_judged_as_losses() -> None:
    found = judged([1, 1, 1, 97] * 30, kind="can")
    assert {found[rule].status for rule in ("rate_is_steady", "no_message_is_lost")} == {"skipped"}


def test_events_have_no_rate() -> None:
    found = judged([100] * 20 + [900] + [100] * 20, kind="signal")
    assert {found[rule].status for rule in ("rate_is_steady", "no_message_is_lost", "has_no_gap")} == {
        "skipped"
    }
    found = judged([100] * 20 + [900] + [100] * 20, kind="signal", rate_hz=10)
    assert (found["has_no_gap"].status, found["has_no_gap"].severity) == ("failed", "error")


def test_what_is_absent_names_what_to_do() -> None:
    stream = StreamSpec(topic="/x", kind="camera")
    (found,) = stream_findings("x", stream, None, (0, 1), POLICY, fix="look at /y")
    assert (found.rule, found.fix) == ("stream_is_present", "look at /y")
    assert found.to_dict()["fix"] == "look at /y"
