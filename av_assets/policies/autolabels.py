"""How the lidar labels the camera: which frames, what counts as ground, which sizes are which class."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class VehicleKind(BaseModel):
    """A size that the unseen part of a vehicle is completed to, from the height that was seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    min_height_m: Annotated[float, Field(ge=0)]
    length_m: Positive
    width_m: Positive
    height_m: Positive


class TrackRules(BaseModel):
    """Which sightings make a track, and what a track is worth."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sure_score: Share = Field(description="sightings from here on may begin a track")
    doubtful_score: Share = Field(description="those from here on may carry one on")
    gate: Positive = Field(description="Mahalanobis distance up to which a sighting may belong to a track")
    max_gap_s: Positive = Field(description="a track that was not seen for longer has ended")
    bridge_frames: Annotated[int, Field(ge=0)] = Field(
        description="tracked frames without sighting that are filled"
    )
    full_trust_frames: Annotated[int, Field(ge=1)] = Field(
        description="sightings from which a track is believed"
    )
    score_share: Share = Field(description="weight of the track's mean score in the score of a sighting")
    bridged_score: Share = Field(description="score of what was not seen, as a share of the track's mean")


class GroundMotion(BaseModel):
    """How things of a class move over ground, and how well their middle is measured; standard deviations."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    noise_m: Positive
    speed_mps: Positive
    accel_mps2: Positive = Field(description="per root second")


class PictureMotion(BaseModel):
    """How boxes move in the picture, in heights of the box; standard deviations."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    noise: Positive
    speed_per_s: Positive
    accel_per_s2: Positive


class AutolabelPolicy(Policy):
    """Lengths in metres of the ego frame; heights above the fitted ground."""

    name: ClassVar[str] = "autolabels"
    camera: str = Field(description="role of the camera that is labelled")
    lidar: str = Field(description="role of the lidar that labels are made from")
    every_kth_frame: Annotated[int, Field(ge=1)] = Field(description="labelled reference frames of a drive")
    max_distance_m: Positive
    ground_tolerance_m: Positive = Field(description="height up to which a point is ground")
    min_height_m: Positive = Field(description="height from which a point is part of an object")
    structure_height_m: Positive = Field(description="what reaches higher is a building, a tree or a pole")
    structure_cell_m: Positive
    clutter_max_intensity: Share = Field(description="fainter returns off the ground are rain or fog")
    canopy_height_m: Positive = Field(
        description="something this high above a slim thing makes it a trunk or pole"
    )
    canopy_reach_m: Positive = Field(description="how far nearer to the sensor a canopy may begin")
    off_road_margin_m: Positive = Field(
        description="vehicles further outside the road edges are not labelled"
    )
    side_view_rad: Positive = Field(
        description="points to the side that still help to fit what reaches into view"
    )
    voxel_m: Positive = Field(description="grid on which points are merged before clustering")
    across_gap_m: Positive = Field(description="gap inside one object across the line of sight, near")
    across_gap_rad: Positive = Field(description="the same, growing with distance")
    along_gap_m: Positive = Field(
        description="gap inside one object along the line of sight (bonnet to windscreen)"
    )
    apart_gap_m: Positive = Field(description="gap along the line of sight between people who stand together")
    apart_min_side_m: Positive = Field(description="slimmer parts are no people")
    apart_most: Annotated[int, Field(ge=2)] = Field(description="more parts are no group of people")
    min_points: Annotated[int, Field(ge=1)]
    beam_spacing_rad: Positive = Field(description="angle between beams: how much of the top may be unseen")
    vehicle_kinds: tuple[VehicleKind, ...]
    vehicle_min_side_m: Positive
    vehicle_max_side_m: Positive
    pedestrian_height_m: tuple[float, float]
    pedestrian_max_side_m: Positive
    pedestrian_size_m: tuple[float, float, float]
    cone_height_m: tuple[float, float]
    cone_max_side_m: Positive
    cone_size_m: tuple[float, float, float]
    cone_min_intensity: Share = Field(description="cones carry reflectors; small dark things are not cones")
    base_scores: dict[str, Share] = Field(
        description="score per class of the weakest evidence; more points add the rest"
    )
    points_for_full_score: Annotated[int, Field(ge=1)]
    min_score: Share = Field(description="what one sweep shows less of is not tracked")
    min_box_px: Positive
    min_inside_share: Share = Field(description="boxes of which less is in the picture are not labelled")
    max_occlusion: Share = Field(description="what is hidden more is not labelled in the picture")
    max_label_distance_m: Positive = Field(description="what is further away is not labelled in the picture")
    track_every_kth_frame: Annotated[int, Field(ge=1)] = Field(
        description="reference frames whose sweeps are tracked"
    )
    tracks: TrackRules
    ground_motion: dict[str, GroundMotion]
    ego_speed_mps: Positive = Field(
        description="added to speeds where the motion of the vehicle is not measured"
    )
    ego_accel_mps2: Positive = Field(description="the same for accelerations")
    direction_window_s: Positive = Field(description="neighbours that agree on the direction of what stands")
    direction_speed_mps: Positive = Field(description="what moves faster points where it goes")
    direction_off_rad: Positive = Field(description="from the fitted sides, up to which motion is believed")
    contradicted_share: Share = Field(
        description="of a track's frames in which others stand where it was not seen, from which it is none"
    )
    inside_share: Share = Field(
        description="of a footprint within a better one, from which it is the same thing"
    )
    picture_motion: PictureMotion
    road_max_intensity: Share = Field(description="asphalt is darker to the lidar than what lies beside it")
    paint_min_intensity: Share = Field(description="brighter ground is paint, which is on the road")
    road_bin_m: Positive
    road_reach_m: Positive
    road_min_width_m: Positive
    road_max_width_m: Positive
    cone_row_min: Annotated[int, Field(ge=2)] = Field(
        description="cones in a row that close what is behind them"
    )
