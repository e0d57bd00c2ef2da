"""What redaction covers, how long it keeps covering it, how coarse what remains is, and how frames are stored."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from av_assets.policies import Policy

Share = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]


class KindPolicy(BaseModel):
    """One kind of finding."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    hold_score: Share = Field(description="a finding of one frame only is carried in time from this score")
    cells: Annotated[int, Field(ge=1, le=8)] = Field(
        description="cells along the longer side of what is hidden of this kind"
    )


class BandPolicy(BaseModel):
    """The part of a vehicle or person that is covered where nothing finer was found in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    top: Share = Field(description="where the band begins, as a share of the height of the box")
    bottom: Share = Field(description="and where it ends")
    height_of_width: Annotated[float, Field(ge=0, le=4)] = Field(
        description="the band is at least this high, as a share of the width of the box"
    )
    min_width_px: Annotated[int, Field(ge=0)] = Field(
        description="narrower boxes show nothing that can be read or recognised"
    )
    trust_score: Share = Field(description="a finer finding stands for the band from this score only")


class PrivatePlace(BaseModel):
    """A circle within which nothing is released, such as a home or a depot."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    radius_m: Annotated[float, Field(gt=0, le=100_000)]


class TrimPolicy(BaseModel):
    """How carefully the time spent in private places is cut out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    margin_s: Annotated[float, Field(ge=0, le=600)] = Field(description="cut out before and after a stay")
    hysteresis_m: Annotated[float, Field(ge=0)] = Field(
        description="a stay ends only this far outside of the circle"
    )
    max_speed_mps: Annotated[float, Field(gt=0)] = Field(
        description="where no fix tells, the vehicle may have been wherever this speed allows"
    )


class RedactionPolicy(Policy):
    """Numbers of the redaction stage; times in seconds, sizes in pixels of the source picture."""

    name: ClassVar[str] = "redaction"
    mode: Literal["standard", "strict", "solid"]
    cover: Literal["findings", "bands"] = Field(description="what `solid` covers; the other modes say so")
    solid_rgb: tuple[Byte, Byte, Byte] = Field(description="the colour of `solid`")
    face: KindPolicy
    plate: KindPolicy
    person: KindPolicy
    vehicle: KindPolicy
    head_band: BandPolicy
    plate_band: BandPolicy
    oversize_share: Share = Field(
        description="a box over more of the picture than this is mostly the vehicle that carries the camera"
    )
    oversize_score: Share = Field(description="and has a band from this score only")
    border_share: Share = Field(description="boxes this near to the border of the picture are cut off by it")
    fill_s: Annotated[float, Field(ge=0, le=5)] = Field(
        description="a finding hides this long before and after"
    )
    max_fill_s: Annotated[float, Field(gt=0, le=30)] = Field(
        description="bound of the fill where frames are further apart than fill_s"
    )
    max_fill_frames: Annotated[int, Field(ge=1, le=128)] = Field(description="bound of the window in frames")
    link_iou: Share = Field(description="findings of two frames that overlap more are one object")
    link_expand: Annotated[float, Field(ge=0, le=4)] = Field(
        description="each side grows by this share of the box before linking: small things move far"
    )
    hold_growth: Share = Field(description="a box carried without a finding grows by this share a frame")
    dilate: Share = Field(description="every hidden box grows by this share of its size")
    min_cell_px: Annotated[int, Field(ge=2)] = Field(description="no cell is smaller than this")
    raw_encoding: Literal["jpeg", "png"] = Field(description="how pictures are stored that came in raw")
    raw_jpeg_quality: Annotated[int, Field(ge=50, le=100)]
    video_crf: Annotated[int, Field(ge=1, le=51)] = Field(description="quality of video; lower is better")
    video_preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"]
    segment_s: Annotated[float, Field(gt=0, le=3600)] = Field(description="log time of one part of a clip")
    batch_frames: Annotated[int, Field(ge=1, le=64)] = Field(
        description="frames that are handed to the detector at once"
    )
    max_pixels: Annotated[int, Field(gt=0)] = Field(description="larger pictures are not decoded")
    contact_sheet_frames: Annotated[int, Field(ge=1, le=64)]
    private_places: tuple[PrivatePlace, ...] = ()
    trim: TrimPolicy

    def kind(self, name: str) -> KindPolicy:
        """The numbers for a kind of finding, or for the band that stands for one."""
        kinds = {"face": self.face, "plate": self.plate, "person": self.person, "vehicle": self.vehicle}
        return kinds[{"head_band": "person", "plate_band": "vehicle"}.get(name, name)]

    def fill_ns(self, period_ns: int) -> int:
        """How long a finding hides on either side: `fill_s`, but never less than the next frame."""
        seconds = max(self.fill_s, min(1.5 * period_ns / 1e9, self.max_fill_s))
        return round(seconds * 1e9)
