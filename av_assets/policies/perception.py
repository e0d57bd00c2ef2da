"""What the perception network sees, how it is built, and what teaches it: the numbers that training shares.

Belongs here: sensors, input, grid ahead of the vehicle, network, losses, augmentation, which labels teach. Does
not belong here: the schedule of a run and its hardware (`training`), how the result is packed (`packaging`).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Task = Literal["boxes2d", "drivable", "boxes3d"]
Variant = Literal["camera", "camera_lidar", "camera_lidar_radar"]
COARSEST_STRIDE = 32
COARSEST_GRID_STRIDE = 8


class PerceptionConfig(Policy):
    """All that changes what the network computes; `TrainingPolicy` adds how it is taught."""

    variant: Variant = Field(description="which sensors the network takes")
    tasks: tuple[Task, ...] = Field(description="what it answers; boxes2d always")
    lidars: tuple[str, ...] = Field(description="roles of the lidars, put together into one cloud")
    radars: tuple[str, ...] = Field(description="roles of the radars")
    input_width: Count = Field(description="px, a multiple of 32; camera frames are resized to it")
    input_height: Count = Field(description="px, a multiple of 32")
    # The grid on the ground: rows ahead, columns from right to left, in the ego frame.
    bev_near_m: float = Field(description="where the grid begins ahead of the ego origin")
    bev_far_m: Positive = Field(description="where it ends")
    bev_side_m: Positive = Field(description="how far it reaches to either side")
    bev_cell_m: Positive = Field(description="side of a cell; the grid has a multiple of 8 cells each way")
    bev_heights_m: tuple[float, ...] = Field(
        min_length=1,
        description="above ground: where camera features are looked up for each column of the grid (Simple-BEV)",
    )
    widths: tuple[Count, Count, Count, Count, Count] = Field(
        description="channels at strides 2, 4, 8, 16, 32"
    )
    feature_width: Count = Field(description="channels of the fused stride-4 feature map")
    head_width: Count = Field(description="channels of the layer that all heads share")
    bev_widths: tuple[Count, Count, Count] = Field(
        description="channels on the grid at 2, 4 and 8 cells; the first is also that of the fused map"
    )
    bev_camera_width: Count = Field(description="camera channels that are lifted to the grid")
    max_detections: Count = Field(description="boxes per frame that the exported network returns")
    max_detections_3d: Count = Field(description="cuboids per frame that it returns")
    max_objects: Count = Field(description="labels that a frame can hold, of each kind; more is an error")
    heatmap_weight: Positive = Field(description="of the focal loss in the picture (CenterNet: 1)")
    box_weight: Positive = Field(description="of 1 - GIoU (TTFNet: 5)")
    drivable_weight: NotNegative = Field(description="of the cross entropy of the drivable area")
    bev_heatmap_weight: NotNegative = Field(description="of the focal loss on the grid (CenterPoint: 1)")
    bev_box_weight: NotNegative = Field(description="of the L1 of cuboids (CenterPoint on nuScenes: 0.25)")
    bev_velocity_share: NotNegative = Field(
        description="of velocity within that L1, since m/s are larger numbers than metres (CenterPoint: 0.2)"
    )
    gaussian_share: Positive = Field(
        description="extent of the target peak as a share of the box (TTFNet: 0.54)"
    )
    bev_min_overlap: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="a footprint moved by the radius of its peak still overlaps that much (CenterPoint: 0.1)"
    )
    bev_min_radius: Annotated[int, Field(ge=0)] = Field(
        description="cells; of peaks (CenterPoint: 2 of 0.8 m)"
    )
    flip_probability: Share
    brightness: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="frames are scaled by up to 1 +- this"
    )
    contrast: Annotated[float, Field(ge=0, lt=1)]
    scale_jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="zoom in or out by up to this share"
    )
    turn_jitter_deg: Annotated[float, Field(ge=0, le=45)] = Field(
        description="the grid is turned about the ego origin by up to this"
    )
    lidar_dropout: Share = Field(description="chance that a frame is taught without its lidar")
    radar_dropout: Share = Field(description="chance that a frame is taught without its radar")
    min_box_px: NotNegative = Field(description="shorter side in input pixels; smaller are ignored")
    max_occlusion: Share = Field(description="labels hidden more than this are ignored")
    min_box_points: Annotated[int, Field(ge=0)] = Field(
        description="cuboids with fewer lidar points are ignored"
    )

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Cells (ahead, across)."""
        ahead_m, across_m = self.bev_far_m - self.bev_near_m, 2 * self.bev_side_m
        return round(ahead_m / self.bev_cell_m), round(across_m / self.bev_cell_m)

    @model_validator(mode="after")
    def _input_fits_the_strides(self) -> Self:
        if self.input_width % COARSEST_STRIDE or self.input_height % COARSEST_STRIDE:
            raise ValueError(f"input_width and input_height must be multiples of {COARSEST_STRIDE}")
        return self

    @model_validator(mode="after")
    def _grid_fits_its_cells(self) -> Self:
        lengths_m = (self.bev_far_m - self.bev_near_m, 2 * self.bev_side_m)
        for cells, length_m in zip(self.grid_shape, lengths_m, strict=True):
            if cells < 1 or cells % COARSEST_GRID_STRIDE or abs(cells * self.bev_cell_m - length_m) > 1e-6:
                raise ValueError(f"the grid must have a multiple of {COARSEST_GRID_STRIDE} cells each way")
        return self

    @model_validator(mode="after")
    def _tasks_fit_the_network(self) -> Self:
        if "boxes2d" not in self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks must name boxes2d, and each task once")
        return self
