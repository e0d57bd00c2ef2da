"""Filters over the index's columns: parsed, checked and written anew, so that nothing unread reaches the index.

Allowed: comparisons of a column with literals, IN, BETWEEN, LIKE, IS [NOT] NULL, has(kinds, 'cut_in') for lists,
AND, OR, NOT and brackets. No functions, no subqueries, no comparison of columns, no comments.
Belongs here: that language. Does not belong here: running it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from av_assets.domain.errors import AvError
from av_assets.domain.search.rows import FACTS, FILTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHARACTERS: Final = 2000
MAX_BRACKETS: Final = 40
_GRAMMAR: Final = r"""
    ?start: or
    ?or: and (_OR and)*
    ?and: not (_AND not)*
    ?not: _NOT not -> negation
        | "(" or ")" -> brackets
        | test
    ?test: NAME OPERATOR literal -> compare
        | NAME _NOT _IN "(" literal ("," literal)* ")" -> outside
        | NAME _IN "(" literal ("," literal)* ")" -> inside
        | NAME _BETWEEN literal _AND literal -> between
        | NAME _NOT _LIKE TEXT -> unlike
        | NAME _LIKE TEXT -> like
        | NAME _IS _NOT _NULL -> known
        | NAME _IS _NULL -> unknown
        | _HAS "(" NAME "," TEXT ")" -> has
    !literal: NUMBER | TEXT
    OPERATOR: "<=" | ">=" | "<>" | "!=" | "=" | "<" | ">"
    NUMBER: /[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?/
    TEXT: /'(?:[^']|'')*'/
    NAME: /[a-z][a-z0-9_]*/
    %ignore /[ \t\n]+/
""" + "".join(
    rf"    _{word}.2: /{word}(?![a-z0-9_])/i" + "\n"
    for word in ("OR", "AND", "NOT", "IN", "BETWEEN", "LIKE", "IS", "NULL", "HAS")
)


@dataclass(frozen=True)
class Filter:
    """A checked filter.

    Attributes:
        parts: what is joined by AND at the top, each as the index takes it.
    """

    parts: tuple[str, ...]

    @property
    def sql(self) -> str:
        return " AND ".join(self.parts)


def parse_filter(text: str) -> Filter:
    """Check a filter such as `speed > 20 AND light = 'night' AND has(kinds, 'cut_in')`.

    Raises:
        AvError: `bad_filter`, it is anything else, names no column of the index, or compares with the wrong kind.
    """
    from lark.exceptions import LarkError

    if (
        len(text) > MAX_CHARACTERS
        or text.count("(") > MAX_BRACKETS
        or text.upper().count("NOT") > MAX_BRACKETS
    ):
        raise _bad("the filter is too long or too deep")
    try:
        tree = filter_parser().parse(text)
    except LarkError as error:
        where = getattr(error, "column", None)
        at = f" at character {where}" if isinstance(where, int) and where > 0 else ""
        raise _bad(f"not a filter{at}: {text!r}") from error
    tops = tree.children if getattr(tree, "data", "") == "and" else [tree]
    return Filter(tuple(_sql(top, enclose=len(tops) > 1) for top in tops))


@cache
def filter_parser() -> Any:
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr")


def _bad(reason: str) -> AvError:
    remedy = (
        f"compare columns with literals, e.g. speed > 20 AND light = 'night'; columns: {', '.join(FILTERS)}"
    )
    return AvError(reason, code="bad_filter", remedy=remedy)


def _sql(tree: Any, enclose: bool = False) -> str:
    kind, children = str(tree.data), tree.children
    if kind in ("and", "or"):
        joined = f" {kind.upper()} ".join(_sql(child, enclose=True) for child in children)
        return f"({joined})" if enclose else joined
    if kind == "negation":
        return f"(NOT {_sql(children[0], enclose=True)})"
    if kind == "brackets":
        return f"({_sql(children[0])})"
    return _test(kind, children)


def _test(kind: str, children: Sequence[Any]) -> str:
    column = str(children[0])
    if column not in FILTERS:
        raise _bad(f"the index has no column {column}")
    is_list = pa.types.is_list(FACTS[column])
    if is_list and kind not in ("has", "known", "unknown"):
        raise _bad(f"{column} is a list: ask has({column}, '...')")
    if kind in ("known", "unknown"):
        return f"{column} IS {'NOT ' if kind == 'known' else ''}NULL"
    if kind == "has":
        if not is_list:
            raise _bad(f"{column} is no list")
        return f"array_has({column}, {children[1]})"
    if kind in ("like", "unlike"):
        _literal(column, children[1])
        return f"{column} {'NOT ' if kind == 'unlike' else ''}LIKE {children[1]}"
    if kind == "compare":
        return f"{column} {children[1]} {_literal(column, children[2].children[0])}"
    values = [_literal(column, child.children[0]) for child in children[1:]]
    if kind == "between":
        return f"({column} >= {values[0]} AND {column} <= {values[1]})"
    return f"{column} {'NOT IN' if kind == 'outside' else 'IN'} ({', '.join(values)})"


def _literal(column: str, token: Any) -> str:
    is_text = token.type == "TEXT"
    if is_text != pa.types.is_string(FACTS[column]):
        raise _bad(f"{column} holds {'numbers' if is_text else 'text'}, it cannot be compared with {token}")
    if pa.types.is_integer(FACTS[column]) and not str(token).lstrip("+-").isdigit():
        raise _bad(f"{column} holds whole numbers, it cannot be compared with {token}")
    return str(token)
