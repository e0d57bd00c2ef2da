"""Gates between assets: what a bundle is judged by, the record of it, and the guard that asks for the record.

Belongs here: from claims to Dagster checks and refusals. Does not belong here: any single claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.errors import EvidenceError, PoisonError
from av_assets.domain.evidence.claims import RECORD_FILE, Claim, Record, tolerating
from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.gates import GatePolicy
from av_assets.presentation import table
from partitions.drives import drives, keys_of_run
from resources.lake import Lake


@dataclass(frozen=True)
class Gate:
    """How the bundles of one asset are judged.

    Attributes:
        check: name of the asset check that shows it.
        judge: gives the claims of the finished files in a folder.
    """

    check: str
    judge: Callable[[Path], Sequence[Claim]]

    def write_record(self, folder: Path) -> None:
        record = tolerating(self.judge(folder), GatePolicy.load().tolerated)
        (folder / RECORD_FILE).write_text(record.to_json())

    def evaluation(self, asset: str, drive: str, record: Record) -> dg.AssetCheckEvaluation:
        """The check's result for one drive that goes no further: its asset gives no output to check in the run."""
        return dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset),
            check_name=self.check,
            passed=record.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            blocking=True,
            metadata={"drives": 1, "failed": _failed([(drive, record)])},
        )


def record_of(lake: Lake, manifest: Manifest) -> Record | None:
    """The claims that a bundle was judged by, or None where it has none."""
    if not manifest.holds(RECORD_FILE):
        return None
    return Record.from_json(lake.read_bytes(manifest, RECORD_FILE))


def require_passed(lake: Lake, manifest: Manifest) -> Manifest:
    """The guard: `manifest` itself, if it holds a record of passed checks.

    Raises:
        EvidenceError: upstream_unchecked or upstream_failed.
    """
    record = record_of(lake, manifest)
    if record is not None and record.passed:
        return manifest
    why = f"failed {', '.join(c.name for c in record.stopping)}" if record else "has no record of its checks"
    raise EvidenceError(
        f"{manifest.asset}/{manifest.partition} {why}",
        code="upstream_failed" if record else "upstream_unchecked",
        drive=manifest.partition,
        remedy=f"materialize {manifest.asset} for {manifest.partition}, and read its report",
    )


def refusal(drive: str, record: Record) -> PoisonError:
    """Why a bundle that failed its own claims goes no further: the first claim speaks, the others are counted."""
    first, *others = record.stopping
    more = f" (and {len(others)} more)" if others else ""
    reason = f"{first.subject}: {first.reason}" if first.subject else first.reason
    return PoisonError(f"{reason}{more}", code=first.name, drive=drive, remedy=first.remedy or None)


def gate_result(context: dg.AssetCheckExecutionContext, lake: Lake, asset: str) -> dg.AssetCheckResult:
    """The check over the drives of this run.

    One failed drive of many must not stop the good ones, so that a range warns: its failed drives are in quarantine
    already. A drive by itself that fails gives no output and never gets here, see `Gate.evaluation`.
    """
    manifests = [(drive, lake.manifest(asset, drive)) for drive in checked_drives(context)]
    records = [(drive, record_of(lake, manifest)) for drive, manifest in manifests if manifest]
    failed = _failed([(drive, record) for drive, record in records if record])
    return dg.AssetCheckResult(
        passed=all(record is not None and record.passed for _, record in records),
        severity=dg.AssetCheckSeverity.ERROR if len(records) == 1 else dg.AssetCheckSeverity.WARN,
        metadata={"drives": len(records), "failed": failed},
    )


def checked_drives(context: dg.AssetCheckExecutionContext) -> Sequence[str]:
    """The drives of the run that a check looks at."""
    return keys_of_run(context.run.tags, context.instance.get_dynamic_partitions(drives.name or ""))


def _failed(records: Iterable[tuple[str, Record]]) -> Any:
    return table(
        {
            "drive": drive,
            "claim": claim.name,
            "subject": claim.subject,
            "reason": claim.reason,
            "goes on because": claim.tolerated,
        }
        for drive, record in records
        for claim in record.claims
        if not claim.passed
    )
