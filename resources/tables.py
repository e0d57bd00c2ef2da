"""Small structured results as Delta tables without payloads, replaced atomically per partition.

Belongs here: replace, read and SQL over tables. Does not belong here: which tables there are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import TransientError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

ATTEMPTS = 12


class Tables:
    """Delta tables under `<lake>/tables/<name>`, each partitioned by one column."""

    def __init__(self, uri: str, options: Mapping[str, str]) -> None:
        self._uri, self._options = uri.rstrip("/"), dict(options)

    def path(self, name: str) -> str:
        return f"{self._uri}/tables/{name}"

    def replace(self, name: str, rows: pa.Table, *, key: str, value: str) -> None:
        """Make `rows` the only rows of `name` whose `key` is `value`; safe beside other writers.

        Raises:
            TransientError: other writers kept winning.
        """
        from deltalake import write_deltalake

        def write() -> None:
            if self._open(name) is None:
                # an empty first commit, so that two first writers race for the table, not for each other's rows
                write_deltalake(
                    self.path(name),
                    rows.slice(0, 0),
                    partition_by=[key],
                    mode="ignore",
                    storage_options=self._options,
                )
            write_deltalake(
                self.path(name),
                rows,
                mode="overwrite",
                predicate=_equals(key, value),
                schema_mode="merge",
                storage_options=self._options,
            )

        self._until_committed(name, write)

    def remove(self, name: str, *, key: str, value: str) -> None:
        """Take the rows whose `key` is `value` out; safe beside other writers.

        Raises:
            TransientError: other writers kept winning.
        """

        def delete() -> None:
            table = self._open(name)
            if table is not None:
                table.delete(_equals(key, value))

        self._until_committed(name, delete)

    def _until_committed(self, name: str, commit: Callable[[], None]) -> None:
        from deltalake.exceptions import CommitFailedError

        for attempt in range(ATTEMPTS):
            try:
                return commit()
            except CommitFailedError:
                time.sleep(random.uniform(0.0, 0.05 * 2 ** min(attempt, 6)))
        raise TransientError(f"table {name} stayed busy", code="table_busy", file=self.path(name))

    def read(self, name: str, filters: list[tuple[str, str, Any]] | None = None) -> pa.Table | None:
        """All rows, or those that match `filters`; None where there is no such table yet."""
        table = self._open(name)
        return None if table is None else table.to_pyarrow_table(filters=filters)

    def version(self, name: str) -> int | None:
        table = self._open(name)
        return None if table is None else int(table.version())

    def connect(self, *names: str) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection in which the named tables are views over Arrow."""
        import duckdb

        connection = duckdb.connect()
        for name in names:
            rows = self.read(name)
            if rows is not None:
                connection.register(name, rows)
        return connection

    def _open(self, name: str) -> Any | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.path(name), storage_options=self._options)
        except TableNotFoundError:
            return None


def _equals(key: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"{key} = '{quoted}'"
