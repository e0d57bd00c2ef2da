"""Workflow 15: a checkpoint becomes files that run anywhere, in the precisions that lose nothing that matters."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.domain.evidence.claims import Claim
from av_assets.domain.evidence.manifest import Manifest
from av_assets.gates import Gate
from av_assets.policies.evaluation import EvaluationPolicy
from av_assets.policies.packaging import PackagingPolicy
from av_assets.presentation import pictures, table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from av_assets.releases import dataset_of
from partitions.releases import releases
from resources.compute import EVALUATE
from resources.environment import PROJECT, child_environment
from resources.lake import Lake
from sensors.conditions import on_new_release

TEMPLATES = PROJECT / "deployments" / "triton"
LOAD_TIMEOUT_S = 120
PRECISIONS = ("fp32", "fp16", "int8")  # in the order that people compare them
LOAD = """
import sys
from pathlib import Path
import numpy as np
from av_assets.domain.models.runtime import OnnxPerception, read_config
folder = Path(sys.argv[1])
for precision in read_config(folder)["usable"]:
    model = OnnxPerception(folder, precision=precision)
    shapes = model.layout.shapes.items()
    found = model.run({name: np.zeros((1, *shape), dtype) for name, (dtype, shape) in shapes})
    assert all(np.isfinite(value).all() for value in found.values()), precision
assert "torch" not in sys.modules
"""


def _claims(folder: Path) -> list[Claim]:
    """What a bundle that goes on must hold; a precision that failed its own gate is not in the bundle."""
    parity = json.loads((folder / "parity.json").read_bytes())
    report = json.loads((folder / "precision_report.json").read_bytes())
    worst = max(parity["onnx"]["max_abs_diff"][name] for name in parity["heads"])
    return [
        Claim(
            "exports_equal_their_checkpoint",
            bool(parity["passed"]),
            measured=worst,
            threshold=parity["tolerance"],
        ),
        Claim("float32_is_usable", "fp32" in report["usable"]),
    ]


GATE = Gate("model_bundles_equal_their_checkpoint", _claims)


@dg.asset(
    partitions_def=releases,
    deps=["checkpoints", dg.AssetDep("golden_slices", partition_mapping=dg.AllPartitionMapping())],
    automation_condition=on_new_release,
    op_tags=EVALUATE.tags,
    pool=EVALUATE.pool,
    code_version="3",
    kinds={"onnx"},
)
def model_bundles(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 15 of 36: takes checkpoints and golden_slices, gives signed files: ONNX, TorchScript, Triton."""
    started, release = time.time_ns(), context.partition_key
    inputs = {
        "checkpoints": lake.require("checkpoints", release),
        "golden_slices": dataset_of(lake, release),
    }
    policies = [PackagingPolicy.load(), EvaluationPolicy.load()]
    made_from = lineage(list(inputs.values()), code_version(context), policies)
    made = produce(lake, "model_bundles", release, made_from, inputs, _pack, GATE)
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=model_bundles, blocking=True)
def model_bundles_equal_their_checkpoint(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Torch, ONNX and TorchScript agree on real frames and seeded noise within the policy's tolerance."""
    parity = _read(lake, lake.require("model_bundles", context.partition_key), "parity.json")
    return dg.AssetCheckResult(
        passed=bool(parity["passed"]), metadata={"parity": dg.MetadataValue.json(parity)}
    )


@dg.asset_check(asset=model_bundles)
def model_bundles_ship_every_precision(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """No precision loses more on any slice than the policy allows; one that does is left out of the bundle."""
    report = _read(lake, lake.require("model_bundles", context.partition_key), "precision_report.json")
    return dg.AssetCheckResult(
        passed=not report["refused"],
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"refused": dg.MetadataValue.json(report["refused"])},
    )


@dg.asset_check(asset=model_bundles, blocking=True)
def model_bundles_load_in_a_clean_process(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Every usable precision loads and answers in a new process that has no torch."""
    manifest = lake.require("model_bundles", context.partition_key)
    with lake.workdir() as folder:
        lake.checkout(manifest, folder, "*.onnx", "inference_config.json")
        ended = subprocess.run(
            [sys.executable, "-c", LOAD, str(folder)],
            capture_output=True,
            cwd=PROJECT,
            env=child_environment(),
            timeout=LOAD_TIMEOUT_S,
        )
    said = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
    return dg.AssetCheckResult(passed=ended.returncode == 0, metadata={"said": said[0]})


def _pack(work: Work) -> str:
    from av_assets.domain.packaging.bundle import Policies, make_bundle

    checkpoint = work.checkout("checkpoints", "checkpoint.pt") / "checkpoint.pt"
    policies = Policies(PackagingPolicy.load(), EvaluationPolicy.load())
    golden = work.checkout("golden_slices")
    latency_ms = make_bundle(checkpoint, golden, TEMPLATES, work.out, policies, work.watch)
    # Latency differs from run to run: it is shown in the catalog, and is no part of the bundle.
    work.facts.update({f"latency_p50_ms/{name}": round(value, 2) for name, value in latency_ms.items()})
    return ""


def _read(lake: Lake, manifest: Manifest, name: str) -> dict[str, Any]:
    return json.loads(lake.read_bytes(manifest, name))


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    config, report = (_read(lake, manifest, f"{n}.json") for n in ("inference_config", "precision_report"))
    parity, engines = (_read(lake, manifest, f"{n}.json") for n in ("parity", "tensorrt"))
    there = [p for p in PRECISIONS if p in report["bytes"]]
    rows = (
        {
            "slice": name,
            "frames": str(row["frames"]),
            **{
                p + where: "-" if (value := row[key][p]) is None else f"{value:.3f}"
                for key, where in (("map50", ""), ("map3d", " 3D"))
                for p in there
            },
        }
        for name, row in report["slices"].items()
    )
    sizes = (
        {"precision": p, "MB": f"{report['bytes'][p] / 1e6:.2f}", "usable": report["refused"].get(p, "yes")}
        for p in there
    )
    return {
        "sizes": table(sizes),
        "precisions/map": table(rows),
        "parity_inputs": parity["inputs"],
        "parity_max_abs_diff": max(parity["onnx"]["max_abs_diff"][name] for name in parity["heads"]),
        "tensorrt": engines["reason"] or f"{len(engines['engines'])} engines",
        "inference_config": dg.MetadataValue.json(config),
        **pictures(lake, manifest, "precisions.png"),
    }
