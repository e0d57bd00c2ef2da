"""When a stretch of driving is an event: thresholds of the detectors and where they come from."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BrakeThresholds(_Part):
    """Harsh braking. UN R157 5.3.1.1 calls more than 5 m/s2 an emergency manoeuvre; 0.65 g is an SHRP2
    trigger."""

    levels_mps2: tuple[Positive, Positive, Positive] = Field(description="deceleration of levels 1, 2, 3")
    min_duration_s: NotNegative


class DisengagementThresholds(_Part):
    """The automation stops driving."""

    min_duration_s: NotNegative = Field(description="shorter drop-outs of the signal do not count")
    takeover_window_s: Positive = Field(
        description="driver input this close to the edge makes it driver-initiated"
    )
    brake_rise: Positive = Field(
        description="rise of the brake signal (0..1) that counts as the driver's foot"
    )
    steering_rise_rad: Positive = Field(description="change of steering that counts as the driver's hands")
    merge_gap_s: NotNegative = Field(description="re-engagements shorter than this join two disengagements")


class CorridorThresholds(_Part):
    """The strip that the ego vehicle is about to drive over, bent by its own turn rate."""

    front_bumper_x_m: NotNegative = Field(description="ego frame; gaps are counted from here")
    min_speed_mps: Positive = Field(description="below this no curvature can be told: straight ahead")
    curvature_window_s: Positive = Field(description="mean of the turn rate")


class CutInThresholds(_Part):
    """A neighbour comes into the corridor. UN R157 5.2.5.2 wants lateral motion to be visible."""

    inside_m: Positive
    outside_m: Positive = Field(description="where the neighbour must have been before")
    enter_within_s: Positive = Field(description="longest time from outside to inside")
    max_gap_m: Positive = Field(
        description="farther away the bend of the road ahead is not known well enough"
    )
    min_track_speed_mps: Positive = Field(
        description="along the ego axis, over ground: people who cross do not count"
    )
    min_inside_s: NotNegative
    min_lateral_mps: NotNegative
    conflict_ttc_s: Positive = Field(description="time to collision of level 2")
    critical_ttc_s: Positive = Field(description="time to collision of level 3")


class HazardThresholds(_Part):
    """Something stands in the path and leaves little room."""

    half_width_m: Positive
    max_speed_mps: Positive = Field(description="over ground; faster objects do not stand")
    standing_s: NotNegative = Field(description="how long it must have stood when the event begins")
    required_decel_mps2: Positive = Field(description="v^2 / (2 d)")
    max_gap_m: Positive
    min_duration_s: NotNegative


class EventsPolicy(Policy):
    """Numbers of all event detectors; an event leaves where it falls below `exit_share` of its entry
    threshold."""

    name: ClassVar[str] = "events"
    smoothing_hz: Positive = Field(description="-3 dB frequency of the zero-phase low-pass")
    median_s: NotNegative = Field(description="window of the median against spikes; one sample: no effect")
    max_gap_s: Positive = Field(description="longer holes in a signal end an event")
    merge_gap_s: NotNegative = Field(description="events of a kind closer than this are one")
    exit_share: Annotated[float, Field(gt=0, le=1)]
    brake: BrakeThresholds
    disengagement: DisengagementThresholds
    corridor: CorridorThresholds
    cut_in: CutInThresholds
    hazard: HazardThresholds
