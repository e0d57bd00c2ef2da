"""Why nothing was found: which of several conditions emptied the answer.

Belongs here: counting with conditions taken away. Does not belong here: how rows are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Kept(NamedTuple):
    """What one condition leaves.

    Attributes:
        predicate: the condition, in words or SQL.
        kept: rows that meet it and every condition before it.
        without: rows that there would be if only this condition were dropped.
    """

    predicate: str
    kept: int
    without: int


def explain_empty(predicates: Sequence[str], count: Callable[[Sequence[int]], int]) -> list[Kept]:
    """One line per condition, in order; the first with `kept` 0 is the one that emptied the answer.

    Args:
        predicates: names of the conditions, all of which a row has to meet.
        count: rows that meet the conditions with these indices (sorted); asked at most 2 n times.
    """
    every = range(len(predicates))
    found, left = [], -1
    for number in every:
        left = 0 if left == 0 else count(list(every[: number + 1]))
        without = count([other for other in every if other != number])
        found.append(Kept(predicates[number], left, without))
    return found


def sentence(rows: Sequence[Kept]) -> str:
    """For people: the condition that left nothing, and those whose removal alone would bring rows back."""
    emptied = next((row.predicate for row in rows if row.kept == 0), None)
    if emptied is None:
        return "the conditions leave rows; what follows them does not"
    helpful = [f"{row.without:,} rows without {row.predicate}" for row in rows if row.without]
    return f"nothing is left after {emptied}; " + (
        "; ".join(helpful) or "no condition alone is the cause: drop several"
    )
