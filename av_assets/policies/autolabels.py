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
    min_score: Share = Field(description="labels below never leave the labeller")
    min_box_px: Positive
    min_inside_share: Share = Field(description="boxes of which less is in the picture are not labelled")
    track_gate_m: Positive = Field(description="distance from the predicted place at which a track may go on")
    track_max_speed_mps: Positive = Field(
        description="relative speed of a track whose speed is not known yet"
    )
    track_max_gap_s: Positive
    road_max_intensity: Share = Field(description="asphalt is darker to the lidar than what lies beside it")
    paint_min_intensity: Share = Field(description="brighter ground is paint, which is on the road")
    road_bin_m: Positive
    road_reach_m: Positive
    road_min_width_m: Positive
    road_max_width_m: Positive
    cone_row_min: Annotated[int, Field(ge=2)] = Field(
        description="cones in a row that close what is behind them"
    )
