"""Whether every export computes what the checkpoint computes, on real frames and on noise.

Belongs here: the inputs of that comparison, and its numbers. Does not belong here: what a precision loses (`gate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes import iou
from av_assets.domain.models.runtime import OUTPUTS_3D, OnnxPerception
from av_assets.domain.models.session import InputSpec, stack
from av_assets.domain.packaging.source import Source
from av_assets.domain.packaging.torchscript import load_torchscript
from av_assets.policies.packaging import PackagingPolicy

Inputs = Mapping[str, NDArray[Any]]
NOISE: Final = ("road_like", "road_like", "white", "flat")
BROKEN: Final = 1e308  # a difference that is no number, as one that JSON can hold
FRAME: Final = "frame"
_COARSE: Final = (12, 20)
_FILLED: Final = 0.05  # share of the pixels that lidar and radar rasters fill


def noise(specs: Iterable[InputSpec], count: int, batch: int, seed: int) -> Iterator[tuple[str, Inputs]]:
    """`count` seeded inputs in batches of three kinds: road-like noise, white noise, and flat extremes."""
    rng = np.random.default_rng(seed)
    specs = list(specs)
    for number, start in enumerate(range(0, count, batch)):
        kind, n = NOISE[number % len(NOISE)], min(batch, count - start)
        yield kind, {spec.name: _noise(spec, kind, n, rng) for spec in specs}


def _noise(spec: InputSpec, kind: str, n: int, rng: np.random.Generator) -> NDArray[Any]:
    if spec.dtype != "uint8":
        return np.stack([_projection(spec.shape, rng) for _ in range(n)])
    if kind == "white":
        return rng.integers(0, 256, (n, *spec.shape), np.uint8)
    if kind == "flat":
        flat = rng.choice([0, 255], (n, spec.shape[0], 1, 1))
        return np.broadcast_to(flat, (n, *spec.shape)).astype(np.uint8)
    return _road_like(spec, n, rng)


def _road_like(spec: InputSpec, n: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pictures have most of their energy at low frequencies; rasters of points are mostly empty."""
    import cv2

    size = spec.shape[:0:-1]
    coarse = rng.integers(0, 256, (n, spec.shape[0], *_COARSE), np.uint8)
    planes = np.stack(
        [[cv2.resize(plane, size, interpolation=cv2.INTER_CUBIC) for plane in row] for row in coarse]
    )
    first = 3 if spec.name == "picture" else 0
    planes[:, first:] *= rng.random((n, 1, *spec.shape[1:])) < _FILLED
    return planes


def _projection(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """A camera that looks ahead (ego x forward, y left, z up); or none, whose matrix is zero."""
    if rng.random() < 0.25:
        return np.zeros(shape, np.float32)
    focal, centre, horizon = rng.uniform(100, 400), rng.uniform(60, 260), rng.uniform(40, 130)
    rows = [[centre, -focal, 0, 0], [horizon, 0, -focal, focal * rng.uniform(1, 2)], [1, 0, 0, 0]]
    return np.asarray(rows, np.float32).reshape(shape)


def batches(rows: Iterable[Inputs], size: int) -> Iterator[tuple[str, Inputs]]:
    """Single real inputs, put together."""
    held: list[Inputs] = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield FRAME, stack(held)
            held = []
    if held:
        yield FRAME, stack(held)


class Comparison:
    """Largest differences of one export to torch, and how far decoded boxes moved."""

    def __init__(self, source: Source, score_floor: float) -> None:
        self._heads, self._floor = source.heads, score_floor
        self.worst = {name: 0.0 for name in source.outputs if _is_number(name)}
        self._overlaps: dict[str, list[NDArray[np.float64]]] = {"boxes": [], "boxes3d": []}

    def add(self, kind: str, expected: Inputs, found: Inputs) -> None:
        for name in self.worst:
            if not np.array_equal(expected[name].shape, found[name].shape):
                self.worst[name] = BROKEN
                continue
            diff = np.abs(expected[name].astype(np.float64) - found[name]).max(initial=0.0)
            self.worst[name] = max(self.worst[name], float(diff) if np.isfinite(diff) else BROKEN)
        # Noise gives plateaus of equal scores, of which each export hands out others: only frames say where boxes go.
        for row in range(len(expected["boxes"]) if kind == FRAME else 0):
            self._overlaps["boxes"].append(
                self._overlap(expected, found, row, ("boxes", "scores", "classes"))
            )
            if "boxes3d" in expected:
                self._overlaps["boxes3d"].append(self._overlap(expected, found, row, OUTPUTS_3D))

    def _overlap(
        self, expected: Inputs, found: Inputs, row: int, names: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """For each box of torch above the floor, the IoU with the best box of the export of the same class.

        Equal scores may change places, so boxes are compared by what they cover and not by their rank.
        """
        boxes, scores, classes = (expected[name][row] for name in names)
        others, _, other_classes = (found[name][row] for name in names)
        kept = scores >= self._floor
        if not kept.any():
            return np.empty(0)
        table = iou(_corners(boxes[kept]), _corners(others))
        table[classes[kept][:, None] != other_classes[None]] = 0.0
        return np.asarray(table.max(axis=1, initial=0.0))

    def result(self) -> dict[str, Any]:
        drift = {}
        for name, rows in self._overlaps.items():
            overlaps = np.concatenate(rows) if rows else np.empty(0)
            if len(overlaps):
                drift[name] = {"boxes": len(overlaps), "mean": max(0.0, float(1 - overlaps.mean()))}
        return {"max_abs_diff": self.worst, "box_drift": drift}

    def agrees(self, policy: PackagingPolicy) -> bool:
        """Raw heads decide, and where decoded boxes went; a decoded box that changed its rank does not."""
        drifts = [found["mean"] for found in self.result()["box_drift"].values()]
        heads = max(self.worst[name] for name in self._heads)
        return heads <= policy.parity_tolerance and all(d <= policy.max_box_drift for d in drifts)


def _is_number(name: str) -> bool:
    # Ranks may change between equal scores: rank by rank only what falls with the rank can be compared.
    return name not in ("boxes", "classes", "boxes3d", "classes3d")


def _corners(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """x1 y1 x2 y2: of a box itself, or of the footprint x y . l w of a cuboid, its yaw left out."""
    boxes = boxes.astype(np.float64)
    if boxes.shape[1] == 4:
        return boxes
    half = boxes[:, 3:5] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)


def measure_parity(
    source: Source,
    runtime: OnnxPerception,
    torchscript: bytes,
    frames: Iterable[Inputs],
    policy: PackagingPolicy,
) -> dict[str, Any]:
    """parity.json: ONNX and TorchScript against torch, on `frames` and on as much noise as the policy still wants."""
    floor = float(runtime.config["score_floor"])
    exports = {"onnx": Comparison(source, floor), "torchscript": Comparison(source, floor)}
    script = load_torchscript(torchscript)
    counts: dict[str, int] = {}
    # Both at once: each keeps to its own core.
    with torch.no_grad(), threads(policy.num_threads), ThreadPoolExecutor(1) as other:
        for kind, batch in _all_inputs(source, frames, policy, counts):
            counts[kind] = counts.get(kind, 0) + len(batch["picture"])
            answer = other.submit(runtime.run, batch, source.outputs)
            tensors = [torch.from_numpy(batch[spec.name]) for spec in source.inputs]
            expected = _named(source, source.network(*tensors))
            if counts[kind] <= policy.torchscript_inputs:
                exports["torchscript"].add(kind, expected, _named(source, script(*tensors)))
            exports["onnx"].add(kind, expected, answer.result())
    return {
        "inputs": sum(counts.values()),
        "kinds": counts,
        "seed": policy.seed,
        "heads": list(source.heads),
        "tolerance": policy.parity_tolerance,
        "max_box_drift": policy.max_box_drift,
        **{name: exports[name].result() for name in sorted(exports)},
        "passed": all(export.agrees(policy) for export in exports.values()),
        "onnxruntime": _version("onnxruntime"),
        "torch": torch.__version__,
    }


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Torch with that many threads: on busy cores, waiting for more of them costs five times the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _all_inputs(
    source: Source, frames: Iterable[Inputs], policy: PackagingPolicy, counts: Mapping[str, int]
) -> Iterator[tuple[str, Inputs]]:
    yield from batches(frames, policy.parity_batch)
    missing = policy.parity_inputs - counts.get(FRAME, 0)
    yield from noise(source.inputs, max(missing, 0), policy.parity_batch, policy.seed)


def _named(source: Source, values: Iterable[torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: value.numpy() for name, value in zip(source.outputs, values, strict=True)}


def _version(package: str) -> str:
    from importlib.metadata import packages_distributions, version

    return version(packages_distributions()[package][0])
