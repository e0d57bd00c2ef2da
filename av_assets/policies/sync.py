"""How streams are brought onto one grid: the numbers of synchronization."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from av_assets.policies import Policy

Seconds = Annotated[float, Field(gt=0)]


class SyncPolicy(Policy):
    """Numbers of the synchronization; the default tolerance is half the slower period plus `jitter_s`."""

    name: ClassVar[str] = "sync"
    reference_role: str | None = Field(
        description="lidar or camera to take as reference; null: first by name"
    )
    fixed_rate_hz: Annotated[float, Field(gt=0, le=1000)] = Field(description="grid without lidar and camera")
    clip_s: Seconds = Field(description="length of one clip file")
    jitter_s: Annotated[float, Field(ge=0)] = Field(description="added to half a period for the tolerance")
    tolerance_s: dict[str, Seconds] = Field(description="role -> tolerance instead of the default")
    expected_phase: Literal["measured", "zero"] = Field(
        description="measured: the usual offset of a stream is what its frames are held to"
    )
    phase_s: dict[str, float] = Field(
        description="role -> expected offset to the reference, where it is known"
    )
    one_to_one: bool = Field(description="no frame stands in two rows")
    max_gap_periods: Annotated[float, Field(ge=1)] = Field(
        description="signals are not interpolated across more"
    )
    min_gap_s: Annotated[float, Field(ge=0)] = Field(description="gaps up to this are never too long")
    hold_signals: tuple[str, ...] = Field(description="discrete signals: the last value holds")
    hold_max_age_s: Seconds = Field(description="age at which a held value is no longer believed")
    angle_signals: tuple[str, ...] = Field(description="signals in radians that wrap at pi")
    aliases: dict[str, str] = Field(description="message field -> canonical signal name")
    max_clock_offset_s: Seconds = Field(
        description="median sensor-to-log offset beyond which log time is used"
    )
    max_signal_fields: Annotated[int, Field(ge=1)] = Field(description="numbers taken from one small message")
    points_zstd_level: Annotated[int, Field(ge=0, le=19)] = Field(
        description="0: points are stored as they are"
    )
    structured_zstd_level: Annotated[int, Field(ge=1, le=19)] = Field(description="all columns but payloads")
    histogram_bins: Annotated[int, Field(ge=3, le=501)] = Field(description="bins of the residual histogram")
