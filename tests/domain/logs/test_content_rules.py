"""Pictures, clouds, inertial measurements and calibration: what is wrong is told, what only looks so is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_writers import CAMERA, TYPES
from scipy.spatial.transform import Rotation

from av_assets.domain.logs.drive_spec import StreamSpec
from av_assets.domain.logs.files.blocks import RawMessage
from av_assets.domain.logs.integrity.calibration_rules import (
    IntrinsicsProbe,
    TransformProbe,
    calibration_findings,
    is_rotation,
)
from av_assets.domain.logs.integrity.findings import Finding
from av_assets.domain.logs.integrity.measurement_rules import CloudProbe, ImuProbe, ValueProbe, coordinates
from av_assets.domain.logs.integrity.picture_rules import FrameProbe, PictureProbe
from av_assets.domain.logs.integrity.probes import StreamJudge, chosen_messages
from av_assets.domain.logs.integrity.stream_stats import StreamStats
from av_assets.domain.logs.integrity.time_track import TimeTrack
from av_assets.domain.simulation import messages
from av_assets.policies.integrity import IntegrityPolicy

POLICY = IntegrityPolicy.load()
JUDGE = StreamJudge("x", "/x")
RAW = RawMessage("/x", "x/msg/X", 0, b"")


def results(probe: Any) -> dict[str, Finding]:
    return {finding.rule: finding for finding in probe.findings(JUDGE)}


@given(st.integers(0, 500), st.integers(1, 20), st.integers(0, 9))
def test_chosen_messages_hold_the_first_and_the_last(count: int, samples: int, seed: int) -> None:
    chosen = chosen_messages("/x", count, samples, seed)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, samples + 2)
    assert not count or (chosen[0], chosen[-1]) == (0, count - 1)
    assert chosen == chosen_messages("/x", count, samples, seed)


@pytest.mark.parametrize(
    ("odd", "status"), [(b"\1" * 300, "failed"), (b"\1" * 700, "passed"), (b"\1" * 6000, "failed")]
)
def test_sizes_far_from_the_median_are_told(odd: bytes, status: str) -> None:
    probe = FrameProbe(POLICY)
    for number in range(20):
        probe.glance(RAW._replace(data=bytes([number]) * (1000 + number)))
    probe.glance(RAW._replace(data=odd))
    assert results(probe)["size_is_usual"].status == status


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(30, 9000))
def test_freezes_are_runs_of_equal_payloads(values: list[int], size: int) -> None:
    probe = FrameProbe(POLICY)
    longest = run = 1
    for number, value in enumerate(values):
        # The payload differs only in its last byte, the head (stamps) always.
        probe.glance(RAW._replace(data=number.to_bytes(4) * 10 + bytes(size) + bytes([value])))
        run = run + 1 if number and values[number - 1] == value else 1
        longest = max(longest, run)
    assert probe.longest_freeze == longest


def imu(accel: float, rate: float = 0.1, unknown: bool = False) -> SimpleNamespace:
    zero = np.array([-1.0 if unknown else 0.0] + [0.0] * 8)
    return SimpleNamespace(
        linear_acceleration=SimpleNamespace(x=0.0, y=0.0, z=accel), linear_acceleration_covariance=zero,
        angular_velocity=SimpleNamespace(x=rate, y=0.0, z=0.0), angular_velocity_covariance=zero,
    )  # fmt: skip


def imu_results(*samples: SimpleNamespace) -> dict[str, Finding]:
    probe = ImuProbe(POLICY)
    for sample in samples:
        probe.look(RAW, sample)
    return results(probe)


@pytest.mark.parametrize(
    ("accel", "expected"),
    [
        ([9.7, 9.9, 9.5], ("passed", "warn")),
        ([1.0, 0.99, 1.02], ("failed", "error")),  # units of g
        ([0.1, 1.0, 2.0], ("failed", "warn")),  # gravity taken off
        ([0.0, 0.0, 0.0], ("skipped", "warn")),
    ],
)
def test_units_of_acceleration(accel: list[float], expected: tuple[str, str]) -> None:
    found = imu_results(*(imu(value) for value in accel))["acceleration_includes_gravity"]
    assert (found.status, found.severity) == expected


def test_rates_that_are_no_numbers_are_told_and_orientations_need_not_be() -> None:
    assert imu_results(imu(9.8, rate=float("nan")))["values_are_finite"].status == "failed"
    unoriented = imu(9.8)
    unoriented.orientation = SimpleNamespace(x=float("nan"))
    assert imu_results(unoriented)["values_are_finite"].status == "passed"


def test_degrees_per_second_and_unmeasured_values() -> None:
    assert imu_results(imu(9.8, rate=12.0))["turn_rate_is_possible"].status == "failed"
    found = imu_results(imu(9.8, unknown=True))
    assert {found[rule].status for rule in ("turn_rate_is_possible", "acceleration_includes_gravity")} == {
        "skipped"
    }


def test_nan_is_found_in_nested_messages_but_not_in_covariances() -> None:
    probe = ValueProbe()
    probe.look(RAW, SimpleNamespace(tracks=[SimpleNamespace(x_m=float("nan"))]))
    assert results(probe)["values_are_finite"].status == "failed"
    probe = ValueProbe()
    probe.look(RAW, SimpleNamespace(x=1.0, pose_covariance=np.full(36, np.nan), count=3, name="x"))
    assert results(probe)["values_are_finite"].status == "passed"


def cloud(points: int, nan: int = 0, dense: bool = True) -> Any:
    kinds = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("intensity", "f4"), ("t", "u4"), ("ring", "u2")]
    values = np.ones(points, dtype=kinds)
    values["x"][:nan] = np.nan
    made = messages.point_cloud(0, "lidar", values)
    made.is_dense = dense
    return made


@pytest.mark.parametrize(
    ("clouds", "failing"),
    [
        ([cloud(10), cloud(10)], set()),
        ([cloud(10, nan=1)], {"points_are_finite"}),
        ([cloud(10, nan=8, dense=False)], set()),  # organised clouds hold gaps
        ([cloud(10, nan=10, dense=False)], {"points_are_finite"}),
        ([cloud(10), cloud(0)], {"clouds_hold_points"}),
    ],
)
def test_clouds(clouds: list[Any], failing: set[str]) -> None:
    probe = CloudProbe(POLICY)
    for one in clouds:
        probe.look(RAW, one)
    assert {rule for rule, found in results(probe).items() if found.status == "failed"} == failing


def test_coordinates_of_any_layout() -> None:
    layout = np.dtype(
        {"names": ["z", "x", "y"], "formats": [">f8", ">f4", ">f4"], "offsets": [2, 12, 20], "itemsize": 30}
    )
    points = np.zeros(3, dtype=layout)
    points["x"], points["y"], points["z"] = [1, 2, 3], 4, 5
    fields = [
        SimpleNamespace(name=n, offset=o, datatype=d) for n, o, d in (("x", 12, 7), ("y", 20, 7), ("z", 2, 8))
    ]
    made = SimpleNamespace(
        fields=fields,
        is_bigendian=True,
        width=3,
        height=1,
        point_step=30,
        data=np.frombuffer(points.tobytes(), np.uint8),
    )
    assert coordinates(made).tolist() == [[1, 4, 5], [2, 4, 5], [3, 4, 5]]
    made.data = made.data[:70]
    assert len(coordinates(made)) == 2
    made.fields = fields[:2]
    assert coordinates(made).shape == (0, 3)
    made.fields = [SimpleNamespace(name=n, offset=28, datatype=7) for n in "xyz"]
    assert coordinates(made).shape == (0, 3)


@given(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3))
def test_rotations_are_rotations_and_mirrors_are_not(yaw: float, pitch: float, roll: float) -> None:
    matrix = Rotation.from_euler("zyx", [yaw, pitch, roll]).as_matrix()
    assert is_rotation(matrix)
    assert not is_rotation(matrix * np.array([1, 1, -1]))
    assert not is_rotation(matrix * 1.01)
    assert not is_rotation(matrix * np.nan)


def info(focal: float = 500.0, turn: np.ndarray | None = None, width: int = 640) -> SimpleNamespace:
    k = np.array([focal, 0, 320, 0, abs(focal), 240, 0, 0, 1.0]) if focal else np.zeros(9)
    r = np.eye(3).ravel() if turn is None else turn.ravel()
    return SimpleNamespace(
        distortion_model="plumb_bob", k=k, r=r, width=width, height=480,
        binning_x=0, binning_y=0, roi=SimpleNamespace(width=0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (info(), ("passed", "warn")),
        (info(focal=0), ("failed", "warn")),  # not calibrated, as the message defines it
        (info(focal=-500.0), ("failed", "error")),
        (info(focal=float("nan")), ("failed", "error")),
        (info(turn=np.diag([1.0, 1.0, -1.0])), ("failed", "error")),
        (info(turn=np.zeros((3, 3))), ("passed", "warn")),
    ],
)
def test_intrinsics(one: SimpleNamespace, expected: tuple[str, str]) -> None:
    probe = IntrinsicsProbe()
    probe.look(RAW, one)
    found = results(probe)["intrinsics_are_valid"]
    assert (found.status, found.severity) == expected


def transforms(norm: float = 1.0, distance: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(
        transforms=[
            SimpleNamespace(
                header=SimpleNamespace(frame_id="/base_link"),
                child_frame_id="camera_front",
                transform=SimpleNamespace(
                    rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=norm),
                    translation=SimpleNamespace(x=distance, y=0.0, z=0.0),
                ),
            )
        ]
    )


@pytest.mark.parametrize(
    ("made", "static", "status"),
    [
        (transforms(), True, "passed"),
        (transforms(norm=0.9), True, "error"),
        (transforms(norm=float("nan")), False, "error"),
        (transforms(distance=5000.0), True, "warn"),  # the map, or a mistake
        (transforms(distance=5000.0), False, "passed"),  # where the vehicle is in the map
    ],
)
def test_transforms(made: SimpleNamespace, static: bool, status: str) -> None:
    probe = TransformProbe(POLICY, static)
    probe.look(RAW, made)
    found = results(probe)["extrinsics_are_rigid"]
    assert (found.severity if found.status == "failed" else found.status) == status


def stats(topic: str, msgtype: str, probe: Any, frame: str = "") -> StreamStats:
    track = TimeTrack(0, 10, 10, 0.5)
    track.fold(np.arange(3, dtype=np.int64), None)
    return StreamStats(topic, msgtype, track, frame_id=frame, probe=probe)


def calibration(width: int, frame: str) -> set[str]:
    camera, intrinsics, tree = PictureProbe(POLICY), IntrinsicsProbe(), TransformProbe(POLICY, True)
    camera.shapes = {(width, 480)}
    intrinsics.look(RAW, info())
    tree.look(RAW, transforms())
    read = {
        CAMERA: stats(CAMERA, TYPES[CAMERA], camera, frame),
        "/camera_front/camera_info": stats(
            "/camera_front/camera_info", "sensor_msgs/msg/CameraInfo", intrinsics
        ),
        "/tf_static": stats("/tf_static", "tf2_msgs/msg/TFMessage", tree),
    }
    found = calibration_findings({"camera_front": StreamSpec(topic=CAMERA, kind="camera")}, read)
    return {finding.rule for finding in found if finding.status == "failed"}


def test_calibration_fits_the_camera() -> None:
    assert calibration(640, "camera_front") == set()
    assert calibration(1280, "camera_front") == {"picture_fits_intrinsics"}
    assert calibration(640, "camera_left") == {"sensors_have_extrinsics"}
