"""What the detectors of redaction look for: sizes, scores, crops and the runtime."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(gt=0, le=4)]
Pixels = Annotated[int, Field(ge=32, le=8192)]


class ShapeRule(BaseModel):
    """What a finding may look like to be one; the rules of every kind of detector."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    min_score: Share = Field(description="findings below this score are ignored")
    aspect: tuple[float, float] = Field(description="least and greatest width over height of a finding")
    max_width_share: Share = Field(description="wider findings, as a share of the picture, are no such thing")
    wide_share: Share = Field(description="findings wider than this share of the picture are unlikely")
    wide_min_score: Share = Field(description="and need this score")


class WholeFrame(ShapeRule):
    """A detector that sees the whole picture at once."""

    scale: Scale = Field(description="size of the picture that the detector sees")
    max_side_px: Pixels = Field(description="bound on its longer side, whatever the scale")


class CropRule(BaseModel):
    """How a second, closer look is taken: square crops of the source picture, all scaled to one size."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tile_px: Pixels = Field(description="side of a crop as the detector sees it; a multiple of 32")
    around: Annotated[float, Field(ge=1, le=16)] = Field(
        description="side of a crop, as a multiple of the longer side of what it is cut around"
    )
    least_px: Annotated[int, Field(ge=8, le=4096)] = Field(description="no crop is smaller in the source")
    most: Annotated[int, Field(ge=1, le=256)] = Field(description="crops of one frame; the best come first")


class FirstPass(BaseModel):
    """A cheap look at the whole picture that only says where to look closer."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    scale: Scale = Field(description="size of the picture in this pass")
    min_score: Share = Field(description="from this score on a place is worth a closer look")
    settled_px: Annotated[int, Field(ge=1)] = Field(
        description="findings this long in the source need no closer look: they count as they are"
    )
    crops: CropRule


class FacePolicy(WholeFrame):
    """Faces; `scale` holds where there is no first pass."""

    first_pass: FirstPass | None = Field(description="null: the whole picture is looked at closely")


class PlatePolicy(WholeFrame):
    """Plates; in the whole picture, and closer on every vehicle where vehicles are looked for."""

    whole_frame: bool = Field(
        description="look at the whole picture even where vehicles are looked at closer"
    )
    on_vehicles: CropRule | None = Field(description="closer looks at vehicles; null: none")


class ObjectKind(ShapeRule):
    """Vehicles or people: names of the model's classes that count as such."""

    labels: tuple[str, ...]


class ObjectPolicy(BaseModel):
    """The detector of vehicles and people."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    vehicle: ObjectKind
    person: ObjectKind
    tiles: Annotated[int, Field(ge=0, le=8)] = Field(
        description="squares looked at besides the whole picture"
    )
    tiles_small: Annotated[int, Field(ge=0, le=8)] = Field(description="the same for small pictures")
    small_px: Annotated[int, Field(ge=0)] = Field(description="pictures are small below this shorter side")
    nms_iou: Share = Field(description="findings of one kind and frame that overlap more are one")
    side_px: Pixels = Field(description="size of the input of a model that leaves it open")


class DetectionPolicy(Policy):
    """Everything that decides what is found; sizes in pixels of the source picture unless said otherwise."""

    name: ClassVar[str] = "detection"
    face: FacePolicy
    plate: PlatePolicy
    object: ObjectPolicy
    nms_iou: Share = Field(description="findings of one kind and frame that overlap more are one")
    threads: Annotated[int, Field(ge=1, le=64)] = Field(description="threads of the runtime on a processor")
    batch: Annotated[int, Field(ge=1, le=64)] = Field(description="pictures that a network sees at once")
    device: Literal["auto", "cpu"] = Field(description="auto: CUDA where the runtime offers it, else the CPU")
