"""A real minute of a car: speeds and accelerations out of its CAN frames, and events against a second computation.

rav4_can0.dbc holds facts of that vehicle's public messages; each is held here against what the recording says
elsewhere.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.signal import butter, sosfiltfilt

from av_assets.domain.events.conflicts import rss_violations, ttc_conflicts
from av_assets.domain.events.detectors import detect_events, find_events, read_signals
from av_assets.domain.events.paths import EgoMotion, TrackRows, path_tracks
from av_assets.domain.events.windows import smooth
from av_assets.domain.logs.drive_spec import DriveSpec, StreamSpec
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.sync.synchronize import synchronize_drive
from av_assets.domain.sync.tracks import tracks_of
from av_assets.policies.events import EventsPolicy
from av_assets.policies.sync import SyncPolicy

if TYPE_CHECKING:
    from av_assets.domain.events.windows import Event

POLICY = EventsPolicy.load()
S = 1_000_000_000
WHEELS = {"fl": "front_left", "fr": "front_right", "rl": "rear_left", "rr": "rear_right"}


class Minute(NamedTuple):
    clips: list[Path]
    ref_ns: np.ndarray
    signals: dict[str, np.ndarray]
    log: Path


@pytest.fixture(scope="module")
def minute(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Minute:
    """The recording on its grid of 10 Hz, with the first bus decoded by the DBC beside this file."""
    log, out = real_data / "drives" / "comma2k19_rav4_drive", tmp_path_factory.mktemp("rav4")
    bus = StreamSpec(topic="/can0/received", kind="can", dbc="rav4_can0.dbc")
    spec = DriveSpec(drive="rav4", streams={"can0": bus})
    with LogReader(log) as reader:
        synchronize_drive(reader, spec, None, SyncPolicy.load(), out, None, Path(__file__).parent)
    clips = sorted((out / "clips").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(clip, columns=["ref_ns", "signals"]) for clip in clips])
    column = table["signals"].combine_chunks()
    signals = {f.name: column.field(f.name).to_numpy(zero_copy_only=False) for f in column.type}
    return Minute(clips, table["ref_ns"].to_numpy(), signals, log)


def _wheels(signals: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean([signals[f"can_wheel_{name}_mps"] for name in WHEELS], axis=0))


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = one - other
    return both[np.isfinite(both)]


def test_decoded_wheels_and_steering_are_what_the_recording_says(minute: Minute) -> None:
    signals = minute.signals
    for short, name in WHEELS.items():
        error = _difference(signals[f"can_wheel_{short}_mps"], signals[f"vehicle_wheel_speeds_{name}"])
        assert len(error) >= 600
        assert np.abs(error).max() < 1e-5
    steering = signals["can_steer_coarse_deg"] + signals["can_steer_fraction_deg"]
    # The message of the wrapping calls it a tire angle; the numbers are the steering wheel's, in degrees.
    error = _difference(steering, signals["vehicle_steering_steering_tire_angle"])
    assert len(error) >= 600
    assert np.abs(error).max() < 1e-5


def test_decoded_speed_is_that_of_the_wheels_within_the_scale_of_the_speedometer(minute: Minute) -> None:
    signals = minute.signals
    error = _difference(_wheels(signals), signals["speed_mps"])
    assert abs(error.mean()) < 0.005
    assert error.std() < 0.03
    ratio = signals["can_speed_mps"] / signals["speed_mps"]
    # It reads 2.1 % more than the wheels turn, all the time.
    assert np.nanmedian(ratio) == pytest.approx(1.021, abs=0.003)
    assert _difference(signals["can_speed_mps"], 1.0212 * signals["speed_mps"]).std() < 0.06


def test_accelerations_of_wheels_accelerometer_and_imu_agree(minute: Minute) -> None:
    """Wheels against the car's accelerometer: 0.17 m/s2 rms; the IMU is tilted by 0.66 m/s2 (3.9 degrees) besides."""
    speed = smooth(minute.ref_ns, _wheels(minute.signals), 1.0)
    derived = np.gradient(speed, minute.ref_ns / S)
    inner = slice(10, -10)
    car = smooth(minute.ref_ns, minute.signals["accel_mps2"], 1.0)
    assert np.sqrt((_difference(derived[inner], car[inner]) ** 2).mean()) < 0.2
    assert abs(_difference(derived[inner], car[inner]).mean()) < 0.02
    assert np.corrcoef(derived[inner], car[inner])[0, 1] > 0.985
    imu = smooth(minute.ref_ns, minute.signals["imu_ax_mps2"], 1.0)
    tilt = _difference(derived[inner], imu[inner])
    assert tilt.mean() == pytest.approx(0.66, abs=0.05)
    assert tilt.std() < 0.45
    assert np.corrcoef(derived[inner], imu[inner])[0, 1] > 0.8


def test_the_turn_rate_of_the_bus_is_the_imus_but_for_its_zero(minute: Minute) -> None:
    bus = smooth(minute.ref_ns, minute.signals["can_yaw_rate_radps"], 0.5)
    imu = smooth(minute.ref_ns, minute.signals["yaw_rate_radps"], 0.5)
    error = _difference(bus, imu)
    assert error.mean() == pytest.approx(-0.0064, abs=5e-4)
    assert error.std() < 0.0015


def _frames(log: Path, ident: int) -> tuple[np.ndarray, np.ndarray]:
    """Times in s and bytes (N, 8) of one identifier of the first bus, read without the platform's decoder."""
    rows = []
    with LogReader(log) as reader:
        for raw in reader.messages({"/can0/received"}):
            (length,) = struct.unpack_from("<I", raw.data, 12)
            at = 16 + length + (-length) % 4
            if struct.unpack_from("<I", raw.data, at)[0] == ident:
                rows.append((raw.log_ns / S, raw.data[at + 8 : at + 16]))
    return np.array([time for time, _ in rows]), np.array([list(data) for _, data in rows], np.int64)


def _deceleration(log: Path) -> tuple[np.ndarray, np.ndarray]:
    """From all wheel-speed frames (83 Hz): times in s, deceleration in m/s2, Butterworth forwards and backwards."""
    times, data = _frames(log, 0xAA)
    kmh = (data[:, 0::2] * 256 + data[:, 1::2]).mean(axis=1) * 0.01 - 67.67
    grid = np.arange(times[0], times[-1], 0.02)
    speed = np.interp(grid, times, kmh / 3.6)
    sos = butter(2, 2.5, fs=50.0, output="sos")
    return grid, -np.gradient(sosfiltfilt(sos, speed), grid)


def _held(times: np.ndarray, mask: np.ndarray, least_s: float) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    spans = [(times[a], times[b - 1]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(a, b) for a, b in spans if b - a >= least_s]


def test_nobody_brakes_harshly_and_gentle_brakings_are_those_of_the_wheels(minute: Minute) -> None:
    times, decel = _deceleration(minute.log)
    drive = read_signals(minute.clips)
    assert decel.max() < 3.0
    assert [e for e in find_events(drive, POLICY)[0] if e.kind == "harsh_brake"] == []
    gentle = POLICY.model_copy(
        update={"brake": POLICY.brake.model_copy(update={"levels_mps2": (1.0, 1.5, 2.0)})}
    )
    found = [e for e in find_events(drive, gentle)[0] if e.kind == "harsh_brake"]
    assert found
    for event in found:
        # The accelerometer found it; the wheels must have slowed at that rate in that window.
        inside = (times >= event.start_ns / S - 0.2) & (times <= event.end_ns / S + 0.2)
        assert decel[inside].max() == pytest.approx(event.peak, abs=0.6)
        assert "vehicle" in {name.split("_")[0] for name in event.evidence["sources"]}
        assert {"wheel_speed_decel_mps2", "imu_decel_mps2"} <= set(event.evidence["sources"])
    for start, end in _held(times, decel >= 1.2, 0.7):
        assert any(e.start_ns / S <= start + 0.3 and e.end_ns / S >= end - 0.3 for e in found)


def test_the_cruise_control_is_switched_on_and_never_gives_up(minute: Minute) -> None:
    _, data = _frames(minute.log, 0x1D2)
    active = data[:, 0] >> 5 & 1
    assert np.flatnonzero(np.diff(active)).size == 1
    assert (active[0], active[-1]) == (0, 1)
    table = detect_events(minute.clips, POLICY)
    assert "disengagement" not in json.loads(table.schema.metadata[b"reasons"])
    assert "disengagement" not in table["kind"].to_pylist()


def _scans(minute: Minute) -> TrackRows:
    """All radar tracks of the scan next to each frame: this radar sends one message for each track."""
    rows: list[tuple[int, Any]] = []
    with LogReader(minute.log) as reader:
        for raw in reader.messages({"/radar/tracks"}):
            rows += [(raw.log_ns, track) for track in tracks_of(reader.deserialize(raw), None)]
    stamps = np.array([stamp for stamp, _ in rows])
    scan = np.concatenate([[0], np.cumsum(np.diff(stamps) > 0.02 * S)])
    starts = stamps[np.concatenate([[True], np.diff(scan) > 0])]
    found: list[tuple[float, ...]] = []
    for frame in minute.ref_ns.tolist():
        nearest = int(np.argmin(np.abs(starts - frame)))
        if abs(int(starts[nearest]) - frame) <= 0.06 * S:
            found += [(frame, *rows[row][1]) for row in np.flatnonzero(scan == nearest)]
    columns = [np.array(column) for column in zip(*found, strict=True)]
    return TrackRows(columns[0].astype(np.int64), columns[1].astype(np.int64), *columns[2:])


def _spans(events: list[Event], track: int) -> list[tuple[float, float]]:
    return [(e.start_ns / S, e.end_ns / S) for e in events if e.evidence["track_id"] == track]


def test_gaps_below_the_safe_one_are_those_of_the_formula(minute: Minute) -> None:
    """Row by row without smoothing: what is clearly too near lies in an event, what is clearly not lies in none."""
    tracks, signals = _scans(minute), minute.signals
    motion = EgoMotion(minute.ref_ns, signals["speed_mps"], signals["yaw_rate_radps"])
    paths = path_tracks(motion, tracks, POLICY)
    found = rss_violations(paths, POLICY)
    assert found
    rear = np.interp(tracks.times_ns, minute.ref_ns, signals["speed_mps"])
    front = rear + tracks.vx_mps
    safe = rear + 1.75 + (rear + 3.5) ** 2 / 8 - front**2 / 16
    gap = tracks.x_m - POLICY.corridor.front_bumper_x_m
    judged = (gap > 0) & (front > 2.5) & (np.abs(tracks.y_m) < 1.0) & np.isfinite(safe)
    checked = 0
    for track in np.unique(tracks.track_id):
        rows = np.flatnonzero((tracks.track_id == track) & judged)
        near = rows[gap[rows] < 0.9 * safe[rows]]
        for run in np.split(near, np.flatnonzero(np.diff(tracks.times_ns[near]) > 0.15 * S) + 1):
            if len(run) < 20:
                continue
            low, high = tracks.times_ns[run[3]] / S, tracks.times_ns[run[-4]] / S
            assert any(a <= low and high <= b for a, b in _spans(found, int(track)))
            checked += 1
    assert checked >= 3
    for event in found:
        rows = np.flatnonzero(
            (tracks.track_id == event.evidence["track_id"])
            & (tracks.times_ns >= event.start_ns)
            & (tracks.times_ns <= event.end_ns)
        )
        assert (gap[rows] < safe[rows] / POLICY.exit_share * 1.05).mean() > 0.95
        shortfall = (safe - gap)[rows].max()
        assert event.peak == pytest.approx(shortfall, abs=2.5)


def test_conflicts_of_the_minute_are_those_of_gap_over_closing_speed(minute: Minute) -> None:
    tracks, signals = _scans(minute), minute.signals
    motion = EgoMotion(minute.ref_ns, signals["speed_mps"], signals["yaw_rate_radps"])
    paths = path_tracks(motion, tracks, POLICY)
    least = min(
        float((path.gap_m[near] / -path.vx_mps[near]).min())
        for path in paths
        if (near := (np.abs(path.across_m) < 1.5) & (path.gap_m > 0) & (path.vx_mps < -0.5)).any()
    )
    assert least > POLICY.conflict.ttc_s
    assert ttc_conflicts(paths, POLICY) == []
    wide = POLICY.conflict.model_copy(update={"ttc_s": 6.0, "critical_ttc_s": 5.0})
    found = ttc_conflicts(paths, POLICY.model_copy(update={"conflict": wide}))
    assert min(event.peak for event in found) == pytest.approx(least, abs=0.5)
