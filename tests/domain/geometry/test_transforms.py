"""Poses against scipy, and the laws that any implementation must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from av_assets.domain.errors import CalibrationError
from av_assets.domain.geometry import transforms as tf

parts = st.floats(-1.0, 1.0)
quaternions = st.tuples(parts, parts, parts, parts).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1)
shares = st.floats(0.0, 1.0)


@given(quaternions)
def test_quaternions_give_the_rotations_of_scipy(q: np.ndarray) -> None:
    np.testing.assert_allclose(tf.quaternions_to_matrices(q), Rotation.from_quat(q).as_matrix(), atol=1e-12)


@given(quaternions)
def test_matrices_give_back_their_quaternion_up_to_sign(q: np.ndarray) -> None:
    unit = q / np.linalg.norm(q)
    back = tf.matrices_to_quaternions(tf.quaternions_to_matrices(q))
    assert abs(abs(float(back @ unit)) - 1.0) < 1e-9
    assert back[3] >= 0


@given(quaternions, quaternions, shares)
def test_slerp_agrees_with_scipy(a: np.ndarray, b: np.ndarray, share: float) -> None:
    cosine = abs(float(a @ b)) / (np.linalg.norm(a) * np.linalg.norm(b))
    if cosine < 1e-6:  # half a turn: both ways round are right
        return
    expected = Slerp([0.0, 1.0], Rotation.from_quat([a, b]))(share)
    apart = (expected.inv() * Rotation.from_quat(tf.slerp(a, b, share))).magnitude()
    assert apart < 1e-6


@given(quaternions, quaternions, shares)
def test_slerp_does_not_care_about_the_sign_of_a_quaternion(
    a: np.ndarray, b: np.ndarray, share: float
) -> None:
    if abs(float(a @ b)) < 1e-6:
        return
    one, other = tf.slerp(a, b, share), tf.slerp(a, -b, share)
    assert abs(abs(float(one @ other)) - 1.0) < 1e-9


@given(quaternions, st.tuples(parts, parts, parts))
def test_a_pose_times_its_inverse_is_nothing(q: np.ndarray, shift: tuple[float, float, float]) -> None:
    pose = tf.se3(tf.quaternions_to_matrices(q), shift)
    assert tf.is_rigid(pose)
    np.testing.assert_allclose(tf.compose(pose, tf.invert(pose)), np.eye(4), atol=1e-12)
    points = np.arange(12.0).reshape(4, 3)
    np.testing.assert_allclose(tf.apply(tf.invert(pose), tf.apply(pose, points)), points, atol=1e-9)


@pytest.mark.parametrize(
    "matrix",
    [np.diag([1.0, 1.0, -1.0, 1.0]), np.diag([2.0, 1.0, 1.0, 1.0]), np.full((4, 4), np.nan), np.eye(3)],
    ids=["mirrored", "scaled", "nan", "3x3"],
)
def test_what_is_not_rigid_is_told(matrix: np.ndarray) -> None:
    assert not tf.is_rigid(matrix)


def test_a_zero_quaternion_is_refused() -> None:
    with pytest.raises(CalibrationError) as caught:
        tf.quaternions_to_matrices([0.0, 0.0, 0.0, 0.0])
    assert caught.value.code == "bad_quaternion"
