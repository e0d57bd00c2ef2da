"""When a stretch of driving is an event: thresholds of the detectors and where they come from."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _rising(levels: tuple[float, ...]) -> tuple[float, ...]:
    if list(levels) != sorted(set(levels)):
        raise ValueError("levels must rise")
    return levels


class BrakeThresholds(_Part):
    """Harsh braking. UN R157 5.3.1.1 calls more than 5 m/s2 an emergency manoeuvre; 0.65 g is an SHRP2
    trigger."""

    levels_mps2: tuple[Positive, Positive, Positive] = Field(description="deceleration of levels 1, 2, 3")
    min_duration_s: NotNegative
    agree_mps2: Positive = Field(description="sources whose strongest decelerations differ by less agree")
    pressure_bar: Positive = Field(description="brake pressure that confirms a braking")
    applied_share: Positive = Field(description="brake signal (0..1) that confirms it without a pressure")

    _rising = field_validator("levels_mps2")(_rising)


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
    button_level: Positive = Field(description="value of the button signal (0 or 1) that counts as pressed")
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
    visible_s: NotNegative = Field(
        description="UN R157 5.2.5.2: 0.72 s of visible lateral motion before entry"
    )
    visible_lateral_mps: Positive = Field(description="lateral speed that can be seen as motion")
    r157_decel_mps2: Positive
    r157_delay_s: NotNegative
    afgbv_decel_mps2: Positive = Field(description="EU 2022/1426 and AFGBV: without standing passengers")
    afgbv_buildup_s: NotNegative = Field(description="time until that deceleration is reached")
    afgbv_standing_decel_mps2: Positive = Field(description="with standing passengers")
    afgbv_standing_buildup_s: NotNegative
    afgbv_reaction_s: NotNegative


class HazardThresholds(_Part):
    """Something stands in the path and leaves little room."""

    half_width_m: Positive
    max_speed_mps: Positive = Field(description="over ground; faster objects do not stand")
    standing_s: NotNegative = Field(description="how long it must have stood when the event begins")
    required_decel_mps2: Positive = Field(description="v^2 / (2 d)")
    max_gap_m: Positive
    min_duration_s: NotNegative


class ConflictThresholds(_Part):
    """Somebody is met closely: time to collision in the path, post-encroachment time where paths cross."""

    half_width_m: Positive = Field(description="of the path that the time to collision is counted in")
    max_gap_m: Positive
    ttc_s: Positive = Field(description="time to collision of level 1")
    critical_ttc_s: Positive = Field(description="time to collision of level 2")
    min_closing_mps: Positive = Field(description="slower approaches are no conflict")
    min_duration_s: NotNegative
    pet_s: Positive = Field(description="post-encroachment time of level 1")
    critical_pet_s: Positive = Field(description="post-encroachment time of level 2")
    pet_min_angle_rad: Positive = Field(description="between the two directions; below it nobody crosses")
    pet_min_track_mps: Positive = Field(description="over ground; slower objects do not cross")
    pet_half_width_m: Positive = Field(description="half of the strip that the ego vehicle sweeps")
    pet_horizon_s: Positive = Field(description="who passes earlier or later than this does not meet")
    rear_bumper_x_m: float = Field(description="ego frame; where the ego vehicle has left the crossing")


class RssThresholds(_Part):
    """Safe longitudinal distance of Responsibility-Sensitive Safety (Shalev-Shwartz 2017, ad-rss-lib)."""

    half_width_m: Positive
    response_s: Positive
    accel_mps2: Positive = Field(description="strongest acceleration during the response")
    brake_min_mps2: Positive = Field(description="braking that the ego vehicle does at least")
    brake_max_mps2: Positive = Field(description="braking that the vehicle ahead may do")
    max_gap_m: Positive
    min_ego_mps: Positive = Field(description="slower, as in a queue, is not judged")
    min_front_mps: Positive = Field(
        description="ahead, along the ego axis; who crosses or comes is not judged"
    )
    min_duration_s: NotNegative
    severe_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="level 2: the gap is at most this share of the safe one"
    )


class LaneChangeThresholds(_Part):
    """The ego vehicle moves over by one lane: it swings out and back, and its heading returns."""

    lobe_mps2: Positive = Field(description="lateral acceleration of each of the two swings")
    rest_mps2: Positive = Field(description="lateral acceleration below which a swing is over")
    min_offset_m: Positive
    max_offset_m: Positive
    max_heading_rad: Positive = Field(description="more is a turn")
    heading_return_rad: Positive = Field(description="the heading after it, against the one before")
    min_duration_s: NotNegative
    max_duration_s: Positive
    min_speed_mps: Positive


class TurnThresholds(_Part):
    """The heading changes at a junction: more than 45 degrees (C6)."""

    rate_radps: Positive = Field(description="turn rate that begins a turn")
    levels_rad: tuple[Positive, Positive] = Field(description="heading change of a turn and of a U-turn")
    max_duration_s: Positive = Field(description="longer is a bend or a roundabout's circle, not a turn")
    min_speed_mps: Positive = Field(description="mean; slower is manoeuvring")
    max_radius_m: Positive = Field(description="way over heading change; wider is a bend of the road")

    _rising = field_validator("levels_rad")(_rising)


class CorneringThresholds(_Part):
    """Lateral acceleration as speed times turn rate."""

    levels_mps2: tuple[Positive, Positive, Positive]
    min_duration_s: NotNegative

    _rising = field_validator("levels_mps2")(_rising)


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
    conflict: ConflictThresholds
    rss: RssThresholds
    lane_change: LaneChangeThresholds
    turn: TurnThresholds
    cornering: CorneringThresholds
