"""Greedy choice: limits, bounds, ties."""

from __future__ import annotations

from itertools import combinations
from math import e

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.mining.selection import broken_limits, choose, coverage, likeness_of
from tests.domain.mining import mining_cases as cases


@st.composite
def problems(draw: st.DrawFn, most: int = 12) -> tuple[list[float], np.ndarray]:
    count = draw(st.integers(1, most))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 4))
    if draw(st.booleans()):
        vectors[count // 2 :] = vectors[: count - count // 2]  # ties and copies
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = [round(float(v), 2) for v in rng.random(count)]
    return scores, likeness_of(list(vectors.astype(np.float32)))


def objective(
    scores: list[float], likeness: np.ndarray, d: float, budget: int, rows: tuple[int, ...]
) -> float:
    return (1 - d) * sum(scores[r] for r in rows) / budget + d * coverage(likeness, list(rows))


@given(problems(), st.integers(1, 6), st.floats(0, 1), st.data())
def test_budget_and_quotas_hold(
    problem: tuple[list[float], np.ndarray], budget: int, diversity: float, data: st.DataObject
) -> None:
    scores, likeness = problem
    names = st.frozensets(st.sampled_from(["rain", "night", "tunnel"]))
    slices = data.draw(st.lists(names, min_size=len(scores), max_size=len(scores)))
    quotas = {name: data.draw(st.integers(0, 3)) for name in ("rain", "night", "tunnel")}
    made = choose(scores, likeness, diversity, budget, slices, quotas)
    rows = [pick.row for pick in made.picks]
    assert len(set(rows)) == len(rows) <= budget
    for name, most in quotas.items():
        assert sum(name in slices[row] for row in rows) <= most
    assert set(rows) | set(made.rest) == set(range(len(scores)))
    assert not set(rows) & set(made.rest)
    for row, (gain, full) in made.rest.items():
        taken = sum(full in slices[r] for r in rows) if full else 0
        assert full is None or (full in slices[row] and taken == quotas[full])
        assert full is not None or (len(rows) == budget and gain <= made.picks[-1].gain + 1e-9)


@given(problems(most=9), st.integers(1, 4), st.floats(0, 1))
def test_greedy_reaches_its_bound_of_the_best_set(
    problem: tuple[list[float], np.ndarray], budget: int, diversity: float
) -> None:
    scores, likeness = problem
    size = min(budget, len(scores))
    none = [frozenset[str]()] * len(scores)
    made = choose(scores, likeness, diversity, budget, none, {})
    got = objective(scores, likeness, diversity, budget, tuple(pick.row for pick in made.picks))
    best = max(
        objective(scores, likeness, diversity, budget, s) for s in combinations(range(len(scores)), size)
    )
    assert got >= (1 - 1 / e) * best - 1e-6
    assert abs(sum(pick.gain for pick in made.picks) - got) < 1e-5


@given(problems(), st.integers(1, 6), st.floats(0, 1))
def test_lazy_evaluation_chooses_what_plain_greedy_chooses(
    problem: tuple[list[float], np.ndarray], budget: int, diversity: float
) -> None:
    scores, likeness = problem
    worth = (1 - diversity) * np.asarray(scores) / budget
    covered, plain = np.zeros(len(scores)), []
    for _ in range(min(budget, len(scores))):
        gains = {
            r: round(float(worth[r]) + diversity * float(np.maximum(likeness[r] - covered, 0.0).mean()), 12)
            for r in range(len(scores))
            if r not in plain
        }
        best = min(gains, key=lambda r: (-gains[r], r))
        plain.append(best)
        covered = np.maximum(covered, likeness[best])
    made = choose(scores, likeness, diversity, budget, [frozenset()] * len(scores), {})
    assert [pick.row for pick in made.picks] == plain


def test_a_clip_without_a_vector_is_like_itself_alone() -> None:
    likeness = likeness_of([cases.unit(1, 0), None, cases.unit(-1, 0)])
    assert likeness.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_broken_limits_are_named() -> None:
    asked = cases.spec(budget=1, quotas={"rain": {"where": {"weather": ["rain"]}, "at_most": 0}})
    rows = [{"spec": "asked", "clip_id": c, "slices": s} for c, s in (("a", ["rain"]), ("a", []), ("b", []))]
    found = broken_limits([*rows, {"spec": "other", "clip_id": "c", "slices": []}], [asked])
    assert found == [
        "c: no spec other",
        "asked: 1 clips, quota rain is 0",
        "asked: 3 clips, budget is 1",
        "asked: a twice",
    ]
