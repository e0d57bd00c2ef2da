"""What a sentence of the sequence language means, as a tree.

Belongs here: the nodes, their order of evaluation and how they are called in explanations. Does not belong here:
grammar (`language`), names and types (`vocabulary`), evaluation (`compile`, `reference`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from av_assets.domain.errors import AvError
from av_assets.domain.sequences.intervals import Relation

Value = str | int | float | bool


class Place(NamedTuple):
    """Where in the text; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


def mistake(at: Place, reason: str, code: str, remedy: str = "see docs/sequences.md") -> AvError:
    """The one shape of all errors in a text."""
    return AvError(f"{at}: {reason}", code=code, remedy=remedy)


class Table(Enum):
    """What an atom looks into; the value is the name of the table."""

    EVENTS = "events"
    CLIPS = "clips"
    SCENES = "scenes"


@dataclass(frozen=True)
class Compare:
    """One condition on a row. `op` is one of = != < <= > >= has, or `in cell`."""

    name: str
    op: str
    value: Value
    at: Place
    unit: str = ""


@dataclass(frozen=True)
class Atom:
    """Rows of a table. Clips that follow each other and match are one stretch; events and scenes stay as they are.

    `label` is the kind of an event, and what the proof row is called for the others.
    """

    table: Table
    label: str
    filters: tuple[Compare, ...]
    at: Place


@dataclass(frozen=True)
class Similar:
    """Clips whose similarity to `clip` is greater than `above`."""

    clip: str
    above: float
    at: Place


@dataclass(frozen=True)
class Then:
    """right begins after left has ended (Allen: before or meets), at most within_ns later.

    With of_start: right begins after left has begun, at most within_ns later; left may go on.
    """

    left: Expression
    right: Expression
    within_ns: int | None
    of_start: bool
    at: Place


@dataclass(frozen=True)
class Allen:
    """left has the relation to right."""

    relation: Relation
    left: Expression
    right: Expression
    at: Place


class Keep(Enum):
    """How a condition must lie to what it conditions."""

    DURING = "during"  # left lies within right, borders included
    CONTAINS = "contains"  # right lies within left, borders included
    WHILE = "while"  # they share an instant


@dataclass(frozen=True)
class Kept:
    """left keeps its interval where a right lies as said."""

    how: Keep
    left: Expression
    right: Expression
    at: Place


@dataclass(frozen=True)
class Without:
    """left where no right shares an instant with it, widened by margin_ns on both sides."""

    left: Expression
    right: Expression
    margin_ns: int
    at: Place


@dataclass(frozen=True)
class Both:
    """The time that left and right share."""

    left: Expression
    right: Expression
    at: Place


@dataclass(frozen=True)
class Either:
    """All of left and all of right."""

    left: Expression
    right: Expression
    at: Place


Leaf = Atom | Similar
Pair = Then | Allen | Kept | Without | Both | Either
Expression = Leaf | Pair


def walk(expression: Expression) -> Iterator[Expression]:
    """Every node, those that a node is made of before it: the order of evaluation."""
    if not isinstance(expression, Atom | Similar):
        yield from walk(expression.left)
        yield from walk(expression.right)
    yield expression


def name_of(expression: Expression) -> str:
    """How an explanation calls the node."""
    if isinstance(expression, Similar):
        return f"similar to {expression.clip} above {expression.above:g}"
    if isinstance(expression, Atom):
        return _atom_name(expression)
    if isinstance(expression, Then):
        within = "" if expression.within_ns is None else f" within {expression.within_ns / 1e9:g} s"
        return f"then{within}{' of start' if expression.of_start else ''}"
    if isinstance(expression, Without):
        return "not" + (f" within {expression.margin_ns / 1e9:g} s" if expression.margin_ns else "")
    if isinstance(expression, Allen):
        return expression.relation.value
    if isinstance(expression, Kept):
        return expression.how.value
    return "and" if isinstance(expression, Both) else "or"


def _atom_name(atom: Atom) -> str:
    shown = ", ".join(f"{f.name} {f.op} {f.value}" for f in atom.filters)
    if not shown or (atom.table is Table.CLIPS and atom.label != "clip"):
        return atom.label
    return f"{atom.label}({shown})"
