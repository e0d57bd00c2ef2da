"""Labelling functions and their combination: each vote, EM against a second implementation, known error rates."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.labels.automatic import weak_rules
from av_assets.domain.labels.automatic.candidates import Candidate
from av_assets.domain.labels.automatic.weak_rules import FALSE, REAL, RULES, SILENT, judge, judgement, vote
from av_assets.domain.labels.sensing.box_fit import Box3D
from av_assets.policies.label_fusion import LabelFusionPolicy

SHIPPED = LabelFusionPolicy.load()
NAMES = list(RULES)


def candidate(number: int = 0, **edits: object) -> Candidate:
    data = {
        "clip_id": "d/00000", "ref_ns": number, "cls": "vehicle", "score": 0.6, "xyxy": (10.0, 10.0, 60.0, 40.0),
        "cuboid": Box3D(12.0, 0.0, 4.4, 1.8, 0.0, 1.5, 0.0), "points": 30,
        "sources": {"lidar": 0.6, "camera": 0.4}, "blind": frozenset({"teacher"}), "track": -1,
    }  # fmt: skip
    return Candidate(**(data | edits))


def says(rule: str, *candidates: Candidate, road: float | None = None) -> int:
    return int(vote(candidates, SHIPPED, [road] * len(candidates))[0, NAMES.index(rule)])


def test_sources_vote_abstain_and_contradict() -> None:
    assert says("lidar", candidate()) == REAL
    assert says("camera", candidate(sources={"lidar": 0.6})) == FALSE
    assert says("teacher", candidate()) == SILENT
    assert says("camera", candidate(sources={"lidar": 0.6}, state="bridged")) == SILENT


def test_sizes_points_and_roads() -> None:
    assert says("size", candidate()) == REAL
    assert says("size", candidate(cuboid=Box3D(12, 0, 25.0, 1.8, 0, 1.5, 0))) == FALSE
    assert says("size", candidate(cuboid=None)) == SILENT
    assert says("aspect", candidate(xyxy=(0.0, 0.0, 10.0, 90.0))) == FALSE
    assert says("aspect", candidate(xyxy=None)) == SILENT
    assert says("points", candidate(points=1)) == FALSE
    assert says("points", candidate(points=5)) == SILENT
    assert says("road", candidate(), road=4.0) == FALSE
    assert says("road", candidate(), road=0.0) == REAL
    assert says("road", candidate()) == SILENT
    assert says("road", candidate(cls="pedestrian"), road=4.0) == SILENT


def test_tracks_speak_by_length_and_flicker() -> None:
    long = [candidate(n, track=3) for n in range(6)]
    assert says("track", *long) == REAL
    assert says("flicker", *long) == REAL
    broken = [candidate(n, track=3, state="observed" if n < 3 else "bridged") for n in range(8)]
    assert says("flicker", *broken) == FALSE
    assert says("track", candidate(track=4)) == FALSE
    assert says("track", candidate()) == SILENT


def votes_of(truth: np.ndarray, accuracy: list[float], spoken: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    right = rng.random((len(truth), len(accuracy))) < np.array(accuracy)
    votes = np.where(right, truth[:, None], 1 - truth[:, None])
    return np.where(rng.random(votes.shape) < spoken, votes, SILENT).astype(np.int8)


def test_error_rates_of_simulated_rules_are_recovered() -> None:
    """2000 things, 60 % real; each rule is silent on a fifth."""
    accuracy = [0.95, 0.6, 0.85, 0.7, 0.75, 0.9]
    truth = (np.random.default_rng(1).random(2000) < 0.6).astype(int)
    names = NAMES[: len(accuracy)]
    votes = votes_of(truth, accuracy, 0.8, 2)
    posterior, found = weak_rules._dawid_skene(votes, names, SHIPPED)
    assert [found[n] for n in names] == pytest.approx(accuracy, abs=0.05)
    right = (posterior > 0.5) == truth
    majority = ((votes == REAL).sum(1) > (votes == FALSE).sum(1)) == truth
    assert right.mean() > max(0.95, majority.mean())


def em(votes: np.ndarray, known: np.ndarray, iterations: int) -> np.ndarray:
    """Dawid and Skene's EM, straight from the formulas; known candidates come first, false and real in turn."""
    every = np.concatenate([known, votes])
    chance = np.stack([(every == FALSE).sum(1), (every == REAL).sum(1)], 1).astype(float)
    chance /= chance.sum(1, keepdims=True)
    fixed = np.eye(2)[np.arange(len(known)) % 2]
    prior = np.r_[fixed, chance[len(known) :]]
    p = prior.copy()
    for _ in range(iterations):
        share = p.mean(0)
        rates = np.array(
            [
                [[(p[every[:, r] == v, t]).sum() for v in (0, 1)] for t in (0, 1)]
                for r in range(every.shape[1])
            ]
        )
        rates = np.maximum(rates, 1e-10)
        rates /= rates.sum(2, keepdims=True)
        odds = np.log(np.maximum(share, 1e-10)) + np.array(
            [
                [sum(np.log(rates[r, t, v]) for r, v in enumerate(row) if v >= 0) for t in (0, 1)]
                for row in every
            ]
        )
        p = np.exp(odds - odds.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[: len(known)] = fixed
    return p[len(known) :, 1]


@settings(max_examples=4)
@given(st.integers(0, 10_000))
def test_the_posterior_is_that_of_the_textbook(seed: int) -> None:
    names = NAMES[:4]
    truth = (np.random.default_rng(seed).random(30) < 0.5).astype(int)
    votes = votes_of(truth, [0.9, 0.8, 0.7, 0.6], 0.9, seed + 1)
    votes = votes[(votes != SILENT).any(1)]
    data = SHIPPED.model_dump(mode="json")
    data["weak"] |= {"prior_items": 20, "iterations": 25}
    policy = LabelFusionPolicy.model_validate(data)
    found, _ = weak_rules._dawid_skene(votes, names, policy)
    wanted = em(votes, weak_rules._known_votes(names, policy), 25)
    assert found == pytest.approx(wanted, abs=1e-6)


def drive(seed: int, count: int = 60) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [
        candidate(
            n // 4, track=n % 7, score=round(float(rng.random()), 3), points=int(rng.integers(1, 40)),
            sources={"lidar": float(rng.random())} | ({"camera": 0.4} if rng.random() < 0.3 else {}),
        )
        for n in range(count)
    ]  # fmt: skip


def test_the_order_of_the_candidates_changes_no_score_and_twice_is_the_same() -> None:
    things = drive(5)
    first = judge(things, SHIPPED)
    assert [c.score for c in judge(things, SHIPPED)] == [c.score for c in first]
    order = list(range(len(things)))
    random.Random(3).shuffle(order)
    again = judge([things[i] for i in order], SHIPPED)
    assert [c.score for c in again] == pytest.approx([first[i].score for i in order], abs=1e-6)


def test_few_candidates_are_judged_by_beliefs_and_the_result_says_so() -> None:
    few = judgement([candidate()], SHIPPED)
    assert few.how == "beliefs"
    assert few.rules["lidar"]["accuracy"] == SHIPPED.weak.priors["lidar"]
    assert judgement(drive(1), SHIPPED).how == "dawid_skene"
    assert judgement([], SHIPPED).candidates == []


def test_one_candidate_more_moves_no_score_by_much() -> None:
    """Where beliefs give way to what is learned there is no jump: beliefs count as candidates there too."""
    things = drive(2, SHIPPED.weak.min_items)
    before = judgement(things[:-1], SHIPPED)
    after = judgement(things, SHIPPED)
    assert (before.how, after.how) == ("beliefs", "dawid_skene")
    moved = [abs(a.score - b.score) for a, b in zip(before.candidates, after.candidates[:-1], strict=True)]
    assert max(moved) <= SHIPPED.weak.share
    assert float(np.mean(moved)) < 0.1


@given(st.lists(st.integers(0, 3), min_size=0, max_size=50))
def test_figures_count_what_was_said(kinds: list[int]) -> None:
    things = [
        candidate(n, points=(1, 5, 30, 30)[k], xyxy=None if k == 3 else (1.0, 1.0, 9.0, 8.0))
        for n, k in enumerate(kinds)
    ]
    found = judgement(things, SHIPPED)
    points = found.rules["points"]
    assert points["votes"] == sum(k != 1 for k in kinds)
    assert points["coverage"] == pytest.approx(points["votes"] / max(len(kinds), 1), abs=1e-3)
    for c in found.candidates:
        assert 0 <= c.score <= 1
    assert found.rules["teacher"] == {"votes": 0, "coverage": 0.0, "conflict": None, "accuracy": None}


def test_a_conflict_is_a_vote_that_another_contradicts() -> None:
    things = [candidate(n, points=1 if n == 0 else 30) for n in range(4)]
    rules = judgement(things, SHIPPED).rules
    assert rules["points"]["conflict"] == 0.25
    assert rules["lidar"]["conflict"] == 0.25
