"""Samples of the loader as rows of a batch: the same through worker and vehicle, whatever a sample lacks."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden_folder import EGO_SPEED_MPS, SPEED_MPS

from av_assets.domain.errors import DatasetError
from av_assets.domain.loading.loader import Loader
from av_assets.domain.loading.sample_index import SampleIndex
from av_assets.domain.loading.shard_file import TRACK
from av_assets.domain.loading.sources import FolderSource
from av_assets.domain.models.example_arrays import NO_CLASS
from av_assets.domain.models.examples import MakeExample, MakeInputs
from av_assets.domain.models.golden import read_cuboids, read_scenes, read_spec
from av_assets.domain.models.grid import speed_byte
from av_assets.domain.models.inputs import InputLayout, network_inputs
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard
from av_assets.policies.training import TrainingPolicy

DRIVE = "drive-a"
CALIBRATION = "calibration.json"


@dataclass
class Row:
    """A sample out of memory, of which parts can be taken away."""

    key: tuple[str, str, int]
    calibration: dict[str, Any]
    picture: RedactedFrame | None
    cloud: np.ndarray | None
    heard: np.ndarray | None
    ego_speed_mps: float = EGO_SPEED_MPS
    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def frame(self, role: str) -> RedactedFrame | None:
        return self.picture

    def jpeg_pixels(self, role: str, min_width: int = 0, min_height: int = 0) -> np.ndarray:
        assert self.picture is not None
        return self.picture.pixels()

    def points(self, role: str) -> np.ndarray | None:
        return self.cloud

    def tracks(self, role: str) -> np.ndarray | None:
        return self.heard

    def room(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)


@pytest.fixture
def all_sensors(tiny: TrainingPolicy) -> TrainingPolicy:
    return TrainingPolicy.model_validate(tiny.model_dump() | {"variant": "camera_lidar_radar"})


@pytest.fixture
def row(golden: Path) -> Row:
    folder = golden / "drives" / DRIVE
    table = pq.read_table(folder / "clips" / "00000.parquet").slice(0, 1)
    frame = next(iter(frames_from_shard(table, "camera_front")))
    scene = next(read_scenes(golden, DRIVE, read_spec(golden)))
    calibration = json.loads((folder / CALIBRATION).read_text())
    key = (DRIVE, scene.labels.clip_id, scene.labels.ref_ns)
    tracks = table["radar_front"][0].as_py()["tracks"]
    heard = np.array([tuple(track.values()) for track in tracks], TRACK)
    return Row(key, calibration, frame, scene.points_ego, heard)  # the lidar's frame is that of the vehicle


def drawing(row: Row, seed: int) -> Row:
    return replace(row, rng=np.random.default_rng(seed))


def loader_of(root: Path, make: MakeExample | MakeInputs, **options: Any) -> Loader:
    calibrations = {
        path.parent.name: json.loads(path.read_text()) for path in root.glob(f"drives/*/{CALIBRATION}")
    }
    index = SampleIndex.of_golden(root, "train")
    chosen = {"batch_size": 4, "seed": 3, "calibrations": calibrations} | options
    return Loader(index, FolderSource(root), make, columns=make.columns, **chosen)


def making(root: Path, config: TrainingPolicy, augment: bool = False) -> MakeExample:
    return MakeExample(root, read_spec(root), config, augment)


def test_each_key_has_the_shape_that_the_docstring_names(
    golden: Path, row: Row, all_sensors: TrainingPolicy
) -> None:
    config, objects = all_sensors, all_sensors.max_objects
    made = making(golden, config, augment=True)(drawing(row, 0))
    h, w, (rows, columns) = config.input_height // 4, config.input_width // 4, config.grid_shape
    shapes = {
        "picture": (5, config.input_height, config.input_width), "bev": (7, rows, columns), "projection": (3, 4),
        "has_picture": (), "heatmap": (3, h, w), "distances": (4, h, w), "weight": (h, w), "care": (h, w),
        "drivable": (1, h, w), "drivable_known": (1, 1, 1), "bev_heatmap": (3, rows, columns),
        "bev_care": (rows, columns), "bev_cell": (objects,), "bev_values": (objects, 10), "bev_weight": (objects, 10),
        "truth_boxes": (objects, 4), "truth_classes": (objects,), "truth_ignored": (objects,),
        "truth_boxes3d": (objects, 9), "truth_classes3d": (objects,), "truth_ignored3d": (objects,),
        "truth_known3d": (),
    }  # fmt: skip
    assert {name: array.shape for name, array in made.items()} == shapes
    assert all(array.flags.c_contiguous for array in made.values())


def test_the_vehicle_sees_what_training_sees(golden: Path, row: Row, all_sensors: TrainingPolicy) -> None:
    make = making(golden, all_sensors)
    taught, driven = make(drawing(row, 0)), make.inputs(row)
    scene = next(read_scenes(golden, DRIVE, read_spec(golden)))
    given = (scene.frame.pixels(), scene.points_ego, scene.view, scene.tracks)
    served = network_inputs(InputLayout.of(all_sensors), *given)
    for name, array in served.items():
        assert (taught[name] == array).all(), name
        assert (driven[name] == array).all(), name


def test_radar_says_how_fast_things_move_over_ground(
    golden: Path, row: Row, all_sensors: TrainingPolicy
) -> None:
    make = making(golden, all_sensors).inputs
    track, *velocity = make(row)["bev"][4:]
    assert track.any()
    for plane, speed_mps in zip(velocity, (SPEED_MPS, 0.0), strict=True):
        assert (plane[track > 0] == speed_byte(np.float32(speed_mps))).all()
    read = next(iter(loader_of(golden, make)))["bev"].numpy()
    assert (read[:, 5][read[:, 4] > 0] == speed_byte(np.float32(SPEED_MPS))).all()


def test_a_drive_that_does_not_tell_its_speed_shows_places_without_velocities(
    golden: Path, row: Row, all_sensors: TrainingPolicy
) -> None:
    row.ego_speed_mps = np.nan
    for made in (
        making(golden, all_sensors, augment=True)(drawing(row, 2)),
        making(golden, all_sensors).inputs(row),
    ):
        assert made["bev"][4].any()
        assert not made["bev"][5:].any()


def test_truth_is_what_people_labelled(golden: Path, row: Row, tiny: TrainingPolicy) -> None:
    made = making(golden, tiny)(drawing(row, 0))
    scene = next(read_scenes(golden, DRIVE, read_spec(golden)))
    there = made["truth_classes"] != NO_CLASS
    assert made["truth_classes"][there].tolist() == scene.labels.classes.tolist()
    assert made["truth_boxes"][there] == pytest.approx(scene.labels.boxes / 2)  # half the size of the picture
    cuboids = read_cuboids(golden, DRIVE, read_spec(golden))[row.key[1:]]
    there = made["truth_classes3d"] != NO_CLASS
    assert made["truth_boxes3d"][there] == pytest.approx(cuboids.boxes, abs=1e-5)
    assert made["truth_known3d"]
    assert (made["bev_heatmap"] == 1).sum() == 3


def test_augmented_samples_depend_on_their_generator_alone(
    golden: Path, row: Row, all_sensors: TrainingPolicy
) -> None:
    make = making(golden, all_sensors, augment=True)
    one, two, other = (make(drawing(row, seed)) for seed in (5, 5, 6))
    assert all((one[name] == two[name]).all() for name in one)
    assert (one["picture"] != other["picture"]).any()
    assert (one["bev"] != other["bev"]).any()
    assert (one["projection"] != other["projection"]).any()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_makes_batches_of_it(workers: int, golden: Path, all_sensors: TrainingPolicy) -> None:
    loader = loader_of(golden, making(golden, all_sensors, augment=True), workers=workers)
    batches = list(loader)
    assert len(batches) == 3
    for name, (dtype, shape) in InputLayout.of(all_sensors).shapes.items():
        assert batches[0][name].shape == (4, *shape)
        assert str(batches[0][name].dtype).removeprefix("torch.") == dtype
    assert batches[0]["bev"][:, 4].any()
    alone = next(
        iter(loader_of(golden, pickle.loads(pickle.dumps(making(golden, all_sensors, augment=True)))))
    )
    assert all((batches[0][name] == alone[name]).all() for name in alone)


@pytest.mark.parametrize("variant", ["camera", "camera_lidar", "camera_lidar_radar"])
def test_only_what_the_variant_takes_is_read(variant: str, golden: Path, tiny: TrainingPolicy) -> None:
    config = TrainingPolicy.model_validate(tiny.model_dump() | {"variant": variant})
    make = making(golden, config)
    roles = ("camera_front", "lidar_top", "radar_front")
    assert make.columns == roles[: {"camera": 1, "camera_lidar": 2}.get(variant, 3)]
    batch = next(iter(loader_of(golden, make.inputs)))
    assert {name: tuple(batch[name].shape[1:]) for name in InputLayout.of(config).shapes} == {
        name: shape for name, (_, shape) in InputLayout.of(config).shapes.items()
    }
    assert batch["has_picture"].all()


def test_without_cuboids_the_grid_teaches_nothing(
    golden: Path, tmp_path: Path, row: Row, tiny: TrainingPolicy
) -> None:
    root = shutil.copytree(golden, tmp_path / "older")
    (root / "drives" / DRIVE / "cuboids.parquet").unlink()
    made = making(root, tiny)(drawing(row, 0))
    assert not made["bev_care"].any()
    assert not made["bev_weight"].any()
    assert not made["truth_known3d"]
    assert made["heatmap"].max() == 1


def test_objects_without_a_cuboid_leave_their_line_of_sight_open(
    golden: Path, tmp_path: Path, row: Row, tiny: TrainingPolicy
) -> None:
    root = shutil.copytree(golden, tmp_path / "fewer")
    path = root / "drives" / DRIVE / "cuboids.parquet"
    table = pq.read_table(path)
    gone = table["label_id"][0].as_py()
    pq.write_table(table.filter(pa.array([name != gone for name in table["label_id"].to_pylist()])), path)
    whole, fewer = (making(r, tiny)(drawing(row, 0)) for r in (golden, root))
    opened = (whole["bev_care"] > 0) & (fewer["bev_care"] == 0)
    assert opened.any()
    assert opened.reshape(-1)[whole["bev_cell"][0]]
    assert (fewer["bev_heatmap"] == 1).sum() == 2


def test_cuboids_with_few_points_are_ignored(golden: Path, row: Row, tiny: TrainingPolicy) -> None:
    strict = tiny.model_copy(update={"min_box_points": 10_000})
    made = making(golden, strict)(drawing(row, 0))
    assert not made["bev_weight"].any()
    assert made["truth_ignored3d"][:3].all()


@pytest.mark.parametrize("lost", ["calibration", "cloud", "heard", "empty cloud", "broken cloud", "mounting"])
def test_a_sample_that_lacks_something_still_has_all_its_arrays(
    lost: str, golden: Path, row: Row, all_sensors: TrainingPolicy
) -> None:
    make = making(golden, all_sensors, augment=True)
    before = make(drawing(row, 1))
    if lost == "calibration":
        row.calibration = {}
    elif lost == "mounting":
        row.calibration = {**row.calibration, "lidars": {}}
    elif lost == "empty cloud":
        row.cloud = np.empty((0, 4), np.float32)
    elif lost == "broken cloud":
        row.cloud = np.full((100, 4), np.nan, np.float32)
    else:
        setattr(row, lost, None)
    after = make(drawing(row, 1))
    assert {n: (a.shape, a.dtype) for n, a in after.items()} == {
        n: (a.shape, a.dtype) for n, a in before.items()
    }
    assert all(np.isfinite(array).all() for array in after.values())
    assert after["bev"][:4].any() == (lost == "heard")
    assert after["bev"][4:].any() == (lost != "heard")
    assert after["projection"].any() == (lost != "calibration")
    assert (after["picture"][:3] == before["picture"][:3]).all()
    assert after["bev_care"].any()  # people measured cuboids, whatever this sample lacks


def test_a_frame_without_a_picture_teaches_nothing(golden: Path, row: Row, tiny: TrainingPolicy) -> None:
    row.picture = None
    make = making(golden, tiny)
    made = make(drawing(row, 0))
    assert not made["has_picture"]
    assert not made["picture"][:3].any()
    for name in ("care", "weight", "drivable_known", "bev_care", "bev_weight"):
        assert not made[name].any(), name
    assert (made["truth_classes"] == NO_CLASS).all()
    assert make.inputs(row)["bev"].any()


def test_more_objects_than_there_is_room_for_are_named(golden: Path, row: Row, tiny: TrainingPolicy) -> None:
    crowded = tiny.model_copy(update={"max_objects": 2})
    with pytest.raises(DatasetError, match="too_many_objects"):
        making(golden, crowded)(drawing(row, 0))


def test_a_frame_that_nobody_labelled_is_named(golden: Path, row: Row, tiny: TrainingPolicy) -> None:
    row.key = (DRIVE, row.key[1], 1)
    with pytest.raises(DatasetError, match="unlabelled_frame"):
        making(golden, tiny)(drawing(row, 0))
