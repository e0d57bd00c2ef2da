"""What redaction looks for, how long it keeps hiding it, and how coarse what remains is."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]


class KindPolicy(BaseModel):
    """One kind of finding: faces or plates."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    min_score: Share = Field(description="findings below this score are ignored")
    scale: Annotated[float, Field(gt=0, le=4)] = Field(
        description="size of the picture that the detector sees"
    )
    max_side_px: Annotated[int, Field(ge=64, le=8192)] = Field(
        description="bound on the longer side of what the detector sees, whatever the scale"
    )
    stride: Annotated[int, Field(ge=1, le=8)] = Field(description="detector runs on every k-th frame")
    aspect: tuple[float, float] = Field(description="least and greatest width over height of a finding")
    max_width_share: Share = Field(description="wider findings, as a share of the picture, are no such thing")
    sure_width_share: Share = Field(description="findings wider than this need the sure score")
    sure_score: Share = Field(description="a finding of one frame only is carried in time from this score")
    cells: Annotated[int, Field(ge=1, le=8)] = Field(
        description="cells along the longer side of a hidden region"
    )


class RedactionPolicy(Policy):
    """Numbers of the redaction stage; times in seconds, sizes in pixels of the source picture."""

    name: ClassVar[str] = "redaction"
    face: KindPolicy
    plate: KindPolicy
    nms_iou: Share = Field(description="findings of one frame that overlap more are one")
    fill_s: Annotated[float, Field(ge=0, le=5)] = Field(
        description="a finding hides this long before and after"
    )
    max_fill_frames: Annotated[int, Field(ge=1, le=64)] = Field(description="bound of the window in frames")
    default_rate_hz: Annotated[float, Field(gt=0)] = Field(
        description="used where the stream declares no rate"
    )
    link_iou: Share = Field(description="findings of two frames that overlap more are one object")
    link_expand: Annotated[float, Field(ge=0, le=4)] = Field(
        description="each side grows by this share of the box before linking: small things move far"
    )
    hold_growth: Share = Field(description="a box carried without a finding grows by this share a frame")
    dilate: Share = Field(description="every hidden box grows by this share of its size")
    min_cell_px: Annotated[int, Field(ge=2)] = Field(description="no cell is smaller than this")
    jpeg_quality: Annotated[int, Field(ge=50, le=100)]
    max_pixels: Annotated[int, Field(gt=0)] = Field(description="larger pictures are not decoded")
    contact_sheet_frames: Annotated[int, Field(ge=1, le=64)]
    detector_threads: Annotated[int, Field(ge=1, le=64)]

    def kind(self, name: str) -> KindPolicy:
        """The numbers for `face` or `plate`."""
        return self.face if name == "face" else self.plate

    def fill_frames(self, rate_hz: float | None) -> int:
        """Frames on either side that a finding hides; never fewer than the strides leave open."""
        frames = round(self.fill_s * (rate_hz or self.default_rate_hz))
        return min(max(frames, self.face.stride, self.plate.stride), self.max_fill_frames)
