"""Thresholds of the integrity rules. Belongs here: numbers. Does not belong here: the rules."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from av_assets.domain.logs.drive_spec import StreamKind
from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


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
    max_backward_stamps: Annotated[int, Field(ge=0)] = Field(description="sensor stamps that step back")
    max_duplicate_fraction: Fraction = Field(description="share of sensor stamps equal to the one before")
    duplicates_allowed: tuple[StreamKind, ...] = Field(description="kinds whose stamps may repeat")
    max_clock_offset_s: Positive = Field(description="median of log time minus sensor time, either way")
    max_clock_jump_s: Positive = Field(description="change of that offset between two messages")
    max_equal_frames: Annotated[int, Field(ge=1)] = Field(
        description="identical payloads in a row of a camera or lidar"
    )
    max_speed_mps: Positive = Field(description="speed implied by two position fixes a second or more apart")
    min_messages_for_rate: Annotated[int, Field(ge=3)] = Field(
        description="below it, rates and gaps are not judged"
    )
    timeline_bins: Annotated[int, Field(ge=10, le=2000)] = Field(
        description="columns of the message timeline"
    )
