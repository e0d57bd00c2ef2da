"""Batch inference from shards against bare onnxruntime that finds its inputs in memory.

The network is the one that the shipped training policy describes, with weights that nobody taught: they cost the same.
Both sides work on the same frames, for the same outputs, and give each batch one thread. `inference` works on one batch
at a time: the network has a core to itself, as it has a device elsewhere, and the target is set for this. In
`inference.all_cores` it works on as many at once as there are cores, so that reading has no core left and can only
inform. `inference.threads` is the latter beside onnxruntime's own way to use all cores: one batch at a time.
Belongs here: both contenders. Does not belong here: inference itself (domain/inference).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import Figure, Say, Settings, paired_ratio, take_turns
from benchmarks.street_frames import render

if TYPE_CHECKING:
    from av_assets.domain.inference.predicting import Predictor
    from av_assets.domain.loading.sources import ShardRef

TARGET = 1 / 0.9
REPEATS, CLIPS, ROWS, PICTURES, POINTS = 5, 4, 50, 25, 16_000
WIDTH, HEIGHT, STEP_NS, DRIVE = 640, 384, 100_000_000, "veh001-20250601t080000z"
CAMERA, LIDAR = "camera_front", "lidar_top"


def run(settings: Settings, say: Say) -> list[Figure]:
    """`inference`: seconds from shards to predictions over those of bare onnxruntime on preloaded inputs."""
    say("rendering pictures and packing a network")
    pool = _Pool(settings.work / "pool", _model(settings.work / "model"))
    cores = os.cpu_count() or 1
    figures = _measured(pool, "inference", 1, 1, settings, say)
    if cores > 1:
        figures += _measured(pool, "inference.all_cores", cores, 1, settings, say)
        figures += _measured(pool, "inference.threads", cores, cores, settings, say)[:1]
    return figures


def _measured(
    pool: _Pool, name: str, streams: int, bare_threads: int, settings: Settings, say: Say
) -> list[Figure]:
    """Ours with `streams` batches at once; bare with as many, or one at a time if it gets more threads."""
    predictor = pool.predictor(1, streams)
    batches = pool.batches(predictor)
    at_once = streams if bare_threads == 1 else 1
    parts: dict[str, float] = {}
    ours = partial(pool.predict, predictor, parts)
    bare = partial(pool.bare, pool.predictor(bare_threads, 1), batches, at_once)
    for warm in (ours, bare):
        warm()
    first, second = ("shards to predictions", ours), ("bare onnxruntime", bare)
    turns = take_turns(first, second, settings.times(REPEATS), say)
    seconds, frames = turns.seconds["shards to predictions"], CLIPS * ROWS
    bare_is = f"{at_once} batch(es) at once, {bare_threads} thread(s) each"
    measured = f"the same, {streams} batch(es) at once / onnxruntime on preloaded inputs, {bare_is}"
    realtime = frames * STEP_NS / 1e9 / median(seconds)
    note = f"{realtime:.1f} x real time at 10 Hz; {frames / median(seconds):.0f} frames/s"
    each_ms = {who: 1000 * median(taken) / frames for who, taken in turns.cpu.items()}
    says = "ms a frame: " + ", ".join(f"{who} {ms:.1f}" for who, ms in each_ms.items())
    return [
        Figure(
            name,
            measured,
            paired_ratio(turns.seconds),
            "x",
            TARGET if streams == 1 else None,
            turns.seconds,
            parts,
            turns.cpu,
            note=note,
        ),
        Figure(
            f"{name}.processor", "the same in processor time", paired_ratio(turns.cpu), "x", None, note=says
        ),
    ]


@dataclass
class _Pool:
    """One drive as shards, and a packed network."""

    folder: Path
    model: Path

    def __post_init__(self) -> None:
        from av_assets.domain.evidence.digests import sha256_file
        from av_assets.domain.loading.sources import ShardRef

        jpegs, _ = render(WIDTH, HEIGHT, PICTURES, seed=12)
        rng = np.random.default_rng(12)
        self.refs: list[ShardRef] = []
        for number in range(CLIPS):
            path = _write_shard(self.folder, number, jpegs, rng)
            self.refs.append(ShardRef(sha256_file(path), path.stat().st_size, f"clips/{path.name}"))

    def predictor(self, threads: int, streams: int) -> Predictor:
        from av_assets.domain.inference.predicting import Predictor
        from av_assets.domain.inference.seeing import look_of
        from av_assets.domain.models.runtime import OnnxPerception
        from av_assets.policies.inference import InferencePolicy

        policy = InferencePolicy.load().model_copy(update={"num_threads": threads})
        model = OnnxPerception(self.model, threads)
        return Predictor(model, policy, look_of(model.config, CAMERA, (LIDAR,), policy.radars), streams)

    def batches(self, predictor: Predictor) -> list[dict[str, np.ndarray]]:
        """The network's inputs of all frames, as `predict` gives them to it."""
        from av_assets.domain.evidence.timing import Stopwatch
        from av_assets.domain.inference.feeding import Feed, Pace
        from av_assets.domain.inference.seeing import OWN
        from av_assets.domain.loading.sources import FolderSource

        pace = Pace(predictor.policy.batch_size, 0, 1)
        numbered = dict(enumerate(self.refs))
        see = predictor.see
        feed = Feed(
            numbered, FolderSource(self.folder), see, see.make.columns, _calibration(), pace, Stopwatch()
        )
        return [
            {name: value.copy() for name, value in chunk.arrays.items() if name not in OWN}
            for chunk in feed.chunks(0)
        ]

    def predict(self, predictor: Predictor, parts: dict[str, float]) -> None:
        from av_assets.domain.evidence.segments import FolderSegments
        from av_assets.domain.evidence.timing import Stopwatch
        from av_assets.domain.inference.ledger import Origin
        from av_assets.domain.inference.predicting import predict_drive
        from av_assets.domain.loading.sources import FolderSource

        out, watch = self.folder / "out", Stopwatch()
        shutil.rmtree(out, ignore_errors=True)
        origin = Origin("bench", "", "", "", "", "")
        source, segments = FolderSource(self.folder, "sha256"), FolderSegments(out / "segments")
        ledger = predict_drive(self.refs, source, _calibration(), predictor, origin, out, segments, {}, watch)
        assert ledger.note() == ""
        parts.update(watch.seconds)

    def bare(self, predictor: Predictor, batches: list[dict[str, np.ndarray]], at_once: int) -> None:
        session, outputs = predictor.model._network._session, list(predictor.outputs)
        with ThreadPoolExecutor(at_once) as threads:
            for _ in threads.map(lambda batch: session.run(outputs, batch), batches):
                pass


def _model(folder: Path) -> Path:
    import json

    import torch

    from av_assets.domain.models.network import Deployable, PerceptionNet
    from av_assets.domain.models.session import InputSpec
    from av_assets.domain.packaging.description import inference_config, metadata
    from av_assets.domain.packaging.onnx_file import to_onnx
    from av_assets.domain.packaging.source import Source
    from av_assets.policies.packaging import PackagingPolicy
    from av_assets.policies.training import TrainingPolicy

    torch.manual_seed(12)
    config, opset = TrainingPolicy.load(), PackagingPolicy.load().opset
    state = {"classes": ["vehicle", "pedestrian", "cone"], "dataset_digest": "", "config_digest": ""}
    net = PerceptionNet(3, config)
    network = Deployable(net).eval().to(memory_format=torch.channels_last)
    inputs = tuple(InputSpec(name, *net.layout.shapes[name]) for name in network.input_names)
    source = Source(network, config, state, "", inputs, network.output_names, network.head_names)
    weights = to_onnx(source, opset, metadata(source, opset))
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(weights)
    described = inference_config(source, opset, {"fp32": weights})
    (folder / "inference_config.json").write_text(json.dumps(described))
    return folder


def _calibration() -> Mapping[str, Any]:
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [1.5, 0, 1.4]
    lidar = np.eye(4)
    lidar[2, 3] = 1.9
    K = [500.0, 0, WIDTH / 2, 0, 500.0, HEIGHT / 2, 0, 0, 1]  # noqa: N806
    return {
        "cameras": {
            CAMERA: {"width": WIDTH, "height": HEIGHT, "K": K, "ego_SE3_camera": camera.ravel().tolist()}
        },
        "lidars": {LIDAR: {"ego_SE3_lidar": lidar.tolist()}},
    }


def _write_shard(folder: Path, number: int, jpegs: list[bytes], rng: np.random.Generator) -> Path:
    """A clip as the platform writes it: pictures and sweeps of a lidar, in one row group."""
    import pyarrow as pa

    from av_assets.domain.sync.shards import (
        Times,
        clip_path,
        clip_table,
        points_column,
        struct_column,
        write_clip,
    )

    ref_ns = (np.arange(ROWS, dtype=np.int64) + number * ROWS) * STEP_NS
    times = Times(ref_ns, ref_ns, np.zeros(ROWS, np.int64), np.ones(ROWS, bool))
    pictures = {
        "data": pa.array([jpegs[(number + row) % len(jpegs)] for row in range(ROWS)], pa.binary()),
        "encoding": pa.array(["jpeg"] * ROWS),
    }
    clouds = [_sweep(rng) for _ in range(ROWS)]
    columns = {CAMERA: struct_column(pictures, times), LIDAR: struct_column(points_column(clouds), times)}
    table = clip_table(DRIVE, number, number * ROWS, ref_ns, np.zeros(ROWS, bool), columns)
    path = clip_path(folder, number)
    write_clip(table, path, structured_level=3, points_level=0, group_bytes=1 << 30)
    return path


def _sweep(rng: np.random.Generator) -> np.ndarray:
    """(POINTS, 4) float32: as many returns as a lidar of 32 beams gives, to all sides."""
    angle, distance = rng.uniform(0, 2 * np.pi, POINTS), rng.gamma(2.0, 10.0, POINTS)
    z, strength = rng.uniform(-1.9, 2.0, POINTS), rng.uniform(0, 1, POINTS)
    return np.stack([distance * np.cos(angle), distance * np.sin(angle), z, strength], 1).astype("<f4")
