"""Which drives the tables of vectors hold, and with what content: the tables themselves are the ledger.

A run that died half-way has left drives that are current and drives that are not; the next one writes the rest.
Belongs here: bringing tables up to date with a fleet. Does not belong here: where rows come from, when this is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from av_assets.domain.search.judging import require_same_rows
from resources.vectors import maker_name

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.vectors import Vectors, VectorTable


class Members:
    """The fleet's drives over all tables.

    Attributes:
        contents: drive -> digest of what its rows are made from; other drives are gone.
        changed: drives that no table holds with that content, sorted.
    """

    def __init__(self, store: Vectors, contents: Mapping[str, str]) -> None:
        self._store, self.contents = store, contents
        self._tables = {name: table for name in store.names() if (table := store.open(name)) is not None}
        self._current: dict[str, dict[str, tuple[str, int]]] = {}
        self._strangers: dict[str, list[str]] = {}
        for name, table in self._tables.items():
            ledger = table.ledger()
            self._current[name] = {d: held for d, held in ledger.items() if contents.get(d) == held[0]}
            self._strangers[name] = sorted(ledger.keys() - contents.keys())
        self.changed = sorted(contents.keys() - set().union(*self._current.values()))

    def write(self, model_digest: str, preproc_digest: str, rows: pa.Table) -> None:
        """Make `rows` the rows of their drives in the table of their maker."""
        name = maker_name(model_digest, preproc_digest)
        if name not in self._tables:
            dimension = rows.schema.field("vector").type.list_size
            self._tables[name], self._current[name] = self._store.create(name, dimension), {}
        self._tables[name].write(rows)
        drives = rows["drive"].to_pylist()
        for drive in set(drives):
            self._current[name][drive] = (self.contents[drive], drives.count(drive))

    def chosen(self) -> VectorTable | None:
        """The table for readers, without the drives that are gone; None where no drive has vectors.

        Vectors of two makers are never searched as one. When the model changes, readers stay with the old table, whole
        as it was, until most drives have come over.
        """
        held = {name: len(drives) for name, drives in self._current.items() if drives}
        if not held:
            return None
        name = max(held, key=lambda n: (held[n], n))
        self._tables[name].remove(self._strangers.get(name, []))
        return self._tables[name]

    def counted(self, table: VectorTable) -> dict[str, tuple[str, int]]:
        """The table's ledger, read anew.

        Raises:
            EvidenceError: `index_lost_rows`, a drive is not held as it was written.
        """
        ledger, wanted = table.ledger(), self._current[table.name]
        require_same_rows({d: held for d, held in ledger.items() if d in wanted}, wanted)
        return ledger

    def elsewhere(self, table: VectorTable) -> list[str]:
        """Drives whose vectors were made by another model than those of this table, as far as they are current."""
        return sorted(self.contents.keys() - self._current[table.name].keys())

    def drop_unused(self, served: str) -> list[str]:
        """Drop tables that readers do not use and that hold no current drive that the served one lacks."""
        kept = self._current.get(served, {}).keys()
        unused = [n for n, drives in self._current.items() if n != served and not drives.keys() - kept]
        for name in unused:
            self._store.drop(name)
        return unused
