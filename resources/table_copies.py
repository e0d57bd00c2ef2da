"""Local copies of tables that consist of very many small files, so that a query opens one file and not thousands.

A table that is partitioned by drive has a file for each drive, and opening them takes longer than any query may. The
copy holds the rows of all partitions as they were once; which files those were is written in the copy itself. A reader
takes from the copy the partitions whose files are still the same, and all others from the table: what it sees is the
table's version that it opened, never an older one. A copy that lags is folded into a new one.

Belongs here: when a copy pays, writing and joining it. Does not belong here: the tables themselves (tables).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MIN_FILES = 64  # opening fewer is quick
MAX_BYTES = 512 << 20  # of the table's files: larger tables are scanned where they lie
MAX_CHANGED = 32  # partitions, or
MAX_CHANGED_SHARE = 0.02
GROUP_ROWS = 1 << 16
GRACE_S = 3600  # connections that are open may still read an older copy
FILES = b"files"


def attach_copy(connection: duckdb.DuckDBPyConnection, name: str, table: Any, folder: Path) -> bool:
    """Make the Delta table `table` the view `name`, read from its copy under `folder`; False where none pays."""
    import pyarrow as pa

    keys = table.metadata().partition_columns
    added = pa.table(table.get_add_actions(flatten=True))
    total = sum(size or 0 for size in added["size_bytes"].to_pylist())
    if len(keys) != 1 or added.num_rows < MIN_FILES or total > MAX_BYTES:
        return False
    live = _by_partition(added, keys[0])
    if live is None:
        return False
    home = folder / table.metadata().id
    copy, held = _newest(home)
    changed = _changed(held, live)
    # what was removed from the table is to leave the copy too, not only the view
    if copy is None or held.keys() - live.keys() or len(changed) > _allowed(len(live)):
        try:
            copy, changed = _fold(home, copy, table, keys[0], changed, live), set()
        except OSError:  # a full disk costs speed and no answer
            return False
    _view(connection, name, table, keys[0], copy, changed)
    return True


def _by_partition(added: pa.Table, key: str) -> dict[str, list[str]] | None:
    """Partition value -> its files, sorted; None where a partition has no value or is no text."""
    found: dict[str, list[str]] = {}
    values = added[f"partition.{key}"].to_pylist()
    for value, path in zip(values, added["path"].to_pylist(), strict=True):
        if not isinstance(value, str):
            return None
        found.setdefault(value, []).append(path)
    return {value: sorted(paths) for value, paths in found.items()}


def _newest(home: Path) -> tuple[Path | None, dict[str, list[str]]]:
    """The last copy that can be read, and the files that it was made of."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    copies = home.glob("*.parquet") if home.is_dir() else ()
    for copy in sorted(copies, key=lambda path: path.name, reverse=True):
        try:
            return copy, json.loads(pq.read_schema(copy).metadata[FILES])
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
            copy.unlink(missing_ok=True)
    return None, {}


def _allowed(partitions: int) -> int:
    return max(MAX_CHANGED, round(MAX_CHANGED_SHARE * partitions))


def _changed(held: Mapping[str, list[str]], live: Mapping[str, list[str]]) -> set[str]:
    """Partitions that came, went or were written again."""
    return {value for value in held.keys() | live.keys() if held.get(value) != live.get(value)}


def _view(
    connection: duckdb.DuckDBPyConnection, name: str, table: Any, key: str, copy: Path, changed: set[str]
) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds

    schema = pa.schema(table.schema().to_arrow())
    base = ds.dataset(copy, schema=schema, format="parquet")
    if not changed:
        connection.register(name, base)
        return
    fresh = table.to_pyarrow_dataset(file_pruning_predicate=[(key, "in", sorted(changed))])
    connection.register(f"{name}__copy", base)
    connection.register(f"{name}__fresh", fresh)
    gone = ", ".join(_quoted(value, "'") for value in sorted(changed))
    columns = ", ".join(_quoted(column, '"') for column in schema.names)
    parts = (_quoted(f"{name}__{part}", '"') for part in ("copy", "fresh"))
    old, new = (f"SELECT {columns} FROM {part}" for part in parts)
    where = f"{_quoted(key, chr(34))} NOT IN ({gone})"
    connection.execute(f"CREATE TEMP VIEW {_quoted(name, chr(34))} AS {old} WHERE {where} UNION ALL {new}")


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark


def _fold(
    home: Path, old: Path | None, table: Any, key: str, changed: set[str], live: Mapping[str, list[str]]
) -> Path:
    """A new copy of exactly `live`; whole or not at all, since it is renamed into place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    home.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(table.schema().to_arrow())
    target = home / f"{table.version():020d}-{uuid.uuid4().hex}.parquet"
    partial = target.with_suffix(".partial")
    metadata = {**(schema.metadata or {}), FILES: json.dumps(live)}
    try:
        with pq.ParquetWriter(partial, schema.with_metadata(metadata), compression="lz4") as writer:
            for batch in _in_groups(_rows(old, table, key, changed, schema), schema):
                writer.write_table(batch, row_group_size=GROUP_ROWS)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    _forget(home, target)
    return target


def _rows(
    old: Path | None, table: Any, key: str, changed: set[str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The copy's rows that still hold, then the changed partitions in order: neighbours share a row group."""
    import pyarrow.dataset as ds

    if old is None:
        fresh = table.to_pyarrow_dataset()
    else:
        held = ds.dataset(old, schema=schema, format="parquet")
        yield from held.to_batches(filter=~ds.field(key).isin(sorted(changed)))
        fresh = table.to_pyarrow_dataset(file_pruning_predicate=[(key, "in", sorted(changed))])
    for fragment in sorted(fresh.get_fragments(), key=lambda found: found.path):
        yield from fragment.to_batches(schema=schema)


def _in_groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= GROUP_ROWS:
            yield pa.Table.from_batches(waiting, schema)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting, schema)


def _forget(home: Path, newest: Path) -> None:
    """Copies that nobody can still be reading."""
    for path in home.glob("*.p*"):
        if path != newest and path.stat().st_mtime < time.time() - GRACE_S:
            path.unlink(missing_ok=True)
