"""SQL that people type, over the lake's tables: it reads those tables and can do nothing else.

Three walls, one behind the other: DuckDB's own parser must call the text a single SELECT (or EXPLAIN of one), whose
parsed tree holds only known kinds of nodes, tables of the lake and functions without side effects; the connection
reaches no file, network, extension or Python variable, and its settings are locked; memory, time and rows are bounded.

Belongs here: running and explaining a query. Does not belong here: judging it (sql_guard), the tables (tables).
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from av_assets.domain.catalog.emptiness import Kept, explain_empty
from av_assets.domain.errors import AvError
from resources.sql_guard import Statement, counting, judge, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pyarrow as pa

    from resources.tables import Tables

ROWS, TIMEOUT_S, MEMORY = 10_000, 30.0, "1GB"
BATCH_ROWS = 4096
EXPLAIN_S = 10.0  # for counting why nothing was found


@dataclass(frozen=True)
class Answer:
    """Rows of a query.

    Attributes:
        rows: at most as many as were asked for.
        cut: whether there were more.
        emptied: where there are no rows, what each condition of the query leaves; empty where that cannot be told.
    """

    rows: pa.Table
    cut: bool
    emptied: Sequence[Kept] = field(default_factory=tuple)


def query(
    tables: Tables,
    statement: str,
    *,
    limit: int = ROWS,
    timeout_s: float = TIMEOUT_S,
    memory: str = MEMORY,
) -> Answer:
    """Run one SELECT, WITH, VALUES, FROM, EXPLAIN, DESCRIBE, SUMMARIZE or SHOW.

    Raises:
        AvError: sql_refused, where it is anything else or reads anything but the lake's tables; sql_failed, with
            DuckDB's reason; sql_timeout.
    """
    names = tables.names()
    with _closed_connection(memory) as connection:
        checked = judge(connection, statement, names)
        for name in checked.tables:
            tables.attach(connection, name)
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET lock_configuration = true")
        rows, cut = _run(connection, checked, limit, timeout_s, names)
        emptied = _emptied(connection, checked) if not rows.num_rows and not cut else ()
        return Answer(rows, cut, emptied)


@contextmanager
def _closed_connection(memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    try:
        connection = duckdb.connect(
            config={
                "enable_external_access": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "memory_limit": memory,
                "max_temp_directory_size": "0KB",
            }
        )
    except duckdb.Error as error:
        raise refused(f"not a memory limit: {memory}", []) from error
    try:
        yield connection
    finally:
        connection.close()


def _run(
    connection: duckdb.DuckDBPyConnection,
    checked: Statement,
    limit: int,
    timeout_s: float,
    names: Sequence[str],
) -> tuple[pa.Table, bool]:
    import duckdb

    try:
        with _interrupted_after(connection, timeout_s):
            return _read(connection, checked.sql, limit)
    except duckdb.InterruptException as error:
        raise AvError(
            f"the query took longer than {timeout_s:g} s",
            code="sql_timeout",
            remedy="name drives or fewer rows, or allow it more time",
        ) from error
    except (duckdb.Error, RuntimeError, OSError, ValueError) as error:
        # Arrow hands DuckDB's errors on as its own
        if "INTERRUPT" in str(error).upper():
            raise AvError(
                f"the query took longer than {timeout_s:g} s",
                code="sql_timeout",
                remedy="name drives or fewer rows, or allow it more time",
            ) from error
        raise _failed(connection, error, names, checked.tables) from error


def _failed(
    connection: duckdb.DuckDBPyConnection, error: Exception, names: Sequence[str], tables: Sequence[str]
) -> AvError:
    """DuckDB's reason in one line; with the columns of the tables asked where one of them is not known."""
    reason = str(error).split("\n\nLINE")[0].split("\nLINE")[0]
    if tables and "column" in reason.lower() and "Binder Error" in reason:
        reason = reason.split("\nCandidate bindings")[0]
        there = (f"{name} has {', '.join(connection.table(name).columns)}" for name in tables)
        remedy = "; ".join(there)
    else:
        remedy = f"there are the tables {', '.join(names) or 'none'}"
    return AvError(" ".join(reason.split()), code="sql_failed", remedy=remedy)


def _read(connection: duckdb.DuckDBPyConnection, sql: str, limit: int) -> tuple[pa.Table, bool]:
    """The first `limit` rows; the rest is never made."""
    import pyarrow as pa

    relation = connection.sql(sql)
    if relation is None:
        return pa.table({}), False
    reader = relation.to_arrow_reader(BATCH_ROWS)
    batches, rows = [], 0
    try:
        for batch in reader:
            batches.append(batch)
            rows += batch.num_rows
            if rows > limit:
                break
        found = pa.Table.from_batches(batches, reader.schema)
    finally:
        reader.close()
    return found.slice(0, limit), rows > limit


@contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupt again and again: the first one may come just before the query starts."""
    ended = threading.Event()

    def interrupt() -> None:
        if ended.wait(seconds):
            return
        while not ended.wait(0.05):
            connection.interrupt()

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _emptied(connection: duckdb.DuckDBPyConnection, checked: Statement) -> list[Kept]:
    """What each AND-ed condition leaves; nothing where the query has none or counting takes too long."""
    import duckdb

    try:
        parts = counting(connection, checked)
        if parts is None:
            return []
        until = time.monotonic() + EXPLAIN_S

        def count(kept: Sequence[int]) -> int:
            left = until - time.monotonic()
            with _interrupted_after(connection, max(left, 0.0)):
                [[rows]] = connection.execute(parts.sql(connection, kept)).fetchall()
            return int(rows)

        return explain_empty(parts.predicates, count)
    except (duckdb.Error, RuntimeError, KeyError, TypeError, ValueError):
        return []
