"""Verified labels of a drive: close to the truth, with provenance and an account of the work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_scenes import CAR, CONE, START_NS, WALKER, calibration, road_mask, sweep, truth_tables, write_clips

from av_assets.domain.errors import LabelError
from av_assets.domain.labels.autolabel import auto_label_drive
from av_assets.domain.labels.drivable import decode_mask
from av_assets.domain.labels.matching import iou_matrix
from av_assets.domain.labels.schema import VERIFIED_LABELS
from av_assets.domain.labels.verify import verify_drive
from av_assets.policies.annotation import AnnotationPolicy
from av_assets.policies.autolabels import AutolabelPolicy

POLICY = AnnotationPolicy.load()
FRAMES = 12
FAR_CAR = (40.0, -3.0, 4.4, 1.8, 1.48, 0.45)
TOO_FAR = (58.0, 3.0, 4.4, 1.8, 1.48, 0.45)
THINGS = [("vehicle", CAR), ("pedestrian", WALKER), ("cone", CONE), ("vehicle", FAR_CAR)]


class Drive:
    """A drive with labels and truth, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clips = write_clips(folder, [sweep([s for _, s in THINGS], i) for i in range(FRAMES)])
        self.truth = truth_tables([[*THINGS, ("vehicle", TOO_FAR)]] * FRAMES)
        self.auto = folder / "auto"
        self.auto.mkdir()
        auto_label_drive(self.clips, calibration(), AutolabelPolicy.load(), self.auto)

    def verify(self, name: str, seed: int = 5, truth: dict[str, pa.Table] | None = None):
        out = self.folder / name
        out.mkdir()
        return verify_drive(
            self.auto, self.truth if truth is None else truth, self.clips, POLICY, seed, out
        ), out


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    return Drive(tmp_path_factory.mktemp("drive"))


def test_verified_labels_are_close_to_the_truth(drive: Drive) -> None:
    summary, out = drive.verify("close")
    labels = pq.read_table(out / "labels.parquet")
    assert labels.schema.equals(VERIFIED_LABELS)
    assert summary.frames == 4
    rows = labels.to_pylist()
    assert len(rows) >= 0.97 * 4 * len(THINGS)
    known = [r for r in drive.truth["boxes"].to_pylist() if r["sensor_ns"] == START_NS + 1_000]
    corners = [[r[k] for k in ("x1", "y1", "x2", "y2")] for r in known]
    best = iou_matrix([[r[k] for k in ("x1", "y1", "x2", "y2")] for r in rows], corners).max(axis=1)
    assert np.mean(best) >= 0.9
    assert best.min() > 0.75
    assert all(r["cls"] in ("vehicle", "pedestrian", "cone") for r in rows)
    assert {r["status"] for r in rows} <= {"accepted", "corrected", "added"}
    assert all("+" in r["annotator"] and r["labeller_digest"] == summary.labeller_digest for r in rows)


def test_what_the_policy_filters_is_not_labelled(drive: Drive) -> None:
    _, out = drive.verify("filter")
    assert max(pq.read_table(out / "labels.parquet")["distance_m"].to_pylist()) <= POLICY.max_distance_m


def test_an_object_has_one_id_over_the_drive(drive: Drive) -> None:
    _, out = drive.verify("ids")
    rows = pq.read_table(out / "labels.parquet").to_pylist()
    per_frame = [[r["label_id"] for r in rows if r["ref_ns"] == ns] for ns in {r["ref_ns"] for r in rows}]
    assert all(len(set(ids)) == len(ids) for ids in per_frame)
    assert len({r["label_id"] for r in rows}) == len(THINGS)


def test_masks_are_those_of_the_truth_but_for_drawing(drive: Drive) -> None:
    _, out = drive.verify("masks")
    truth = road_mask() > 0
    for data in pq.read_table(out / "drivable.parquet")["mask"].to_pylist():
        drawn = decode_mask(data) > 0
        assert (drawn & truth).sum() / (drawn | truth).sum() > 0.97


def test_the_report_accounts_for_the_work(drive: Drive) -> None:
    summary, out = drive.verify("report")
    report = json.loads((out / "report.json").read_text())
    assert report["accepted"] + report["corrected"] + report["added"] == report["labels"]
    assert {"agreement", "kappa", "removed", "mean_minutes", "precision", "recall", "gold"} <= set(report)
    assert 0 < report["mean_minutes"] < 5
    assert summary.recall is not None
    assert set(report["by_class"]) == {"vehicle", "pedestrian", "cone", "all"}


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(drive: Drive) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _, out = drive.verify(name, seed)
        files.append((out / "labels.parquet").read_bytes())
    assert files[0] == files[1] != files[2]


def test_without_truth_nothing_is_verified_and_the_reason_is_given(drive: Drive) -> None:
    summary, out = drive.verify("none", truth={})
    assert (summary.frames, summary.labels) == (0, 0)
    assert summary.reason
    assert pq.read_table(out / "labels.parquet").num_rows == 0


def test_truth_of_another_time_is_not_used(drive: Drive) -> None:
    late = truth_tables([THINGS] * FRAMES)
    shifted = {
        name: table.set_column(
            0, "sensor_ns", pa.array([n + 45_000_000 for n in table["sensor_ns"].to_pylist()])
        )
        for name, table in late.items()
    }
    summary, _ = drive.verify("late", truth=shifted)
    assert summary.frames == 0


def test_a_folder_without_auto_labels_is_refused(drive: Drive, tmp_path: Path) -> None:
    with pytest.raises(LabelError) as caught:
        verify_drive(tmp_path, drive.truth, drive.clips, POLICY, 0, tmp_path)
    assert caught.value.code == "bad_auto_labels"
