"""How streams are brought onto one grid: the numbers of synchronization."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from av_assets.policies import Policy

Seconds = Annotated[float, Field(gt=0)]
SignalClass = Literal["linear", "angle", "slerp", "hold"]
Boundary = Literal["null", "hold", "drop", "error"]


class SyncPolicy(Policy):
    """Numbers of the synchronization; the default tolerance is half the slower period plus `jitter_s`."""

    name: ClassVar[str] = "sync"
    reference_role: str | None = Field(
        description="lidar or camera to take as reference; null: first by name"
    )
    fixed_rate_hz: Annotated[float, Field(gt=0, le=1000)] = Field(description="grid without lidar and camera")
    clip_s: Seconds = Field(description="length of one clip file")
    segment_s: Seconds = Field(description="length of what is finished at once: whole clips, at least one")
    keyframe_s: Seconds = Field(description="spacing of keyframes; the first row of a clip always is one")
    row_group_bytes: Annotated[int, Field(ge=1 << 16)] = Field(
        description="payload of one row group, about; a clip that is larger has several"
    )
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
    max_gap_s: dict[str, Seconds] = Field(description="signal -> longest gap, instead of the two above")
    boundary: dict[SignalClass, Boundary] = Field(
        description="rows where a signal has no sample in reach: null leaves them empty, hold takes the last "
        "value up to hold_max_age_s, drop leaves the row out, error refuses the drive"
    )
    out_of_order: Literal["sort", "drop", "error"] = Field(
        description="messages behind the latest stamp by more than watermark_s"
    )
    watermark_s: Annotated[float, Field(ge=0)] = Field(description="lateness that is always sorted in")
    max_ahead_s: Seconds = Field(
        description="a stamp this far after its log time does not make those that follow late"
    )
    hold_signals: tuple[str, ...] = Field(description="discrete signals: the last value holds")
    hold_max_age_s: Seconds = Field(description="age at which a held value is no longer believed")
    angle_signals: tuple[str, ...] = Field(description="signals in radians that wrap at pi")
    aliases: dict[str, str] = Field(description="message field -> canonical signal name")
    max_signal_fields: Annotated[int, Field(ge=1)] = Field(description="numbers taken from one small message")
    deskew: Literal["none", "rotation", "full"] = Field(
        description="move lidar points to the time of their row, by the turn or by all of the ego motion"
    )
    points_zstd_level: Annotated[int, Field(ge=0, le=19)] = Field(
        description="0: points are stored as they are"
    )
    structured_zstd_level: Annotated[int, Field(ge=1, le=19)] = Field(description="all columns but payloads")
    histogram_bins: Annotated[int, Field(ge=3, le=501)] = Field(description="bins of the residual histogram")

    @property
    def watermark_ns(self) -> int:
        return round(self.watermark_s * 1e9)

    @property
    def max_ahead_ns(self) -> int:
        return round(self.max_ahead_s * 1e9)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if lacking := [name for name in SignalClass.__args__ if name not in self.boundary]:  # type: ignore[attr-defined]
            raise ValueError(f"boundary says nothing of {', '.join(lacking)}")
        return self
