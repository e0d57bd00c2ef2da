"""Evaluation of an exported bundle on the test split of a frozen dataset.

`report.json` and the pictures are functions of bundle, dataset and policy: the same inputs give the same
bytes. Latency differs from run to run and from host to host, so it has its own file.
Belongs here: the order of things. Does not belong here: metrics, thresholds, drawing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.metrics.calibration import reliability_bins
from av_assets.domain.metrics.matching import Matches, match
from av_assets.domain.metrics.predictions import answers, outcome_of, predictions, split_scenes
from av_assets.domain.metrics.report_pictures import report_pictures
from av_assets.domain.metrics.slices import SliceReport, slice_report
from av_assets.domain.metrics.verdict import Verdict, judge
from av_assets.domain.models.golden import Scene, dataset_digest, read_spec
from av_assets.domain.models.runtime import OnnxPerception
from av_assets.policies.evaluation import EvaluationPolicy

ALL: Final = "all"


class EvalReport(BaseModel):
    """report.json: what was measured on what, and the verdict. `reliability` are the bins of slice "all"."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: int = 2
    model_sha256: str
    dataset_digest: str
    dataset_version: str
    policy_digest: str
    classes: tuple[str, ...]
    slices: dict[str, SliceReport]
    reliability: tuple[dict[str, Any], ...]
    baseline_model_sha256: str | None
    verdict: Verdict


def evaluate_bundle(
    bundle_dir: Path,
    golden_dir: Path,
    policy: EvaluationPolicy,
    out_dir: Path,
    watch: Stopwatch | None = None,
    baseline: EvalReport | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> EvalReport:
    """Write report.json, predictions.parquet, latency.json and pictures into `out_dir`.

    Predictions that an earlier call left in `out_dir` for the same model and dataset are used again.

    Raises:
        DatasetError: no dataset, or no labelled frame in the test split.
        ModelError: the bundle is not what it says, or knows other classes than the dataset (class_mismatch).
    """
    watch = watch or Stopwatch()
    out_dir.mkdir(parents=True, exist_ok=True)
    spec, model = read_spec(golden_dir), OnnxPerception(bundle_dir)
    if model.classes != spec.classes:
        reason = f"model knows {model.classes}, dataset {spec.classes}"
        raise ModelError(reason, code="class_mismatch", file=bundle_dir)
    digest, sha256 = dataset_digest(golden_dir), str(model.config["model_sha256"])
    key = {b"model_sha256": sha256.encode(), b"dataset_digest": digest.encode()}
    table = predictions(model, golden_dir, spec, out_dir / "predictions.parquet", key, watch)
    with watch("compute"):
        outcome = outcome_of(table, golden_dir, spec, policy)
        matches = match(outcome.truth, outcome.found, outcome.ignore, len(spec.classes), policy.match_iou)
        names = {ALL: spec.drives("test"), **spec.slices}
        slices = {name: slice_report(outcome, drives, spec.classes, policy) for name, drives in names.items()}
        report = EvalReport(
            model_sha256=sha256,
            dataset_digest=digest,
            dataset_version=spec.version,
            policy_digest=policy.digest,
            classes=spec.classes,
            slices=slices,
            reliability=tuple(_reliability(matches, policy)),
            baseline_model_sha256=None if baseline is None else baseline.model_sha256,
            verdict=judge(slices, policy, *_comparable(baseline, digest)),
        )
    with watch("write"):
        (out_dir / "report.json").write_bytes(canonical_json(report.model_dump(mode="json")))
        shown = report_pictures(slices[ALL], report.reliability, matches, outcome, golden_dir, spec, policy)
        for name, png in shown.items():
            (out_dir / name).write_bytes(png)
    latency = measure_latency(model, next(split_scenes(golden_dir, spec)), policy, now)
    (out_dir / "latency.json").write_bytes(canonical_json(latency))
    return report


def _reliability(matches: Matches, policy: EvaluationPolicy) -> list[dict[str, Any]]:
    counted = ~matches.ignored
    return reliability_bins(matches.found.score[counted], matches.correct[counted], policy.calibration_bins)


def _comparable(baseline: EvalReport | None, digest: str) -> tuple[Mapping[str, SliceReport] | None, str]:
    """Slices of the baseline, or why it cannot be compared: numbers on other data prove nothing."""
    if baseline is None:
        return None, ""
    if baseline.dataset_digest != digest:
        return None, "baseline was evaluated on another dataset"
    return baseline.slices, ""


def measure_latency(
    model: OnnxPerception, scene: Scene, policy: EvaluationPolicy, now: Callable[[], float]
) -> dict[str, Any]:
    """Milliseconds from encoded frame, points and tracks to detections, one frame at a time, on this host."""
    times_ms = []
    for run in range(policy.latency_warmup + policy.latency_runs):
        started = now()
        answers(model, [scene])
        if run >= policy.latency_warmup:
            times_ms.append((now() - started) * 1e3)
    p50, p95, p99 = (float(v) for v in np.percentile(times_ms, [50, 95, 99]))
    return {
        "runs": policy.latency_runs,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_p95_ms": policy.max_latency_p95_ms,
        "passed": p95 <= policy.max_latency_p95_ms,
    }
