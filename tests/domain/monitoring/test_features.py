"""Features of a drive, measured on redacted clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_scenes import DRIVE, START_NS, write_clips

from av_assets.domain.monitoring.baseline import make_baseline
from av_assets.domain.monitoring.drift import drift_report
from av_assets.domain.monitoring.features import SCHEMA, drive_features
from av_assets.policies.autolabels import AutolabelPolicy
from av_assets.policies.drift import DriftPolicy

POLICY = DriftPolicy.load()


def test_brightness_is_that_of_the_picture_and_every_kth_frame_is_taken(tmp_path: Path) -> None:
    table = drive_features(write_clips(tmp_path, [None] * 10, brightness=77), POLICY)
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == 4
    assert table["brightness_mean"].to_pylist() == pytest.approx([77.0] * 4, abs=1.5)
    assert max(table["contrast"].to_pylist()) < 1.0
    assert table["drive"].unique().to_pylist() == [DRIVE]
    assert table["vehicle_count"].null_count == 4


def test_labels_are_counted_and_frames_without_any_count_nothing(tmp_path: Path) -> None:
    row = {"clip_id": f"{DRIVE}/00000", "ref_ns": START_NS, "cls": "vehicle", "y1": 10.0, "y2": 50.0}
    pq.write_table(pa.Table.from_pylist([row, {**row, "y2": 30.0}]), tmp_path / "labels.parquet")
    clips = write_clips(tmp_path, [None] * 5)
    table = drive_features(clips, POLICY, labels=tmp_path / "labels.parquet")
    assert table["vehicle_count"].to_pylist() == [2.0, 0.0]
    assert table["cone_count"].to_pylist() == [0.0, 0.0]
    assert table["box_height_median_px"].to_pylist() == [30.0, None]


def test_embeddings_come_with_their_clip(tmp_path: Path) -> None:
    rows = [{"clip_id": f"{DRIVE}/00000", "camera": "camera_front", "embedding": [0.6, 0.8]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "embeddings.parquet")
    table = drive_features(
        write_clips(tmp_path, [None] * 8), POLICY, embeddings=tmp_path / "embeddings.parquet"
    )
    assert [None if v is None else len(v) for v in table["embedding"].to_pylist()] == [2, 2, None]


def test_a_drive_without_camera_has_rows_without_pictures(tmp_path: Path) -> None:
    table = drive_features(write_clips(tmp_path, [None] * 4, camera=False), POLICY)
    assert table["brightness_mean"].null_count == table.num_rows == 2


def test_drift_counts_the_frames_that_are_labelled() -> None:
    assert POLICY.every_kth_frame == AutolabelPolicy.load().every_kth_frame


def test_darker_drives_alarm(tmp_path: Path) -> None:
    tables = {}
    rng = np.random.default_rng(0)
    for number in range(10):
        dark = number >= 6
        level = int(rng.integers(20, 40) if dark else rng.integers(90, 160))
        name = f"veh001-{number}"
        clips = write_clips(tmp_path / name, [None] * 60, drive=name, brightness=level, per_clip=30)
        tables[name] = drive_features(clips, POLICY)
    reference = pa.concat_tables([t for d, t in tables.items() if d < "veh001-6"])
    report = drift_report(
        make_baseline(reference, POLICY), {d: t for d, t in tables.items() if d >= "veh001-6"}, POLICY, 0
    )
    assert "brightness_mean" in report.alarms
