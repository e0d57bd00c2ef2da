"""Thresholds of the integrity rules. Belongs here: numbers. Does not belong here: the rules."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.domain.logs.drive_spec import StreamKind
from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Samples = Annotated[int, Field(ge=1, le=10_000)]


class IntegrityPolicy(Policy):
    """When a stream is too slow, too gappy, too late or too wrong."""

    name: ClassVar[str] = "integrity"
    rate_tolerance: Fraction = Field(description="relative deviation of the median rate from the contract")
    warn_gap_periods: Positive = Field(description="a gap longer than this many periods and warn_gap_s warns")
    warn_gap_s: Positive
    error_gap_periods: Positive = Field(
        description="longer than this many periods and error_gap_s is an error"
    )
    error_gap_s: Positive
    min_span_coverage: Fraction = Field(
        description="share of the drive between first and last message of a stream"
    )
    max_uncovered_s: Positive = Field(
        description="so little may be missing at both ends of even a short drive"
    )
    max_backward_stamps: Annotated[int, Field(ge=0)] = Field(description="sensor stamps that step back")
    max_duplicate_fraction: Fraction = Field(description="share of sensor stamps equal to the one before")
    duplicates_allowed: tuple[StreamKind, ...] = Field(description="kinds whose stamps may repeat")
    max_equal_frames: Annotated[int, Field(ge=1)] = Field(
        description="identical payloads in a row of a camera or lidar"
    )
    max_speed_mps: Positive = Field(description="speed implied by two position fixes a second or more apart")
    min_messages_for_rate: Annotated[int, Field(ge=3)] = Field(
        description="below it, rates and gaps are not judged"
    )
    steady_window_s: Positive = Field(description="time over which a sagging rate is seen")
    min_steady_rate: Fraction = Field(description="share of the expected rate that every such window keeps")
    max_lost_share: Fraction = Field(description="share of messages that the median period expects in vain")
    max_repeated_share: Fraction = Field(
        description="share of messages equal to the one before, stamp included"
    )
    small_message_share: Fraction = Field(
        description="pictures and clouds below this share of the median size"
    )
    large_message_share: Annotated[float, Field(gt=1)] = Field(description="and above this multiple of it")
    sample_seed: Annotated[int, Field(ge=0)] = Field(description="chooses the messages that are decoded")
    decode_samples: Samples = Field(description="messages that are decoded beside first and last, per topic")
    picture_samples: Samples = Field(description="pictures that are decoded, per camera")
    cloud_samples: Samples = Field(description="clouds that are looked into, per lidar")
    value_samples: Samples = Field(description="measurements that are looked into, per IMU, pose or radar")
    max_fix_hz: Positive = Field(description="position fixes are read at most at this rate")
    max_blank_share: Fraction = Field(description="share of sampled pictures of one colour")
    blank_deviation: Positive = Field(
        description="standard deviation of grey values below it: one colour, of 255"
    )
    max_empty_clouds: Fraction = Field(description="share of sampled clouds without a point")
    max_nan_points: Fraction = Field(description="share of points that are no numbers, in clouds with gaps")
    max_nan_points_dense: Fraction = Field(description="the same in clouds that declare to have none")
    min_gravity_mps2: Positive = Field(description="median acceleration of a vehicle, gravity included")
    max_gravity_mps2: Positive
    max_turn_rate_radps: Positive = Field(description="99th percentile of the angular rate")
    max_out_of_range_share: Fraction = Field(description="share of CAN values outside the limits of the DBC")
    max_counter_skips: Annotated[int, Field(ge=0)] = Field(description="skips of rolling counters on a bus")
    error_counter_skip_share: Fraction = Field(description="share of skips beyond which they are an error")
    max_mount_distance_m: Positive = Field(
        description="length of a static transform between parts of a vehicle"
    )
    alias_rate_tolerance: Fraction = Field(description="relative deviation of the rate of a proposed alias")
    timeline_bins: Annotated[int, Field(ge=10, le=2000)] = Field(
        description="columns of the message timeline"
    )
