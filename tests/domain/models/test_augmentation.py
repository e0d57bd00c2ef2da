"""A variant of a frame is a frame: labels stay on their objects, and each cell finds its place in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from golden_folder import EGO_SE3_CAMERA, HEIGHT, WIDTH, K
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.models.augmentation import (
    Ground,
    Variant,
    draw_variant,
    from_varied_ground,
    vary_ground,
    vary_picture,
    vary_projection,
)
from av_assets.domain.models.grid import Grid, lidar_raster, radar_raster
from av_assets.domain.models.inputs import CameraView, project, projection_matrix
from av_assets.domain.models.targets import Example
from av_assets.policies.training import TrainingPolicy

VIEW = CameraView(WIDTH, HEIGHT, np.array(K), np.array(EGO_SE3_CAMERA, float))
PROJECTION = projection_matrix(VIEW, WIDTH, HEIGHT)
POLICY = TrainingPolicy.load()
MIRROR = Variant(mirror=True)

variants = st.builds(
    Variant,
    zoom=st.tuples(st.floats(0.8, 1.2), st.floats(-30, 30), st.floats(-20, 20)),
    mirror=st.booleans(),
    turn_rad=st.floats(-0.7, 0.7),
)


def example(*boxes: tuple[float, float, float, float], planes: int = 5) -> Example:
    picture = np.zeros((96, 160, planes), np.uint8)
    for x1, y1, x2, y2 in boxes:
        picture[int(y1) : int(y2), int(x1) : int(x2)] = 255
    mask = np.zeros((24, 40), np.uint8)
    mask[12:, :20] = 255
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return Example(picture, rows, np.zeros(len(boxes), int), np.zeros(len(boxes), bool), mask)


def scene(seed: int = 0, count: int = 40) -> Ground:
    rng = np.random.default_rng(seed)
    points = rng.uniform((3, -6, -1, 0), (40, 6, 3, 1), (count, 4)).astype(np.float32)
    tracks = rng.uniform((3, -6, -20, -20), (40, 6, 20, 20), (5, 4)).astype(np.float32)
    low, high = (3, -6, 0, 0.3, 0.3, 0.3, -3.1, -9, -9), (40, 6, 2, 5, 2, 2, 3.1, 9, 9)
    boxes = rng.uniform(low, high, (6, 9)).astype(np.float32)
    return Ground(points, tracks, boxes, np.arange(6), np.zeros(6, bool), True)


def pixels_of(points: np.ndarray, projection: np.ndarray) -> np.ndarray:
    u_v_w = np.column_stack([points[:, :3], np.ones(len(points))]) @ projection.T
    return u_v_w[:, :2] / u_v_w[:, 2:]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_stay_on_their_objects(seed: int) -> None:
    changes = {
        "brightness": 0.0,
        "contrast": 0.0,
        "lidar_dropout": 0.0,
        "input_width": 160,
        "input_height": 96,
    }
    policy = POLICY.model_copy(update=changes)
    varied = vary_picture(example((40, 20, 80, 60)), draw_variant(policy, np.random.default_rng(seed)))
    ys, xs = np.nonzero(varied.picture[..., 0] > 127)
    found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    assert np.abs(found - varied.boxes[0]).max() <= 1.5
    assert varied.drivable is not None
    assert varied.drivable.shape == (24, 40)


@pytest.mark.parametrize("planes", [3, 5])
def test_pictures_of_any_variant_keep_their_planes(planes: int) -> None:
    variant = Variant((1.1, -4.0, -3.0), mirror=True, gain=1.2, contrast=0.9, without_lidar=True)
    varied = vary_picture(example((40, 20, 80, 60), planes=planes), variant)
    assert varied.picture.shape == (96, 160, planes)
    assert varied.picture[..., :3].any()
    assert not varied.picture[..., 3:].any()


def test_mirroring_twice_changes_nothing() -> None:
    picture, ground = example((40, 20, 80, 60)), scene()
    once = vary_picture(picture, MIRROR)
    assert once.boxes.tolist() == [[80, 20, 120, 60]]
    assert once.drivable is not None
    assert once.drivable[23, 39] == 255
    twice = vary_picture(once, MIRROR)
    assert (twice.picture == picture.picture).all()
    assert (twice.boxes == picture.boxes).all()
    back = vary_ground(vary_ground(ground, MIRROR), MIRROR)
    for name in ("points", "tracks", "boxes"):
        assert getattr(back, name) == pytest.approx(getattr(ground, name), abs=1e-5)
    projected = vary_projection(vary_projection(PROJECTION, MIRROR, WIDTH), MIRROR, WIDTH)
    assert projected == pytest.approx(PROJECTION, abs=1e-3)


def test_mirroring_turns_left_into_right_for_everything_on_the_ground() -> None:
    mirrored, before = vary_ground(scene(), MIRROR), scene()
    assert mirrored.boxes == pytest.approx(before.boxes * [1, -1, 1, 1, 1, 1, -1, 1, -1], abs=1e-5)
    assert mirrored.tracks == pytest.approx(before.tracks * [1, -1, 1, -1], abs=1e-5)
    assert mirrored.points == pytest.approx(before.points * [1, -1, 1, 1], abs=1e-5)
    assert before.boxes == pytest.approx(scene().boxes)  # the original is left as it was


@settings(deadline=None)
@given(variants, st.integers(0, 1000))
def test_each_place_on_the_ground_finds_its_place_in_the_picture(variant: Variant, seed: int) -> None:
    ground = scene(seed)
    assert ground.points is not None
    before, _ = project(ground.points, VIEW)
    varied = vary_ground(ground, variant).points
    scale, right, down = variant.zoom
    expected = before * scale + (right, down)
    if variant.mirror:
        expected[:, 0] = WIDTH - expected[:, 0]
    assert pixels_of(varied, vary_projection(PROJECTION, variant, WIDTH)) == pytest.approx(expected, abs=0.2)
    assert pixels_of(varied, from_varied_ground(PROJECTION, variant)) == pytest.approx(before, abs=0.2)


@settings(deadline=None)
@given(variants, st.integers(0, 1000))
def test_points_on_a_cuboid_stay_on_it_and_its_velocity_turns_with_it(variant: Variant, seed: int) -> None:
    ground = scene(seed)
    nose = ground.boxes[:, :2] + ground.boxes[:, 3:4] / 2 * np.stack(
        [np.cos(ground.boxes[:, 6]), np.sin(ground.boxes[:, 6])], axis=1
    )
    noses = np.column_stack([nose, np.zeros((len(nose), 2))]).astype(np.float32)
    later = ground.boxes[:, :2] + ground.boxes[:, 7:]
    laters = np.column_stack([later, np.zeros((len(later), 2))]).astype(np.float32)
    varied = vary_ground(ground, variant)
    moved = vary_ground(Ground(noses, laters, *list(vars(ground).values())[2:]), variant)
    heading = np.stack([np.cos(varied.boxes[:, 6]), np.sin(varied.boxes[:, 6])], axis=1)
    assert varied.boxes[:, :2] + varied.boxes[:, 3:4] / 2 * heading == pytest.approx(
        moved.points[:, :2], abs=1e-3
    )
    assert varied.boxes[:, :2] + varied.boxes[:, 7:] == pytest.approx(moved.tracks[:, :2], abs=1e-3)
    assert varied.boxes[:, 2:6] == pytest.approx(ground.boxes[:, 2:6])
    assert (np.abs(varied.boxes[:, 6]) <= np.pi + 1e-6).all()


def test_unknown_velocities_stay_unknown() -> None:
    ground = scene()
    ground.boxes[0, 7:] = ground.tracks[0, 2:] = np.nan
    varied = vary_ground(ground, Variant(mirror=True, turn_rad=0.3))
    assert np.isnan(varied.boxes[0, 7:]).all()
    assert np.isnan(varied.tracks[0, 2:]).all()
    assert np.isfinite(varied.tracks[0, :2]).all()
    assert np.isfinite(varied.tracks[1:]).all()
    assert np.isfinite(varied.boxes[:, :7]).all()
    assert np.isfinite(varied.boxes[1:]).all()


def test_a_sensor_that_is_taken_away_leaves_nothing_behind() -> None:
    grid = Grid.of(POLICY)
    without = vary_ground(scene(), Variant(without_lidar=True))
    assert not lidar_raster(without.points, grid).any()
    assert radar_raster(without.tracks, grid).any()
    without = vary_ground(scene(), Variant(without_radar=True))
    assert lidar_raster(without.points, grid).any()
    assert not radar_raster(without.tracks, grid).any()


def test_chances_of_variants_are_those_of_the_policy() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_variant(POLICY.model_copy(update={"radar_dropout": 0.3}), rng) for _ in range(2000)]
    for name, share in (("mirror", 0.5), ("without_lidar", 0.1), ("without_radar", 0.3)):
        assert np.mean([getattr(v, name) for v in drawn]) == pytest.approx(share, abs=0.04)
    assert np.abs([v.turn_rad for v in drawn]).max() <= np.deg2rad(POLICY.turn_jitter_deg)
    assert draw_variant(POLICY, np.random.default_rng(7)) == draw_variant(POLICY, np.random.default_rng(7))


def test_no_variant_is_drawn_where_the_policy_asks_for_none() -> None:
    ways = ("flip_probability", "brightness", "contrast", "scale_jitter", "turn_jitter_deg")
    policy = POLICY.model_copy(update=dict.fromkeys((*ways, "lidar_dropout", "radar_dropout"), 0.0))
    assert draw_variant(policy, np.random.default_rng(0)) == Variant()
