"""The ingestion log: one row per drive with what came in, what it saved, and when people could query it.

Belongs here: rows of the table `ingestions`. Does not belong here: ingesting.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resources.lake import Lake

TABLE = "ingestions"


@dataclass(frozen=True)
class Ingestion:
    """One drive.

    Attributes:
        fingerprint: state of the landed folder that was ingested, as `Arrival.fingerprint`.
        landed_ns, ingested_ns: when the marker came, and when the bundle was whole.
        queryable_ns: when the catalog had the drive for the first time; 0: not yet.
        saved_bytes: bytes of files that the lake held already, under this drive or another one; they were not stored.
        resumed_files: files that an attempt before this one had finished.
    """

    drive: str
    source: str
    fingerprint: str
    landed_ns: int
    ingested_ns: int
    queryable_ns: int
    files: int
    bytes: int
    saved_bytes: int
    saved_files: int
    resumed_files: int
    content: str

    @property
    def latency_s(self) -> float | None:
        """From the marker to the catalog; None while it is not there."""
        return round((self.queryable_ns - self.landed_ns) / 1e9, 3) if self.queryable_ns else None


def write(lake: Lake, row: Ingestion) -> None:
    import pyarrow as pa

    lake.tables.replace(TABLE, pa.Table.from_pylist([asdict(row)]), key="drive", value=row.drive)


def listing(lake: Lake) -> dict[str, Ingestion]:
    """drive -> its row."""
    rows = lake.tables.read(TABLE)
    return {row["drive"]: Ingestion(**row) for row in rows.to_pylist()} if rows is not None else {}


def of(lake: Lake, drive: str) -> Ingestion | None:
    rows = lake.tables.read(TABLE, [("drive", "=", drive)])
    return next((Ingestion(**row) for row in rows.to_pylist()), None) if rows is not None else None
