"""Saved predicates over labelled frames: parsed, checked column by column, written anew, and only then run.

The language is that of the search filters: comparisons with literals, IN, BETWEEN, LIKE, IS [NOT] NULL,
has(tags, 'x') for lists, AND, OR, NOT and brackets; no functions and no subqueries, so that a predicate reaches
nothing but the columns below and gives the same answer on every day and machine.
Belongs here: that check and running it. Does not belong here: where columns come from (frames), slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from av_assets.domain.errors import DatasetError
from av_assets.domain.search.filters import MAX_BRACKETS, MAX_CHARACTERS, filter_parser

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

Kind = Literal["text", "number", "list"]


@dataclass(frozen=True)
class Predicate:
    """A checked predicate; `parts` are joined by AND, each in the SQL of DuckDB."""

    text: str
    parts: tuple[str, ...]


def compile_predicate(text: str, columns: Mapping[str, Kind]) -> Predicate:
    """Check `text`; an empty one lets every frame through.

    Raises:
        DatasetError: bad_predicate; unknown_column, with those that there are.
    """
    from lark.exceptions import LarkError

    if not text.strip():
        return Predicate(text, ())
    deep = text.count("(") > MAX_BRACKETS or text.upper().count("NOT") > MAX_BRACKETS
    if len(text) > MAX_CHARACTERS or deep:
        raise _bad("the predicate is too long or too deep", columns)
    try:
        tree = filter_parser().parse(text)
    except LarkError as error:
        where = getattr(error, "column", None)
        at = f" at character {where}" if isinstance(where, int) and where > 0 else ""
        raise _bad(f"not a predicate{at}: {text!r}", columns) from error
    tops = tree.children if getattr(tree, "data", "") == "and" else [tree]
    return Predicate(text, tuple(_sql(top, columns) for top in tops))


def passing(frames: pa.Table, predicate: Predicate, only: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """(N,) which rows meet the parts (all, or those with the indices `only`); unknown is not met, as in SQL.

    Raises:
        DatasetError: bad_predicate, where the values do not fit.
    """
    import duckdb

    chosen = predicate.parts if only is None else [predicate.parts[i] for i in only]
    if not chosen or not frames.num_rows:
        return np.ones(frames.num_rows, np.bool_)
    where = " AND ".join(f"({part})" for part in chosen)
    with duckdb.connect(config={"enable_external_access": False, "memory_limit": "2GB"}) as connection:
        numbered = frames.append_column("row number", [np.arange(frames.num_rows)])
        connection.register("frames", numbered)
        try:
            found = connection.sql(f'SELECT "row number" FROM frames WHERE {where}').to_arrow_table()
        except duckdb.Error as error:
            raise DatasetError(
                f"{predicate.text!r}: {' '.join(str(error).split())}", code="bad_predicate"
            ) from error
    good = np.zeros(frames.num_rows, np.bool_)
    good[found["row number"].to_numpy()] = True
    return good


def _bad(reason: str, columns: Mapping[str, Kind], code: str = "bad_predicate") -> DatasetError:
    remedy = f"compare columns with literals, e.g. mean_speed_mps > 10; columns: {', '.join(sorted(columns))}"
    return DatasetError(reason, code=code, remedy=remedy)


def _sql(tree: Any, columns: Mapping[str, Kind]) -> str:
    kind, children = str(tree.data), tree.children
    if kind in ("and", "or"):
        return "(" + f" {kind.upper()} ".join(_sql(child, columns) for child in children) + ")"
    if kind == "negation":
        return f"(NOT {_sql(children[0], columns)})"
    if kind == "brackets":
        return f"({_sql(children[0], columns)})"
    return _test(kind, children, columns)


def _test(kind: str, children: Sequence[Any], columns: Mapping[str, Kind]) -> str:
    column = str(children[0])
    if column not in columns:
        raise _bad(f"frames have no column {column}", columns, "unknown_column")
    is_list = columns[column] == "list"
    if kind in ("known", "unknown"):
        return f"{column} IS {'NOT ' if kind == 'known' else ''}NULL"
    if is_list != (kind == "has"):
        raise _bad(f"{column} is {'a' if is_list else 'no'} list: ask has(<list>, '...')", columns)
    if kind == "has":
        return f"list_contains({column}, {children[1]})"
    if kind in ("like", "unlike"):
        return f"{column} {'NOT ' if kind == 'unlike' else ''}LIKE {_literal(column, children[1], columns)}"
    if kind == "compare":
        return f"{column} {children[1]} {_literal(column, children[2].children[0], columns)}"
    values = [_literal(column, child.children[0], columns) for child in children[1:]]
    if kind == "between":
        return f"({column} >= {values[0]} AND {column} <= {values[1]})"
    return f"{column} {'NOT IN' if kind == 'outside' else 'IN'} ({', '.join(values)})"


def _literal(column: str, token: Any, columns: Mapping[str, Kind]) -> str:
    if (token.type == "TEXT") != (columns[column] == "text"):
        raise _bad(f"{column} holds {columns[column]}s, it cannot be compared with {token}", columns)
    return str(token)
