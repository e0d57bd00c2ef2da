"""Workflow 1 and the first half of 2: landed drives become raw logs with a report on their health."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.domain.logs.drive_spec import SPEC_FILE
from av_assets.policies.integrity import IntegrityPolicy
from av_assets.policies.landing import LandingPolicy
from av_assets.production import (
    Made,
    Work,
    code_version,
    completeness,
    each_drive,
    lineage,
    pictures,
    record_drives,
)
from partitions.drives import BATCH, drives
from resources.compute import CPU, DECODE
from resources.lake import Lake
from resources.landing import Landing
from sensors.conditions import on_changed_content


@dg.asset(
    partitions_def=drives, output_required=False, backfill_policy=BATCH, op_tags=CPU.tags, pool=CPU.pool,
    code_version="1", kinds={"mcap", "rosbag"},
)
def raw_logs(
    context: dg.AssetExecutionContext, lake: Lake, landing: Landing
) -> Iterator[dg.MaterializeResult]:
    """Workflow 1 of 36: takes a landed drive folder, gives its files under their digests, write-once."""
    yield from record_drives(
        context, lake, partial(_ingest, lake, landing, code_version(context)), _describe_raw_logs
    )


@dg.asset_check(asset=raw_logs)
def raw_logs_leave_no_drive_in_quarantine(lake: Lake) -> dg.AssetCheckResult:
    """Every landed drive flows; those that do not are listed with their reason."""
    found = completeness(lake)
    return dg.AssetCheckResult(passed=found.passed, severity=found.severity, metadata=found.metadata)


@dg.asset(
    partitions_def=drives, deps=[raw_logs], automation_condition=on_changed_content, output_required=False,
    backfill_policy=BATCH, op_tags=DECODE.tags, pool=DECODE.pool, code_version="1", kinds={"json"},
)
def log_reports(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 2 of 36, first half: takes raw_logs, gives rule by rule what is wrong with the log."""
    policy = IntegrityPolicy.load()
    yield from each_drive(context, lake, ["raw_logs"], [policy], partial(_report, policy), _describe_report)


def _ingest(lake: Lake, landing: Landing, version: str, drive: str) -> Made:
    """Copy what was landed; a drive whose folder has been cleared away keeps what was ingested."""
    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.ingest import copy_hashed, landed_drive

    if not landing.folder(drive).is_dir():
        return Made(lake.require("raw_logs", drive), {}, reused=True)
    policy, watch = LandingPolicy.load(), Stopwatch()
    landed = landed_drive(landing.folder(drive), policy)
    with lake.workdir() as work:
        entries = []
        for number, file in enumerate(landed.files):
            copied = copy_hashed(file.source, work / str(number), file.expected_sha256, watch)
            entries.append(lake.adopt(work / str(number), file.path, copied.sha256))
    manifest = lake.publish(
        "raw_logs", drive, links=entries, made_from=lineage([], version, [policy]), write_once=True
    )
    return Made(manifest, dict(watch.seconds), reused=False)


def _report(policy: IntegrityPolicy, work: Work) -> str:
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.logs.integrity import check_log, timeline_png
    from av_assets.domain.logs.reader import LogReader

    folder = work.checkout("raw_logs")
    spec = read_drive_spec(folder / SPEC_FILE)
    with LogReader(folder, salvage=True) as reader:
        report = check_log(reader, spec, policy, work.watch)
    (work.out / "report.json").write_text(json.dumps(report.to_dict(), sort_keys=True, indent=1))
    (work.out / "timeline.png").write_bytes(timeline_png(report))
    return report.reason


def _describe_raw_logs(lake: Lake, manifest: Any) -> dict[str, Any]:
    largest = sorted(manifest.files, key=lambda f: -f.bytes)[:8]
    return {
        "largest_files": dg.MetadataValue.table(
            [dg.TableRecord({"path": f.path, "bytes": f.bytes, "sha256": f.sha256[:12]}) for f in largest]
        )
    }


def _describe_report(lake: Lake, manifest: Any) -> dict[str, Any]:
    report = json.loads(lake.read_bytes(manifest, "report.json"))
    return {
        "state": report["state"],
        "dagster/row_count": report["messages"],
        "duration_s": round((report["end_ns"] - report["start_ns"]) / 1e9, 2),
        "rules": dg.MetadataValue.table(
            [
                dg.TableRecord({k: str(rule.get(k)) for k in ("id", "severity", "state", "subject", "reason")})
                for rule in report["rules"]
                if rule["state"] != "passed"
            ]
            or [dg.TableRecord({"id": "all", "severity": "", "state": "passed", "subject": "", "reason": ""})]
        ),
        **pictures(lake, manifest, "timeline.png"),
    }
