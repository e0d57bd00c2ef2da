"""Choosing thresholds: bounds against scipy and against chance, and that nothing below a threshold gets through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from av_assets.domain.labels.automatic.candidates import Candidate
from av_assets.domain.labels.quality.thresholds import (
    Chosen,
    Verdict,
    as_thresholds,
    choose_thresholds,
    clustered_lower_bound,
    interval,
    kept,
    lower_bound,
    reaches,
    threshold_of,
    verdicts,
)
from av_assets.policies.label_fusion import LabelFusionPolicy

SHIPPED = LabelFusionPolicy.load()


def policy(thresholds: dict[str, dict[str, float]] | None = None, **choosing: Any) -> LabelFusionPolicy:
    data = SHIPPED.model_dump(mode="json")
    data["choosing"] |= choosing
    data["thresholds"] = thresholds if thresholds is not None else data["thresholds"]
    return LabelFusionPolicy.model_validate(data)


@given(st.integers(0, 300), st.integers(1, 300), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_bounds_are_those_of_scipy(correct: int, items: int, confidence: float) -> None:
    correct = min(correct, items)
    one_sided = binomtest(correct, items, alternative="greater").proportion_ci(confidence, "exact").low
    assert lower_bound(correct, items, confidence) == pytest.approx(one_sided, abs=1e-9)
    both = binomtest(correct, items).proportion_ci(confidence, "exact")
    assert interval(correct, items, confidence) == pytest.approx((both.low, both.high), abs=1e-9)


def test_the_bound_is_where_the_binomial_tail_is_the_error() -> None:
    bound = lower_bound(58, 60, 0.95)
    assert binom.sf(57, 60, bound) == pytest.approx(0.05)
    assert interval(0, 0) is None


@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 1000))
def test_clusters_never_raise_the_bound(clusters: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), each)
    correct = rng.random(len(cluster)) < 0.9
    plain = lower_bound(int(correct.sum()), len(correct), 0.95)
    assert clustered_lower_bound(correct, cluster, 0.95) <= plain + 1e-9
    assert (
        clustered_lower_bound(correct, cluster, 0.95, 0.2)
        <= clustered_lower_bound(correct, cluster, 0.95) + 1e-9
    )


def test_one_cluster_proves_next_to_nothing() -> None:
    assert clustered_lower_bound(np.ones(500, bool), np.zeros(500, int), 0.95) == pytest.approx(0.05)


def made(rng: np.random.Generator, drives: int, each: int, spread: float) -> list[Verdict]:
    """Precision rises with the score, and differs from drive to drive."""
    found = []
    for drive in range(drives):
        shift = rng.normal(0, spread)
        for n in range(each):
            score = float(rng.random())
            right = bool(rng.random() < true_precision(score, shift))
            found.append(Verdict(f"d{drive}", f"d{drive}/{n // 5}", "vehicle", "near", score, right))
    return found


def true_precision(score: float, shift: float) -> float:
    return float(1 / (1 + np.exp(-(4 * score + shift))))


@pytest.mark.parametrize(("spread", "drives"), [(0.0, 10), (0.5, 20)])
def test_the_precision_that_is_promised_is_there(spread: float, drives: int) -> None:
    """Of 150 fleets the chosen threshold misses the target on no more than 5 % (and what chance adds to that)."""
    rule = policy(min_drives=6)
    target = rule.choosing.target_precision["vehicle"]
    rng = np.random.default_rng(7)
    shifts = rng.normal(0, spread, 500)
    broken = chosen = 0
    for _ in range(150):
        one = choose_thresholds(made(rng, drives, 40, spread), rule)["vehicle"]["all"]
        if one.score is None:
            continue
        chosen += 1
        grid = np.linspace(one.score, 1, 25)
        real = np.mean([[true_precision(s, shift) for s in grid] for shift in shifts])
        broken += real < target
    assert chosen > 20
    assert broken / 150 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_too_few_items_have_no_threshold_and_the_whole_class_stands_in() -> None:
    rng = np.random.default_rng(0)
    many = [
        Verdict(f"d{n % 8}", f"d{n % 8}/{n}", "vehicle", "near", float(rng.random()), True)
        for n in range(400)
    ]
    few = [Verdict(f"d{n}", f"d{n}/0", "vehicle", "far", 0.5, True) for n in range(10)]
    found = choose_thresholds(many + few, SHIPPED)
    assert found["vehicle"]["far"].why == "too_few_items"
    assert found["vehicle"]["near"].why == "reached"
    assert found["vehicle"]["near"].clusters == "drives"
    assert found["cone"]["all"].why == "too_few_items"
    thresholds = as_thresholds(found)
    assert set(thresholds["vehicle"]) == {"all", "near"}
    assert thresholds["cone"] == {}
    active = policy(thresholds)
    assert threshold_of("vehicle", "far", active) == thresholds["vehicle"]["all"]
    assert threshold_of("cone", "far", active) == SHIPPED.default["cone"]


@pytest.mark.parametrize(
    ("score", "clusters", "whole", "taken"),
    [
        (0.5, "tracks", 0.6, False),
        (0.7, "tracks", 0.6, True),
        (0.5, "drives", 0.6, True),
        (0.5, "tracks", None, True),
    ],
)
def test_a_slice_of_few_drives_asks_for_more_than_its_class_and_never_for_less(
    score: float, clusters: str, whole: float | None, taken: bool
) -> None:
    held = {"all": Chosen(whole, 900, 890, 0.95, "reached", "drives"),
            "fog": Chosen(score, 90, 89, 0.91, "reached", clusters)}  # fmt: skip
    assert ("fog" in as_thresholds({"vehicle": held})["vehicle"]) is taken


def test_what_is_mostly_wrong_has_no_threshold() -> None:
    rng = np.random.default_rng(1)
    items = [
        Verdict(f"d{n % 9}", f"d{n}/0", "vehicle", "near", float(rng.random()), n % 2 == 0)
        for n in range(500)
    ]
    one = choose_thresholds(items, SHIPPED)["vehicle"]["all"]
    assert (one.score, one.why, one.items) == (None, "target_not_reached", 500)


def test_few_drives_are_judged_by_tracks() -> None:
    items = [Verdict("d0", f"d0/{n % 50}", "vehicle", "near", n / 400, True) for n in range(400)]
    assert choose_thresholds(items, SHIPPED)["vehicle"]["all"].clusters == "tracks"


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 9)), max_size=200))
def test_the_counts_are_those_at_the_threshold_whatever_is_equal(rows: list) -> None:
    items = [Verdict(f"d{d}", f"d{d}/0", "vehicle", "near", s / 20, c or s > 8) for s, c, d in rows]
    rule = policy(min_items=10, target_precision={"vehicle": 0.5, "pedestrian": 0.5, "cone": 0.5})
    one = choose_thresholds(items, rule)["vehicle"]["all"]
    if one.score is not None:
        above = [v for v in items if v.score >= one.score]
        assert (one.items, one.correct) == (len(above), sum(v.correct for v in above))
        assert one.lower_bound is not None
        assert one.lower_bound >= 0.5
    assert choose_thresholds(list(reversed(items)), rule)["vehicle"]["all"].score == one.score


@given(
    st.lists(
        st.tuples(st.sampled_from(["vehicle", "cone"]), st.floats(0, 1), st.sampled_from(["near", "far"]))
    ),
    st.dictionaries(st.sampled_from(["near", "far", "all"]), st.floats(0, 1)),
)
def test_nothing_below_its_threshold_gets_through(rows: list, own: dict[str, float]) -> None:
    rule = policy({"vehicle": own, "pedestrian": {}, "cone": {}})
    things = [Candidate(name, 0, cls, score, None, None) for cls, score, name in rows]
    got = kept(things, lambda c: c.clip_id, rule)
    for c in things:
        least = own.get(c.clip_id, own.get("all", 0.34)) if c.cls == "vehicle" else 0.34
        assert (c in got) == (round(c.score, 4) >= round(least, 4))


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_score_that_is_its_threshold_is_a_label_in_memory_and_in_files(score: int, least: int) -> None:
    import numpy as np

    rule = policy({"vehicle": {"rain": least / 10_000}})
    for held in (score / 10_000, float(np.float32(score / 10_000))):
        assert reaches(held, "vehicle", "rain", rule) == (score >= least)


def row(x: float, score: float = 1.0, cls: str = "vehicle", ref_ns: int = 1, **more: Any) -> dict[str, Any]:
    box = {"x1": x, "y1": 0.0, "x2": x + 10, "y2": 10.0}
    return (
        {"clip_id": "c", "ref_ns": ref_ns, "cls": cls, "score": score, "slice": "near", "track": 1}
        | box
        | more
    )


def test_verdicts_by_hand() -> None:
    found = [row(0, 0.9), row(1, 0.8), row(100, 0.7), row(0, 0.6, "cone"), row(0, 0.5, ref_ns=2),
             row(0, 0.99, ref_ns=3), row(0, 0.4) | {"x1": None}]  # fmt: skip
    truth = [row(0.5), row(50)]
    judged = verdicts("d", found, truth, [("c", 1), ("c", 2)], SHIPPED)
    # The surest takes the object; frame 3 was not verified; what is not in the picture cannot be judged.
    assert [(v.cls, v.score, v.correct) for v in judged] == [
        ("vehicle", 0.9, True), ("vehicle", 0.8, False), ("vehicle", 0.7, False), ("cone", 0.6, False),
        ("vehicle", 0.5, False),
    ]  # fmt: skip
    assert judged[0].overlap == pytest.approx(9.5 / 10.5)
    assert judged[0].cluster == "d/1"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 20)), max_size=12), st.lists(st.integers(0, 6), max_size=5),
       st.integers(0, 20))  # fmt: skip
def test_a_threshold_never_changes_the_verdict_on_what_is_above_it(
    found: list, truth: list, cut: int
) -> None:
    rows = [row(4.0 * x, s / 20) for x, s in found]
    objects = [row(4.0 * x) for x in truth]
    every = verdicts("d", rows, objects, [("c", 1)], SHIPPED)
    above = verdicts("d", [r for r in rows if r["score"] >= cut / 20], objects, [("c", 1)], SHIPPED)
    assert above == [v for v in every if v.score >= cut / 20]
