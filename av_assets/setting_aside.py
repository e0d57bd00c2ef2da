"""Drives that go no further: put into quarantine where people see it, and the fleet's count of them.

Belongs here: the Dagster side of the quarantine. Does not belong here: its rows (resources/quarantine), what is poison.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg

from av_assets.domain.errors import AvError
from av_assets.presentation import table
from resources import quarantine
from resources.lake import Lake


def quarantine_drive(
    context: dg.AssetExecutionContext,
    lake: Lake,
    drive: str,
    stage: str,
    error: AvError,
    described: Mapping[str, Any] | None = None,
) -> None:
    """Write the row, show it on the asset with what is known of it, and turn the fleet's completeness check red."""
    row = quarantine.put(lake, drive, stage, error, run_id=context.run.run_id, now_ns=time.time_ns())
    context.log.warning(f"quarantined {drive} at {stage}: {error}")
    context.log_event(
        dg.AssetObservation(
            stage,
            partition=drive,
            description=str(error),
            metadata={"state": "quarantined", **row, **(described or {})},
        )
    )
    context.instance.report_runless_asset_event(completeness(lake))


def completeness(lake: Lake) -> dg.AssetCheckEvaluation:
    """The fleet-level check: does every landed drive flow, and if not, why not?"""
    rows = quarantine.listing(lake)
    shown = ({k: str(r[k]) for k in ("drive", "stage", "code", "reason", "file", "remedy")} for r in rows)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("raw_logs"),
        check_name="raw_logs_leave_no_drive_in_quarantine",
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"drives": len(rows), "quarantine": table(shown)},
    )
