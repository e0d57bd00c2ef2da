"""Workflow 1 and the first half of 2: landed drives become raw logs with a report on their health."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from av_assets.domain.errors import LogError
from av_assets.domain.evidence.claims import Claim
from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.evidence.manifest import FileEntry, Manifest
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.logs.drive_spec import SPEC_FILE
from av_assets.domain.logs.landing import Landed, LandedFile, landed_drive
from av_assets.gates import Gate, gate_result
from av_assets.policies.clocks import ClockPolicy
from av_assets.policies.integrity import IntegrityPolicy
from av_assets.policies.landing import LandingPolicy
from av_assets.policies.topics import TopicPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Made, Work, code_version, each_drive, lineage, record_drives
from av_assets.setting_aside import completeness
from partitions.drives import BATCH, drives
from resources.compute import CPU, DECODE
from resources.lake import Lake
from resources.landing import Landing
from resources.segments import LakeSegments, forget_segments
from sensors.conditions import on_changed_content

REPORT_FILE = "report.json"
RULE_COLUMNS = ("id", "status", "severity", "role", "reason", "measured", "threshold", "unit", "fix")


@dg.asset(
    partitions_def=drives,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=CPU.tags,
    pool=CPU.pool,
    code_version="1",
    kinds={"mcap", "rosbag"},
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
    partitions_def=drives,
    deps=[raw_logs],
    automation_condition=on_changed_content,
    output_required=False,
    backfill_policy=BATCH,
    op_tags=DECODE.tags,
    pool=DECODE.pool,
    code_version="2",
    kinds={"json"},
)
def log_reports(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 2 of 36, first half: takes raw_logs, gives rule by rule what is wrong with the log."""
    policies = [IntegrityPolicy.load(), ClockPolicy.load(), TopicPolicy.load()]
    yield from each_drive(context, lake, ["raw_logs"], policies, _report, _describe_report, gate=GATE)


@dg.asset_check(asset=log_reports, blocking=True)
def log_reports_find_no_error(context: dg.AssetCheckExecutionContext, lake: Lake) -> dg.AssetCheckResult:
    """No rule of severity error failed, but those that the gate policy tolerates for a reason."""
    return gate_result(context, lake, "log_reports")


def _ingest(lake: Lake, landing: Landing, version: str, drive: str) -> Made:
    """Copy what was landed; a drive whose folder has been cleared away keeps what was ingested."""
    import time

    from resources import ingestions, quarantine, tombstones

    if tombstones.of(lake, drive):
        raise tombstones.refusal(drive)
    policy, watch = LandingPolicy.load(), Stopwatch()
    made_from = lineage([], version, [policy])
    with lake.workdir() as work:
        source = landing.drive(drive, work / "small")
        if source is None:
            return Made(lake.require("raw_logs", drive), {}, reused=True)
        arrival = landing.arrival(drive, time.time())
        landed = landed_drive(source, policy)
        segments = LakeSegments(lake, "raw_logs", drive, made_from, work / "segments")
        taken = [
            _take(lake, source, file, segments, work / str(n), watch) for n, file in enumerate(landed.files)
        ]
    manifest = lake.publish(
        "raw_logs", drive, links=[t.entry for t in taken], made_from=made_from, write_once=True
    )
    forget_segments(lake, "raw_logs", drive)
    before = ingestions.of(lake, drive)
    row = ingestions.Ingestion(
        drive=drive,
        source=arrival.where,
        fingerprint=arrival.fingerprint,
        landed_ns=before.landed_ns if before else arrival.landed_ns,
        ingested_ns=time.time_ns(),
        queryable_ns=before.queryable_ns if before else 0,
        files=len(taken),
        bytes=sum(t.entry.bytes for t in taken),
        saved_bytes=sum(t.entry.bytes for t in taken if t.known),
        saved_files=sum(t.known for t in taken),
        resumed_files=sum(t.resumed for t in taken),
        content=manifest.content,
    )
    ingestions.write(lake, row)
    quarantine.release(lake, drive, "landing")  # it waited there for its marker, perhaps
    facts = {
        "saved_bytes": row.saved_bytes,
        "saved_files": row.saved_files,
        "resumed_files": row.resumed_files,
    }
    return Made(manifest, dict(watch.seconds), reused=False, facts=facts)


class Taken(NamedTuple):
    """One ingested file. `known`: the lake held its bytes before; `resumed`: an earlier attempt had copied it."""

    entry: FileEntry
    known: bool
    resumed: bool


def _take(
    lake: Lake, source: Landed, file: LandedFile, segments: LakeSegments, target: Path, watch: Stopwatch
) -> Taken:
    """One file, in one pass over its bytes; a file that an interrupted attempt finished is not read again.

    Raises:
        LandingError: checksum_mismatch, before anything of the drive is published.
    """
    name = sha256_json([file.path, file.sha256, source.version(file.path)])[:16]
    noted = segments.noted(name)
    if noted is not None:
        return Taken(noted, known=False, resumed=True)
    copied = source.copy(file.path, target, file.sha256, watch)
    known = lake.holds(FileEntry(path=file.path, bytes=copied.bytes, sha256=copied.sha256))
    with watch("store"):
        entry = lake.adopt(target, file.path, copied.sha256)
        segments.note(name, entry)
    return Taken(entry, known, resumed=False)


def _report(work: Work) -> str:
    from av_assets.domain.logs.aliases import with_confirmed
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.logs.integrity.check import check_log, clocks_png, timeline_png
    from av_assets.domain.logs.reader import LogReader

    folder = work.checkout("raw_logs")
    spec, clocks = with_confirmed(read_drive_spec(folder / SPEC_FILE), TopicPolicy.load()), ClockPolicy.load()
    with LogReader(folder) as reader:
        if not reader.message_count:
            raise LogError("the log holds no message", code="no_messages", drive=work.partition)
        report = check_log(reader, spec, IntegrityPolicy.load(), work.watch, clocks=clocks, drive_dir=folder)
        damaged = {Path(path).relative_to(folder): damage for path, damage in reader.damage.items()}
        lost = "; ".join(f"{path}: {damage.first}" for path, damage in sorted(damaged.items()))
    (work.out / REPORT_FILE).write_text(json.dumps(report.to_dict(), sort_keys=True, indent=1))
    (work.out / "timeline.png").write_bytes(timeline_png(report))
    (work.out / "clocks.png").write_bytes(clocks_png(report))
    return f"salvaged: {lost}" if lost else ""


def _judge(folder: Path) -> list[Claim]:
    """Every rule of severity error is a claim; warnings stay in the report."""
    return [
        Claim(
            name=rule["id"],
            passed=rule["status"] != "failed",
            reason=rule["reason"],
            subject=rule["role"] or rule["topic"],
            measured=rule["measured"],
            threshold=rule["threshold"],
            remedy=rule["fix"],
        )
        for rule in json.loads((folder / REPORT_FILE).read_bytes())["rules"]
        if rule["severity"] == "error"
    ]


GATE = Gate("log_reports_find_no_error", _judge)


def _describe_raw_logs(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    largest = sorted(manifest.files, key=lambda f: -f.bytes)[:8]
    rows = ({"path": f.path, "bytes": f.bytes, "sha256": f.sha256[:12]} for f in largest)
    return {"largest_files": table(rows)}


def _describe_report(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    report = json.loads(lake.read_bytes(manifest, REPORT_FILE))
    return {
        "verdict": report["verdict"],
        "dagster/row_count": report["messages"],
        "duration_s": round((report["end_ns"] - report["start_ns"]) / 1e9, 2),
        "rules_passed": sum(rule["status"] == "passed" for rule in report["rules"]),
        "findings": table(
            {k: "" if rule[k] is None else str(rule[k]) for k in RULE_COLUMNS}
            for rule in sorted(report["rules"], key=lambda rule: rule["status"])  # failed before skipped
            if rule["status"] != "passed"
        ),
        "aliases": table({k: str(v) for k, v in alias.items()} for alias in report["aliases"]),
        **pictures(lake, manifest, "timeline.png", "clocks.png"),
    }
