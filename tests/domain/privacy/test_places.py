from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_camera import TOPIC, Log, Scripted, image_message, log_ns, still

from av_assets.domain.evidence.segments import FolderSegments
from av_assets.domain.logs.drive_spec import StreamSpec
from av_assets.domain.logs.files.blocks import RawMessage
from av_assets.domain.privacy.places import (
    FIRST_NS,
    LAST_NS,
    great_circle_m,
    in_private_place,
    private_intervals,
    trim_intervals,
)
from av_assets.domain.privacy.redact import redact_drive
from av_assets.policies.redaction import PrivatePlace, RedactionPolicy, TrimPolicy

POLICY = RedactionPolicy.load()
TRIM = TrimPolicy(margin_s=0, hysteresis_m=25, max_speed_mps=70)
HOME = PrivatePlace(latitude=48.1, longitude=11.5, radius_m=200)
M_PER_DEGREE = 6_371_008.8 * np.pi / 180
SECOND = 10**9


def east_of_home(metres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    latitude = np.full(len(metres), HOME.latitude)
    return latitude, HOME.longitude + metres / (M_PER_DEGREE * np.cos(np.radians(HOME.latitude)))


def trimmed(metres: list[float], seconds: list[float], trim: TrimPolicy = TRIM) -> list[tuple[float, float]]:
    """Intervals in s; infinite ends as None would be unreadable, so they are -1 and 1e9."""
    fixes = (np.array(seconds) * SECOND).astype(np.int64)
    intervals = trim_intervals(fixes, *east_of_home(np.array(metres, float)), [HOME], trim)
    return [(-1 if a == FIRST_NS else a / SECOND, 1e9 if b == LAST_NS else b / SECOND) for a, b in intervals]


def test_distances_are_great_circles():
    # Paris to London: 343.6 km between these points on the mean sphere.
    assert great_circle_m(np.array([48.8566]), np.array([2.3522]), 51.5074, -0.1278) == pytest.approx(
        343_556, abs=50
    )
    assert great_circle_m(np.array([0.0]), np.array([179.9]), 0.0, -179.9) == pytest.approx(
        0.2 * M_PER_DEGREE
    )
    assert great_circle_m(np.array([90.0]), np.array([0.0]), -90.0, 77.0) == pytest.approx(180 * M_PER_DEGREE)


def test_a_stay_is_cut_out():
    seconds = [float(t) for t in range(100, 161)]
    metres = [abs(t - 130) * 40.0 for t in seconds]  # passes through home at t = 130, at 40 m/s
    [start, (a, b), _] = trimmed(metres, seconds)
    assert start == (-1, 100)
    assert 123 <= a <= 125
    assert 135 <= b <= 137.1


def test_margin_widens_the_cut():
    seconds = [float(t) for t in range(100, 161)]
    metres = [abs(t - 130) * 40.0 for t in seconds]
    [_, (a, b), _] = trimmed(metres, seconds)
    wide = TRIM.model_copy(update={"margin_s": 3.0})
    [start, (wide_a, wide_b), _] = trimmed(metres, seconds, wide)
    assert (wide_a, wide_b) == pytest.approx((a - 3, b + 3))
    assert start == (-1, 100)  # the unknown before the first fix is no stay


def test_a_stay_ends_well_outside():
    """Jitter of fixes at the border does not open the cut again and again."""
    slow = TrimPolicy(margin_s=0, hysteresis_m=25, max_speed_mps=1)
    metres = [*np.linspace(0, 150, 20), *[198.0, 205.0, 199.0, 210.0, 203.0], *np.linspace(230, 9000, 30)]
    seconds = [100 + t / 10 for t in range(len(metres))]
    [(start, end), (last, _)] = trimmed(metres, seconds, slow)
    assert start == -1
    assert end == pytest.approx(seconds[25], abs=0.01)
    assert last > seconds[-1]


def test_all_is_private_without_a_fix():
    assert trim_intervals(np.array([], np.int64), np.array([]), np.array([]), [HOME], TRIM) == [
        (FIRST_NS, LAST_NS)
    ]


def test_nothing_is_private_without_places():
    assert trim_intervals(np.array([5]), np.array([48.1]), np.array([11.5]), [], TRIM) == []
    assert not in_private_place(np.array([1, 2]), []).any()


def test_a_gap_in_which_home_could_be_reached_is_private():
    assert trimmed([900.0, 900.0], [100.0, 130.0])[0] == (-1, pytest.approx(130.0))
    assert trimmed([900.0, 900.0], [100.0, 119.0])[0] == (-1, 100.0)  # 2 x 700 m takes 20 s


def test_what_follows_the_last_fix_is_private_once_home_can_be_reached():
    assert trimmed([900.0], [100.0])[-1] == (pytest.approx(110.0), 1e9)  # 700 m at 70 m/s


@st.composite
def ways(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A way past home in steps of 50 ms at no more than 70 m/s: metres east of it, and times in s."""
    paces = draw(st.lists(st.floats(-69, 69), min_size=2, max_size=8))
    speeds = np.repeat(paces, 40)
    return draw(st.floats(-2500, 2500)) + np.concatenate([[0], np.cumsum(speeds * 0.05)]), np.arange(
        len(speeds) + 1
    ) * 0.05


@given(ways(), st.data())
@settings(max_examples=150, deadline=None)
def test_no_moment_inside_is_ever_released(way: tuple[np.ndarray, np.ndarray], data: st.DataObject):
    """Whatever fixes are lost, and wherever the vehicle went in between."""
    metres, seconds = way
    kept = sorted(data.draw(st.sets(st.integers(0, len(metres) - 1), min_size=1, max_size=20)))
    times = (seconds * SECOND).astype(np.int64) + SECOND
    intervals = trim_intervals(times[kept], *(a[kept] for a in east_of_home(metres)), [HOME], TRIM)
    inside = np.abs(metres) < HOME.radius_m - 0.5
    assert in_private_place(times, intervals)[inside].all()
    assert all(a < b for a, b in intervals)
    assert all(b < c for (_, b), (c, _) in pairwise(intervals))


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 50)), max_size=10), st.lists(st.integers(0, 1100))
)
def test_mask_is_membership(pieces: list[tuple[int, int]], times: list[int]):
    disjoint: list[tuple[int, int]] = []
    for start, length in sorted(pieces):
        if not disjoint or start > disjoint[-1][1]:
            disjoint.append((start, start + length))
    mask = in_private_place(np.array(times, np.int64), disjoint)
    assert mask.tolist() == [any(a <= t < b for a, b in disjoint) for t in times]


def drive(metres: list[float], status: int = 0) -> Log:
    """Ten frames a second, and a fix with every one of them."""
    latitude, longitude = east_of_home(np.array(metres, float))
    messages = [image_message(still(i), i) for i in range(len(metres))]
    fixes = [RawMessage("/gnss", "sensor_msgs/msg/NavSatFix", log_ns(i), b"") for i in range(len(metres))]
    objects = {
        log_ns(i): SimpleNamespace(latitude=a, longitude=b, status=SimpleNamespace(status=status))
        for i, (a, b) in enumerate(zip(latitude, longitude, strict=True))
    }
    return Log([*messages, *fixes], objects)


def test_frames_of_private_places_are_blocked(tmp_path):
    policy = POLICY.model_copy(update={"private_places": (HOME,), "trim": TRIM})
    log = drive([2000.0] * 5 + [0.0] * 5 + [2000.0] * 5)
    cameras = {"camera_front": StreamSpec(topic=TOPIC, kind="camera", rate_hz=10)}
    detector = Scripted()
    summary = redact_drive(log, cameras, detector, policy, tmp_path, FolderSegments(tmp_path / "kept"))
    # The stretches between outside and inside are private too; ends of stretches belong to them.
    assert summary.total.dropped == {"private_place": 7}
    assert summary.total.released == 8
    assert not {n for batch in detector.batches for n in batch} & set(range(4, 11))
    assert b"48.1" not in (tmp_path / "redaction_report.json").read_bytes()
    assert len(summary.private) == 3


def test_messages_without_a_fix_tell_nothing():
    policy = POLICY.model_copy(update={"private_places": (HOME,)})
    assert private_intervals(drive([2000.0] * 5, status=-1), policy) == [(FIRST_NS, LAST_NS)]
    assert private_intervals(drive([2000.0] * 5), POLICY) == []
