"""Doubt without labels, slices that fail too often, buckets and their names, and what is asked next."""

from __future__ import annotations

from collections import Counter
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.failures.asking import specs_of
from av_assets.domain.failures.buckets import LOOSE, buckets_of
from av_assets.domain.failures.cases import ALL_KINDS, Case, cases_of, context_tags, distance_tag
from av_assets.domain.failures.doubt import Seen, doubt, flicker, quarrel, standing_out
from av_assets.domain.failures.slices import slice_shares
from av_assets.policies.failures import FailurePolicy
from av_assets.policies.mining import dump_specs, load_specs

POLICY = FailurePolicy.load()
STEP_NS = 100_000_000


def seen(number: int, *boxes: tuple[list[float], float, int]) -> Seen:
    return Seen(
        number * STEP_NS,
        np.array([b for b, *_ in boxes], np.float32).reshape(-1, 4),
        np.array([s for _, s, _ in boxes], np.float32),
        np.array([c for *_, c in boxes], np.int64),
    )


def test_doubt_is_the_entropy_of_the_worst_scores() -> None:
    assert doubt([0.5], 5) == pytest.approx(1.0)
    assert doubt([1.0, 0.5, 0.5], 2) == pytest.approx(1.0)
    assert doubt([], 5) is None


def test_quarrel_counts_what_only_one_side_has() -> None:
    one = seen(0, ([0, 0, 10, 10], 0.9, 0), ([50, 50, 60, 60], 0.9, 1))
    assert quarrel(one, np.array([[0, 0, 10, 10]]), np.array([0]), 0.3) == pytest.approx(0.5)
    assert quarrel(one, np.array([[0, 0, 10, 10]]), np.array([1]), 0.3) == 1.0  # another class
    assert (
        quarrel(one, np.array([[0, 0, 10, 10]]), np.array([-1]), 0.3) == 1.0
    )  # a class that the model lacks
    assert quarrel(seen(0), np.empty((0, 4)), np.empty(0, int), 0.3) is None


def test_a_box_that_vanishes_and_comes_back_is_one_break() -> None:
    there = [([100 + n, 50, 140 + n, 90], 0.9, 0) for n in range(10)]
    steady = flicker([seen(n, there[n]) for n in range(10)], ["vehicle"], POLICY.flicker)
    assert (steady.breaks, steady.at_ns) == (0, None)
    assert steady.per_object_s == 0.0
    gone = [seen(n) if n in (3, 4, 7) else seen(n, there[n]) for n in range(10)]
    broken = flicker(gone, ["vehicle"], POLICY.flicker)
    assert (broken.breaks, broken.at_ns) == (2, 3 * STEP_NS)
    assert broken.per_object_s == pytest.approx(2 / 0.9)
    left = flicker(
        [seen(n, there[n]) for n in range(5)] + [seen(n) for n in range(5, 10)], ["vehicle"], POLICY.flicker
    )
    assert left.breaks == 0  # things do leave the picture


def test_nothing_tracked_has_no_flicker() -> None:
    assert flicker([], ["vehicle"], POLICY.flicker).per_object_s is None
    assert flicker([seen(0), seen(1)], ["vehicle"], POLICY.flicker).per_object_s is None


@given(
    st.dictionaries(st.text(), st.none() | st.floats(0, 10), max_size=30),
    st.floats(0.01, 1),
    st.floats(0, 10),
)
def test_what_stands_out_is_the_highest_and_reaches_the_bound(
    values: dict[str, float | None], share: float, least: float
) -> None:
    chosen = standing_out(values, share, least)
    known = {k: v for k, v in values.items() if v is not None}
    assert chosen <= known.keys()
    rest = [v for k, v in known.items() if k not in chosen]
    for key in chosen:
        assert known[key] >= least
        assert all(v < known[key] or v < least for v in rest)


def test_slices_are_judged_by_the_exact_binomial() -> None:
    tags = {f"d/{n}": ({"light:night"} if n < 5 else {"light:day"}) for n in range(20)}
    units = {(clip, 0): clip in ("d/0", "d/1", "d/2", "d/3") for clip in tags}
    found = {one.tag: one for one in slice_shares(tags, units, 0.05, 1)}
    night = found["light:night"]
    assert (night.units, night.failing, night.lift) == (5, 4, pytest.approx(4.0))
    assert night.p == pytest.approx(0.25**4)  # four of four, each with chance 5 / 20
    assert night.drifted
    assert night.adjusted_p == pytest.approx(min(1, night.p * 2))  # two slices were asked
    day = found["light:day"]
    assert day.p == pytest.approx(sum(comb(4, k) * 0.75**k * 0.25 ** (4 - k) for k in range(5)))
    assert not day.drifted


def test_slices_ask_nothing_where_nothing_differs() -> None:
    everywhere = {f"d/{n}": {"light:day"} for n in range(9)}
    assert slice_shares(everywhere, {(clip, 0): True for clip in everywhere}, 0.05, 1) == []
    assert slice_shares({}, {}, 0.05, 1) == []


def test_a_case_knows_its_worst_frame_and_what_it_is_about() -> None:
    case = cases_of(
        {"d/0": 50},
        [
            ("d/0", 7, "missed", 1, ["class:cone"]),
            ("d/0", 9, "missed", 2, ["class:cone"]),
            ("d/0", 3, "both", 1, []),
        ],
    )["d/0"]
    assert (case.drive, case.worst_ns, case.frames) == ("d", 9, 50)
    assert case.own_tags() == {"kind:missed", "kind:both", "class:cone"}


def test_context_tags_say_everything_once() -> None:
    row = {
        "light": "night",
        "weather": None,
        "events": ["cut_in"],
        "tags": ["light:night", "object:cone", "ttc"],
    }
    assert context_tags(row) == {"light:night", "events:cut_in", "tags:object:cone", "tags:ttc"}


def test_bands_of_distance() -> None:
    assert distance_tag(3.0, (15.0, 30.0)) == "distance:below-15m"
    assert distance_tag(30.0, (15.0, 30.0)) == "distance:from-30m"
    assert distance_tag(None, (15.0,)) == distance_tag(float("nan"), (15.0,)) == "distance:unknown"


def pool(groups: int, each: int, spread: float, seed: int = 0) -> tuple[dict, dict, dict]:
    """Failing clips around some pictures; each group fails in its own way and has a tag of its own."""
    rng = np.random.default_rng(seed)
    middles = np.eye(32)[:groups] * 10
    cases, vectors, tags = {}, {}, {}
    for group in range(groups):
        for number in range(each):
            clip = f"drive{group}/{number:05d}"
            kind = ALL_KINDS[group % len(ALL_KINDS)]
            cases[clip] = Case(clip, 50, Counter({kind: 3}), Counter({number: 3}), Counter({"class:cone": 3}))
            vectors[clip] = (middles[group] + rng.normal(size=32) * spread).astype(np.float32)
            tags[clip] = {f"light:{('night', 'twilight', 'day')[group % 3]}"}
    tags |= {f"good/{number:05d}": {"light:day"} for number in range(20)}
    return cases, vectors, tags


def test_clips_that_look_and_fail_alike_share_a_bucket_with_a_telling_name() -> None:
    cases, vectors, tags = pool(3, 6, 0.05)
    found = buckets_of(cases, vectors, tags, POLICY)
    assert sorted(one.clips for one in found) == [
        tuple(f"drive{g}/{n:05d}" for n in range(6)) for g in range(3)
    ]
    night = next(one for one in found if one.clips[0].startswith("drive0"))
    assert night.name == "classification-night"
    assert night.middle in night.clips
    assert night.tags[0].tag == "light:night"
    assert night.tags[0].lift == pytest.approx(38 / 6)


def test_clips_without_a_vector_and_loners_are_loose() -> None:
    cases, vectors, tags = pool(2, 6, 0.05)
    del vectors["drive0/00003"]
    cases["other/00000"] = Case("other/00000", 50, Counter({"flickering": 1}), Counter({1: 1}))
    vectors["other/00000"] = -(np.eye(32)[0] + np.eye(32)[1]).astype(np.float32)
    tags["other/00000"] = set()
    last = buckets_of(cases, vectors, tags, POLICY)[-1]
    assert (last.name, last.clips, last.middle) == (LOOSE, ("drive0/00003", "other/00000"), None)


@settings(max_examples=25)
@given(st.integers(0, 4), st.integers(1, 5), st.floats(0.01, 3), st.integers(0, 9), st.randoms())
def test_every_failing_clip_is_in_one_bucket_whatever_the_order(
    groups: int, each: int, spread: float, seed: int, random: object
) -> None:
    cases, vectors, tags = pool(groups, each, spread, seed)
    found = buckets_of(cases, vectors, tags, POLICY)
    assert sorted(clip for one in found for clip in one.clips) == sorted(cases)
    assert len({one.name for one in found}) == len(found)
    order = list(cases)
    random.shuffle(order)  # type: ignore[attr-defined]
    again = buckets_of({c: cases[c] for c in order}, {c: vectors[c] for c in reversed(order)}, tags, POLICY)
    assert [one.to_json() for one in again] == [one.to_json() for one in found]


def test_specs_ask_for_the_bucket_and_mining_reads_them(tmp_path: Path) -> None:
    cases, vectors, tags = pool(3, 6, 0.05)
    found = buckets_of(cases, vectors, tags, POLICY)
    specs = specs_of(found, "w20250602-0badcafe", POLICY)
    assert [spec.name for spec in specs] == [f"fails-{one.name}" for one in found]
    night = next(spec for spec in specs if spec.name == "fails-classification-night")
    assert night.where["light"].any_of == ("night",)
    assert night.like in cases
    assert night.exclude_training
    (tmp_path / "specs.yaml").write_text(dump_specs(specs))
    assert load_specs(tmp_path / "specs.yaml") == tuple(specs)


def test_loose_clips_ask_for_nothing() -> None:
    cases, vectors, tags = pool(1, 1, 0.05)
    found = buckets_of(cases, vectors, tags, POLICY)
    assert [one.name for one in found] == [LOOSE]
    assert specs_of(found, "r", POLICY) == []
    assert buckets_of({}, {}, {}, POLICY) == []
