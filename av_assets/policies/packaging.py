"""How a checkpoint is packed, and what each precision of it may lose before it is not shipped.

Belongs here: bounds of parity and of precisions, how INT8 is calibrated, how Triton serves. Does not belong here: the
network (`training`), what a release must reach (`evaluation`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
FloatPart = Literal["heads", "first"]


class LossLimits(BaseModel):
    """What a precision may lose against fp32 on one slice."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fp16: Share = Field(description="mAP at IoU 0.5, absolute: 0.005 is half a point")
    int8: Share


class TritonServing(BaseModel):
    """The model repository: one instance of the model in each of `instances` processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_batch: Count
    preferred_batches: tuple[Count, ...]
    max_queue_delay_us: Annotated[int, Field(ge=0)] = Field(
        description="how long a request waits for company"
    )
    max_queue_size: Count = Field(description="requests that wait; more are refused at once")
    instances: Count
    threads: Count = Field(description="CPU threads of each instance")
    kept_versions: Count


class PackagingPolicy(Policy):
    """Everything that decides the bytes of a bundle, beside the checkpoint and the dataset."""

    name: ClassVar[str] = "packaging"

    opset: Annotated[int, Field(ge=18)]
    seed: int = Field(description="of the parity noise and of the choice of calibration frames")
    num_threads: Count = Field(
        description="CPU threads of export and gate; another number may give other bits"
    )
    parity_inputs: Count = Field(description="inputs on which torch and ONNX must agree")
    parity_frames: Annotated[int, Field(ge=0)] = Field(description="of these at most so many real frames")
    torchscript_inputs: Count = Field(
        description="of each kind, on which TorchScript must agree too: it costs three times what ONNX does"
    )
    parity_batch: Count
    parity_tolerance: Positive = Field(description="largest absolute difference of any raw head output")
    max_box_drift: Share = Field(
        description="1 - IoU of the decoded boxes of real frames, mean; and of cuboids seen from above"
    )
    calibration_frames: Count = Field(description="of the train split, drawn evenly over its slices")
    calibration_method: Literal["entropy", "percentile"]
    calibration_percentile: Annotated[float, Field(gt=50, le=100)]
    calibration_bins: Count
    calibration_values: Count = Field(description="of each activation and frame, evenly spaced")
    float_parts: tuple[tuple[FloatPart, ...], ...] = Field(
        description="parts of the network that INT8 leaves in float32, tried in this order until the gate is passed"
    )
    gate_frames: Count = Field(
        description="of the val and test splits at most, drawn evenly over their slices"
    )
    max_loss: LossLimits
    min_slice_frames: Count = Field(description="a slice with less decides nothing")
    min_slice_objects: Count
    tensorrt: bool = Field(description="build engines where a GPU with TensorRT is present")
    tensorrt_max_batch: Count
    triton: TritonServing
