"""What lidar and cameras see in single frames of a drive, fused; the first half of auto-labelling.

Belongs here: one frame. Does not belong here: time (tracked), rows of files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.geometry.transforms import apply
from av_assets.domain.labels.automatic.candidates import Candidate
from av_assets.domain.labels.sensing.drivable import off_road_m, road_edges
from av_assets.domain.labels.sensing.ground import ground_plane
from av_assets.domain.labels.sensing.lidar_objects import LidarObject, find_objects
from av_assets.domain.labels.sensing.views import View
from av_assets.domain.labels.sensing.visible import seen_boxes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.labels.automatic.candidates import Corners, PictureDetection, PictureDetector
    from av_assets.domain.labels.sensing.box_fit import Box3D
    from av_assets.domain.labels.sensing.drive_frames import DriveFrame
    from av_assets.policies.autolabels import AutolabelPolicy
    from av_assets.policies.label_fusion import LabelFusionPolicy

Floats = npt.NDArray[np.float64]
Edges = tuple[Floats, Floats]


@dataclass(frozen=True)
class Sighting:
    """One frame as single-frame methods see it.

    Attributes:
        candidates: fused, before tracking.
        own_boxes: picture boxes of the lidar's candidates before fusion, by cuboid.
        seen: what each detector saw, where one looked.
        plane, edges: ground and road of the sweep; None without a sweep, or without a road in it.
        size: width and height of the picture; None without one.
    """

    frame: DriveFrame
    candidates: tuple[Candidate, ...]
    own_boxes: Mapping[Box3D, Corners]
    seen: Mapping[str, Sequence[PictureDetection]]
    plane: Floats | None = None
    edges: Edges | None = None
    size: tuple[int, int] | None = None


class Spotter:
    """Holds calibration, policies and detectors while a drive passes by."""

    def __init__(
        self,
        view: View | None,
        mounting: Floats | None,
        policy: AutolabelPolicy,
        fusion: LabelFusionPolicy,
        detectors: Sequence[PictureDetector],
    ) -> None:
        self.view, self.mounting, self.policy, self.fusion = view, mounting, policy, fusion
        self.detectors = detectors

    def spot(self, frame: DriveFrame) -> Sighting:
        """Candidates of one frame."""
        from av_assets.domain.labels.automatic.fusion import fuse

        objects, plane, edges = self._swept(frame)
        boxes = self._in_picture(objects or [])
        lidar = None
        if objects is not None:
            lidar = [
                Candidate(
                    frame.clip_id, frame.ref_ns, o.cls, o.score, box, o.box, o.points, {"lidar": o.score}
                )
                for o, box in zip(objects, boxes, strict=True)
            ]
        pixels = frame.picture.pixels() if frame.labelled and frame.picture and self.detectors else None
        seen: dict[str, Sequence[PictureDetection]] = {}
        if pixels is not None:
            seen = {d.source: list(d(pixels)) for d in self.detectors}
        size = self._size(pixels)
        fused = fuse(lidar, seen, self.detectors, size or (1, 1), self.fusion, (frame.clip_id, frame.ref_ns))
        own = {c.cuboid: c.xyxy for c in lidar or [] if c.cuboid is not None and c.xyxy is not None}
        # Sightings of a whole drive are kept at once: they must not hold its sweeps and pictures.
        light = replace(frame, points=None, picture=None)
        return Sighting(light, tuple(fused), own, seen, plane, edges, size)

    def _swept(self, frame: DriveFrame) -> tuple[list[LidarObject] | None, Floats | None, Edges | None]:
        if self.mounting is None or frame.points is None or len(frame.points) == 0:
            return None, None, None
        points = frame.points.astype(np.float64)
        points = points[np.isfinite(points).all(axis=1)]
        points[:, :3] = apply(self.mounting, points[:, :3])
        plane = ground_plane(points, self.policy.ground_tolerance_m)
        objects = find_objects(points, plane, self.mounting[:2, 3], self.policy)
        edges = road_edges(points, plane, self.policy)
        if edges is not None:
            most = self.policy.off_road_margin_m
            objects = [o for o in objects if o.cls != "vehicle" or off_road_m(edges, o.box) < most]
        return objects, plane, edges

    def _in_picture(self, objects: Sequence[LidarObject]) -> list[Corners | None]:
        if self.view is None:
            return [None] * len(objects)
        seen = seen_boxes([o.box for o in objects], self.view, self.policy.min_inside_share)
        return [None if s is None else s.xyxy for s in seen]

    def _size(self, pixels: npt.NDArray[np.uint8] | None) -> tuple[int, int] | None:
        if pixels is not None:
            return int(pixels.shape[1]), int(pixels.shape[0])
        return (self.view.width, self.view.height) if self.view is not None else None
