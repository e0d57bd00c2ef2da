from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden_folder import EGO_SE3_CAMERA, HEIGHT, WIDTH, K

from av_assets.domain.errors import DatasetError, ModelError
from av_assets.domain.models.dataset import GoldenFrames
from av_assets.domain.models.golden import dataset_digest, read_labels, read_scenes, read_spec
from av_assets.domain.models.inputs import CameraView, lidar_planes, prepare, project
from av_assets.domain.models.targets import Example, augment, make_targets
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


@pytest.mark.parametrize("seed", range(20))
def test_augmentation_keeps_boxes_on_their_objects(seed: int) -> None:
    policy = TrainingPolicy.load().model_copy(
        update={"brightness": 0.0, "contrast": 0.0, "lidar_dropout": 0.0}
    )
    variant = augment(example((40, 20, 80, 60)), policy, np.random.default_rng(seed))
    ys, xs = np.nonzero(variant.picture[..., 0] > 127)
    found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert np.abs(found - variant.boxes[0]).max() <= 1.5
    assert variant.drivable.shape == (24, 40)


def test_flipping_is_undone_by_flipping() -> None:
    policy = TrainingPolicy.load().model_copy(
        update=dict.fromkeys(("brightness", "contrast", "lidar_dropout", "scale_jitter"), 0.0)
        | {"flip_probability": 1.0}
    )
    once = augment(example((40, 20, 80, 60)), policy, np.random.default_rng(0))
    twice = augment(once, policy, np.random.default_rng(0))
    assert once.boxes.tolist() == [[80, 20, 120, 60]]
    assert once.drivable[23, 39] == 255
    assert (twice.picture == example((40, 20, 80, 60)).picture).all()


def test_frames_come_the_same_with_and_without_cache(golden: Path, tiny: TrainingPolicy) -> None:
    cached = GoldenFrames(golden, "train", tiny)
    reread = GoldenFrames(golden, "train", tiny.model_copy(update={"max_cache_mb": 0}))
    assert len(cached) == len(reread) == 12
    for index in (0, 7):
        a, b = cached.example(index), reread.example(index)
        assert (a.picture == b.picture).all()
        assert (a.boxes == b.boxes).all()


def test_order_depends_on_seed_and_epoch_only(golden: Path, tiny: TrainingPolicy) -> None:
    frames = GoldenFrames(golden, "train", tiny)
    assert (frames.order(1, 2) == frames.order(1, 2)).all()
    assert (frames.order(1, 2) != frames.order(1, 3)).any()
    assert sorted(frames.order(1, 2)) == list(range(12))


def test_fewer_frames_are_evenly_spaced(golden: Path, tiny: TrainingPolicy) -> None:
    some, every = GoldenFrames(golden, "val", tiny, max_frames=3), GoldenFrames(golden, "val", tiny)
    assert len(some) == 3
    assert (some.example(2).boxes == every.example(11).boxes).all()


def test_digest_follows_labels_and_spec(golden: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(golden, tmp_path / "copy")
    assert dataset_digest(copy) == dataset_digest(golden)
    calibration = copy / "drives" / "drive-a" / "calibration.json"
    calibration.write_text(json.dumps(json.loads(calibration.read_text()) | {"source": "missing"}))
    assert dataset_digest(copy) != dataset_digest(golden)


def test_bad_datasets_are_named(golden: Path, tmp_path: Path, tiny: TrainingPolicy) -> None:
    with pytest.raises(DatasetError, match="bad_dataset_json"):
        read_spec(tmp_path)
    spec = read_spec(golden)
    with pytest.raises(DatasetError, match="no_labels"):
        read_labels(golden, "drive-z", spec)
    with pytest.raises(DatasetError, match="unknown_class"):
        read_labels(golden, "drive-a", spec.model_copy(update={"classes": ("vehicle",)}))
