"""From a checkpoint to a bundle that runs without torch, and the proof that both compute the same.

Belongs here: the float32 bundle. Does not belong here: what a dataset is needed for: other precisions, their gate
(`bundle`); running bundles (`models.runtime`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.learning.checkpoint import write_atomically
from av_assets.domain.models.runtime import CONFIG_FILE, FP32, OnnxPerception
from av_assets.domain.packaging.description import FILES, inference_config, metadata
from av_assets.domain.packaging.onnx_file import to_onnx
from av_assets.domain.packaging.parity import Inputs, measure_parity
from av_assets.domain.packaging.source import Source, read_source
from av_assets.domain.packaging.torchscript import to_torchscript
from av_assets.policies.packaging import PackagingPolicy

PARITY_FILE: Final = "parity.json"
TORCHSCRIPT: Final = "torchscript"


@dataclass(frozen=True)
class BundleSummary:
    """What was exported and how closely it agrees with the checkpoint."""

    model_sha256: str
    model_bytes: int
    opset: int
    parity_inputs: int
    parity_max_abs_diff: float
    dataset_digest: str
    config_digest: str


def export_bundle(checkpoint: Path, out_dir: Path, policy: PackagingPolicy | None = None) -> BundleSummary:
    """Write model.onnx, model.ts.pt, inference_config.json and parity.json into `out_dir`.

    Raises:
        ModelError: bad_checkpoint; parity_failed when an export and torch differ by more than the policy allows.
    """
    policy = policy or PackagingPolicy.load()
    source = read_source(checkpoint)
    config, weights = export_float32(source, out_dir, policy)
    parity = prove_parity(
        source, OnnxPerception(out_dir, policy.num_threads), weights[TORCHSCRIPT], (), out_dir, policy
    )
    return BundleSummary(
        model_sha256=config["model_sha256"],
        model_bytes=len(weights[FP32]),
        opset=policy.opset,
        parity_inputs=parity["inputs"],
        parity_max_abs_diff=max(parity["onnx"]["max_abs_diff"][name] for name in source.heads),
        dataset_digest=source.state["dataset_digest"],
        config_digest=source.state["config_digest"],
    )


def export_float32(
    source: Source, out_dir: Path, policy: PackagingPolicy
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """ONNX and TorchScript files with their description; returns it and the bytes by name."""
    out_dir.mkdir(parents=True, exist_ok=True)
    weights = {
        FP32: to_onnx(source, policy.opset, metadata(source, policy.opset)),
        TORCHSCRIPT: to_torchscript(source.network, source.example(2)),
    }
    for name, data in weights.items():
        write_atomically(out_dir / FILES[name], data)
    config = inference_config(source, policy.opset, weights)
    write_atomically(out_dir / CONFIG_FILE, canonical_json(config))
    return config, weights


def prove_parity(
    source: Source,
    runtime: OnnxPerception,
    torchscript: bytes,
    frames: Iterable[Inputs],
    out_dir: Path,
    policy: PackagingPolicy,
) -> dict[str, Any]:
    """Write parity.json.

    Raises:
        ModelError: parity_failed; the file says which output differs.
    """
    parity = measure_parity(source, runtime, torchscript, frames, policy)
    write_atomically(out_dir / PARITY_FILE, canonical_json(parity))
    if not parity["passed"]:
        raise ModelError(
            "an export and torch differ",
            code="parity_failed",
            file=out_dir / PARITY_FILE,
            remedy="look at parity.json for the output that differs; do not release this bundle",
        )
    return parity
