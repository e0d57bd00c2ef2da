"""Which table of vectors readers use, and at which version: one that was counted and asked before they were sent to it.

The pointer is `pointer.json` in the bundle of similarity_index, or of index_maintenance where that was made from this
very bundle. Publishing a bundle is atomic, and so is the change from one model's table to another's.
Belongs here: that pointer. Does not belong here: how a table is written, tended or searched.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from av_assets.domain.errors import AvError, EvidenceError
from resources.vectors import VectorTable, vectors

if TYPE_CHECKING:
    from resources.lake import Lake


@dataclass(frozen=True)
class Pointer:
    """What readers use. `exact`: without the index of vectors, since it found too little or is not worth it."""

    table: str
    version: int
    exact: bool

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()


def pointer(lake: Lake) -> Pointer | None:
    """The pointer that holds now; None where no index was made yet, or there is nothing to search."""
    made = lake.manifest("similarity_index", "all")
    if made is None:
        return None
    tended = lake.manifest("index_maintenance", "all")
    if tended is not None and tended.made_from.inputs.get("similarity_index/all") == made.digest:
        made = tended
    if not made.matching("pointer.json"):
        return None
    return Pointer(**json.loads(lake.read_bytes(made, "pointer.json")))


def served(lake: Lake) -> VectorTable:
    """The index as readers are given it.

    Raises:
        AvError: `no_index`, none was made, or no clip has a vector.
        EvidenceError: `index_lost`, its table or version is gone.
    """
    found = pointer(lake)
    if found is None:
        raise AvError(
            "there is no index of clips yet", code="no_index", remedy="materialize similarity_index"
        )
    table = vectors(lake).open(found.table, found.version)
    if table is None:
        raise EvidenceError(
            f"the index {found.table} is gone at version {found.version}",
            code="index_lost",
            remedy="materialize similarity_index",
        )
    table.exact = found.exact
    return table
