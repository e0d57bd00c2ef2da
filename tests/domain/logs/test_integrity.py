"""Each fault makes its rule fail, and a good drive none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from log_writers import CAMERA, GNSS, IMU, RADAR, START_NS, Sent, drive, message, store, write_mcap

from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
from av_assets.domain.logs.integrity import LogReport, check_log, timeline_png
from av_assets.domain.logs.reader import LogReader
from av_assets.policies.integrity import IntegrityPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = DriveSpec(
    drive="veh001-20250601t080000z",
    streams={
        "camera_front": StreamSpec(topic=CAMERA, kind="camera", rate_hz=10),
        "imu": StreamSpec(topic=IMU, kind="imu", rate_hz=50),
        "gnss": StreamSpec(topic=GNSS, kind="gnss", rate_hz=10),
        "radar_front": StreamSpec(topic=RADAR, kind="radar", rate_hz=20),
    },
)
SECOND = 1_000_000_000


def report(path: Path, sent: list[Sent], spec: DriveSpec | None = SPEC) -> LogReport:
    write_mcap(path / "x.mcap", sent, store())
    with LogReader(path / "x.mcap") as reader:
        return check_log(reader, spec, IntegrityPolicy.load(), None)


def failures(found: LogReport) -> set[tuple[str, str, str]]:
    return {(f.rule, f.severity, f.role) for f in found.findings if f.status == "failed"}


CALIBRATION = {("camera_has_intrinsics", "warn", "camera_front"), ("sensors_have_extrinsics", "warn", "")}


@pytest.fixture
def sent() -> list[Sent]:
    return drive(store(), seconds=4)


def test_a_good_drive_fails_nothing_but_calibration(tmp_path: Path, sent: list[Sent]) -> None:
    found = report(tmp_path, sent)
    assert failures(found) == CALIBRATION
    assert (found.verdict, found.messages) == ("warned", 360)
    data = found.to_dict()
    json.dumps(data, allow_nan=False)
    assert found.streams["imu"]["median_rate_hz"] == 50.0
    assert found.streams["gnss"]["median_delay_s"] == 0.004
    assert sum(found.timeline["topics"][IMU]["counts"]) == 200
    assert {f.rule for f in found.findings if f.status == "passed"} >= {
        "file_is_whole",
        "count_matches_index",
    }


def test_without_a_spec_streams_are_inferred(tmp_path: Path, sent: list[Sent]) -> None:
    found = report(tmp_path, sent, None)
    assert set(found.streams) == {"camera_front", "imu", "gnss", "radar_front"}
    assert failures(found) == CALIBRATION
    assert any(
        f.status == "skipped" and f.rule == "rate_matches_contract" and f.reason for f in found.findings
    )


def cut_out(topic: str, first_s: float, last_s: float) -> Callable[[list[Sent]], list[Sent]]:
    def change(sent: list[Sent]) -> list[Sent]:
        span = range(int(START_NS + first_s * SECOND), int(START_NS + last_s * SECOND))
        return [one for one in sent if one.topic != topic or one.log_ns not in span]

    return change


def restamp(topic: str, stamp: Callable[[int, int], int]) -> Callable[[list[Sent]], list[Sent]]:
    """`stamp` maps the number of a message and its sensor time to another sensor time."""

    def change(sent: list[Sent]) -> list[Sent]:
        changed: list[Sent] = []
        for one in sent:
            number = sum(other.topic == topic for other in changed)
            if one.topic == topic:
                time_ns = stamp(number, one.log_ns - 4_000_000)
                one = one._replace(message=message(store_once(), topic, time_ns, number))
            changed.append(one)
        return changed

    return change


_STORE: list[Any] = []


def store_once() -> Any:
    if not _STORE:
        _STORE.append(store())
    return _STORE[0]


def freeze(sent: list[Sent]) -> list[Sent]:
    return [
        one._replace(message=message(store_once(), CAMERA, one.log_ns - 4_000_000, 0))
        if one.topic == CAMERA
        else one
        for one in sent
    ]


def jump_away(sent: list[Sent]) -> list[Sent]:
    for one in [one for one in sent if one.topic == GNSS][20:]:
        one.message.latitude += 0.1
    return sent


def leave_earth(sent: list[Sent]) -> list[Sent]:
    for one in sent:
        if one.topic == GNSS:
            one.message.latitude = 95.0
    return sent


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (cut_out(CAMERA, 0, 9), ("stream_is_present", "error", "camera_front")),
        (cut_out(CAMERA, 0, 9), ("topic_has_messages", "warn", "")),
        (cut_out(CAMERA, 1, 1.25), ("has_no_gap", "warn", "camera_front")),
        (cut_out(CAMERA, 1, 2.5), ("has_no_gap", "error", "camera_front")),
        (cut_out(IMU, 3, 9), ("covers_the_drive", "error", "imu")),
        (
            lambda sent: [s for i, s in enumerate(sent) if s.topic != IMU or i % 2],
            ("rate_matches_contract", "error", "imu"),
        ),
        (
            restamp(IMU, lambda i, t: t - 50_000_000 * (i == 30)),
            ("sensor_time_moves_forward", "error", "imu"),
        ),
        (restamp(GNSS, lambda i, t: t - 100_000_000 * (i % 2)), ("stamps_are_unique", "warn", "gnss")),
        (restamp(GNSS, lambda i, t: t - START_NS + 5 * SECOND), ("clock_is_near_log_time", "warn", "gnss")),
        (restamp(GNSS, lambda i, t: t + 3 * SECOND * (i >= 20)), ("clock_does_not_jump", "error", "gnss")),
        (freeze, ("frames_are_live", "error", "camera_front")),
        (jump_away, ("speed_is_possible", "error", "gnss")),
        (leave_earth, ("position_is_on_earth", "error", "gnss")),
    ],
)
def test_a_fault_fails_its_rule(
    tmp_path: Path,
    sent: list[Sent],
    fault: Callable[[list[Sent]], list[Sent]],
    expected: tuple[str, str, str],
) -> None:
    found = report(tmp_path, fault(sent))
    assert expected in failures(found)
    assert all(f.reason for f in found.findings if f.status != "passed")
    assert (found.verdict == "failed") == bool(found.failed("error"))


def test_clock_domain_is_guessed(tmp_path: Path, sent: list[Sent]) -> None:
    found = report(tmp_path, restamp(IMU, lambda _, t: t - START_NS + SECOND)(sent))
    (clock,) = [f for f in found.findings if f.rule == "clock_is_near_log_time" and f.role == "imu"]
    assert "start-up" in clock.reason


def test_a_kind_that_does_not_fit_is_told(tmp_path: Path, sent: list[Sent]) -> None:
    spec = DriveSpec(drive="x", streams={"lidar": StreamSpec(topic=CAMERA, kind="lidar")})
    assert ("type_matches_role", "error", "lidar") in failures(report(tmp_path, sent, spec))


def test_a_salvaged_log_fails_the_file_rule(tmp_path: Path, sent: list[Sent]) -> None:
    path = write_mcap(tmp_path / "x.mcap", sent, store())
    path.write_bytes(path.read_bytes()[:-5000])
    with LogReader(path) as reader:
        found = check_log(reader, SPEC, IntegrityPolicy.load(), None)
    assert ("file_is_whole", "error", "") in failures(found)
    assert found.files[0]["damage"]


def test_the_timeline_is_a_picture_and_repeats(tmp_path: Path, sent: list[Sent]) -> None:
    found = report(tmp_path, cut_out(CAMERA, 1, 2.5)(sent))
    assert found.timeline["topics"][CAMERA]["holes"]
    picture = timeline_png(found)
    assert picture.startswith(b"\x89PNG")
    assert picture == timeline_png(found)
