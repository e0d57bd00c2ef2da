"""Workflow 2: clips in which nobody can be recognised."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.evidence.claims import Claim
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.logs.drive_spec import SPEC_FILE
from av_assets.foundations.detectors import pretrained_models
from av_assets.foundations.ingestion import log_reports, raw_logs
from av_assets.gates import Gate, gate_result
from av_assets.policies.audit import AuditPolicy
from av_assets.policies.detection import DetectionPolicy
from av_assets.policies.redaction import RedactionPolicy
from av_assets.policies.topics import TopicPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, each_drive
from partitions.drives import BATCH, drives
from resources.compute import DETECT
from resources.lake import Lake
from sensors.conditions import on_changed_content


@dg.asset(
    partitions_def=drives,
    deps=[raw_logs, log_reports, pretrained_models],
    output_required=False,
    automation_condition=on_changed_content,
    backfill_policy=BATCH,
    op_tags=DETECT.tags,
    pool=DETECT.pool,
    code_version="2",
    kinds={"parquet", "onnx"},
)
def redacted_clips(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 2 of 36, second half: takes raw_logs, gives camera frames without faces and plates, and a report."""
    yield from each_drive(
        context,
        lake,
        ["raw_logs", "log_reports"],
        [RedactionPolicy.load(), DetectionPolicy.load(), AuditPolicy.load(), TopicPolicy.load()],
        _redact,
        _describe,
        shared=["pretrained_models"],
        gate=GATE,
        guarded=["log_reports"],
    )


@dg.asset_check(asset=redacted_clips, blocking=True)
def redacted_clips_release_no_unchecked_frame(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Every frame that was let through had been seen by every detector, and every other one is accounted for."""
    return gate_result(context, lake, "redacted_clips")


def _redact(work: Work) -> str:
    from av_assets.domain.logs.aliases import with_confirmed
    from av_assets.domain.logs.contract import infer_streams
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.privacy.detectors import load_detector
    from av_assets.domain.privacy.modes import required_kinds
    from av_assets.domain.privacy.redact import redact_drive
    from av_assets.domain.privacy.second_look import CascadeFaces, TextDetector, audit_output

    policy, detection = RedactionPolicy.load(), DetectionPolicy.load()
    folder = work.checkout("raw_logs")
    spec = with_confirmed(read_drive_spec(folder / SPEC_FILE), TopicPolicy.load())
    with LogReader(folder) as reader:
        types = {name: info.msgtype for name, info in reader.topics.items()}
        streams = infer_streams(types, spec.streams)
        cameras = {r: s for r, s in streams.items() if s.kind == "camera" and s.topic in types}
        if not cameras:
            return "no camera in this drive: nothing to redact"
        models = work.checkout("pretrained_models", "*.onnx")
        detector = load_detector(models, detection, required_kinds(policy))
        named = {detection.name: {"version": detection.version, "digest": detection.digest}}
        redact_drive(reader, cameras, detector, policy, work.out, work.segments, work.watch, named)
    with work.watch("audit"):
        audit_policy = AuditPolicy.load()
        seconds = [CascadeFaces(audit_policy), TextDetector(models / "text.onnx", audit_policy, threads=1)]
        audit_output(work.out, sorted(cameras), seconds, audit_policy)
    return ""


def _judge(folder: Path) -> list[Claim]:
    from av_assets.domain.privacy.release import release_claims

    return release_claims(folder, AuditPolicy.load())


GATE = Gate("redacted_clips_release_no_unchecked_frame", _judge)


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    from av_assets.domain.privacy.redact import REPORT_FILE
    from av_assets.domain.privacy.second_look import AUDIT_FILE

    report, audit = lake.json_of(manifest, REPORT_FILE), lake.json_of(manifest, AUDIT_FILE)
    rows = [
        {"camera": role, **{k: s[k] for k in ("frames_in", "released", "redacted")}}
        | {k: str(s[k]) for k in ("found", "carried", "bands", "dropped")}
        for role, s in sorted(report.get("streams", {}).items())
    ]
    second = {k: audit[k] for k in ("sampled", "flagged", "flagged_frames", "miss_bound") if k in audit}
    return {
        "mode": report.get("mode", "none"),
        "cameras": table(rows),
        "second_look": dg.MetadataValue.json(second),
        **pictures(lake, manifest, "contact_sheet.png"),
    }
