"""Projection against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.errors import CalibrationError
from av_assets.domain.geometry import projection
from av_assets.domain.geometry.transforms import se3

K = np.array([[520.0, 0.0, 318.0], [0.0, 515.0, 195.0], [0.0, 0.0, 1.0]])
# A camera at the front that looks forward: x right, y down, z forward in ego axes.
LOOK_FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(-2, 2), st.floats(5, 60)), min_size=1, max_size=20),
    st.tuples(st.floats(-0.1, 0.1), st.floats(-0.02, 0.02), st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)),
)
def test_pixels_are_those_of_opencv(
    points: list[tuple[float, float, float]], d: tuple[float, float, float, float]
) -> None:
    distortion = np.array([*d, 0.001])
    expected, _ = cv2.projectPoints(np.array(points), np.zeros(3), np.zeros(3), K, distortion)
    pixels, depth = projection.project_camera_points(points, K, distortion)
    np.testing.assert_allclose(pixels, expected.reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(depth, np.array(points)[:, 2])


def test_ego_points_go_through_the_mounting() -> None:
    ego_SE3_camera = se3(LOOK_FORWARD, [1.5, 0.0, 1.4])  # noqa: N806
    pixels, depth = projection.project_ego_points([[21.5, 0.0, 1.4], [21.5, 2.0, 0.4]], ego_SE3_camera, K, [])
    np.testing.assert_allclose(pixels[0], [318.0, 195.0])
    np.testing.assert_allclose(pixels[1], [318.0 - 52.0, 195.0 + 25.75])
    np.testing.assert_allclose(depth, [20.0, 20.0])


def test_points_behind_the_camera_have_no_pixel_and_are_not_inside() -> None:
    pixels, _ = projection.project_camera_points([[0.0, 0.0, -5.0], [0.0, 0.0, 5.0]], K, [])
    assert projection.inside_image(pixels, 640, 384).tolist() == [False, True]


def test_points_beyond_the_fold_of_the_lens_do_not_come_back_into_the_picture() -> None:
    pixels, _ = projection.project_camera_points([[2.0, 0.0, 1.0]], K, [-0.3, 0.0, 0.0, 0.0, 0.0])
    assert np.isnan(pixels).all()


def test_the_right_and_lower_edges_are_outside() -> None:
    corners = [[0.0, 0.0], [639.9, 383.9], [640.0, 10.0], [10.0, 384.0], [-0.1, 5.0]]
    assert projection.inside_image(corners, 640, 384).tolist() == [True, True, False, False, False]


def test_a_fisheye_model_is_refused() -> None:
    with pytest.raises(CalibrationError) as caught:
        projection.project_camera_points([[0.0, 0.0, 1.0]], K, [0.1] * 8)
    assert caught.value.code == "unknown_distortion_model"
