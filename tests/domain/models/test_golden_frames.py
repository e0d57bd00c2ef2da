"""Which frames of a frozen dataset count: those that people are done with, whatever is in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from golden_folder import HEIGHT, WIDTH

from av_assets.domain.datasets.exports.frames import DatasetFrames
from av_assets.domain.errors import DatasetError
from av_assets.domain.models.augmentation import Variant
from av_assets.domain.models.example_arrays import Seen, make_arrays
from av_assets.domain.models.golden import (
    dataset_digest,
    labelled_frames,
    read_labels,
    read_scenes,
    read_spec,
)
from av_assets.policies.training import TrainingPolicy

DRIVE, FRAMES = "drive-a", 12
NOTHING, NO_MASK, NOT_FINAL = 2, 5, 8


@pytest.fixture
def frozen(golden: Path, tmp_path: Path) -> Path:
    """With an index; people found nothing in one frame, drew no mask in two, and are not done with another."""
    root = shutil.copytree(golden, tmp_path / "frozen")
    folder = root / "drives" / DRIVE
    stamps = sorted(pq.read_table(folder / "clips" / "00000.parquet")["ref_ns"].to_pylist())
    for name, gone in (("labels", [NOTHING]), ("drivable", [NOTHING, NO_MASK])):
        table = pq.read_table(folder / f"{name}.parquet")
        outside = pc.invert(pc.is_in(table["ref_ns"], pa.array([stamps[n] for n in gone])))
        pq.write_table(table.filter(outside), folder / f"{name}.parquet")
    index = [
        {"drive": drive, "clip_id": f"{drive}/00000", "ref_ns": ns, "camera": camera}
        for drive in (DRIVE, "drive-b")
        for camera in ("camera_front", "camera_rear")
        for number, ns in enumerate(stamps)
        if number != NOT_FINAL
    ]
    pq.write_table(pa.Table.from_pylist(index), root / "index.parquet")
    return root


def test_frames_in_which_there_is_nothing_have_labels_of_nothing(frozen: Path) -> None:
    spec = read_spec(frozen)
    labels = read_labels(frozen, DRIVE, spec)
    assert len(labels) == FRAMES - 1
    assert labels[NOTHING].boxes.shape == (0, 4)
    assert (len(labels[NO_MASK].boxes) > 0, labels[NO_MASK].drivable_png) == (True, None)


def test_where_nobody_drew_the_drivable_area_only_boxes_are_learnt(
    frozen: Path, tiny: TrainingPolicy
) -> None:
    made = []
    for number, scene in enumerate(read_scenes(frozen, DRIVE, read_spec(frozen))):
        if number in (NOTHING, NO_MASK, 0):
            seen = Seen(scene.frame.pixels(), (WIDTH, HEIGHT), scene.points_ego, None, scene.view)
            made.append(make_arrays(seen, scene.labels, scene.cuboids, Variant(), 3, tiny))
    assert [float(arrays["drivable_known"].item()) for arrays in made] == [1, 0, 0]
    assert [int((arrays["truth_classes"] >= 0).sum()) for arrays in made] == [3, 0, 3]
    assert [float(arrays["heatmap"].max()) for arrays in made] == [1, 0, 1]


def test_frames_that_are_not_final_are_not_read(frozen: Path) -> None:
    spec = read_spec(frozen)
    boxes = pq.read_table(frozen / "drives" / DRIVE / "labels.parquet")
    open_ns = sorted(set(boxes["ref_ns"].to_pylist()))[NOT_FINAL - 1]  # one frame has no boxes
    seen = {item.ref_ns for item in read_labels(frozen, DRIVE, spec)}
    assert open_ns not in seen
    assert seen == {ns for _, ns in labelled_frames(frozen, DRIVE, spec)}
    assert {scene.labels.ref_ns for scene in read_scenes(frozen, DRIVE, spec)} == seen


@pytest.mark.parametrize(
    "signals", [None, [{"brake": 0.1}], [{"speed_mps": None}], [{"speed_mps": "7"}], ["7"]]
)
def test_radar_of_a_vehicle_that_does_not_tell_its_speed(frozen: Path, signals: list | None) -> None:
    """Its velocities are not known; a signal that holds no numbers is an error with a name."""
    path = frozen / "drives" / DRIVE / "clips" / "00000.parquet"
    clip = pq.read_table(path).drop_columns(["signals"])
    if signals is not None:
        kind = pa.struct({"speed_mps": pa.float64()}) if signals == [{"speed_mps": None}] else None
        clip = clip.append_column("signals", pa.array(signals * clip.num_rows, kind))
    pq.write_table(clip, path)
    scenes = read_scenes(frozen, DRIVE, read_spec(frozen))
    if "7" in str(signals):
        with pytest.raises(DatasetError, match="bad_shard"):
            next(scenes)
        return
    tracks = next(scenes).tracks
    assert tracks is not None
    assert np.isfinite(tracks[:, :2]).all()
    assert np.isnan(tracks[:, 2:]).all()


def test_exports_count_the_same_frames(frozen: Path) -> None:
    held = DatasetFrames(frozen)
    given = list(held.of_drive(DRIVE))
    assert held.labelled("train") == len(given) == FRAMES - 1
    assert held.counts["frames_without_picture"] == 0


def test_which_frames_count_is_part_of_what_was_learnt_from(frozen: Path) -> None:
    before = dataset_digest(frozen)
    index = pq.read_table(frozen / "index.parquet")
    pq.write_table(index.slice(1), frozen / "index.parquet")
    assert dataset_digest(frozen) != before


def test_an_index_that_is_none_is_named(frozen: Path) -> None:
    (frozen / "index.parquet").write_bytes(b"no table")
    with pytest.raises(DatasetError, match="no_labels"):
        read_labels(frozen, DRIVE, read_spec(frozen))
