"""A change of a figure as a sum of parts, one for each ingredient that was exchanged.

The way from one evaluation to the other:

    recorded before                                   code (what the same ingredients give now, against then)
    -> scored again on all of its frames              data (frames that the other does not have leave)
    -> on the frames of both                          labels, model, thresholds (each exchanged, see below)
    -> the other's, on the frames of both             data (frames that the first does not have come)
    -> the other's, on all of its frames              code
    -> recorded after

On the frames of both everything can be exchanged, since predictions are kept: there the parts are Shapley values, the
mean over all orders of exchanging. They favour no order, and going backwards gives the same parts with the other sign.
All arithmetic is in fractions: the parts sum to the whole change exactly.

Belongs here: that arithmetic. Does not belong here: scoring, digests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import factorial

Value = Callable[[frozenset[str]], float]
"""The figure on the frames of both when these ingredients are the second's and all others the first's."""


@dataclass(frozen=True)
class Scored:
    """A figure of one evaluation: as it was recorded, and scored again from the same ingredients."""

    recorded: float
    again: float


@dataclass(frozen=True)
class Parts:
    """before + sum of `parts` = after, exactly."""

    before: Fraction
    after: Fraction
    parts: dict[str, Fraction]

    @property
    def change(self) -> Fraction:
        return self.after - self.before


def take_apart(before: Scored, after: Scored, exchanged: Sequence[str], value: Value) -> Parts:
    """Parts `code`, `data` and one for each ingredient in `exchanged`."""
    nothing, everything = Fraction(value(frozenset())), Fraction(value(frozenset(exchanged)))
    was, again = Fraction(before.recorded), Fraction(before.again)
    now, made = Fraction(after.recorded), Fraction(after.again)
    parts = {"code": (again - was) + (now - made), "data": (nothing - again) + (made - everything)}
    return Parts(was, now, parts | shapley(exchanged, value))


def undivided(before: Scored, after: Scored, name: str) -> Parts:
    """Where no frame is in both, everything but the code is one part."""
    was, again = Fraction(before.recorded), Fraction(before.again)
    now, made = Fraction(after.recorded), Fraction(after.again)
    return Parts(was, now, {"code": (again - was) + (now - made), name: made - again})


def shapley(names: Sequence[str], value: Value) -> dict[str, Fraction]:
    """What each name adds, averaged over all orders (Shapley 1953); the sum is value(all) - value(none)."""
    known: dict[frozenset[str], Fraction] = {}

    def of(group: frozenset[str]) -> Fraction:
        if group not in known:
            known[group] = Fraction(value(group))
        return known[group]

    found, count = {}, len(names)
    for name in names:
        others = [other for other in names if other != name]
        total = Fraction(0)
        for size in range(count):
            weight = Fraction(factorial(size) * factorial(count - size - 1), factorial(count))
            for group in map(frozenset, combinations(others, size)):
                total += weight * (of(group | {name}) - of(group))
        found[name] = total
    return found
