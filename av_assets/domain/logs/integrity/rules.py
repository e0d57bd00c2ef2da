"""The catalogue of integrity rules: what each claims, in which unit it measures, and what a person can do.

Belongs here: the rules as data. Does not belong here: judging them (`file_rules`, `stream_rules`, `rules`,
`content_rules`, ...), thresholds (policies).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warn"]
FIXED = "fixed"
CONTRACT = "drive.yaml"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: stable, an affirmative claim in snake_case: it passes when the claim holds.
        severity: the usual one; a finding may be milder or harsher where `meaning` says so.
        unit: of measured value and threshold.
        threshold: where the limit comes from: `drive.yaml`, `<policy>.<key>`, or `fixed`.
        fix: what a person can do when it fails.
    """

    id: str
    severity: Severity
    meaning: str
    unit: str
    threshold: str
    fix: str = ""


_FILE = (
    Rule("file_is_whole", "error",
         "Every log file opens by its index, and all its blocks decode with the right checksum.",
         "damaged files", FIXED, "Salvage the log, or fetch it from the vehicle again."),
    Rule("count_matches_index", "error", "As many messages can be read as the index promises.", "messages",
         "index of the file", "Salvage the log: what is missing is then accounted for."),
    Rule("log_has_messages", "error", "The log holds a message.", "messages", FIXED,
         "Check that recording was on, and record again."),
    Rule("log_is_indexed", "warn",
         "Every log file ends with an index; without one each reading scans the whole file.",
         "files without index", FIXED, "Salvage the log: the copy gets an index."),
    Rule("log_is_in_order", "warn", "Chunks follow each other in log time.", "chunks", FIXED),
    Rule("topic_has_messages", "warn", "Every topic that was announced holds a message.", "topics", FIXED,
         "Check the driver that announces the topic."),
    Rule("type_known", "warn",
         "Every message type has a definition in the log or is a standard one.", "topics", FIXED,
         "Record with definitions; until then the messages are kept as bytes."),
)  # fmt: skip
_STREAM = (
    Rule("stream_is_present", "error",
         "A declared stream is in the log with a message; a warning where it is optional.",
         "messages", CONTRACT, "Confirm the proposed alias in drive.yaml, or repair the sensor."),
    Rule("type_matches_role", "error", "The message type fits the declared kind of the stream.", "0 or 1", CONTRACT,
         "Correct the kind in drive.yaml, or the topic it names."),
    Rule("serialization_is_valid", "error",
         "Messages begin as the encoding of their topic demands.", "messages", FIXED,
         "Correct the encoding that the recorder declares for the topic."),
    Rule("messages_decode", "error", "The first, the last and randomly chosen messages decode by their definition.",
         "messages", FIXED, "Check that recorder and driver use the same message definition."),
    Rule("rate_matches_contract", "error", "The median rate is that of the contract.", "Hz",
         "drive.yaml, integrity.rate_tolerance", "Check the configured rate of the sensor."),
    Rule("rate_is_steady", "warn", "The rate does not sag for longer than half a second.", "share of the rate",
         "integrity.min_steady_rate", "Check the load of the recorder and the link of the sensor."),
    Rule("has_no_gap", "error",
         "No pause is long against the period: long ones warn, very long ones are errors.", "s",
         "integrity.warn_gap_periods, warn_gap_s, error_gap_periods, error_gap_s",
         "Leave the pause out when cutting clips; check cable and recorder."),
    Rule("no_message_is_lost", "warn", "As many messages came as the median period leads to expect.", "share lost",
         "integrity.max_lost_share", "Check queue sizes of the recorder and losses on the network."),
    Rule("covers_the_drive", "error",
         "The stream runs from the begin to the end of the drive.", "share of the drive",
         "integrity.min_span_coverage, max_uncovered_s",
         "Start recording after the sensors are up; cut the drive where it is complete."),
    Rule("sensor_time_moves_forward", "error", "Sensor stamps never step back.", "stamps",
         "integrity.max_backward_stamps", "Check the clock of the sensor; repair stamps by the clock report."),
    Rule("stamps_are_unique", "warn", "No sensor stamp is that of the message before.", "share of stamps",
         "integrity.max_duplicate_fraction", "Check whether the driver sends messages twice."),
    Rule("messages_are_unique", "warn",
         "No message is the same in every byte as the one before.", "share of messages",
         "integrity.max_repeated_share", "Check whether two recorders or relays write the topic."),
    Rule("size_is_usual", "warn", "No picture or cloud is far smaller or larger than the others.", "messages",
         "integrity.small_message_share, large_message_share", "Look at the frames: half a picture is small."),
)  # fmt: skip
_CLOCK = (
    Rule("clock_is_near_log_time", "warn", "Sensor stamps are close to log time.", "s", "clocks.warn_offset_s",
         "Synchronize the clocks of the vehicle (PTP, GPS); the clock report proposes a repair."),
    Rule("clock_does_not_jump", "error",
         "The sensor clock makes no step, and no stamp lies where no delay could put it; small steps warn.", "s",
         "clocks.max_jump_s, min_step_s", "Cut the drive at the jump, or repair stamps by the clock report."),
    Rule("clock_does_not_drift", "warn", "Sensor and log clock run at the same speed.", "ppm", "clocks.min_drift_ppm",
         "Discipline the clock of the sensor; the clock report proposes a repair."),
    Rule("clock_counts_from_the_epoch", "warn", "Stamps count from 1970, not from start-up, zero or 1980.", "0 or 1",
         "clocks.max_offset_s", "Set the clock of the sensor; the clock report proposes a repair."),
    Rule("clock_runs", "error", "Sensor stamps go on while messages come.", "s on one stamp",
         "clocks.max_held_s, frozen_share",
         "Repair by log time as the clock report proposes; check the driver."),
    Rule("stamp_fields_are_in_order", "warn", "Seconds and nanoseconds of the stamps are not swapped.", "0 or 1",
         FIXED, "Correct the driver; the clock report proposes a repair."),
)  # fmt: skip
_PICTURES = (
    Rule("frames_are_live", "error", "A camera or lidar does not repeat one payload.", "equal frames in a row",
         "integrity.max_equal_frames", "Restart the sensor; leave the frozen part out."),
    Rule("pictures_are_complete", "error", "Every picture ends as its format demands, and has the declared size.",
         "pictures", FIXED, "Check the link of the camera and the message size limit of the recorder."),
    Rule("pictures_decode", "error", "Randomly chosen pictures decode.", "pictures", FIXED,
         "Check the encoder of the camera."),
    Rule("pictures_show_something", "error", "Randomly chosen pictures are not black or of one colour.",
         "share of pictures", "integrity.max_blank_share", "Clean or uncover the lens; check exposure."),
    Rule("picture_size_is_constant", "error", "All pictures of a camera have one size.", "sizes", FIXED,
         "Record each size on a topic of its own."),
    Rule("picture_fits_intrinsics", "warn", "Pictures have the size that camera_info was made for.", "px",
         "camera_info", "Publish the calibration of the mode that is recorded."),
)  # fmt: skip
_MEASUREMENTS = (
    Rule("clouds_hold_points", "error",
         "Randomly chosen clouds are not empty; a warning where the stream is not in the contract.", "share of clouds",
         "integrity.max_empty_clouds", "Check the lidar and its driver."),
    Rule("points_are_finite", "error", "Coordinates are numbers; clouds that may hold gaps may hold some NaN.",
         "share of points", "integrity.max_nan_points, max_nan_points_dense", "Check the driver of the lidar."),
    Rule("values_are_finite", "error", "Randomly chosen measurements hold no NaN or infinity.", "messages", FIXED,
         "Check the driver of the sensor."),
    Rule("acceleration_includes_gravity", "warn",
         "The median acceleration is about 9.8 m/s2; an error where it is steadily 1, as in units of g.", "m/s2",
         "integrity.min_gravity_mps2, max_gravity_mps2", "Let the driver give m/s2, gravity included."),
    Rule("turn_rate_is_possible", "warn", "Angular rates are those of a vehicle in rad/s.", "rad/s",
         "integrity.max_turn_rate_radps", "Let the driver give rad/s, not deg/s."),
    Rule("position_is_on_earth", "error", "Latitude and longitude of all valid fixes are in range.", "fixes", FIXED,
         "Check the driver of the receiver."),
    Rule("position_is_not_zero", "error", "No valid fix is at latitude and longitude zero.", "fixes", FIXED,
         "Let the driver say that there is no fix instead of sending zeros."),
    Rule("speed_is_possible", "error",
         "No two fixes imply a speed that no car has.", "m/s", "integrity.max_speed_mps",
         "Leave the part of bad reception out."),
    Rule("signals_are_in_range", "warn", "CAN signals are within the limits that their DBC states.", "values",
         "DBC of the drive, integrity.max_out_of_range_share", "Check that the DBC is that of this vehicle."),
    Rule("can_counter_counts", "error",
         "Rolling counters of CAN messages count up by one; a wrap is no skip, few skips warn.",
         "skips", "DBC of the drive, integrity.max_counter_skips, error_counter_skip_share",
         "Check bus load and queue of the logger."),
    Rule("dbc_is_readable", "error", "The DBC that the contract names can be read.", "0 or 1", CONTRACT,
         "Put the DBC into the drive folder, or correct its name in drive.yaml."),
)  # fmt: skip
_CALIBRATION = (
    Rule("camera_has_intrinsics", "warn", "Every camera has a camera_info beside it.", "0 or 1", FIXED,
         "Record camera_info, or add the calibration of the vehicle to the ledger."),
    Rule("intrinsics_are_valid", "error",
         "Focal lengths are positive and the rectification is a rotation; all zeros (not calibrated) warn.",
         "camera_infos", FIXED, "Calibrate the camera."),
    Rule("sensors_have_extrinsics", "warn", "Static transforms reach every camera, lidar and radar.", "frames", FIXED,
         "Record /tf_static, or add the calibration of the vehicle to the ledger."),
    Rule("extrinsics_are_rigid", "error",
         "Transforms are finite and turn by a unit quaternion; static ones longer than a vehicle warn.",
         "transforms", "integrity.max_mount_distance_m", "Correct the calibration that publishes the transform."),
)  # fmt: skip
RULES: dict[str, Rule] = {
    rule.id: rule for rule in (*_FILE, *_STREAM, *_CLOCK, *_PICTURES, *_MEASUREMENTS, *_CALIBRATION)
}


def catalogue() -> list[dict[str, str]]:
    """All rules in the order in which they are judged, as JSON for documentation and user interfaces."""
    return [dict(vars(rule)) for rule in RULES.values()]
