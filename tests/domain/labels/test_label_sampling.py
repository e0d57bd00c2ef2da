"""Sizes of samples, acceptance plans, and the value of frames."""

from __future__ import annotations

from math import comb, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.labels.people.annotators import DrawnBox
from av_assets.domain.labels.people.priority import entropy_nats, frame_values, mistakenness
from av_assets.domain.labels.people.sampling import acceptance_plan, sample_size, stratified_sample


def test_sample_size_of_the_textbook() -> None:
    assert sample_size(10**9, 0.5, 0.05, 1.96) == 385
    assert sample_size(100, 0.5, 0.05, 1.96) == 80
    assert sample_size(0, 0.5, 0.05, 1.96) == 0


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 300), min_size=1), st.integers(0, 9))
def test_every_stratum_has_a_sample_of_its_own(sizes: dict[str, int], seed: int) -> None:
    strata, start = {}, 0
    for name, size in sizes.items():
        strata[name] = list(range(start, start + size))
        start += size
    drawn = stratified_sample(strata, 0.1, 0.05, 1.96, np.random.default_rng(seed))
    assert drawn == stratified_sample(strata, 0.1, 0.05, 1.96, np.random.default_rng(seed))
    for name, members in strata.items():
        assert len(drawn[name]) == len(set(drawn[name])) == sample_size(len(members), 0.1, 0.05, 1.96)
        assert set(drawn[name]) <= set(members)


@pytest.mark.parametrize(
    ("lot", "aql", "letter", "sample", "accept"),
    [
        (500, 1.0, "H", 50, 1),
        (1000, 1.0, "J", 80, 2),
        (1000, 2.5, "J", 80, 5),
        (1000, 4.0, "J", 80, 7),
        (100, 1.0, "E", 13, 0),  # the arrow of F points up
        (200, 1.0, "H", 50, 1),  # the arrow of G points down
        (40, 2.5, "C", 5, 0),
        (60, 2.5, "F", 20, 1),
        (20, 4.0, "B", 3, 0),
        (30, 4.0, "E", 13, 1),
        (600_000, 4.0, "M", 315, 21),
        (8, 1.0, "E", 8, 0),  # the sample would be larger than the lot: all of it
    ],
)
def test_acceptance_plans(lot: int, aql: float, letter: str, sample: int, accept: int) -> None:
    plan = acceptance_plan(lot, aql)
    assert (plan.letter, plan.sample, plan.accept) == (letter, sample, accept)


@given(st.integers(100, 100_000), st.sampled_from([1.0, 2.5, 4.0]))
def test_lots_of_accepted_quality_mostly_pass_and_bad_ones_mostly_fail(lot: int, aql: float) -> None:
    plan = acceptance_plan(lot, aql)

    def passes(bad: float) -> float:
        n = plan.sample
        return sum(comb(n, k) * bad**k * (1 - bad) ** (n - k) for k in range(plan.accept + 1))

    assert passes(aql / 100) > 0.85
    assert passes(min(25 * aql / 100, 0.9)) < 0.1


def test_no_plan_is_made_up_for_another_limit() -> None:
    with pytest.raises(ValueError, match="no plan"):
        acceptance_plan(100, 1.5)


def test_mistakenness_is_that_of_fiftyone() -> None:
    assert mistakenness(1.0, contradicted=True) == 1.0
    assert mistakenness(1.0, contradicted=False) == 0.0
    assert mistakenness(0.5, contradicted=True) == pytest.approx((0.5 + 1) / 2)
    assert mistakenness(0.5, contradicted=False) == pytest.approx((-0.5 + 1) / 2)
    assert entropy_nats(0.5) == pytest.approx(log(2))


def seen(cls: str, score: float, x: float = 0.0, place: str = "near") -> dict[str, object]:
    return {"cls": cls, "score": score, "slice": place, "x1": x, "y1": 0.0, "x2": x + 10, "y2": 10.0}


def test_a_rare_doubtful_and_contradicted_frame_is_worth_most() -> None:
    label = [DrawnBox("vehicle", (0, 0, 10, 10))]
    common = [seen("vehicle", 0.95)]
    frames = [common] * 8 + [[seen("cone", 0.6)], []]
    values = frame_values(frames, [label] * 8 + [[], []], 0.5)
    assert values[8].priority == max(v.priority for v in values) > values[0].priority > 0
    assert values[8].rarity == 1.0
    assert values[0].rarity == pytest.approx(log(10 / 8) / log(10), abs=1e-6)
    assert (values[9].uncertainty, values[9].mistakenness, values[9].priority) == (0.0, 0.0, 0.0)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["cone", "vehicle"]), st.floats(0, 1)), max_size=3), max_size=6
    )
)
def test_factors_are_shares(frames: list[list[tuple[str, float]]]) -> None:
    rows = [[seen(*thing) for thing in frame] for frame in frames]
    for value in frame_values(rows, [[] for _ in frames], 0.5):
        assert all(0.0 <= v <= 1.0 for v in (value.uncertainty, value.rarity, value.mistakenness))
