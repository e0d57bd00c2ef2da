"""What a model must show before it may be promoted: thresholds per slice, and when a slice has too little to
say.

Belongs here: numbers that decide, and the numbers that define the metrics. Does not belong here: the metrics.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
NuscenesClass = Literal[
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
]
DEFAULT_SLICE = "default"


class SliceThresholds(BaseModel):
    """What one slice must meet."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    min_map50: Share = Field(description="mean over classes of the COCO average precision at IoU 0.5")
    min_miou: Share = Field(description="mean IoU of drivable and not drivable area")
    max_ece: Share = Field(description="expected calibration error of the detection scores")
    max_map50_loss: Share = Field(description="against the baseline, absolute")
    min_map3d: Share | None = Field(
        default=None, description="nuScenes mAP by centre distance; null: it decides nothing"
    )
    min_nds: Share | None = Field(
        default=None, description="nuScenes detection score, 0.9 at most; null: it decides nothing"
    )
    critical: bool = Field(
        description="a critical slice with too little data makes the whole verdict insufficient"
    )


class EvaluationPolicy(Policy):
    """Definitions and thresholds of an evaluation report."""

    name: ClassVar[str] = "evaluation"

    min_box_px: Annotated[float, Field(ge=0)] = Field(
        description="shorter side in camera pixels; smaller objects, and detections on them, are ignored"
    )
    max_occlusion: Share = Field(description="objects hidden more than this are ignored")
    score_floor: Share = Field(description="detections below are not kept; the calibration error starts here")
    display_score: Share = Field(description="lowest score that example pictures show")
    match_iou: Annotated[float, Field(gt=0, le=1)] = Field(
        description="overlap that makes a detection correct"
    )
    nuscenes_classes: dict[str, NuscenesClass] = Field(
        description="nuScenes class of each class: gives its range and the errors that it has"
    )
    distance_bands_m: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, description="outer distances of the rings in which 3D detection is told apart"
    )
    calibration_bins: Count
    bootstrap_rounds: Count = Field(description="resamples of drives behind each confidence interval")
    bootstrap_seed: int
    latency_warmup: Annotated[int, Field(ge=0)]
    latency_runs: Count
    max_latency_p95_ms: Annotated[float, Field(gt=0)]
    min_drives: Count
    min_frames: Count
    min_objects: Count
    slices: dict[str, SliceThresholds]

    @model_validator(mode="after")
    def _has_a_default(self) -> Self:
        if DEFAULT_SLICE not in self.slices:
            raise ValueError(f"slices must hold an entry {DEFAULT_SLICE!r}")
        return self

    @model_validator(mode="after")
    def _bands_rise(self) -> Self:
        if list(self.distance_bands_m) != sorted(set(self.distance_bands_m)):
            raise ValueError("distance_bands_m must rise")
        return self

    def thresholds(self, slice_name: str) -> SliceThresholds:
        return self.slices.get(slice_name, self.slices[DEFAULT_SLICE])
