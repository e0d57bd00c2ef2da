"""What the sources of auto-labels say to each other: detections in a picture, and candidates that several agree on.

Belongs here: the plain records. Does not belong here: detecting, fusing, tracking, deciding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from av_assets.domain.labels.sensing.box_fit import Box3D

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class PictureDetection:
    """What a detector saw in a picture: x1, y1, x2, y2 in pixels, score 0..1."""

    cls: str
    xyxy: Corners
    score: float


class PictureDetector(Protocol):
    """A detector of one source; `classes` are those that it can tell, about others it says nothing."""

    @property
    def source(self) -> str: ...
    @property
    def model_digest(self) -> str: ...
    @property
    def classes(self) -> frozenset[str]: ...
    def __call__(self, picture: npt.NDArray[np.uint8]) -> Sequence[PictureDetection]:
        """Detections in one RGB picture (H, W, 3)."""
        ...


@dataclass(frozen=True)
class Candidate:
    """One thing at one frame, as all sources together see it.

    Attributes:
        xyxy: box in the camera picture; None where it is not in the picture.
        cuboid: ego frame; None where no lidar saw it and no ground place is known.
        points: lidar points on it.
        sources: source -> its score, for those that saw it.
        blind: sources that could not have seen it here (out of range, class unknown to them): they abstain.
        track: number of its track; -1 before tracking.
        state: bridged candidates were put between observed ones by tracking.
    """

    clip_id: str
    ref_ns: int
    cls: str
    score: float
    xyxy: Corners | None
    cuboid: Box3D | None
    points: int = 0
    sources: Mapping[str, float] = field(default_factory=dict)
    blind: frozenset[str] = frozenset()
    track: int = -1
    state: Literal["observed", "bridged"] = "observed"
