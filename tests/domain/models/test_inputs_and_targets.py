from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from golden_folder import EGO_SE3_CAMERA, HEIGHT, WIDTH, K

from av_assets.domain.errors import DatasetError, ModelError
from av_assets.domain.models.golden import dataset_digest, read_labels, read_scenes, read_spec
from av_assets.domain.models.inputs import (
    CameraView,
    InputLayout,
    lidar_planes,
    network_inputs,
    prepare,
    project,
    projection_matrix,
)
from av_assets.domain.models.targets import Example, make_targets
from av_assets.policies.training import TrainingPolicy

VIEW = CameraView(WIDTH, HEIGHT, np.array(K), np.array(EGO_SE3_CAMERA, float))


def example(*boxes: tuple[float, float, float, float], ignored: tuple[int, ...] = ()) -> Example:
    picture = np.zeros((96, 160, 5), np.uint8)
    for x1, y1, x2, y2 in boxes:
        picture[int(y1) : int(y2), int(x1) : int(x2)] = 255
    flags = np.isin(np.arange(len(boxes)), ignored)
    mask = np.zeros((24, 40), np.uint8)
    mask[12:, :20] = 255
    return Example(
        picture, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), int), flags, mask
    )


def test_projection_of_points_straight_ahead() -> None:
    pixels, depth_m = project(np.array([[11.5, 0, 1.4], [11.5, 1.0, 1.4], [-5.0, 0, 1.4]]), VIEW)
    assert depth_m == pytest.approx([10, 10, -6.5])
    assert pixels[0] == pytest.approx([WIDTH / 2, HEIGHT / 2])
    assert pixels[1] == pytest.approx(
        [WIDTH / 2 - 25, HEIGHT / 2]
    )  # left in the ego frame is left in the picture


def test_the_nearest_lidar_point_wins_and_nothing_behind_is_drawn() -> None:
    points = np.array([[9.5, 0, 1.4], [41.5, 0, 1.4], [-5, 0, 1.4], [5, 400, 0]])
    planes = lidar_planes(points, VIEW, WIDTH, HEIGHT)
    assert planes[HEIGHT // 2, WIDTH // 2, 0] == round(255 * 4 / 8)
    assert (planes[..., 0] > 0).sum() == 5


def test_lidar_of_the_dataset_lies_on_its_objects(golden: Path) -> None:
    scene = next(read_scenes(golden, "drive-a", read_spec(golden)))
    planes = lidar_planes(scene.points_ego, scene.view, WIDTH, HEIGHT)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    for x1, y1, x2, y2 in scene.labels.boxes.astype(int):
        inside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
    assert planes[..., 0].any()
    assert not planes[~inside].any()


def test_pictures_of_a_wrong_kind_are_refused() -> None:
    with pytest.raises(ModelError) as caught:
        prepare(np.zeros((10, 10), np.uint8), None, VIEW, 160, 96)
    assert caught.value.code == "wrong_input_shape"


def test_the_projection_matrix_says_the_same_in_pixels_of_the_input() -> None:
    points = np.random.default_rng(0).uniform((3, -5, -1), (40, 5, 3), (50, 3))
    u_v_w = np.column_stack([points, np.ones(50)]) @ projection_matrix(VIEW, 160, 64).T
    pixels, depth_m = project(points, VIEW)
    assert u_v_w[:, :2] / u_v_w[:, 2:] == pytest.approx(pixels * (160 / WIDTH, 64 / HEIGHT), abs=1e-3)
    assert u_v_w[:, 2] == pytest.approx(depth_m, abs=1e-4)
    assert not projection_matrix(None, 160, 64).any()


def test_points_that_are_no_numbers_are_not_drawn() -> None:
    nowhere = np.full((6, 3), np.nan)
    nowhere[np.arange(3), np.arange(3)] = np.inf
    nowhere[3:] = [[np.inf, 0, 0], [10, np.nan, 0], [10, 0, -np.inf]]
    assert not lidar_planes(nowhere, VIEW, WIDTH, HEIGHT).any()
    assert not lidar_planes(np.empty((0, 4), np.float32), VIEW, WIDTH, HEIGHT).any()


def test_millions_of_points_take_bounded_time() -> None:
    points = (
        np.random.default_rng(0).uniform((-60, -60, -2, 0), (60, 60, 4, 1), (2_000_000, 4)).astype(np.float32)
    )
    began = time.process_time()
    assert lidar_planes(points, VIEW, WIDTH, HEIGHT).any()
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("variant", "tasks", "shapes"),
    [
        ("camera", "3d", {"picture": (3, 192, 320), "projection": (3, 4)}),
        ("camera_lidar", "3d", {"picture": (5, 192, 320), "bev": (4, 96, 96), "projection": (3, 4)}),
        ("camera_lidar_radar", "3d", {"picture": (5, 192, 320), "bev": (7, 96, 96), "projection": (3, 4)}),
        ("camera_lidar_radar", "2d", {"picture": (5, 192, 320)}),
    ],
)
def test_each_variant_has_its_inputs(variant: str, tasks: str, shapes: dict[str, tuple[int, ...]]) -> None:
    chosen = ["boxes2d", "drivable", "boxes3d"][: 3 if tasks == "3d" else 2]
    config = TrainingPolicy.model_validate(
        TrainingPolicy.load().model_dump() | {"variant": variant, "tasks": chosen}
    )
    layout = InputLayout.of(config)
    assert {name: shape for name, (_, shape) in layout.shapes.items()} == shapes
    assert InputLayout.from_description(json.loads(json.dumps(layout.describe()))) == layout
    pixels = np.full((384, 640, 3), 90, np.uint8)
    points, tracks = np.array([[11.5, 0, 1.4, 0.5]], np.float32), np.array([[11.5, 0, 1, 0]], np.float32)
    for seen in (
        (points, VIEW, tracks),
        (None, VIEW, None),
        (points, None, tracks),
        (points[:0], VIEW, tracks[:0]),
    ):
        made = network_inputs(layout, pixels, *seen)
        assert {name: (str(v.dtype), v.shape) for name, v in made.items()} == layout.shapes
        assert (made["picture"][:3] == 90).all()
        assert made["picture"][3:].any() == (variant != "camera" and seen[0] is points and seen[1] is VIEW)


def test_targets_say_where_the_box_is() -> None:
    targets = make_targets(example((40, 20, 80, 60)), 3, 0.54)
    assert targets.heatmap[0].max() == 1
    assert np.unravel_index(targets.heatmap[0].argmax(), (24, 40)) == (10, 15)
    left, top, right, bottom = targets.distances[:, 10, 15]
    assert (62 - left, 42 - top, 62 + right, 42 + bottom) == (40, 20, 80, 60)
    assert not targets.heatmap[1:].any()


def test_small_objects_win_over_large_ones_behind() -> None:
    targets = make_targets(example((56, 36, 68, 48), (20, 10, 100, 80)), 1, 0.54)
    left, _, right, _ = targets.distances[:, 10, 15]
    assert left + right == 12


def test_ignored_objects_are_neither_taught_nor_background() -> None:
    targets = make_targets(example((40, 20, 80, 60), ignored=(0,)), 1, 0.54)
    assert not targets.heatmap.any()
    assert not targets.care[5:15, 10:20].any()
    assert targets.care.sum() == 24 * 40 - 100


def test_digest_follows_labels_and_spec(golden: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(golden, tmp_path / "copy")
    assert dataset_digest(copy) == dataset_digest(golden)
    calibration = copy / "drives" / "drive-a" / "calibration.json"
    calibration.write_text(json.dumps(json.loads(calibration.read_text()) | {"source": "missing"}))
    assert dataset_digest(copy) != dataset_digest(golden)


def test_bad_datasets_are_named(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="bad_dataset_json"):
        read_spec(tmp_path)
    spec = read_spec(golden)
    with pytest.raises(DatasetError, match="no_labels"):
        read_labels(golden, "drive-z", spec)
    with pytest.raises(DatasetError, match="unknown_class"):
        read_labels(golden, "drive-a", spec.model_copy(update={"classes": ("vehicle",)}))
