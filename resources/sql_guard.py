"""What a query of a person may be: judged on the tree that DuckDB's own parser makes of it, never on its text.

Everything is refused that is not known to be harmless: a new kind of statement, node or table function of a later
DuckDB is refused until it is listed here.

Belongs here: judging and taking apart. Does not belong here: running (sql).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

MAX_CHARACTERS = 100_000
QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
TABLE_KINDS = frozenset(
    {
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "TABLE_FUNCTION",
        "EMPTY",
        "EXPRESSION_LIST",
        "SHOW_REF",
        "CTE",
        "PIVOT",
    }
)
TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
SPECIAL_TABLES = frozenset({'"tables"'})  # what SHOW TABLES reads
# They see settings, run text as SQL, write somewhere, or make one value larger than any memory limit.
FUNCTIONS = frozenset(
    {
        *("getenv", "current_setting", "getvariable", "setseed", "write_log", "nextval", "currval"),
        *("query", "query_table", "json_execute_serialized_sql", "json_serialize_plan", "json_serialize_sql"),
        *("json_deserialize_sql", "repeat", "lpad", "rpad", "bitstring", "getvariable", "sleep", "sleep_ms"),
    }
)
REMEDY = "ask with one SELECT, WITH, EXPLAIN, DESCRIBE or SHOW over the lake's tables"


@dataclass(frozen=True)
class Statement:
    """A query that passed.

    Attributes:
        sql: what is to be run.
        tables: tables of the lake that it reads, sorted.
        node: the parsed query; None of an EXPLAIN, whose rows are never empty.
    """

    sql: str
    tables: tuple[str, ...]
    node: dict[str, Any] | None


@dataclass(frozen=True)
class Counting:
    """The parts of a query that say how many rows its conditions leave."""

    predicates: list[str]
    template: dict[str, Any]
    conditions: list[dict[str, Any]]

    def sql(self, connection: duckdb.DuckDBPyConnection, kept: Sequence[int]) -> str:
        """A query for the number of rows that meet the conditions with these indices."""
        chosen = [self.conditions[number] for number in kept]
        node = dict(self.template)
        if chosen:
            node["where_clause"] = {"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "children": chosen}
        return _text(connection, node)


def refused(reason: str, names: Sequence[str]) -> AvError:
    there = f"; there are the tables {', '.join(names)}" if names else ""
    return AvError(reason, code="sql_refused", remedy=REMEDY + there)


def judge(connection: duckdb.DuckDBPyConnection, text: str, names: Sequence[str]) -> Statement:
    """The statement, if it only reads tables of `names`.

    Raises:
        AvError: sql_refused; sql_failed, where it is no SQL.
    """
    import duckdb

    if len(text) > MAX_CHARACTERS:
        raise refused(f"longer than {MAX_CHARACTERS:,} characters", names)
    try:
        statements = connection.extract_statements(text)
    except (duckdb.Error, UnicodeError, ValueError) as error:
        said = " ".join(str(error).split("\n\nLINE")[0].split())
        raise AvError(said, code="sql_failed", remedy=REMEDY) from error
    if len(statements) != 1:
        raise refused(f"{len(statements)} statements, not one", names)
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        prefix, inner = _explained(statements[0].query, names)
        checked = judge(connection, inner, names)
        return Statement(prefix + checked.sql, checked.tables, None)
    if kind != duckdb.StatementType.SELECT:
        raise refused(f"{str(kind).rpartition('.')[2]} is not a question", names)
    return _judged(connection, statements[0].query, names)


def _explained(text: str, names: Sequence[str]) -> tuple[str, str]:
    """An EXPLAIN is taken apart by DuckDB's tokens, so that what it explains is judged as if it stood alone."""
    import duckdb

    starts = [start for start, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    data = text.encode()  # tokens count bytes

    def word(number: int) -> str:
        end = starts[number + 1] if number + 1 < len(starts) else len(data)
        return data[starts[number] : end].decode().strip().lower()

    if len(starts) < 2 or word(0) != "explain":
        raise refused("this EXPLAIN is not understood", names)
    if word(1) == "analyze" and len(starts) > 2:
        return "EXPLAIN ANALYZE ", data[starts[2] :].decode()
    if word(1) == "(":
        raise refused("EXPLAIN takes no options here", names)
    return "EXPLAIN ", data[starts[1] :].decode()


def _judged(connection: duckdb.DuckDBPyConnection, text: str, names: Sequence[str]) -> Statement:
    node = _tree(connection, text, names)
    made = {entry["key"].lower() for cte in _each(node, "map") for entry in cte["map"] if "key" in entry}
    made |= {str(cte["cte_name"]).lower() for cte in _each(node, "cte_name")}
    known = {name.lower(): name for name in names}
    read = set()
    for found in _dicts(node):
        _judge_node(found, names)
        if found.get("type") == "BASE_TABLE":
            table, path = str(found["table_name"]), found.get("qualified_name", {}).get("path", [])
            if len(path) > 1 or (table.lower() not in known and table.lower() not in made):
                raise refused(f"there is no table {'.'.join(map(str, path)) or table}", names)
            if table.lower() in known:
                read.add(known[table.lower()])
    shows = any(found.get("type") == "SHOW_REF" and "query" not in found for found in _dicts(node))
    return Statement(text, tuple(sorted(names if shows else read)), node)


def _judge_node(found: dict[str, Any], names: Sequence[str]) -> None:
    kind = str(found.get("type", ""))
    if kind.endswith("_NODE") and kind not in QUERY_NODES:
        raise refused(f"{kind.removesuffix('_NODE').replace('_', ' ')} inside a query", names)
    for place in ("from_table", "left", "right", "source"):
        table = found.get(place)
        if isinstance(table, dict) and "class" not in table:
            table_kind = str(table.get("type", ""))
            if table_kind not in TABLE_KINDS and table_kind not in QUERY_NODES:
                raise refused(f"{table_kind} is no table", names)
    if kind == "SHOW_REF" and "query" not in found and found.get("table_name") not in SPECIAL_TABLES:
        raise refused(f"SHOW {found.get('table_name', '')} is not a question about tables", names)
    name = str(found.get("function_name", "")).lower()
    if kind == "TABLE_FUNCTION":
        inner = str(found.get("function", {}).get("function_name", "")).lower()
        if inner not in TABLE_FUNCTIONS:
            raise refused(f"the table function {inner or '?'} is not allowed", names)
    if name in FUNCTIONS or name.startswith(("pragma_", "duckdb_", "pg_", "read_", "write_")):
        raise refused(f"the function {name} is not allowed", names)


def _tree(connection: duckdb.DuckDBPyConnection, text: str, names: Sequence[str]) -> dict[str, Any]:
    [[tree]] = connection.execute(
        "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, skip_default := true)", [text]
    ).fetchall()
    parsed = json.loads(tree)
    if parsed.get("error"):
        raise refused(parsed.get("error_message", "not understood"), names)
    statements = parsed["statements"]
    if len(statements) != 1:
        raise refused(f"{len(statements)} statements, not one", names)
    node: dict[str, Any] = statements[0]["node"]
    return node


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON value; without recursion, since a query may be nested deeply."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _each(node: Any, key: str) -> Iterator[dict[str, Any]]:
    return (found for found in _dicts(node) if key in found)


def counting(connection: duckdb.DuckDBPyConnection, checked: Statement) -> Counting | None:
    """The AND-ed conditions of a plain SELECT; None where there is no WHERE to take apart."""
    node = checked.node
    if node is None or node.get("type") != "SELECT_NODE" or "where_clause" not in node:
        return None
    where = node["where_clause"]
    conditions = where["children"] if where.get("type") == "CONJUNCTION_AND" else [where]
    kept: dict[str, Any] = {
        key: node[key] for key in ("type", "cte_map", "from_table", "aggregate_handling") if key in node
    }
    template = {**kept, "select_list": [_COUNT]}
    return Counting([_named(connection, condition) for condition in conditions], template, conditions)


_COUNT: dict[str, Any] = {
    "class": "FUNCTION",
    "type": "FUNCTION",
    "function_name": "count_star",
    "order_bys": {"type": "ORDER_MODIFIER"},
    "qualified_name": {"path": ["count_star"]},
}


def _named(connection: duckdb.DuckDBPyConnection, condition: dict[str, Any]) -> str:
    node = {
        "type": "SELECT_NODE",
        "cte_map": {},
        "select_list": [{**condition, "alias": ""}],
        "from_table": {"type": "EMPTY"},
        "aggregate_handling": "STANDARD_HANDLING",
    }
    return _text(connection, node).removeprefix("SELECT ")


def _text(connection: duckdb.DuckDBPyConnection, node: dict[str, Any]) -> str:
    """The SQL of a parsed query."""
    parsed = json.dumps({"error": False, "statements": [{"node": node}]})
    [[text]] = connection.execute("SELECT json_deserialize_sql(?::JSON)", [parsed]).fetchall()
    return str(text)
