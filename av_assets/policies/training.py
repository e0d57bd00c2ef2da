"""How the perception network is built, taught and exported: the numbers of one training run.

Belongs here: everything that changes the resulting weights, and the bounds of the export. Does not belong
here: the loop that acts on them, the thresholds that a model must meet (`evaluation`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
COARSEST_STRIDE = 32


class TrainingPolicy(Policy):
    """One training run. Equal digest, dataset and seed on the same kind of CPU: equal weights."""

    name: ClassVar[str] = "training"

    input_width: Count = Field(description="px, a multiple of 32; camera frames are resized to it")
    input_height: Count = Field(description="px, a multiple of 32")
    max_cache_mb: Annotated[int, Field(ge=0)] = Field(
        description="decoded frames stay in memory up to this; above it they are decoded again each epoch"
    )
    widths: tuple[Count, Count, Count, Count, Count] = Field(
        description="channels at strides 2, 4, 8, 16, 32"
    )
    feature_width: Count = Field(description="channels of the fused stride-4 feature map")
    head_width: Count = Field(description="channels of the layer that all heads share")
    max_detections: Count = Field(description="boxes per frame that the exported network returns")
    epochs: Count
    max_val_frames: Count = Field(
        description="evenly spaced frames of the val split, scored after each epoch"
    )
    batch_size: Count
    learning_rate: Positive = Field(description="peak, reached after the warm-up")
    final_learning_rate_share: Share = Field(description="the cosine ends at this share of the peak")
    warmup_share: Share = Field(description="share of all steps spent in the linear warm-up")
    weight_decay: Annotated[float, Field(ge=0)]
    max_gradient_norm: Positive
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(description="0 switches the moving average off")
    max_seconds: Positive = Field(description="training saves and ends when it took longer than this")
    precision: Literal["float32", "bfloat16"] = Field(
        description="of activations in training; weights are float32"
    )
    num_threads: Count = Field(description="CPU threads; another number may give other last bits")
    deterministic: bool = Field(description="only algorithms that give the same bits every time")
    heatmap_weight: Positive
    box_weight: Positive
    drivable_weight: Annotated[float, Field(ge=0)]
    gaussian_share: Positive = Field(
        description="extent of the target peak as a share of the box (TTFNet: 0.54)"
    )
    flip_probability: Share
    brightness: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="frames are scaled by up to 1 +- this"
    )
    contrast: Annotated[float, Field(ge=0, lt=1)]
    scale_jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="zoom in or out by up to this share"
    )
    lidar_dropout: Share = Field(description="chance that a frame is taught without its lidar")
    min_box_px: Annotated[float, Field(ge=0)] = Field(
        description="shorter side in input pixels; smaller are ignored"
    )
    max_occlusion: Share = Field(description="labels hidden more than this are ignored")
    opset: Annotated[int, Field(ge=18)]
    parity_inputs: Annotated[int, Field(ge=1)] = Field(
        description="seeded inputs on which torch and ONNX must agree"
    )
    parity_tolerance: Positive = Field(description="largest absolute difference of any raw head output")

    @model_validator(mode="after")
    def _input_fits_the_strides(self) -> Self:
        if self.input_width % COARSEST_STRIDE or self.input_height % COARSEST_STRIDE:
            raise ValueError(f"input_width and input_height must be multiples of {COARSEST_STRIDE}")
        return self
