"""Each fault makes its rule fail, and a good drive none."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from log_writers import CAMERA, GNSS, IMU, RADAR, START_NS, Sent, drive, message, store, write_mcap

from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
from av_assets.domain.logs.integrity.check import LogReport, check_log, clocks_png, timeline_png
from av_assets.domain.logs.reader import LogReader
from av_assets.policies.clocks import ClockPolicy
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


@cache
def jpeg(number: int) -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return np.asarray(cv2.imencode(".jpg", noise)[1]).reshape(-1)


def real(one: Sent, number: int) -> Sent:
    """The message with a picture in it, or at rest."""
    if one.topic == CAMERA:
        one.message.data = jpeg(number)
    if one.topic == IMU:
        one.message.angular_velocity = type(one.message.angular_velocity)(0.0, 0.0, 0.01)
    return one


@pytest.fixture
def sent() -> list[Sent]:
    return [real(one, number) for number, one in enumerate(drive(store(), seconds=4))]


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
                one = real(one._replace(message=message(store_once(), topic, time_ns, number)), number)
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
        real(one._replace(message=message(store_once(), CAMERA, one.log_ns - 4_000_000, 0)), 0)
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
        (
            restamp(GNSS, lambda i, t: t - START_NS + 5 * SECOND),
            ("clock_counts_from_the_epoch", "warn", "gnss"),
        ),
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


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (lambda data: data[: len(data) // 2], "pictures_are_complete"),
        (lambda data: np.r_[data[:2], data[:0], [0] * 40, data[-2:]].astype(np.uint8), "pictures_decode"),
        (
            lambda data: cv2.imencode(".jpg", np.full((24, 32, 3), 9, np.uint8))[1].reshape(-1),
            "pictures_show_something",
        ),
        (
            lambda data: cv2.imencode(".jpg", np.full((24, 40, 3), 9, np.uint8))[1].reshape(-1),
            "picture_size_is_constant",
        ),
    ],
)
def test_broken_pictures_are_told_apart(
    tmp_path: Path, sent: list[Sent], broken: Callable[[Any], Any], expected: str
) -> None:
    for number, one in enumerate([one for one in sent if one.topic == CAMERA]):
        if number % 2:
            one.message.data = broken(one.message.data)
    assert (expected, "error", "camera_front") in failures(report(tmp_path, sent))


@pytest.mark.parametrize("padding", [20, 500])
def test_zeros_behind_a_picture_are_padding(tmp_path: Path, sent: list[Sent], padding: int) -> None:
    for one in sent:
        if one.topic == CAMERA:
            one.message.data = np.r_[one.message.data, np.zeros(padding, np.uint8)]
    assert failures(report(tmp_path, sent)) == CALIBRATION


def test_what_the_report_says_of_a_rule(tmp_path: Path, sent: list[Sent]) -> None:
    rules = report(tmp_path, cut_out(CAMERA, 1, 2.5)(sent)).to_dict()["rules"]
    (gap,) = [r for r in rules if (r["id"], r["role"]) == ("has_no_gap", "camera_front")]  # type: ignore[attr-defined]
    assert set(gap) == {
        "id", "severity", "status", "measured", "threshold", "reason", "role", "topic", "unit", "fix",
    }  # fmt: skip
    assert (gap["unit"], gap["measured"]) == ("s", 1.6)
    assert gap["fix"]


def test_a_renamed_topic_is_proposed_and_a_confirmed_alias_heals(tmp_path: Path, sent: list[Sent]) -> None:
    spec = SPEC.model_copy(
        update={"streams": {**SPEC.streams, "imu": StreamSpec(topic="/old/imu", kind="imu", rate_hz=50)}}
    )
    found = report(tmp_path, sent, spec)
    (absent,) = [f for f in found.findings if f.rule == "stream_is_present" and f.status == "failed"]
    assert IMU in absent.fix
    (proposal,) = found.to_dict()["aliases"]  # type: ignore[misc]
    assert (proposal["role"], proposal["proposed"]) == ("imu", IMU)
    confirmed = spec.streams["imu"].model_copy(update={"aliases": (IMU,)})
    healed = spec.model_copy(update={"streams": {**spec.streams, "imu": confirmed}})
    found = report(tmp_path, sent, healed)
    assert not found.aliases
    assert not found.failed("error")


def test_clocks_are_named_with_the_repair_that_the_policy_answers(tmp_path: Path, sent: list[Sent]) -> None:
    found = report(tmp_path, restamp(IMU, lambda i, t: t - START_NS + SECOND)(sent))
    clocks = json.loads(json.dumps(found.to_dict()["clocks"], allow_nan=False))
    assert clocks[IMU]["classification"] == "uptime"
    assert clocks[IMU]["repair"]["name"] == ClockPolicy.load().repairs["uptime"]
    assert clocks[CAMERA]["repair"]["name"] == "none"
    assert clocks_png(found).startswith(b"\x89PNG")


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
