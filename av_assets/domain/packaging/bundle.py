"""A checkpoint and its dataset become everything that is shipped: precisions that passed their gate, and the proofs.

Files: model.onnx, model.fp16.onnx, model.int8.onnx, model.ts.pt, inference_config.json, parity.json, calibration.json,
precision_report.json, precisions.png, tensorrt.json, triton/, requirements.txt, sbom.json. A precision that failed is
not among them: its place in the report says why. Same checkpoint, dataset and policies: same bytes.
Belongs here: the order of things. Does not belong here: any single export or measurement.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.learning.checkpoint import write_atomically
from av_assets.domain.models.golden import GoldenSpec, read_spec
from av_assets.domain.models.runtime import CONFIG_FILE, FP32, OnnxPerception
from av_assets.domain.models.session import stack
from av_assets.domain.packaging import frames as choice
from av_assets.domain.packaging.calibration import calibration_record
from av_assets.domain.packaging.description import FILES, metadata, with_precisions
from av_assets.domain.packaging.export import TORCHSCRIPT, export_float32, prove_parity
from av_assets.domain.packaging.gate import gate_report, losses, refusal, score, slices_of
from av_assets.domain.packaging.half import to_half
from av_assets.domain.packaging.int8 import Int8
from av_assets.domain.packaging.parity import batches
from av_assets.domain.packaging.pictures import precisions_png
from av_assets.domain.packaging.sbom import bill, installed_closure, requirements
from av_assets.domain.packaging.source import Source, read_source
from av_assets.domain.packaging.tensorrt import build_engines
from av_assets.domain.packaging.triton_repository import write_repository
from av_assets.policies.evaluation import EvaluationPolicy
from av_assets.policies.packaging import PackagingPolicy

FP16: Final = "fp16"
INT8: Final = "int8"
CALIBRATION_FILE: Final = "calibration.json"
REPORT_FILE: Final = "precision_report.json"
TENSORRT_FILE: Final = "tensorrt.json"
SBOM_FILE: Final = "sbom.json"
REQUIREMENTS_FILE: Final = "requirements.txt"
PICTURE_FILE: Final = "precisions.png"
TRITON_FOLDER: Final = "triton"
LATENCY_RUNS: Final = 20


@dataclass(frozen=True)
class Policies:
    packaging: PackagingPolicy
    evaluation: EvaluationPolicy


def make_bundle(
    checkpoint: Path,
    golden_dir: Path,
    templates: Path,
    out_dir: Path,
    policies: Policies,
    watch: Stopwatch | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Write the bundle into `out_dir`; returns the median latency in ms of each precision on this host, batch of one.

    Args:
        templates: folder with Triton's config.pbtxt and model.py.

    Raises:
        ModelError: bad_checkpoint, parity_failed, class_mismatch.
        DatasetError: no dataset, or no labelled frame in train, or in val and test.
    """
    watch, policy = watch or Stopwatch(), policies.packaging
    source, spec = read_source(checkpoint), read_spec(golden_dir)
    if source.classes != spec.classes:
        reason = f"model knows {source.classes}, dataset {spec.classes}"
        raise ModelError(reason, code="class_mismatch", file=checkpoint)
    with watch("export"):
        config, weights = export_float32(source, out_dir, policy)
    runtime = OnnxPerception(out_dir, policy.num_threads)
    with watch("read"):
        seen, record = _calibration_frames(golden_dir, spec, runtime, policy)
        judged = _gate_frames(golden_dir, spec, runtime, policy)
    with watch("parity"):
        real = (frame.inputs for frame in [*seen, *judged][: policy.parity_frames])
        prove_parity(source, runtime, weights[TORCHSCRIPT], real, out_dir, policy)
    with watch("precisions"):
        models, report = _precisions(source, config, weights[FP32], seen, judged, spec, policies)
    latency = {name: _latency(config, models[name], judged[0], policy, now) for name in report["usable"]}
    with watch("write"):
        _write(config, models, report, record, spec, templates, out_dir, source, policy)
    return latency


def _calibration_frames(
    root: Path, spec: GoldenSpec, runtime: OnnxPerception, policy: PackagingPolicy
) -> tuple[list[choice.Frame], dict[str, Any]]:
    groups = choice.strata(root, spec, ("train",))
    chosen = choice.choose(groups, policy.calibration_frames, policy.seed)
    keys = [key for group in chosen.values() for key in group]
    seen = list(choice.read_frames(root, spec, keys, runtime))
    return seen, calibration_record(groups, chosen, seen, policy)


def _gate_frames(
    root: Path, spec: GoldenSpec, runtime: OnnxPerception, policy: PackagingPolicy
) -> list[choice.Frame]:
    chosen = choice.choose(choice.strata(root, spec, ("val", "test")), policy.gate_frames, policy.seed)
    return list(choice.read_frames(root, spec, [key for group in chosen.values() for key in group], runtime))


def _precisions(
    source: Source,
    config: Mapping[str, Any],
    float32: bytes,
    seen: Sequence[choice.Frame],
    judged: Sequence[choice.Frame],
    spec: GoldenSpec,
    policies: Policies,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The models by precision, and the gate's report on them."""
    policy = policies.packaging
    slices = slices_of(spec, judged)

    def scores_of(model: bytes) -> Any:
        runtime = OnnxPerception.of_weights(config, model, policy.num_threads)
        return score(runtime, judged, slices, policies.evaluation)

    models = {FP32: float32, FP16: to_half(float32, source.heads, metadata(source, policy.opset, FP16))}
    scores = {name: scores_of(model) for name, model in models.items()}
    attempts = []
    for parts, model in _int8(source, float32, seen, policy):
        models[INT8], scores[INT8] = model, scores_of(model)
        why = refusal(losses(scores[FP32], scores[INT8], policy), policy.max_loss.int8)
        attempts.append({"float_parts": list(parts), "refused": why})
        if not why:
            break
    sizes = {name: len(model) for name, model in models.items()}
    return models, gate_report(scores, policy, sizes, attempts)


def _int8(
    source: Source, float32: bytes, seen: Sequence[choice.Frame], policy: PackagingPolicy
) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """INT8 models, with more and more parts left in float32."""
    inputs = (batch for _, batch in batches((frame.inputs for frame in seen), policy.parity_batch))
    with tempfile.TemporaryDirectory() as folder:
        made = Int8(float32, source.heads, inputs, policy, Path(folder))
        for parts in policy.float_parts:
            yield parts, made.quantise(parts, metadata(source, policy.opset, INT8))


def _latency(
    config: Mapping[str, Any],
    model: bytes,
    frame: choice.Frame,
    policy: PackagingPolicy,
    now: Callable[[], float],
) -> float:
    runtime = OnnxPerception.of_weights(config, model, policy.num_threads)
    batch, times = stack([frame.inputs]), []
    for _ in range(LATENCY_RUNS):
        started = now()
        runtime.run(batch)
        times.append((now() - started) * 1e3)
    return sorted(times)[LATENCY_RUNS // 2]


def _write(
    config: Mapping[str, Any],
    models: Mapping[str, bytes],
    report: Mapping[str, Any],
    record: Mapping[str, Any],
    spec: GoldenSpec,
    templates: Path,
    out_dir: Path,
    source: Source,
    policy: PackagingPolicy,
) -> None:
    shipped = {name: models[name] for name in report["usable"]}
    for name, data in shipped.items():
        write_atomically(out_dir / FILES[name], data)
    final = with_precisions(config, shipped, report["usable"], report["refused"])
    packages = installed_closure()
    documents = {
        CONFIG_FILE: canonical_json(final),
        REPORT_FILE: canonical_json(report),
        CALIBRATION_FILE: canonical_json(record),
        TENSORRT_FILE: canonical_json(build_engines(shipped, source.inputs, out_dir, policy)),
        REQUIREMENTS_FILE: requirements(packages).encode(),
        SBOM_FILE: bill(final, spec.version, packages),
        PICTURE_FILE: precisions_png(report),
    }
    for name, data in documents.items():
        write_atomically(out_dir / name, data)
    write_repository(final, out_dir, templates, FP32, policy.triton, out_dir / TRITON_FOLDER)
