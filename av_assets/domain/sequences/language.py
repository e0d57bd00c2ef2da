"""From text to a tree: the grammar of the sequence language.

Belongs here: grammar, literals, and errors that say where and what was expected. Does not belong here: whether a name
exists (`vocabulary`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from av_assets.domain.sequences.expressions import (
    Allen,
    Atom,
    Both,
    Compare,
    Either,
    Expression,
    Keep,
    Kept,
    Place,
    Similar,
    Table,
    Then,
    Without,
    mistake,
)
from av_assets.domain.sequences.intervals import Relation
from av_assets.domain.sequences.lark_trees import only, token, tree_of, trees
from av_assets.domain.sequences.literals import (
    cell_of,
    comparison_of,
    distance_m,
    gap_ns,
    named,
    number_of,
    place_of,
    unquoted,
)

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

MAX_CHARACTERS: Final = 4000
MAX_DEPTH: Final = 20
MAX_WORDS: Final = 400

GRAMMAR: Final = r"""
start: either
either: both ("or" both)*
both: chain (and_tail)*
and_tail: AND chain | AND_NOT chain
chain: primary op*
op: THEN primary | RELATION primary | DURING primary | CONTAINS primary | WHILE primary | NOT primary
  | place -> at_place
  | WITHIN quantity [OF START] -> within
primary: "(" either ")" | atom
atom: NAME [filters] -> named
  | comparison -> context
  | place -> where
  | "similar" "to" (CLIP | STRING) "above" NUMBER -> similar
filters: "(" [comparison ("," comparison)*] ")"
comparison: NAME (COMPARE | HAS) value
value: quantity | STRING | NAME
place: NEAR JUNCTION | IN "cell" STRING | WITHIN quantity OF ("a" | "the") JUNCTION
quantity: NUMBER [UNIT]

AND_NOT.3: /and\s+not(?![\w])/
RELATION.3: /(strictly\s+(during|contains)|(met|overlapped|started|finished)\s+by
             |before|after|meets|overlaps|starts|finishes|equals)(?![\w])/x
AND: "and"
THEN: "then"
DURING: "during"
CONTAINS: "contains"
WHILE: "while"
NOT: "not"
NEAR: "near"
IN: "in"
WITHIN: "within"
OF: "of"
START: "start"
JUNCTION: "junction"
HAS: "has"
COMPARE: "<=" | ">=" | "!=" | "=" | "<" | ">"
CLIP.2: /[A-Za-z0-9][A-Za-z0-9-]*\/[0-9]+/
NUMBER: /-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?/
UNIT: /(km\/h|m\/s|min|ms|km|s|m|h)(?![\w\/])/
NAME: /[A-Za-z_][A-Za-z0-9_]*/
STRING: /"[^"\n]{0,200}"|'[^'\n]{0,200}'/
%ignore /[ \t\r\n]+/
"""

_SPOKEN: Final = {
    "NAME": "a name", "STRING": "a text in quotes", "NUMBER": "a number", "UNIT": "a unit", "CLIP": "a clip id",
    "COMPARE": "a comparison (= != < <= > >=)", "RELATION": "a relation (before, meets, overlaps, ...)",
    "LPAR": "'('", "RPAR": "')'", "COMMA": "','", "AND_NOT": "'and not'", "$END": "the end",
}  # fmt: skip


def parse(text: str, near_junction_m: float) -> Expression:
    """The tree of a sentence; names are not yet looked up.

    Args:
        near_junction_m: what `near junction` means.

    Raises:
        AvError: code `sequence_too_long` or `sequence_syntax`, with line, column and what was expected.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

    _bound(text)
    try:
        tree = _parser().parse(text)
    except UnexpectedToken as error:
        ended = error.token.type == "$END"
        found = "the end" if ended else f"{str(error.token)[:40]!r}"
        at = _end_of(text) if ended else Place(error.line, error.column)
        _refuse_leading_not(text, error.pos_in_stream or 0)
        raise _unexpected(at, found, error.expected) from None
    except UnexpectedCharacters as error:
        found = repr(text[error.pos_in_stream])
        raise _unexpected(Place(error.line, error.column), found, error.allowed or set()) from None
    except UnexpectedEOF as error:
        raise _unexpected(_end_of(text), "the end", set(error.expected)) from None
    return _Builder(near_junction_m).either(only(tree))


def _bound(text: str) -> None:
    start = Place(1, 1)
    if len(text) > MAX_CHARACTERS:
        raise mistake(start, f"more than {MAX_CHARACTERS} characters", "sequence_too_long")
    if len(text.replace("(", " ( ").split()) > MAX_WORDS:
        raise mistake(start, f"more than {MAX_WORDS} words", "sequence_too_long")
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth > MAX_DEPTH:
            raise mistake(start, f"more than {MAX_DEPTH} open parentheses", "sequence_too_long")


def _refuse_leading_not(text: str, position: int) -> None:
    before = text[:position].split()
    if before and before[-1].strip("(") == "not":
        start = text[:position].rstrip().rfind("not")
        at = Place(text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
        raise mistake(at, "'not' needs something before it, such as 'day not rain'", "sequence_syntax")


def _unexpected(at: Place, found: str, expected: set[str]) -> Exception:
    words = sorted({_SPOKEN.get(name, f"'{name.lower()}'") for name in expected})
    return mistake(at, f"found {found}, expected {' or '.join(words) or 'something else'}", "sequence_syntax")


def _end_of(text: str) -> Place:
    kept = text.rstrip()
    return Place(kept.count("\n") + 1, len(kept) - (kept.rfind("\n") + 1) + 1)


@lru_cache(maxsize=1)
def _parser() -> Lark:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", maybe_placeholders=False)


class _Builder:
    """Turns lark's tree into ours; one method per rule."""

    def __init__(self, near_junction_m: float) -> None:
        self._near_m = near_junction_m

    def either(self, tree: Tree[Token]) -> Expression:
        built = [self.both(part) for part in trees(tree)]
        result = built[0]
        for other in built[1:]:
            result = Either(result, other, other.at)
        return result

    def both(self, tree: Tree[Token]) -> Expression:
        first, *tails = trees(tree)
        result, dangling = self.chain(first)
        _refuse(dangling)
        for tail in tails:
            word, part = tail.children
            right, dangling = self.chain(tree_of(part))
            if token(word).type == "AND_NOT":
                result = Without(result, right, gap_ns(dangling), place_of(token(word)))
            else:
                _refuse(dangling)
                result = Both(result, right, place_of(token(word)))
        return result

    def chain(self, tree: Tree[Token]) -> tuple[Expression, Tree[Token] | None]:
        """The expression, and a `within 5 s` right after the first part: only `and not` has a use for it."""
        first, *ops = trees(tree)
        if len(ops) == 1 and ops[0].data == "within":
            return self.primary(first), ops[0]
        result = self.primary(first)
        while ops:
            op = ops.pop(0)
            follows = bool(ops) and ops[0].data == "within" and op.data == "op"
            if follows and token(op.children[0]).type in ("THEN", "NOT"):
                result = self.operator(result, op, ops.pop(0))
            else:
                result = self.operator(result, op, None)
        return result, None

    def operator(self, left: Expression, op: Tree[Token], within: Tree[Token] | None) -> Expression:
        if op.data == "within":
            _refuse(op)
        if op.data == "at_place":
            where = self.place(only(op))
            return Kept(Keep.WHILE, left, where, where.at)
        word = token(op.children[0])
        right, at = self.primary(tree_of(op.children[1])), place_of(word)
        if word.type == "THEN":
            gap = None if within is None else gap_ns(within)
            return Then(left, right, gap, within is not None and _of_start(within), at)
        if word.type == "NOT":
            if within is not None and _of_start(within):
                raise mistake(at, "'of start' belongs to 'then' only", "sequence_syntax")
            return Without(left, right, gap_ns(within), at)
        if word.type == "RELATION":
            return Allen(Relation(" ".join(word.split())), left, right, at)
        return Kept(Keep(str(word)), left, right, at)

    def primary(self, tree: Tree[Token]) -> Expression:
        inner = only(tree)
        return self.either(inner) if inner.data == "either" else self.atom(inner)

    def atom(self, tree: Tree[Token]) -> Expression:
        if tree.data == "where":
            return self.place(only(tree))
        if tree.data == "context":
            compare = comparison_of(only(tree))
            return Atom(Table.CLIPS, f"{compare.name} {compare.op} {compare.value}", (compare,), compare.at)
        first = token(tree.children[0])
        at = place_of(first)
        if tree.data == "similar":
            above = token(tree.children[1])
            return Similar(unquoted(first), float(number_of(above)), at)
        filters = tuple(comparison_of(c) for part in trees(tree) for c in trees(part))
        return named(str(first), filters, at)

    def place(self, tree: Tree[Token]) -> Atom:
        first = token(tree.children[0])
        at = place_of(first)
        if first.type == "IN":
            name = token(tree.children[1])
            return Atom(Table.CLIPS, f"in cell {unquoted(name)}", (cell_of(name),), at)
        metres = self._near_m
        if first.type == "WITHIN":
            metres = distance_m(tree_of(tree.children[1]))
        near = Compare("junction_distance_m", "<=", metres, at)
        return Atom(Table.CLIPS, f"within {metres:g} m of a junction", (near,), at)


def _of_start(within: Tree[Token]) -> bool:
    return len(within.children) > 2


def _refuse(within: Tree[Token] | None) -> None:
    if within is not None:
        at = place_of(token(within.children[0]))
        reason = (
            "'within <time>' must follow 'then X' or 'not X', and 'within <distance>' needs 'of a junction'"
        )
        raise mistake(at, reason, "sequence_syntax")
