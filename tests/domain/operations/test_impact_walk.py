"""What follows from what, and how long it takes: against closures and schedules found by other means."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.operations.durations import Quantiles, Task, estimate, makespan
from av_assets.domain.operations.impact import Held, Node, impact

FOLLOWS = "on_changed_content"


def chain(*labels: str) -> list[Node]:
    return [
        Node(f"a{n}", (f"a{n - 1}",) if n else (), "drive", label, "cpu") for n, label in enumerate(labels)
    ]


edges = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda e: e[0] < e[1]), max_size=20)


@given(edges, st.sets(st.integers(0, 7), min_size=1))
def test_the_walk_reaches_what_the_closure_of_lineage_holds(
    pairs: list[tuple[int, int]], start: set[int]
) -> None:
    """networkx's descendants over the bundles are the oracle."""
    nodes = [
        Node(f"a{n}", tuple(sorted({f"a{i}" for i, j in pairs if j == n})), "drive", FOLLOWS)
        for n in range(8)
    ]
    inputs = {(f"a{n}", "d"): {(f"a{i}", "d") for i, j in pairs if j == n} for n in range(8)}
    graph = nx.DiGraph(pairs)
    graph.add_nodes_from(range(8))
    expected = set(start).union(*(nx.descendants(graph, n) for n in start))
    found = impact(nodes, Held(inputs), [(f"a{n}", "d") for n in start])
    assert {(r.asset, r.partition) for r in found} == {(f"a{n}", "d") for n in expected}
    assert {r.asset for r in found if r.how == "certain"} == {f"a{n}" for n in start}
    order = [r.asset for r in found]
    assert all(order.index(f"a{i}") < order.index(f"a{j}") for i, j in pairs if {i, j} <= expected)


def test_other_drives_are_left_alone_and_weeks_follow_their_members() -> None:
    nodes = [*chain(FOLLOWS, FOLLOWS), Node("weeks", ("a1",), "week", FOLLOWS)]
    inputs = {("a0", d): set() for d in "xy"} | {("a1", d): {("a0", d)} for d in "xy"}
    inputs |= {("weeks", "1"): {("a1", "x")}, ("weeks", "2"): {("a1", "y")}}
    found = impact(nodes, Held(inputs), [("a0", "x")])
    assert [(r.asset, r.partition, r.how) for r in found] == [
        ("a0", "x", "certain"),
        ("a1", "x", "possible"),
        ("weeks", "1", "possible"),
    ]


def test_what_nothing_remakes_is_frozen_and_holds_up_what_is_below() -> None:
    inputs = {("a0", "x"): set(), ("a1", "x"): {("a0", "x")}, ("a2", "x"): {("a1", "x")}}
    found = impact(chain(FOLLOWS, "every_monday", FOLLOWS), Held(inputs), [("a0", "x")])
    assert [(r.asset, r.how) for r in found] == [("a0", "certain"), ("a1", "frozen")]


def test_an_asset_that_reads_tables_only_follows_the_same_partition() -> None:
    nodes = [*chain(FOLLOWS, FOLLOWS), Node("report", ("a1",), "", FOLLOWS)]
    inputs = {(a, d): set() for a in ("a0", "a1") for d in "xy"} | {("report", "all"): set()}
    found = impact(nodes, Held(inputs), [("a0", "x")])
    assert {(r.asset, r.partition) for r in found} == {("a0", "x"), ("a1", "x"), ("report", "all")}


def test_what_was_never_made_is_not_remade() -> None:
    found = impact(
        chain(FOLLOWS, FOLLOWS), Held({("a0", "x"): set()}), [("a0", "x"), ("a0", "y"), ("no", "x")]
    )
    assert [(r.asset, r.partition) for r in found] == [("a0", "x")]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_quantiles_are_runs_that_there_were(seconds: list[float]) -> None:
    found = Quantiles.of(seconds)
    expected = [float(np.quantile(seconds, q, method="inverted_cdf")) for q in (0.5, 0.9)]
    assert (found.n, found.p50_s, found.p90_s) == (len(seconds), *expected)


def test_no_run_is_no_figure() -> None:
    assert Quantiles.of([]) == Quantiles.of([float("nan"), -1.0, float("inf")]) == (0, None, None)


tasks = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from("pq"), st.integers(0, 30)), min_size=1, max_size=15
)


@given(tasks, st.integers(1, 4), st.integers(1, 3))
def test_a_schedule_lies_between_its_bounds(drawn: list[tuple[int, str, int]], runs: int, limit: int) -> None:
    """Never faster than the longest chain, all work over all slots, or a pool's work over its own; never slower than
    all in a row."""
    made, seconds, depth = [], {}, {}
    for n, (took, pool, above) in enumerate(drawn):
        name = (f"a{n}", "d")
        after = ((f"a{above % n}", "d"),) if n and above % 3 else ()
        made.append(Task(name, pool, after))
        seconds[name] = float(took)
        depth[name] = took + max((depth[a] for a in after), default=0)
    total = makespan(made, seconds, {"p": limit}, runs)
    pool_work = sum(seconds[t.name] for t in made if t.pool == "p") / min(limit, runs)
    assert total >= max(max(depth.values()), sum(seconds.values()) / runs, pool_work) - 1e-9
    assert total <= sum(seconds.values()) + 1e-9
    if runs == 1:
        assert total == pytest.approx(sum(seconds.values()))


def test_pools_and_runs_bound_what_goes_on_at_once() -> None:
    made = [Task(("a", str(n)), "gpu") for n in range(4)]
    seconds = {t.name: 10.0 for t in made}
    assert makespan(made, seconds, {}, 4) == 10.0
    assert makespan(made, seconds, {"gpu": 2}, 4) == 20.0
    assert makespan(made, seconds, {"gpu": 2}, 1) == 40.0
    with pytest.raises(ValueError, match="nothing"):
        makespan(made, seconds, {}, 0)
    circle = [Task(("a", "1"), "", (("a", "2"),)), Task(("a", "2"), "", (("a", "1"),))]
    with pytest.raises(ValueError, match="wait for each other"):
        makespan(circle, {}, {}, 1)


def test_an_estimate_says_what_it_does_not_know() -> None:
    made = [Task(("a", "x"), ""), Task(("b", "x"), "", (("a", "x"),))]
    told = estimate(made, {"a": Quantiles.of([1.0, 2.0, 9.0])}, {}, 2)
    assert (told.p50_s, told.p90_s, told.unknown, told.is_complete) == (2.0, 9.0, ("b",), False)
