"""The ledger as a file that people write, and as rows of a table.

A file is YAML or JSON: `entries:` is a list of the fields of LedgerEntry; `source` may be left out (file), and so
may `digest`, which is checked where it is given.
Belongs here: reading and writing. Does not belong here: what entries mean (`ledger`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from av_assets.domain.errors import CalibrationError
from av_assets.domain.geometry.ledger import CalibrationLedger, Intrinsics, LedgerEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from av_assets.policies.calibration import CalibrationPolicy

LEDGER_FILE = "calibration_ledger.yaml"
MAX_DEPTH = 8
CALIBRATION_SCHEMA = pa.schema(
    [
        pa.field("drive", pa.string(), nullable=False),
        pa.field("vehicle", pa.string(), nullable=False),
        pa.field("sensor", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("frame", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("K", pa.list_(pa.float64())),
        pa.field("D", pa.list_(pa.float64())),
        pa.field("ego_SE3_sensor", pa.list_(pa.float64()), nullable=False),
        pa.field("valid_from_ns", pa.int64(), nullable=False),
        pa.field("valid_to_ns", pa.int64()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    entries: list[dict[str, Any]]


def _yaml(text: str) -> Any:
    """YAML without anchors and without depth: a few kilobytes of either would stand for gigabytes or minutes."""
    loader, depth = getattr(yaml, "CSafeLoader", yaml.SafeLoader), 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
            raise yaml.YAMLError("aliases, or lists within lists without end")
    return yaml.load(text, loader)  # a safe loader


def read_ledger(path: Path, policy: CalibrationPolicy) -> CalibrationLedger:
    """Read a ledger file (`calibration_ledger.yaml`, or JSON, which is YAML).

    Raises:
        CalibrationError: bad_ledger, unreadable, too large, or not a ledger; ledger_digest, an entry was changed
            after its digest was taken.
    """
    try:
        if path.stat().st_size > policy.max_file_bytes:
            raise _bad(path, f"larger than {policy.max_file_bytes} bytes")
        data = _yaml(path.read_text("utf-8"))
        rows = _File.model_validate(data).entries
        if len(rows) > policy.max_entries:
            raise _bad(path, f"more than {policy.max_entries} entries")
        return CalibrationLedger.of([_entry(path, number, row) for number, row in enumerate(rows)])
    except (
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        ValidationError,
        RecursionError,
        ValueError,
    ) as error:
        raise _bad(path, str(error).splitlines()[0]) from error


def _entry(path: Path, number: int, row: dict[str, Any]) -> LedgerEntry:
    digest = row.pop("digest", None)
    try:
        entry = LedgerEntry.model_validate({"source": "file", **row})
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise _bad(path, f"entry {number}: {where}") from error
    if digest is not None and digest != entry.digest:
        raise CalibrationError(
            f"entry {number} ({entry.vehicle}, {entry.sensor}) is not what its digest says",
            code="ledger_digest", file=path, remedy="restore the entry, or remove the digest",
        )  # fmt: skip
    return entry


def _bad(path: Path, reason: str) -> CalibrationError:
    return CalibrationError(
        f"not a calibration ledger: {reason}",
        code="bad_ledger",
        file=path,
        remedy="correct the file named here",
    )


def write_ledger(ledger: CalibrationLedger, path: Path) -> None:
    """Statements as they were made, sorted, with digests: the same ledger gives the same bytes."""
    rows = [{**entry.model_dump(mode="json"), "digest": entry.digest} for entry in ledger.entries]
    path.write_text(yaml.safe_dump({"schema_version": 1, "entries": rows}, sort_keys=False), "utf-8")


def ledger_table(entries: Iterable[LedgerEntry]) -> pa.Table:
    """Rows of the table `calibrations`, as stated: intervals are closed when the table is read, so that the rows
    of one drive can be replaced or erased alone."""
    rows = []
    for entry in CalibrationLedger.of(entries).entries:
        lens = entry.intrinsics
        row = entry.model_dump(mode="python", exclude={"intrinsics", "ego_SE3_sensor"})
        row |= {"digest": entry.digest, "ego_SE3_sensor": [v for line in entry.ego_SE3_sensor for v in line]}
        row |= {"width": None, "height": None, "K": None, "D": None}
        if lens is not None:
            row |= {"width": lens.width, "height": lens.height, "K": [v for line in lens.K for v in line]}
            row |= {"D": list(lens.D)}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=CALIBRATION_SCHEMA)


def ledger_of_table(table: pa.Table) -> CalibrationLedger:
    """The ledger in rows of `calibrations`; columns that are unknown here are ignored.

    Raises:
        CalibrationError: bad_ledger, a row is no entry; ledger_digest, it is not what its digest says.
    """
    entries = []
    for row in table.select(CALIBRATION_SCHEMA.names).to_pylist():
        digest, lens = row.pop("digest"), {name: row.pop(name) for name in ("width", "height", "K", "D")}
        try:
            row["ego_SE3_sensor"] = _matrix(row["ego_SE3_sensor"], 4)
            if lens["K"] is not None:
                row["intrinsics"] = Intrinsics.model_validate(lens | {"K": _matrix(lens["K"], 3)})
            entry = LedgerEntry.model_validate(row)
        except ValidationError as error:
            raise CalibrationError(f"a row is no ledger entry: {error}", code="bad_ledger") from error
        if entry.digest != digest:
            raise CalibrationError(
                f"row of {entry.drive} ({entry.sensor}) is not what its digest says", code="ledger_digest"
            )
        entries.append(entry)
    return CalibrationLedger.of(entries)


def rows_before(table: pa.Table | None, drive: str, start_ns: int) -> list[dict[str, Any]]:
    """Per sensor the last statement from before a drive that another drive made, as plain rows.

    Args:
        table: rows of `calibrations` of one vehicle, or None where there is no such table yet.
    """
    last: dict[str, dict[str, Any]] = {}
    for row in table.select(CALIBRATION_SCHEMA.names).to_pylist() if table is not None else ():
        before = row["drive"] != drive and row["valid_from_ns"] < start_ns
        key = (row["valid_from_ns"], row["digest"])
        if before and (row["sensor"] not in last or key > _key(last[row["sensor"]])):
            last[row["sensor"]] = row
    return [last[sensor] for sensor in sorted(last)]


def ledger_of(
    rows: Sequence[Mapping[str, Any]], folder: Path, policy: CalibrationPolicy
) -> CalibrationLedger:
    """What is known of a drive's vehicle: rows of the fleet's table, and the ledger landed with the drive.

    Raises:
        CalibrationError: as `ledger_of_table` and `read_ledger`.
    """
    ledger = ledger_of_table(pa.Table.from_pylist([dict(row) for row in rows], schema=CALIBRATION_SCHEMA))
    landed = folder / LEDGER_FILE
    return ledger.with_entries(read_ledger(landed, policy).entries) if landed.is_file() else ledger


def _key(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["valid_from_ns"], row["digest"]


def _matrix(values: list[float], size: int) -> list[list[float]]:
    return [values[i : i + size] for i in range(0, len(values), size)]
