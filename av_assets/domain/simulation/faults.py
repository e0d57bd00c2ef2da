"""Named faults: each gives a good drive again with one thing wrong, and says what must notice.

Users run their own pipelines against them. `expects` is the reason code of the refusal, or the rule of the
integrity report that must fail. Checksums are made to agree again, so that the fault itself is found, except
where the checksum is what should find it.
Belongs here: the catalogue of faults. Does not belong here: doing them (`faults_files`, `faults_timing`,
`faults_content`, `faults_schema`), finding them.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from av_assets.domain.errors import LogError, PoisonError
from av_assets.domain.logs.contract import infer_streams
from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE, DriveSpec, slug
from av_assets.domain.logs.integrity.stream_stats import StreamStats, measure
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.simulation import faults_content as content
from av_assets.domain.simulation import faults_files as files
from av_assets.domain.simulation import faults_schema as schema
from av_assets.domain.simulation import faults_timing as timing
from av_assets.domain.simulation.recorder import SUMS_FILE, write_sums
from av_assets.policies.integrity import IntegrityPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Act = Callable[[Path, np.random.Generator], None]

Severity = Literal["refused", "error", "warn", "none"]


@dataclass(frozen=True)
class Fault:
    """A fault by name.

    Attributes:
        expects: the reason code or integrity rule that must answer; empty where nothing may.
        severity: `refused` for a reason code, else that of the rule; `none` for what only looks like a fault.
    """

    name: str
    description: str
    expects: str
    severity: Severity = "error"


_CATALOGUE: tuple[tuple[Fault, Act], ...] = (
    (Fault("truncate", "the log file ends in the middle", "file_is_whole"), files.truncate),
    (Fault("truncate_at_byte", "the log file ends at any byte", "file_is_whole"), files.truncate_at_byte),
    (Fault("empty_file", "the log file has no bytes", "empty_log", "refused"), files.empty_file),
    (Fault("not_a_bag", "the log file is a web page", "not_a_log", "refused"), files.not_a_bag),
    (Fault("zero_messages", "the log opens and holds no message", "no_messages", "refused"), files.zero_messages),
    (Fault("bit_flip", "a bit of the log is not what SHA256SUMS says", "checksum_mismatch", "refused"),
     files.bit_flip),
    (Fault("chunk_bit_flip", "a bit of a chunk is not what the chunk's checksum says", "file_is_whole"),
     files.chunk_bit_flip),
    (Fault("no_index", "the recorder died before it wrote the index", "log_is_indexed", "warn"), files.no_index),
    (Fault("missing_split", "the second file of the recording did not come", "file_is_whole"), files.missing_split),
    (Fault("drop_marker", "the upload never said that it is complete", "missing_marker", "refused"), files.drop_marker),
    (Fault("bad_id", "the drive id breaks the grammar", "invalid_drive_id", "refused"), files.bad_id),
    (Fault("drop_messages", "one in twelve IMU messages is lost", "no_message_is_lost", "warn"), timing.drop_messages),
    (Fault("duplicate_messages", "some IMU messages are recorded twice", "messages_are_unique", "warn"),
     timing.duplicate_messages),
    (Fault("reorder_messages", "some IMU messages come before those they follow", "sensor_time_moves_forward"),
     timing.reorder_messages),
    (Fault("message_gap", "three tenths of the lidar turns are missing", "has_no_gap"), timing.message_gap),
    (Fault("low_rate", "a camera runs at half its rate", "rate_matches_contract"), timing.low_rate),
    (Fault("late_start", "the lidar starts long after the others", "covers_the_drive"), timing.late_start),
    (Fault("duplicate_stamps", "turns of the lidar carry the stamp of the turn before", "stamps_are_unique", "warn"),
     timing.duplicate_stamps),
    (Fault("backward_stamps", "an IMU stamp lies 50 ms back", "sensor_time_moves_forward"), timing.backward_stamps),
    (Fault("clock_jump", "the clock of a camera jumps 2.5 s ahead", "clock_does_not_jump"), timing.clock_jump),
    (Fault("clock_drift", "the clock of the IMU runs two per cent fast", "clock_does_not_drift", "warn"),
     timing.clock_drift),
    (Fault("uptime_clock", "the IMU stamps time since start-up", "clock_counts_from_the_epoch", "warn"),
     timing.uptime_clock),
    (Fault("zero_clock", "the radar stamps zero", "clock_counts_from_the_epoch", "warn"), timing.zero_clock),
    (Fault("frozen_clock", "the clock of the radar stands still", "clock_runs"), timing.frozen_clock),
    (Fault("gps_leap", "the receiver stamps GPS time, 18 s ahead", "clock_is_near_log_time", "warn"), timing.gps_leap),
    (Fault("swapped_stamp", "seconds and nanoseconds of the IMU are exchanged", "stamp_fields_are_in_order", "warn"),
     timing.swapped_stamp),
    (Fault("rename_topic", "a camera topic has another name", "stream_is_present"), schema.rename_topic),
    (Fault("wrong_type", "the lidar's topic carries temperatures", "type_matches_role"), schema.wrong_type),
    (Fault("unknown_type", "the radar's type has no definition", "type_known", "warn"), schema.unknown_type),
    (Fault("wrong_serialization", "IMU messages are no CDR", "serialization_is_valid"), schema.wrong_serialization),
    (Fault("corrupt_message", "IMU messages end too early", "messages_decode"), schema.corrupt_message),
    (Fault("frozen_camera", "a camera repeats one picture", "frames_are_live"), content.frozen_camera),
    (Fault("black_frame", "a camera goes black", "pictures_show_something"), content.black_frame),
    (Fault("half_jpeg", "some pictures are cut in the middle", "pictures_are_complete"), content.half_jpeg),
    (Fault("nan_lidar", "two fifths of the lidar points are no numbers", "points_are_finite"), content.nan_lidar),
    (Fault("empty_lidar", "some lidar turns hold no point", "clouds_hold_points"), content.empty_lidar),
    (Fault("unit_swap", "the IMU gives accelerations in g", "acceleration_includes_gravity"), content.unit_swap),
    (Fault("imu_nan", "the IMU gives a turn rate that is no number", "values_are_finite"), content.imu_nan),
    (Fault("gps_jump", "the position jumps five kilometres", "speed_is_possible"), content.gps_jump),
    (Fault("gps_null_island", "fixes at latitude and longitude zero", "position_is_not_zero"), content.gps_null_island),
    (Fault("gps_off_earth", "latitude and longitude are mixed up", "position_is_on_earth"), content.gps_off_earth),
    (Fault("can_counter_skip", "a moment of the CAN bus is missing", "can_counter_counts"), content.can_counter_skip),
    (Fault("can_counter_wrap", "CAN counters wrap, as they should", "", "none"), content.can_counter_wrap),
    (Fault("missing_calibration", "no camera_info and no static transforms", "camera_has_intrinsics", "warn"),
     schema.missing_calibration),
    (Fault("missing_extrinsics", "no static transforms", "sensors_have_extrinsics", "warn"), schema.missing_extrinsics),
    (Fault("bad_intrinsics", "a negative focal length", "intrinsics_are_valid"), schema.bad_intrinsics),
    (Fault("bad_extrinsics", "transforms that stretch", "extrinsics_are_rigid"), schema.bad_extrinsics),
)  # fmt: skip
FAULTS: dict[str, Fault] = {fault.name: fault for fault, _ in _CATALOGUE}
STEADY_KINDS = ("camera", "lidar", "radar", "imu", "gnss")
_KEEP_SUMS = {"bit_flip"}


def inject(name: str, drive: Path, out_dir: Path, seed: int) -> Path:
    """Copy a drive to `out_dir` and damage the copy; the same seed gives the same bytes.

    Args:
        drive: a drive folder, any folder with logs, or a single log file. Without a `drive.yaml` the copy gets
            one that says what the good log holds.

    Returns:
        The folder of the damaged copy: `out_dir/<name of the drive>`.

    Raises:
        PoisonError: unknown fault, or the drive lacks what the fault needs.
    """
    if name not in FAULTS:
        known = ", ".join(FAULTS)
        raise PoisonError(f"no fault {name!r}; there are {known}", code="unknown_fault")
    act = next(act for fault, act in _CATALOGUE if fault.name == name)
    out_dir.mkdir(parents=True, exist_ok=True)
    folder = _copy(drive, out_dir)
    marked = (folder / MARKER_FILE).exists()
    (folder / MARKER_FILE).unlink(missing_ok=True)
    if not (folder / SPEC_FILE).exists():
        (folder / SPEC_FILE).write_text(sniffed_spec(folder).to_yaml(), "utf-8")
    act(folder, np.random.default_rng([seed, *name.encode()]))
    if name not in _KEEP_SUMS and (folder / SUMS_FILE).exists():
        write_sums(folder)
    if marked and name != "drop_marker":
        (folder / MARKER_FILE).touch()
    return folder


def sniffed_spec(folder: Path) -> DriveSpec:
    """A contract that the logs of a folder keep: all their streams, and the rates of those that have one."""
    stats: dict[str, StreamStats] = {}
    with suppress(LogError), LogReader(folder) as reader:
        stats = measure(reader, {}, IntegrityPolicy.load())
    found = infer_streams({topic: one.msgtype for topic, one in stats.items() if one.count}, {})
    streams = {}
    for role, stream in found.items():
        track, steady = stats[stream.topic].track, stream.kind in STEADY_KINDS
        rate = round(1e9 / track.step_ns, 3) if steady and track.step_ns and not track.in_bursts else None
        streams[role] = stream.model_copy(update={"required": steady, "rate_hz": rate})
    return DriveSpec(drive=slug(folder.name), streams=streams)


def _copy(drive: Path, out_dir: Path) -> Path:
    if not drive.is_file():
        folder = out_dir / drive.name
        shutil.copytree(drive, folder)
    else:
        folder = out_dir / slug(drive.stem)
        folder.mkdir()
        shutil.copyfile(drive, folder / drive.name)
    for path in [folder, *folder.rglob("*")]:  # a copy of what is read-only can still be damaged
        path.chmod(path.stat().st_mode | 0o200)
    return folder
