"""Rows of erased drives leave the tables for good: the rows, the old files that hold them, and the old log about them.

A delete in Delta writes the surviving rows into a new file and forgets the old one, whose bytes stay, as do smallest
and largest values in the log. Here the old files that hold rows of the drives go, and the log is cut off behind a
checkpoint; time travel of that table ends there, and a reader or writer that is at work on an older version is told
to try again.
Belongs here: finding and removing rows in every table. Does not belong here: which drives, other storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from av_assets.domain.erasure.naming import names_in_bytes
from av_assets.domain.errors import TransientError
from resources.tables import LOG

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.lake import Lake

ATTEMPTS = 8
_PROPERTY = "av.erased"


@dataclass(frozen=True)
class Doomed:
    """Which rows of any table go.

    Attributes:
        drives: ids; a row that names one in a column of `columns` goes.
        columns: column -> what follows the id in it, `` for nothing.
        partitions: table -> (column, values): rows that bundles which go have written.
    """

    drives: Sequence[str]
    columns: Mapping[str, str]
    partitions: Mapping[str, tuple[str, tuple[str, ...]]]

    def terms(self, name: str, schema: pa.Schema) -> list[tuple[str, str, list[str]]]:
        """(column, what follows, values) of each condition that the table's columns allow."""
        import pyarrow as pa

        held = {field.name for field in schema if pa.types.is_string(field.type) or _wide(field.type)}
        found = [(c, after, list(self.drives)) for c, after in self.columns.items() if c in held]
        column, values = self.partitions.get(name, ("", ()))
        return [*found, (column, "", list(values))] if column in held and values else found


def rows_of(lake: Lake, doomed: Doomed) -> dict[str, int]:
    """Table -> rows that go, of tables that have some."""
    counts = {name: _count(lake, name, doomed) for name in lake.tables.names()}
    return {name: count for name, count in counts.items() if count}


def histories_of(lake: Lake, doomed: Doomed) -> list[str]:
    """Tables of which an old file or an entry of the log still holds such rows, or may."""
    return [name for name in lake.tables.names() if _is_remembered(lake, name, doomed)]


def remove(lake: Lake, name: str, doomed: Doomed, plan: str) -> None:
    """Rows, old files, old log. Doing it again changes nothing.

    Raises:
        TransientError: table_busy, other writers kept winning.
    """
    table = _open(lake, name)
    if table is None:
        return
    if _count(lake, name, doomed):
        _delete(lake, name, _predicate(doomed.terms(name, _schema(table))))
    for key in _old_files(lake, name, doomed):
        lake.store.delete(key)
    _cut_log(lake, name, plan)


def _delete(lake: Lake, name: str, predicate: str) -> None:
    from deltalake import write_deltalake
    from deltalake.exceptions import CommitFailedError

    for _ in range(ATTEMPTS):
        try:
            table = _open(lake, name)
            if table is not None:
                # An overwrite by nothing: DeltaTable.delete (1.6) writes the rest as string_view, which Arrow's own
                # comparisons of a file's statistics do not take.
                nothing = _schema(table).empty_table()
                write_deltalake(table, nothing, mode="overwrite", predicate=predicate)
            return
        except CommitFailedError:
            continue
    raise TransientError(f"table {name} stayed busy", code="table_busy", file=lake.tables.path(name))


def _cut_log(lake: Lake, name: str, plan: str) -> None:
    """A commit that names no row, a checkpoint of it, and nothing of the log before it."""
    table = _open(lake, name)
    assert table is not None
    table.alter.set_table_properties({_PROPERTY: plan}, raise_if_not_exists=False)
    table = _open(lake, name)
    assert table is not None
    table.create_checkpoint()
    for key in list(lake.store.keys(f"tables/{name}/{LOG}/")):
        number = key.rsplit("/", 1)[1][:20]
        if number.isdigit() and int(number) < table.version():
            lake.store.delete(key)


def _count(lake: Lake, name: str, doomed: Doomed) -> int:
    """Reads the columns that name drives, and nothing else."""
    import pyarrow.compute as pc

    table = _open(lake, name)
    terms = doomed.terms(name, _schema(table)) if table is not None else []
    if table is None or not terms:
        return 0
    columns = sorted({column for column, _, _ in terms})
    rows = table.to_pyarrow_dataset().to_table(columns=columns)
    hit = reduce(pc.or_, (_hits(rows[column], after, values) for column, after, values in terms))
    return int(pc.sum(hit).as_py() or 0)


def _old_files(lake: Lake, name: str, doomed: Doomed) -> list[str]:
    """Keys of files that the table no longer has, or never had, and that hold rows that go."""
    table = _open(lake, name)
    if table is None:
        return []
    active = {uri.rsplit("/", 1)[1] for uri in table.file_uris()}
    found = []
    for key in list(lake.store.keys(f"tables/{name}/")):
        is_old = key.endswith(".parquet") and f"/{LOG}/" not in key and key.rsplit("/", 1)[1] not in active
        if is_old and _file_holds(lake, key, name, doomed):
            found.append(key)
    return found


def _file_holds(lake: Lake, key: str, name: str, doomed: Doomed) -> bool:
    """Whether a file has rows that go; one that cannot be read, a writer's torn rest, is taken to have some."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    data = lake.store.get(key)
    if data is None:
        return False
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        return any(
            pc.any(_hits(file.read(columns=[column])[column], after, values)).as_py()
            for column, after, values in doomed.terms(name, file.schema_arrow)
        )
    except (pa.ArrowException, OSError):
        return True


def _is_remembered(lake: Lake, name: str, doomed: Doomed) -> bool:
    if _old_files(lake, name, doomed):
        return True
    said = names_in_bytes(doomed.drives)
    for key in list(lake.store.keys(f"tables/{name}/{LOG}/")):
        data = lake.store.get(key) if key.endswith(".json") else None
        if data is not None and said.search(data):
            return True
    return False


def _predicate(terms: Sequence[tuple[str, str, list[str]]]) -> str:
    said = []
    for column, after, values in terms:
        if after:
            said += [f"starts_with({column}, {_text(value + after)})" for value in values]
        else:
            said.append(f"{column} IN ({', '.join(map(_text, values))})")
    return " OR ".join(said)


def _hits(column: pa.ChunkedArray, after: str, values: list[str]) -> Any:
    """(N,) bool, never null: the rows that a condition means."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.fill_null(column.cast(pa.string()), "")
    if not after:
        return pc.is_in(texts, pa.array(values, pa.string()))
    return reduce(pc.or_, (pc.starts_with(texts, value + after) for value in values))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _schema(table: Any) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(table.schema().to_arrow())


def _wide(kind: Any) -> bool:
    return str(kind) in ("large_string", "string_view")


def _open(lake: Lake, name: str) -> Any | None:
    return lake.tables._open(name)  # erasure alone goes below the rows of a table
