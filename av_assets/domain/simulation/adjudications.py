"""What a person who knew the script would say of a synthetic drive's events.

Belongs here: verdicts from the truth. Does not belong here: what a detector found, or where verdicts are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

BY: Final = "script"
NS_PER_S: Final = 10**9


def adjudications_from_truth(
    folder: Path, alerts: Iterable[Mapping[str, Any]] = (), tolerance_s: float = 1.5
) -> list[dict[str, Any]]:
    """Rows for adjudicated_events of the drive that `folder` (truth/<drive>) is named after.

    Every event of the truth is true. An alert (kind, start_ns, end_ns) of a kind that the truth tells of is false where
    no event of its kind lies within `tolerance_s`. The time of the verdict is the end of the window.

    Raises:
        OSError: the folder holds no events.parquet.
    """
    truth = pq.read_table(folder / "events.parquet").to_pylist()
    told = {"cut_in", "disengagement", "harsh_brake", "stationary_hazard"}
    rows = [_row(folder.name, event, True, "scripted") for event in truth]
    reach_ns = round(tolerance_s * NS_PER_S)
    for alert in alerts:
        near = any(
            event["kind"] == alert["kind"]
            and event["start_ns"] - reach_ns <= alert["end_ns"]
            and alert["start_ns"] <= event["end_ns"] + reach_ns
            for event in truth
        )
        if alert["kind"] in told and not near:
            rows.append(_row(folder.name, alert, False, "nothing of the kind was scripted"))
    return rows


def _row(drive: str, window: Mapping[str, Any], verdict: bool, reason: str) -> dict[str, Any]:
    return {
        "drive": drive,
        "kind": window["kind"],
        "start_ns": window["start_ns"],
        "end_ns": window["end_ns"],
        "verdict": verdict,
        "by": BY,
        "at_ns": window["end_ns"],
        "reason": reason,
    }
