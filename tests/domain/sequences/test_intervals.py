"""Allen's thirteen relations: exactly one holds of any two intervals, and each has its inverse."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.sequences.intervals import INVERSE, Interval, Relation, hull, inside, relation, touches

intervals = st.tuples(st.integers(0, 8), st.integers(0, 5)).map(lambda p: Interval(p[0], p[0] + p[1]))
proper = intervals.filter(lambda i: i.start_ns < i.end_ns)

# Allen's own definitions, one by one, for intervals with a length.
DEFINITIONS = {
    Relation.BEFORE: lambda a, b: a.end_ns < b.start_ns,
    Relation.MEETS: lambda a, b: a.end_ns == b.start_ns,
    Relation.OVERLAPS: lambda a, b: a.start_ns < b.start_ns < a.end_ns < b.end_ns,
    Relation.STARTS: lambda a, b: a.start_ns == b.start_ns and a.end_ns < b.end_ns,
    Relation.DURING: lambda a, b: b.start_ns < a.start_ns and a.end_ns < b.end_ns,
    Relation.FINISHES: lambda a, b: a.end_ns == b.end_ns and a.start_ns > b.start_ns,
    Relation.EQUALS: lambda a, b: a == b,
}


@given(proper, proper)
def test_relations_are_those_of_allen_and_exactly_one_holds(a: Interval, b: Interval) -> None:
    held = [r for r, holds in DEFINITIONS.items() if holds(a, b)]
    held += [INVERSE[r] for r, holds in DEFINITIONS.items() if holds(b, a) and r is not Relation.EQUALS]
    assert held == [relation(a, b)]


@given(intervals, intervals)
def test_inverse_of_the_inverse_is_the_relation(a: Interval, b: Interval) -> None:
    assert relation(b, a) is INVERSE[relation(a, b)]
    assert INVERSE[INVERSE[relation(a, b)]] is relation(a, b)


@given(intervals, intervals, st.integers(-(2**60), 2**60))
def test_shift_changes_nothing(a: Interval, b: Interval, by: int) -> None:
    moved = [Interval(i.start_ns + by, i.end_ns + by) for i in (a, b)]
    assert relation(*moved) is relation(a, b)


@given(intervals, intervals)
def test_sets_of_relations_are_what_they_say(a: Interval, b: Interval) -> None:
    found = relation(a, b)
    assert inside(a, b) == (found in (Relation.DURING, Relation.STARTS, Relation.FINISHES, Relation.EQUALS))
    assert touches(a, b) == (found not in (Relation.BEFORE, Relation.AFTER))
    assert touches(a, b) == any(b.start_ns <= t <= b.end_ns for t in range(a.start_ns, a.end_ns + 1))
    assert inside(a, hull(a, b))
    assert inside(b, hull(a, b))


def test_there_are_thirteen() -> None:
    assert len(Relation) == len(INVERSE) == 13
    line = range(4)
    pairs = [Interval(s, e) for s in line for e in line if s < e]
    assert {relation(a, b) for a in pairs for b in pairs} == set(Relation)
