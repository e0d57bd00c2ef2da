"""The pass over a drive: files as agreed, stable ids, provenance, and empty results with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from label_scenes import CAR, CONE, WALKER, calibration, sweep, write_clips

from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.labels.autolabel import auto_label_drive, labeller_digest
from av_assets.domain.labels.schema import AUTO_LABELS, DRIVABLE
from av_assets.policies.autolabels import AutolabelPolicy

POLICY = AutolabelPolicy.load().model_copy(update={"every_kth_frame": 2})


def moving(frames: int) -> list:
    """A car that drives away at 2 m/s, a walker and a cone that the vehicle approaches at 5 m/s."""
    return [
        sweep(
            [
                (CAR[0] + 0.2 * i, *CAR[1:]),
                (WALKER[0] - 0.5 * i, *WALKER[1:]),
                (CONE[0] - 0.1 * i, *CONE[1:]),
            ],
            i,
        )
        for i in range(frames)
    ]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_drive_is_labelled_and_objects_keep_their_ids(tmp_path: Path, out: Path) -> None:
    watch = Stopwatch()
    summary = auto_label_drive(write_clips(tmp_path, moving(9)), calibration(), POLICY, out, watch)
    labels = pq.read_table(out / "labels.parquet")
    assert labels.schema.equals(AUTO_LABELS)
    assert (summary.frames, summary.reason) == (5, "")
    assert summary.objects == {"vehicle": 5, "pedestrian": 5, "cone": 5}
    assert summary.tracks == 3
    ids = {(row["cls"], row["label_id"]) for row in labels.to_pylist()}
    assert len(ids) == 3
    assert set(watch.seconds) == {"compute", "write"}


def test_the_report_names_the_labeller_and_masks_are_there(tmp_path: Path, out: Path) -> None:
    auto_label_drive(write_clips(tmp_path, moving(3)), calibration(), POLICY, out)
    report = json.loads((out / "report.json").read_text())
    assert report["labeller_digest"] == labeller_digest(POLICY)
    assert report["policy"] == POLICY.digest
    drivable = pq.read_table(out / "drivable.parquet")
    assert drivable.schema.equals(DRIVABLE)
    assert drivable.num_rows == 2


def test_the_same_drive_gives_the_same_bytes(tmp_path: Path) -> None:
    clips = write_clips(tmp_path, moving(4))
    results = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        auto_label_drive(clips, calibration(), POLICY, folder)
        results.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert results[0] == results[1]


def test_any_number_of_the_policy_changes_the_provenance() -> None:
    other = AutolabelPolicy.model_validate(POLICY.model_dump() | {"min_score": POLICY.min_score + 0.01})
    assert labeller_digest(other) != labeller_digest(POLICY)


def test_labels_below_the_threshold_never_leave(tmp_path: Path, out: Path) -> None:
    strict = POLICY.model_copy(update={"min_score": 0.9})
    auto_label_drive(write_clips(tmp_path, moving(3)), calibration(), strict, out)
    scores = pq.read_table(out / "labels.parquet")["score"].to_pylist()
    assert scores
    assert min(scores) >= np.float32(0.9)


def test_a_frame_that_the_lidar_missed_has_no_labels(tmp_path: Path, out: Path) -> None:
    clips = write_clips(tmp_path, [None, None, *moving(2)])
    summary = auto_label_drive(clips, calibration(), POLICY, out)
    assert (summary.frames, summary.drivable) == (2, 1)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("camera", "no camera_front in the drive"),
        ("lidar", "no lidar_top in the drive"),
        ("cameras", "no calibration of camera_front"),
        ("lidars", "no calibration of lidar_top"),
    ],
)
def test_what_is_missing_gives_empty_tables_and_a_reason(
    tmp_path: Path, out: Path, missing: str, reason: str
) -> None:
    known = {**calibration(), **({missing: {}} if missing.endswith("s") else {})}
    clips = write_clips(tmp_path, moving(2), lidar=missing != "lidar", camera=missing != "camera")
    summary = auto_label_drive(clips, known, POLICY, out)
    assert (summary.labels, summary.reason) == (0, reason)
    assert pq.read_table(out / "labels.parquet").schema.equals(AUTO_LABELS)
    assert json.loads((out / "report.json").read_text())["reason"] == reason
