"""Cuboids drawn into targets come back as they were, and what nobody could label is not called empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_folder import EGO_SE3_CAMERA, HEIGHT, WIDTH, K
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.models.augmentation import Ground
from av_assets.domain.models.bev_network import decode_cuboids
from av_assets.domain.models.bev_targets import MARGIN_M, labelled_cells, make_bev_targets, peak_radius
from av_assets.domain.models.grid import Grid
from av_assets.domain.models.inputs import CameraView, projection_matrix
from av_assets.policies.training import TrainingPolicy

CONFIG = TrainingPolicy.load()
GRID = Grid.of(CONFIG)
EVERYWHERE = np.ones((GRID.rows, GRID.columns), bool)
VIEW = CameraView(WIDTH, HEIGHT, np.array(K), np.array(EGO_SE3_CAMERA, float))
PROJECTION = projection_matrix(VIEW, WIDTH, HEIGHT)
NO_BOXES = np.empty((0, 4), np.float32)

cuboids = st.tuples(
    st.floats(0.01, 47.99),
    st.floats(-23.99, 23.99),
    st.floats(-1, 3),
    st.floats(0.2, 18),
    st.floats(0.2, 4),
    st.floats(0.3, 4.5),
    st.floats(-3.14, 3.14),
    st.floats(-30, 30),
    st.floats(-30, 30),
)


def ground(*boxes: tuple[float, ...], classes: tuple[int, ...] = (), ignored: tuple[int, ...] = ()) -> Ground:
    rows = np.array(boxes, np.float32).reshape(-1, 9)
    kinds = np.array(classes or [0] * len(rows), np.int64)
    return Ground(None, None, rows, kinds, np.isin(np.arange(len(rows)), ignored), True)


def oracle(scene: Ground, num_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Heads that answer exactly what the targets ask."""
    targets = make_bev_targets(scene, EVERYWHERE, num_classes, GRID, CONFIG)
    values = np.zeros((10, GRID.rows * GRID.columns), np.float32)
    values[:, targets.cell] = targets.values.T
    logits = torch.logit(torch.from_numpy(targets.heatmap).clamp(1e-6, 1 - 1e-6))
    return logits[None], torch.from_numpy(values.reshape(1, 10, GRID.rows, GRID.columns))


def car(x: float, y: float, vx: float = 0.0) -> tuple[float, ...]:
    return (x, y, 0.8, 4.4, 1.8, 1.5, 0.3, vx, 0.0)


@settings(deadline=None)
@given(cuboids, st.integers(0, 2))
def test_a_cuboid_drawn_into_targets_decodes_to_itself(box: tuple[float, ...], cls: int) -> None:
    boxes, scores, classes = decode_cuboids(*oracle(ground(box, classes=(cls,))), CONFIG)
    found, truth = boxes[0, 0].numpy(), np.array(box, np.float32)
    assert (int(classes[0, 0]), float(scores[0, 0])) == (cls, pytest.approx(1, abs=1e-4))
    assert found[:3] == pytest.approx(truth[:3], abs=1e-4)
    assert found[3:6] == pytest.approx(truth[3:6], rel=1e-4)
    assert (found[6] - truth[6] + np.pi) % (2 * np.pi) - np.pi == pytest.approx(0, abs=1e-4)
    assert found[7:] == pytest.approx(truth[7:], abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_heads_that_know_the_truth_give_all_of_it_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = [(x, y) for x in range(4, 46, 6) for y in range(-20, 22, 6)]
    chosen = [places[i] for i in rng.permutation(len(places))[: rng.integers(1, 30)]]
    rows = [
        (*(np.array(p) + rng.uniform(-1, 1, 2)), *rng.uniform(0.5, 3, 4), *rng.uniform(-3, 3, 3))
        for p in chosen
    ]
    scene = ground(*rows, classes=tuple(rng.integers(0, 3, len(rows))))
    boxes, scores, classes = decode_cuboids(*oracle(scene), CONFIG)
    sure = scores[0] > 0.99
    assert int(sure.sum()) == len(rows)
    found = np.column_stack([boxes[0][sure].numpy(), classes[0][sure].numpy()])
    truth = np.column_stack([scene.boxes, scene.classes])
    assert found[np.lexsort(found[:, :2].T)] == pytest.approx(truth[np.lexsort(truth[:, :2].T)], abs=1e-3)


@given(st.floats(0.2, 40), st.floats(0.2, 40), st.floats(0.05, 0.95))
def test_a_footprint_moved_by_the_radius_has_just_the_overlap(
    length: float, width: float, overlap: float
) -> None:
    r = peak_radius(length, width, overlap)
    inner = (length - r) * (width - r)
    assert 0 <= r <= min(length, width)
    assert inner / (2 * length * width - inner) == pytest.approx(overlap, rel=1e-6)


def test_peaks_stand_in_the_cell_of_the_centre_and_fall_off() -> None:
    heat = make_bev_targets(ground(car(10.1, 2.1)), EVERYWHERE, 1, GRID, CONFIG).heatmap[0]
    assert np.argwhere(heat == 1).tolist() == [[20, 52]]
    assert 0 < heat[21, 52] < 1
    assert (heat > 0).sum() == 25  # 2 cells to either side for a car


def test_neighbours_of_one_class_keep_both_peaks() -> None:
    heat = make_bev_targets(ground(car(10, 0), car(11, 0)), EVERYWHERE, 1, GRID, CONFIG).heatmap[0]
    assert (heat == 1).sum() == 2


def test_an_unknown_velocity_is_not_taught_and_nothing_else_is_lost() -> None:
    targets = make_bev_targets(ground(car(10, 0, np.nan)), EVERYWHERE, 1, GRID, CONFIG)
    assert targets.weight[0].tolist() == [1] * 8 + [0, pytest.approx(CONFIG.bev_velocity_share)]
    assert np.isfinite(targets.values).all()


def test_centres_off_the_grid_are_not_taught() -> None:
    targets = make_bev_targets(ground(car(48.1, 0), car(-0.1, 0), car(10, 24.1)), EVERYWHERE, 1, GRID, CONFIG)
    assert not targets.heatmap.any()
    assert not targets.weight.any()


def test_ignored_cuboids_are_neither_taught_nor_background() -> None:
    targets = make_bev_targets(ground(car(10, 0), ignored=(0,)), EVERYWHERE, 1, GRID, CONFIG)
    assert not targets.heatmap.any()
    assert not targets.weight.any()
    assert not targets.care[17:23, 45:51].any()
    assert targets.care.sum() == EVERYWHERE.size - 10 * 10


@pytest.mark.parametrize("place", [(1, 1), (47.9, 23.9), (200, 0), (-200, 0), (10, -23.9)])
def test_ignored_cuboids_at_any_place_leave_the_rest_alone(place: tuple[float, float]) -> None:
    care = make_bev_targets(ground(car(*place), ignored=(0,)), EVERYWHERE, 1, GRID, CONFIG).care
    assert (care == 0).sum() <= 110
    assert (care == 0).any() == (abs(place[0]) < 100)


def test_what_is_taught_counts_wherever_it_lies() -> None:
    targets = make_bev_targets(ground(car(10.1, 2.1)), ~EVERYWHERE, 1, GRID, CONFIG)
    assert np.argwhere(targets.care).tolist() == [[20, 52]]


def test_frames_without_cuboids_have_no_background() -> None:
    scene = ground()
    unknown = Ground(None, None, scene.boxes, scene.classes, scene.ignored, known=False)
    assert not make_bev_targets(unknown, EVERYWHERE, 1, GRID, CONFIG).care.any()
    assert make_bev_targets(scene, EVERYWHERE, 1, GRID, CONFIG).care.all()


def in_view(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x > 2.0) & (np.abs(y) / np.maximum(x - 1.5, 0.1) < WIDTH / 2 / 250)


def test_only_what_the_camera_looks_at_can_be_background() -> None:
    found = labelled_cells(GRID, PROJECTION, WIDTH, NO_BOXES)
    x, y = GRID.centres()[..., 0], GRID.centres()[..., 1]
    steps = np.arange(-MARGIN_M, MARGIN_M + 0.1, GRID.cell_m)
    beside = np.any([in_view(x + dx, y + dy) for dx in steps for dy in steps], axis=0)
    inner = (x > 2) & (x < 46) & (np.abs(y) < 22)
    assert (found == beside)[inner].all()
    assert found[in_view(x, y)].all()
    assert not found[(x < 10) & (np.abs(y) > 9)].any()


def test_lines_of_sight_to_what_was_not_measured_are_left_open() -> None:
    open_ones = labelled_cells(GRID, PROJECTION, WIDTH, np.array([[150, 80, 170, 120]], np.float32))
    seen = labelled_cells(GRID, PROJECTION, WIDTH, NO_BOXES)
    x, y = GRID.centres()[..., 0], GRID.centres()[..., 1]
    u = np.where(x > 2, 160 - 250 * y / np.maximum(x - 1.5, 0.1), -1)
    assert (open_ones == (seen & ~((u >= 150) & (u <= 170)))).all()
    assert (seen & ~open_ones).any()


def test_without_calibration_there_is_no_background() -> None:
    assert not labelled_cells(GRID, projection_matrix(None, WIDTH, HEIGHT), WIDTH, NO_BOXES).any()
