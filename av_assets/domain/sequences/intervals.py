"""Allen's thirteen relations between closed intervals of int64 ns.

Belongs here: which relation holds, and its inverse. Does not belong here: what the intervals stand for.

Source: J. F. Allen, Maintaining knowledge about temporal intervals, CACM 26(11), 1983. Allen's intervals have a length;
events may last a single sample, so the relations are told by the signs of the differences of starts and of ends first.
For intervals with a length that is Allen's definition; for the others it keeps the thirteen a partition.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Interval(NamedTuple):
    """Both ends belong to it; start_ns <= end_ns."""

    start_ns: int
    end_ns: int


class Relation(Enum):
    """The value is how the language spells it."""

    BEFORE = "before"
    MEETS = "meets"
    OVERLAPS = "overlaps"
    STARTS = "starts"
    DURING = "strictly during"
    FINISHES = "finishes"
    EQUALS = "equals"
    FINISHED_BY = "finished by"
    CONTAINS = "strictly contains"
    STARTED_BY = "started by"
    OVERLAPPED_BY = "overlapped by"
    MET_BY = "met by"
    AFTER = "after"


_PAIRS: Final = (
    (Relation.BEFORE, Relation.AFTER),
    (Relation.MEETS, Relation.MET_BY),
    (Relation.OVERLAPS, Relation.OVERLAPPED_BY),
    (Relation.STARTS, Relation.STARTED_BY),
    (Relation.DURING, Relation.CONTAINS),
    (Relation.FINISHES, Relation.FINISHED_BY),
    (Relation.EQUALS, Relation.EQUALS),
)
INVERSE: Final = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}

# (sign of a.start - b.start, sign of a.end - b.end) -> relation; the two ordered cases depend on the gap as well
_BY_SIGNS: Final = {
    (0, 0): Relation.EQUALS,
    (0, -1): Relation.STARTS,
    (0, 1): Relation.STARTED_BY,
    (1, 0): Relation.FINISHES,
    (-1, 0): Relation.FINISHED_BY,
    (1, -1): Relation.DURING,
    (-1, 1): Relation.CONTAINS,
}


def relation(a: Interval, b: Interval) -> Relation:
    """The one relation that a has to b."""
    signs = (_sign(a.start_ns - b.start_ns), _sign(a.end_ns - b.end_ns))
    if signs == (-1, -1):
        return _ordered(a.end_ns - b.start_ns)
    if signs == (1, 1):
        return INVERSE[_ordered(b.end_ns - a.start_ns)]
    return _BY_SIGNS[signs]


def inside(a: Interval, b: Interval) -> bool:
    """Whether a lies within b, borders included: strictly during, starts, finishes or equals."""
    return b.start_ns <= a.start_ns and a.end_ns <= b.end_ns


def touches(a: Interval, b: Interval, margin_ns: int = 0) -> bool:
    """Whether a, widened by margin_ns on both sides, shares an instant with b."""
    return a.start_ns - margin_ns <= b.end_ns and b.start_ns <= a.end_ns + margin_ns


def hull(a: Interval, b: Interval) -> Interval:
    return Interval(min(a.start_ns, b.start_ns), max(a.end_ns, b.end_ns))


def _ordered(reach_ns: int) -> Relation:
    """Of two intervals, the first earlier at both ends, by how far the first reaches beyond the second's start."""
    if reach_ns < 0:
        return Relation.BEFORE
    return Relation.MEETS if reach_ns == 0 else Relation.OVERLAPS


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
