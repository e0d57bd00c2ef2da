"""Rates, intervals and the split of time are functions; what they must hold is known without running anything."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.learning.progress import Meter
from av_assets.domain.learning.schedule import learning_rate_share, young_interval_s
from av_assets.policies.training import OPERATIONAL, TrainingPolicy


def test_the_published_example_of_youngs_interval() -> None:
    """C = 60 s, MTBF = 8 h: 31 minutes."""
    assert young_interval_s(60, 8 * 3600) / 60 == pytest.approx(31, abs=0.05)


@given(write_s=st.floats(0.001, 100), mean_s=st.floats(1000, 1e7))
def test_no_other_interval_loses_less(write_s: float, mean_s: float) -> None:
    """Time lost per second of work: a write each interval, and half an interval (and the write) at each failure."""
    interval_s = young_interval_s(write_s, mean_s)

    def lost(seconds: float) -> float:
        return write_s / seconds + seconds / 2 / mean_s

    others = np.geomspace(interval_s / 50, interval_s * 50, 101)
    if interval_s > write_s:
        assert lost(interval_s) <= min(lost(float(other)) for other in others) * (1 + 1e-9)


@given(steps=st.integers(1, 5000), warmup=st.floats(0, 1), floor=st.floats(0, 1))
def test_the_rate_rises_once_and_falls_to_its_floor(steps: int, warmup: float, floor: float) -> None:
    shares = [learning_rate_share(step, steps, warmup, floor) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares) or floor == 0
    peak = int(np.argmax(shares))
    assert all(a <= b for a, b in pairwise(shares[: peak + 1]))
    assert all(a >= b - 1e-12 for a, b in pairwise(shares[peak:]))
    assert learning_rate_share(steps * 2, steps, min(warmup, 0.5), floor) == pytest.approx(floor)


def test_time_is_split_and_checkpoints_come_due() -> None:
    clock = [0.0]
    meter = Meter(lambda: clock[0], first_step=10)

    def spend(part: str, seconds: float) -> None:
        with meter(part):
            clock[0] += seconds

    assert meter.save_is_due(3600)  # nobody knows yet what a write costs
    spend("wait", 1.0)
    spend("compute", 3.0)
    assert meter.report(12, 20, 8) == {
        "samples_per_s": 4.0,
        "eta_s": 16.0,
        "wait_s": 1.0,
        "compute_s": 3.0,
        "wait_share": 0.25,
    }
    with meter.saving():
        clock[0] += 2.0
    interval_s = young_interval_s(2.0, 3600)
    clock[0] += interval_s
    assert not meter.save_is_due(3600)
    clock[0] += 0.1
    assert meter.save_is_due(3600)


def test_what_is_operational_does_not_change_the_recipe() -> None:
    policy = TrainingPolicy.load()
    assert set(TrainingPolicy.model_fields) >= OPERATIONAL
    same = policy.model_copy(
        update={"max_seconds": 1.0, "nodes": 4, "distribution": "fsdp", "loader_workers": 5}
    )
    other = policy.model_copy(update={"learning_rate": 0.1})
    assert same.digest != policy.digest
    assert same.recipe_digest == policy.recipe_digest != other.recipe_digest


def test_float16_in_shards_is_refused() -> None:
    fields = TrainingPolicy.load().model_dump()
    with pytest.raises(ValueError, match="bfloat16 with fsdp"):
        TrainingPolicy.model_validate(fields | {"precision": "float16", "distribution": "fsdp"})
