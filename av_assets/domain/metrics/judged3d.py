"""Which cuboids count, of the truth and of what was found, by the same rules on both sides.

nuScenes' rules: within the range of the class, the best 500 of a frame, no object without a single point. And one of
this platform's labels: people look at one camera's picture, so nothing is known of what lies outside it, nor of an
object that they saw and the lidar did not measure. A detection there is neither right nor wrong.
Belongs here: that choice. Does not belong here: matching and metrics (`nuscenes`), reading files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes3d import Boxes3d, centre_distances
from av_assets.domain.metrics.nuscenes import DISTANCES_M, MAX_PER_FRAME, ClassRule
from av_assets.domain.models.golden import Cuboids, Labels
from av_assets.domain.models.inputs import CameraView, project


class Frame3d(NamedTuple):
    """One frame with 3D truth: what is known and what was found.

    Attributes:
        view: of the camera in whose picture people labelled; None where it is not calibrated: all counts then.
        boxes: (m, 9). scores: (m,). classes: (m,).
    """

    cuboids: Cuboids
    labels: Labels
    view: CameraView | None
    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    classes: NDArray[np.integer]


def judged(frames: Iterable[Frame3d | None], rules: Sequence[ClassRule]) -> tuple[Boxes3d, Boxes3d]:
    """Truth and detections that count; frame ids are positions in `frames`, None is a frame without 3D truth."""
    pairs = [_judged(i, one, rules) for i, one in enumerate(frames) if one is not None]
    return Boxes3d.concat([truth for truth, _ in pairs]), Boxes3d.concat([found for _, found in pairs])


def _judged(index: int, one: Frame3d, rules: Sequence[ClassRule]) -> tuple[Boxes3d, Boxes3d]:
    truth = Boxes3d.of_frame(index, one.cuboids.boxes, one.cuboids.classes, points=one.cuboids.points)
    truth = truth.where(_counts(truth, one.view, rules))
    found = Boxes3d.of_frame(index, one.boxes, one.classes, one.scores)
    found = found.where(_counts(found, one.view, rules))
    found = found.where(~_on_unmeasured(found, truth, one))
    return truth, found.where(np.sort(np.argsort(-found.score, kind="stable")[:MAX_PER_FRAME]))


def _counts(boxes: Boxes3d, view: CameraView | None, rules: Sequence[ClassRule]) -> NDArray[np.bool_]:
    ranges_m = np.array([rule.range_m for rule in rules])[boxes.cls]
    seen = in_view(boxes.box, view) if view is not None else np.ones(len(boxes), bool)
    return np.asarray((boxes.distance_m < ranges_m) & (boxes.points != 0) & seen)


def in_view(box: NDArray[np.floating], view: CameraView) -> NDArray[np.bool_]:
    """(n,) whether the centre of each cuboid (n, 9) lies in the camera's picture."""
    pixels, depth_m = project(box[:, :3], view)
    inside = (pixels >= 0).all(1) & (pixels[:, 0] < view.width) & (pixels[:, 1] < view.height)
    return np.asarray(inside & (depth_m > 0))


def _on_unmeasured(found: Boxes3d, truth: Boxes3d, one: Frame3d) -> NDArray[np.bool_]:
    """(m,) detections in the picture box of an object of their class without a cuboid, with no object near to find."""
    known = set(one.cuboids.label_ids)
    open_ = np.array([name not in known for name in one.labels.label_ids], bool)
    if one.view is None or not open_.any() or not len(found):
        return np.zeros(len(found), bool)
    pixels = project(found.box[:, :3], one.view)[0][:, None]
    boxes = one.labels.boxes[open_][None]
    within = (pixels >= boxes[..., :2]).all(2) & (pixels <= boxes[..., 2:]).all(2)
    within &= found.cls[:, None] == one.labels.classes[open_][None]
    apart = centre_distances(found.box, truth.box)
    apart[found.cls[:, None] != truth.cls[None]] = np.inf
    return np.asarray(within.any(1) & (apart.min(1, initial=np.inf) >= DISTANCES_M[-1]))
