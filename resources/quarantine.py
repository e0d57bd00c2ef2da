"""Where bad input goes: one row per drive with the reason, so that nobody has to read a log to find it.

Belongs here: putting in, letting out, listing. Does not belong here: deciding what is bad (errors decide that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from resources.lake import Lake

TABLE = "quarantine"


def put(lake: Lake, drive: str, stage: str, error: AvError, *, run_id: str, now_ns: int) -> dict[str, Any]:
    """Record why `drive` stopped at `stage`; an earlier reason for the same drive is replaced."""
    import pyarrow as pa

    row = {
        "drive": drive,
        "stage": stage,
        "code": error.code,
        "reason": error.reason,
        "file": error.file or "",
        "remedy": error.remedy,
        "run_id": run_id,
        "at_ns": now_ns,
    }
    lake.tables.replace(TABLE, pa.Table.from_pylist([row]), key="drive", value=drive)
    return row


def release(lake: Lake, drive: str, stage: str) -> bool:
    """Forget the drive's entry if it was this stage that put it there; returns whether there was one."""
    held = any(row["drive"] == drive and row["stage"] == stage for row in listing(lake))
    if held:
        lake.tables.remove(TABLE, key="drive", value=drive)
    return held


def listing(lake: Lake) -> list[dict[str, Any]]:
    rows = lake.tables.read(TABLE)
    return [] if rows is None else sorted(rows.to_pylist(), key=lambda row: row["drive"])
