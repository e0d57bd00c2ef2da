"""How good auto-labels are on drives of the synthetic rig that nothing was chosen on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.labels.automatic.autolabel import Labeller, auto_label_drive, slice_of_clip
from av_assets.domain.labels.matching import match_boxes
from av_assets.domain.simulation.camera import CAMERAS
from av_assets.domain.simulation.lidar import MOUNT_M, Lidar
from av_assets.domain.simulation.samples import short_drive
from av_assets.domain.simulation.scene import Renderer
from av_assets.domain.simulation.visibility import Box
from av_assets.domain.simulation.world import build_world
from av_assets.policies.annotation import AnnotationPolicy
from av_assets.policies.autolabels import AutolabelPolicy
from av_assets.policies.label_fusion import LabelFusionPolicy

if TYPE_CHECKING:
    from pathlib import Path

SECONDS, RATE_HZ = 10.0, 10
CONDITIONS = {301: ("clear", "day"), 302: ("fog", "day")}  # seeds that no threshold was chosen on
POLICY = AutolabelPolicy.load()
RULES = AnnotationPolicy.load()
FRONT = next(c for c in CAMERAS if c.role == POLICY.camera)
STAMP = {"sensor_ns": pa.int64(), "log_ns": pa.int64(), "delta_ns": pa.int64(), "valid": pa.bool_()}
CLIP = pa.schema(
    [
        ("clip_id", pa.string()),
        ("frame_index", pa.int32()),
        ("ref_ns", pa.int64()),
        ("camera_front", pa.struct({"data": pa.binary(), "encoding": pa.string(), **STAMP})),
        ("lidar_top", pa.struct({"points": pa.binary(), "count": pa.int32(), **STAMP})),
        ("signals", pa.struct({"speed_mps": pa.float64(), "yaw_rate_radps": pa.float64()})),
    ],
    metadata={"redacted": "true"},
)


def record(folder: Path, seed: int, **conditions: str) -> tuple[list[Path], dict, dict[int, list[Box]]]:
    """A clip of a drive with sweeps and signals, its calibration, and what is to be seen at labelled frames."""
    script = short_drive(seconds=SECONDS, seed=seed, **conditions)
    world = build_world(script)
    lidar, renderer = Lidar(world), Renderer(world)
    rows, truth = [], {}
    for index in range(round(SECONDS * RATE_HZ)):
        time_s, ref_ns = index / RATE_HZ, script.start_ns + index * 1_000_000_000 // RATE_HZ
        cloud = lidar.turn(time_s, np.random.default_rng([seed, index]))
        points = np.column_stack([cloud[n] for n in ("x", "y", "z", "intensity")]).astype("<f4")
        stamp = {"sensor_ns": ref_ns, "log_ns": ref_ns, "delta_ns": 0, "valid": True}
        if index % POLICY.every_kth_frame == 0:
            # The camera is exposed when the beam looks forward, half a turn after the start.
            truth[ref_ns] = list(renderer.frame(FRONT, time_s + 0.05, np.random.default_rng(seed)).boxes)
        signals = {n: float(world.ego.at(n, time_s)) for n in ("speed_mps", "yaw_rate_radps")}
        rows.append(
            {"clip_id": f"{script.drive}/00000", "frame_index": index, "ref_ns": ref_ns, "signals": signals,
             "camera_front": {"data": b"not looked at", "encoding": "jpeg", **stamp},
             "lidar_top": {"points": points.tobytes(), "count": len(points), **stamp}}
        )  # fmt: skip
    path = folder / "00000.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=CLIP), path)
    mounting = np.eye(4)
    mounting[:3, 3] = MOUNT_M
    k = [[FRONT.focal_px, 0, (FRONT.width - 1) / 2], [0, FRONT.focal_px, (FRONT.height - 1) / 2], [0, 0, 1]]
    camera = {
        "width": FRONT.width,
        "height": FRONT.height,
        "K": k,
        "D": [],
        "ego_SE3_camera": FRONT.ego_SE3_camera,
    }
    return (
        [path],
        {"cameras": {POLICY.camera: camera}, "lidars": {POLICY.lidar: {"ego_SE3_lidar": mounting}}},
        truth,
    )


def counts(folder: Path, truth: dict[int, list[Box]], cls: str) -> np.ndarray:
    """(3,) right labels, labels, objects that are to be labelled."""
    labels = [r for r in pq.read_table(folder / "labels.parquet").to_pylist() if r["cls"] == cls]
    total = np.zeros(3, dtype=int)
    for ref_ns, boxes in truth.items():
        wanted = [
            (b.x1, b.y1, b.x2, b.y2)
            for b in boxes
            if b.cls == cls
            and b.y2 - b.y1 >= RULES.min_height_px
            and b.occlusion <= RULES.max_occlusion
            and b.distance_m <= RULES.max_distance_m
        ]
        found = [(r["x1"], r["y1"], r["x2"], r["y2"]) for r in labels if r["ref_ns"] == ref_ns]
        total += (len(match_boxes(found, wanted, 0.5)), len(found), len(wanted))
    return total


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, dict[int, list[Box]]]]:
    made = []
    for seed, (weather, light) in CONDITIONS.items():
        folder = tmp_path_factory.mktemp("scene")
        clips, calibration, truth = record(folder, seed, weather=weather, light=light)
        name = slice_of_clip(light, weather)
        labeller = Labeller(POLICY, LabelFusionPolicy.load(), slice_of=lambda _, name=name: name)
        auto_label_drive(clips, calibration, labeller, folder)
        made.append((folder, truth))
    return made


@pytest.mark.parametrize(("cls", "precision", "recall"), [("vehicle", 0.9, 0.6), ("pedestrian", 0.75, 0.5)])
def test_labels_are_right_and_most_objects_have_one(
    scenes: list, cls: str, precision: float, recall: float
) -> None:
    """Objects count that people would draw: high enough, near enough, not hidden; every label counts."""
    right, labels, objects = sum(counts(folder, truth, cls) for folder, truth in scenes)
    assert objects >= 100
    assert right / labels >= precision
    assert right / objects >= recall


def test_tracks_agree_with_themselves(scenes: list) -> None:
    for folder, _ in scenes:
        report = json.loads((folder / "report.json").read_text())
        figures = report["self_consistency"]
        assert figures["speed_residual_mps"] < 2.0
        assert figures["continuity"] > 0.8
        assert figures["reprojection_px"] is None
