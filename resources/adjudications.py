"""What people said of events: rows that are only ever added; of two about the same window the later one holds.

Belongs here: checking, keeping and reading verdicts. Does not belong here: what is concluded from them.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.errors import AvError
from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.logs.drive_spec import drive_id
from av_assets.domain.simulation.adjudications import adjudications_from_truth
from av_assets.domain.triggers.backtest import Adjudication

if TYPE_CHECKING:
    from resources.lake import Lake

TABLE: Final = "adjudicated_events"
MAX_ROWS: Final = 100_000
MAX_TEXT: Final = 2000
MAX_BYTES: Final = 16 << 20
MAX_NS: Final = (1 << 63) - 1
COLUMNS: Final = ("drive", "kind", "start_ns", "end_ns", "verdict", "by", "at_ns", "reason")
_KIND: Final = re.compile(r"^[a-z][a-z0-9_]{0,63}$")
_VERDICTS: Final = {"true": True, "false": False, "1": True, "0": False}


def adjudicate(lake: Lake, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add verdicts (drive, kind, start_ns, end_ns, verdict, by, at_ns, reason); returns how many.

    All or nothing: one bad row refuses all. The same rows again change nothing; several may adjudicate at once.

    Raises:
        AvError: bad_adjudication, with the number of the row and the column.
    """
    import pyarrow as pa

    if len(rows) > MAX_ROWS:
        raise _bad(0, f"{len(rows)} rows at once, at most {MAX_ROWS}")
    checked = [_checked(number, row) for number, row in enumerate(rows, start=1)]
    if not checked:
        return 0
    batch = sha256_json(checked)[:16]
    schema = pa.schema(
        [
            *((name, pa.int64() if name.endswith("_ns") else pa.string()) for name in COLUMNS),
            ("batch", pa.string()),
        ]
    )
    schema = schema.set(schema.get_field_index("verdict"), pa.field("verdict", pa.bool_()))
    table = pa.Table.from_pylist([{**row, "batch": batch} for row in checked], schema=schema)
    lake.tables.replace(TABLE, table, key="batch", value=batch)
    return len(checked)


def adjudications(lake: Lake, drives: Sequence[str] | None = None) -> list[Adjudication]:
    """The verdicts that hold, sorted; a later one of the same window and kind takes the place of the earlier."""
    filters = None if drives is None else [("drive", "in", list(drives))]
    rows = None if drives is not None and not drives else lake.tables.read(TABLE, filters)
    held: dict[tuple[str, str, int, int], Mapping[str, Any]] = {}
    for row in sorted([] if rows is None else rows.to_pylist(), key=lambda r: (r["at_ns"], r["batch"])):
        held[row["drive"], row["kind"], row["start_ns"], row["end_ns"]] = row
    return [Adjudication(*key, verdict=bool(held[key]["verdict"])) for key in sorted(held)]


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Rows of a CSV with a header, or of a JSON list of objects.

    Raises:
        AvError: file_too_large, unreadable_file.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise AvError("larger than 16 MiB", code="file_too_large", file=file, remedy="split it")
        text = file.read_text("utf-8-sig")
        lines = text.splitlines()
        rows = json.loads(text) if file.suffix == ".json" else list(csv.DictReader(lines, strict=True))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise AvError(f"cannot be read: {error}", code="unreadable_file", file=file) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise AvError(
            "is no list of rows", code="unreadable_file", file=file, remedy="write a list of objects"
        )
    return [{str(name): value for name, value in row.items()} for row in rows]


def scripted(lake: Lake, truth: Path) -> list[dict[str, Any]]:
    """Verdicts on all synthetic drives below `truth`, and on what the table of events holds of them."""
    rows: list[dict[str, Any]] = []
    for told in sorted(truth.glob("*/events.parquet")):
        events = lake.tables.read("events", [("drive", "=", told.parent.name)])
        rows += adjudications_from_truth(told.parent, [] if events is None else events.to_pylist())
    return rows


def _checked(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if foreign := sorted(str(k) for k in row.keys() - set(COLUMNS)):
        raise _bad(number, f"no such column: {', '.join(foreign)[:200]}")
    if missing := [name for name in COLUMNS if name != "reason" and row.get(name) in (None, "")]:
        raise _bad(number, f"{missing[0]} is missing")
    kind, reason, by = str(row["kind"]), str(row.get("reason") or ""), str(row["by"]).strip()
    start_ns, end_ns, at_ns = (_ns(number, name, row[name]) for name in ("start_ns", "end_ns", "at_ns"))
    verdict = _VERDICTS.get(str(row["verdict"]).strip().lower())
    if not _KIND.fullmatch(kind):
        raise _bad(number, f"kind {kind[:64]!r} is no kind of event")
    if verdict is None:
        raise _bad(number, f"verdict {str(row['verdict'])[:32]!r} is neither true nor false")
    if end_ns < start_ns:
        raise _bad(number, "end_ns lies before start_ns")
    if not by or len(by) > MAX_TEXT or len(reason) > MAX_TEXT:
        raise _bad(number, f"by and reason are texts of at most {MAX_TEXT} characters")
    return {
        "drive": drive_id(str(row["drive"])),
        "kind": kind,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "verdict": verdict,
        "by": by,
        "at_ns": at_ns,
        "reason": reason,
    }


def _ns(number: int, name: str, value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > MAX_NS:
        raise _bad(number, f"{name} {text[:32]!r} is no time in nanoseconds")
    return int(text)


def _bad(number: int, reason: str) -> AvError:
    return AvError(
        f"row {number}: {reason}", code="bad_adjudication", remedy=f"columns are {', '.join(COLUMNS)}"
    )
