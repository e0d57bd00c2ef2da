"""Small structured results as Delta tables without payloads, replaced atomically per drive (or other key).

Tables are not partitioned on disk: a folder for each drive would be a file for each drive, and opening fifty thousand
of them takes longer than any query may. Rows of a key are found through the statistics of the files, and small files
are folded together every few commits; see docs/decisions/0017.
Belongs here: replace, remove, read and connect. Does not belong here: what columns a table has, SQL that people
type (sql).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlparse

from av_assets.domain.errors import TransientError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset as ds

ATTEMPTS = 12
FOLD_EVERY = 32  # commits
FILE_BYTES = (
    8 << 20
)  # of a folded file: replacing the rows of one drive writes the file that they are in again
LOG = "_delta_log"


class TableFacts(NamedTuple):
    """What the log of a table says, without a look into its files."""

    name: str
    rows: int
    files: int
    version: int
    schema: pa.Schema


class Tables:
    """Delta tables under `<lake>/tables/<name>`.

    Args:
        uri: folder, or `s3://bucket/prefix`, of the lake.
        options: storage options of deltalake.
    """

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
        self._fold(name)

    def _fold(self, name: str) -> None:
        """Every few commits, join small files; whoever is in the way wins, there is a next time."""
        from deltalake.exceptions import CommitFailedError

        table = self._open(name)
        if table is not None and table.version() % FOLD_EVERY == 0:
            with suppress(CommitFailedError):
                table.optimize.compact(target_size=FILE_BYTES)

    def remove(self, name: str, *, key: str, value: str) -> None:
        """Take the rows whose `key` is `value` out; safe beside other writers.

        Raises:
            TransientError: other writers kept winning.
        """
        import pyarrow as pa
        from deltalake import write_deltalake

        def delete() -> None:
            table = self._open(name)
            if table is not None:
                # Not `table.delete`: it leaves columns of a type behind that filters cannot read.
                write_deltalake(
                    table,
                    pa.schema(table.schema().to_arrow()).empty_table(),
                    mode="overwrite",
                    predicate=_equals(key, value),
                )

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

    def names(self) -> list[str]:
        """Tables that there are, sorted; one listing, however many files they have."""
        if not self._uri.startswith("s3://"):
            root = Path(self._uri) / "tables"
            return sorted(p.name for p in root.iterdir() if (p / LOG).is_dir()) if root.is_dir() else []
        return sorted(_bucket_folders(f"{self._uri}/tables", self._options.get("aws_endpoint")))

    def facts(self, name: str) -> TableFacts | None:
        """Rows, files, version and columns of a table; None where there is no such table yet."""
        import pyarrow as pa

        table = self._open(name)
        if table is None:
            return None
        added = pa.table(table.get_add_actions(flatten=True))
        rows = sum(count or 0 for count in added["num_records"].to_pylist())
        return TableFacts(name, rows, added.num_rows, int(table.version()), _schema(table))

    def dataset(self, name: str) -> ds.Dataset | None:
        """The table's files as an Arrow dataset: columns and rows are chosen before anything is read."""
        table = self._open(name)
        return None if table is None else table.to_pyarrow_dataset()

    def connect(self, *names: str) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection in which tables are views; without names, all that there are.

        Nothing is read until a query asks, and then only its columns, and its drives where it names some. The
        connection reaches no file, network or extension by itself.
        """
        import duckdb

        connection = duckdb.connect(config={"enable_external_access": False})
        for name in names or self.names():
            self.attach(connection, name)
        return connection

    def attach(self, connection: duckdb.DuckDBPyConnection, name: str) -> bool:
        """Make the table a view of `connection`; False where there is no such table."""
        table = self._open(name)
        if table is None:
            return False
        connection.register(name, table.to_pyarrow_dataset())
        return True

    def _open(self, name: str) -> Any | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.path(name), storage_options=self._options)
        except TableNotFoundError:
            return None


def _schema(table: Any) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(table.schema().to_arrow())


def _bucket_folders(uri: str, endpoint: str | None) -> list[str]:
    """Names right under a prefix of a bucket that hold a Delta log."""
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    parsed = urlparse(uri)
    local: Any = {"endpoint": endpoint, "client_options": {"allow_http": True}} if endpoint else {}
    store = S3Store(parsed.netloc, prefix=parsed.path.strip("/"), **local)
    try:
        found = [path.rstrip("/") for path in store.list_with_delimiter()["common_prefixes"]]
        return [name for name in found if f"{name}/{LOG}" in _under(store, name)]
    except BaseError as error:
        raise TransientError("the bucket does not answer", code="store_failed", file=uri) from error


def _under(store: Any, name: str) -> set[str]:
    return {path.rstrip("/") for path in store.list_with_delimiter(f"{name}/")["common_prefixes"]}


def _equals(key: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"{key} = '{quoted}'"
