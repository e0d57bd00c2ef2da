"""From a checkpoint to a bundle that runs without torch, and the proof that both compute the same.

Belongs here: ONNX export, its metadata, parity. Does not belong here: running bundles (`runtime`), metrics.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes, sha256_file
from av_assets.domain.learning import checkpoint as ckpt
from av_assets.domain.models.inputs import PLANES
from av_assets.domain.models.network import INPUT_SCALE, Deployable, PerceptionNet
from av_assets.domain.models.runtime import CONFIG_FILE, MODEL_FILE, OUTPUTS, OnnxPerception
from av_assets.policies.training import TrainingPolicy

__all__ = ["BundleSummary", "OnnxPerception", "export_bundle"]

HEADS: Final = ("heatmap_logits", "distance_logits", "drivable_logits")
PARITY_FILE: Final = "parity.json"
PARITY_BATCH: Final = 8
PARITY_SEED: Final = 20250602
SCORE_FLOOR: Final = 0.01  # of what the runtime hands out; evaluation and serving set their own, higher ones


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


def export_bundle(checkpoint: Path, out_dir: Path) -> BundleSummary:
    """Write model.onnx, inference_config.json and parity.json into `out_dir`.

    Raises:
        ModelError: bad_checkpoint; parity_failed when ONNX and torch differ by more than the policy allows.
    """
    state = ckpt.load(checkpoint)
    policy = TrainingPolicy.model_validate(state["config"])
    net = PerceptionNet(len(state["classes"]), policy)
    net.load_state_dict(ckpt.weights_to_use(state))
    deployable = Deployable(net).eval()
    out_dir.mkdir(parents=True, exist_ok=True)
    metadata = _metadata(state, policy)
    weights = _to_onnx(deployable, policy, metadata)
    ckpt.write_atomically(out_dir / MODEL_FILE, weights)
    config = _inference_config(state, policy, metadata, sha256_bytes(weights), sha256_file(checkpoint))
    ckpt.write_atomically(out_dir / CONFIG_FILE, canonical_json(config))
    parity = measure_parity(deployable, OnnxPerception(out_dir), policy)
    ckpt.write_atomically(out_dir / PARITY_FILE, canonical_json(parity))
    if not parity["passed"]:
        remedy = "look at parity.json for the head that differs; do not release this bundle"
        raise ModelError(
            "ONNX and torch differ", code="parity_failed", file=out_dir / PARITY_FILE, remedy=remedy
        )
    return BundleSummary(
        model_sha256=config["model_sha256"],
        model_bytes=len(weights),
        opset=policy.opset,
        parity_inputs=parity["inputs"],
        parity_max_abs_diff=max(parity["max_abs_diff"][name] for name in HEADS),
        dataset_digest=state["dataset_digest"],
        config_digest=state["config_digest"],
    )


def _metadata(state: Mapping[str, Any], policy: TrainingPolicy) -> dict[str, str]:
    return {
        "dataset_digest": state["dataset_digest"],
        "config_digest": state["config_digest"],
        "classes": ",".join(state["classes"]),
        "planes": ",".join(PLANES),
        "normalisation": canonical_json({"scale": INPUT_SCALE, "inside_graph": True}).decode(),
        "opset": str(policy.opset),
    }


def _to_onnx(deployable: Deployable, policy: TrainingPolicy, metadata: dict[str, str]) -> bytes:
    # Two rows: a batch of one would be taken for a constant.
    example = torch.zeros(2, len(PLANES), policy.input_height, policy.input_width, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            deployable,
            (example,),
            dynamo=True,
            opset_version=policy.opset,
            input_names=["picture"],
            output_names=[*OUTPUTS, *HEADS],
            dynamic_shapes={"picture": {0: torch.export.Dim("batch", min=1, max=1024)}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(model: Any) -> None:
    """Remove stack traces and the like: they hold paths, and make equal networks unequal bytes."""
    del model.metadata_props[:]
    model.graph.doc_string = ""
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about its own internals and logs missing optional packages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _inference_config(
    state: Mapping[str, Any], policy: TrainingPolicy, metadata: dict[str, str], model: str, checkpoint: str
) -> dict[str, Any]:
    size = [policy.input_height, policy.input_width]
    return {
        "schema": 1,
        "model_sha256": model,
        "checkpoint_sha256": checkpoint,
        "dataset_digest": state["dataset_digest"],
        "config_digest": state["config_digest"],
        "classes": list(state["classes"]),
        "score_floor": SCORE_FLOOR,
        "opset": policy.opset,
        "normalisation": metadata["normalisation"],
        "input": {
            "name": "picture",
            "dtype": "uint8",
            "shape": [None, len(PLANES), *size],
            "planes": list(PLANES),
            "resize": "area",
        },
        "outputs": {
            "boxes": {
                "dtype": "float32",
                "shape": [None, policy.max_detections, 4],
                "unit": "input px, x1 y1 x2 y2",
            },
            "scores": {"dtype": "float32", "shape": [None, policy.max_detections]},
            "classes": {"dtype": "int64", "shape": [None, policy.max_detections]},
            "drivable": {"dtype": "float32", "shape": [None, *size], "unit": "probability"},
        },
    }


def parity_inputs(policy: TrainingPolicy) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Seeded batches (n, 5, H, W) uint8 of three kinds: road-like noise, white noise, and flat extremes."""
    import cv2

    rng = np.random.default_rng(PARITY_SEED)
    shape = (len(PLANES), policy.input_height, policy.input_width)
    kinds = ("road_like", "road_like", "white", "flat")
    for start in range(0, policy.parity_inputs, PARITY_BATCH):
        n = min(PARITY_BATCH, policy.parity_inputs - start)
        kind = kinds[start // PARITY_BATCH % len(kinds)]
        if kind == "white":
            batch = rng.integers(0, 256, (n, *shape), np.uint8)
        elif kind == "flat":
            batch = np.broadcast_to(rng.choice([0, 255], (n, len(PLANES), 1, 1)), (n, *shape)).astype(
                np.uint8
            )
        else:
            # Pictures have most of their energy at low frequencies; lidar planes are mostly empty.
            coarse = rng.integers(0, 256, (n, *shape[:1], 12, 20), np.uint8)
            batch = np.stack(
                [[cv2.resize(p, shape[:0:-1], interpolation=cv2.INTER_CUBIC) for p in x] for x in coarse]
            )
            batch[:, 3:] *= rng.random((n, 1, *shape[1:])) < 0.05
        yield kind, batch


def measure_parity(deployable: Deployable, runtime: OnnxPerception, policy: TrainingPolicy) -> dict[str, Any]:
    """Largest absolute differences, torch to onnxruntime, of raw heads (they decide), scores and masks."""
    worst = dict.fromkeys((*HEADS, "scores", "drivable"), 0.0)
    counts: dict[str, int] = {}
    names = (*OUTPUTS, *HEADS)
    for kind, batch in parity_inputs(policy):
        counts[kind] = counts.get(kind, 0) + len(batch)
        with torch.no_grad():
            expected = dict(zip(names, deployable(torch.from_numpy(batch)), strict=True))
        found = runtime.run(batch, names)
        for name in worst:
            diff = np.abs(expected[name].numpy().astype(np.float64) - found[name]).max()
            worst[name] = max(worst[name], float(diff) if np.isfinite(diff) else float("1e308"))
    return {
        "inputs": sum(counts.values()),
        "kinds": counts,
        "seed": PARITY_SEED,
        "tolerance": policy.parity_tolerance,
        "max_abs_diff": worst,
        "passed": max(worst[name] for name in HEADS) <= policy.parity_tolerance,
        "onnxruntime": _version("onnxruntime"),
        "torch": torch.__version__,
    }


def _version(package: str) -> str:
    from importlib.metadata import packages_distributions, version

    return version(packages_distributions()[package][0])
