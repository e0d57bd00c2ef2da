"""Where camera features land on the ground."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_folder import EGO_SE3_CAMERA, HEIGHT, WIDTH, K

from av_assets.domain.models.bev_targets import LOOK_M, labelled_cells
from av_assets.domain.models.grid import Grid
from av_assets.domain.models.inputs import CameraView, project, projection_matrix
from av_assets.domain.models.lifting import Lift, look_up, look_up_in_order

VIEW = CameraView(WIDTH, HEIGHT, np.array(K), np.array(EGO_SE3_CAMERA, float))
GRID = Grid(0.0, 12.0, 0.5, 48, 48)


def lift_of_coordinates(projection: np.ndarray, heights_m: tuple[float, ...] = (LOOK_M,)) -> torch.Tensor:
    """What the grid finds in a feature map that holds the pixel coordinates of its own cells."""
    v, u = torch.meshgrid(
        torch.arange(HEIGHT // 4) * 4 + 2.0, torch.arange(WIDTH // 4) * 4 + 2.0, indexing="ij"
    )
    lift = Lift(GRID, 2, heights_m, WIDTH, HEIGHT)
    return lift(torch.stack([u, v, torch.ones_like(u)])[None], torch.from_numpy(projection)[None])[0]


def test_the_grid_looks_up_the_pixel_on_which_its_cell_falls() -> None:
    found = lift_of_coordinates(projection_matrix(VIEW, WIDTH, HEIGHT)).numpy()
    centres = GRID.centres(2).reshape(-1, 2)
    pixels, depth_m = project(np.column_stack([centres, np.full(len(centres), LOOK_M)]), VIEW)
    inner = (depth_m > 1) & (pixels > 2).all(1) & (pixels < (WIDTH - 2, HEIGHT - 2)).all(1)
    outer = (depth_m < 0) | (pixels < -2).any(1) | (pixels > (WIDTH + 2, HEIGHT + 2)).any(1)
    assert inner.sum() > 150
    assert outer.sum() > 100
    assert found.reshape(3, -1).T[inner] == pytest.approx(
        np.column_stack([pixels, np.ones(len(pixels))])[inner], abs=1e-2
    )
    assert not found.reshape(3, -1).T[outer].any()


def test_each_height_has_channels_of_its_own() -> None:
    matrix = projection_matrix(VIEW, WIDTH, HEIGHT)
    both, high = lift_of_coordinates(matrix, (0.0, 2.0)), lift_of_coordinates(matrix, (2.0,))
    assert both.shape == (6, 24, 24)
    assert torch.equal(both[1::2], high)


def test_without_calibration_the_camera_adds_nothing_to_the_grid() -> None:
    assert not lift_of_coordinates(np.zeros((3, 4), np.float32)).any()


def test_half_precision_does_not_move_the_lookup() -> None:
    matrix = torch.from_numpy(projection_matrix(VIEW, WIDTH, HEIGHT))[None]
    lift = Lift(GRID, 2, (1.0,), WIDTH, HEIGHT)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lift.where(matrix), lift.where(matrix.float()))
    assert lift.where(matrix).dtype == torch.float32


def test_what_is_in_view_is_what_people_could_label() -> None:
    matrix = projection_matrix(VIEW, WIDTH, HEIGHT)
    seen = Lift(GRID, 2, (1.0,), WIDTH, HEIGHT).in_view(torch.from_numpy(np.stack([matrix, matrix * 0])))
    assert (
        seen[0, 0].numpy() == labelled_cells(GRID, matrix, WIDTH, np.empty((0, 4), np.float32))
    ).mean() > 0.999
    assert 0.3 < float(seen[0].float().mean()) < 0.9
    assert not seen[1].any()


def test_the_lookup_for_equal_bits_is_the_same_lookup() -> None:
    place = torch.rand(2, 7, 9, 2) * 2.6 - 1.3
    found = []
    for how in (look_up, look_up_in_order):
        features = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
        values = how(features, place)
        (values * torch.arange(9)).sum().backward()
        found.append((values.detach(), features.grad))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-4)


def test_a_mirrored_frame_gives_mirrored_lookups() -> None:
    features = torch.rand(1, 2, HEIGHT // 4, WIDTH // 4)
    lift, matrix = Lift(GRID, 2, (0.5, 1.5), WIDTH, HEIGHT), projection_matrix(VIEW, WIDTH, HEIGHT)
    mirrored = np.diag([-1, 1, 1]) @ matrix @ np.diag([1, -1, 1, 1])
    mirrored[0] += WIDTH * mirrored[2]
    one = lift(features, torch.from_numpy(matrix)[None])
    two = lift(features.flip(-1), torch.from_numpy(mirrored.astype(np.float32))[None])
    assert torch.allclose(one, two.flip(-1), atol=1e-4)
