"""One row of a batch: what the sensors gave and what people labelled as arrays of fixed shape.

Belongs here: joining sensors, labels and augmentation of a frame. Does not belong here: what is drawn (`inputs`,
`grid`), targets (`targets`, `bev_targets`), reading (`examples`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.models.augmentation import (
    Ground,
    Variant,
    from_varied_ground,
    vary_ground,
    vary_picture,
    vary_projection,
)
from av_assets.domain.models.bev_targets import labelled_cells, make_bev_targets
from av_assets.domain.models.golden import Cuboids, Labels
from av_assets.domain.models.inputs import CameraView, InputLayout, grid_planes, prepare, projection_matrix
from av_assets.domain.models.targets import STRIDE, Example, make_targets
from av_assets.policies.perception import PerceptionConfig

NO_CLASS: Final = -1
"""Fills the rows of truth_classes and truth_classes3d that hold no object."""
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Seen:
    """What the sensors of one sample gave.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, at least of input size. size: (width, height) of the picture before any reduction.
        points: (n, 4) ego frame, or None. tracks: (m, 4) rows of `grid.track_rows`, or None.
        view: None without calibration.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    points: NDArray[np.float32] | None
    tracks: NDArray[np.float32] | None
    view: CameraView | None


def make_arrays(
    seen: Seen,
    labels: Labels | None,
    cuboids: Cuboids | None,
    variant: Variant,
    num_classes: int,
    config: PerceptionConfig,
) -> Arrays:
    """One row of a batch, as `MakeExample` names it. Without labels it teaches nothing."""
    layout = InputLayout.of(config)
    pixels = prepare(seen.pixels, seen.points, seen.view, layout.width, layout.height, len(layout.planes))
    example = vary_picture(_example(pixels, seen.size, labels, config), variant)
    targets = make_targets(example, num_classes, config.gaussian_share)
    known = example.drivable is not None
    cells = (1, layout.height // STRIDE, layout.width // STRIDE)
    made: Arrays = {
        "picture": np.ascontiguousarray(example.picture.transpose(2, 0, 1)),
        "has_picture": np.array(labels is not None),
        **vars(targets),
        "drivable": np.zeros(cells, np.uint8) if not known else np.ascontiguousarray(example.drivable)[None],
        "drivable_known": np.full((1, 1, 1), known, np.float32),
        **_padded(example.boxes, example.classes, example.ignored, config.max_objects, ""),
    }
    made["care"] *= labels is not None
    if layout.grid is not None:
        made |= _ground_arrays(seen, labels, cuboids, variant, num_classes, config)
    return made


def _example(
    picture: NDArray[np.uint8], size: tuple[int, int], labels: Labels | None, config: PerceptionConfig
) -> Example:
    import cv2

    width, height = config.input_width, config.input_height
    if labels is None:
        none = np.empty((0, 4), np.float32)
        return Example(picture, none, np.empty(0, np.int64), np.empty(0, bool), None)
    boxes = labels.boxes * np.array([width / size[0], height / size[1]] * 2, np.float32)
    short_px = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    mask = labels.drivable()
    if mask is not None:
        cells = (width // STRIDE, height // STRIDE)
        mask = np.asarray(cv2.resize(mask * np.uint8(255), cells, interpolation=cv2.INTER_AREA), np.uint8)
    ignored = (short_px < config.min_box_px) | (labels.occlusion > config.max_occlusion)
    return Example(picture, boxes, labels.classes, ignored, mask)


def _ground_arrays(
    seen: Seen,
    labels: Labels | None,
    cuboids: Cuboids | None,
    variant: Variant,
    num_classes: int,
    config: PerceptionConfig,
) -> Arrays:
    layout = InputLayout.of(config)
    assert layout.grid is not None
    projection = projection_matrix(seen.view, layout.width, layout.height)
    ground = vary_ground(_ground(seen, cuboids, config), variant)
    unmeasured = np.empty((0, 4), np.float32)
    if labels is not None and cuboids is not None:
        scale = np.array([layout.width / seen.size[0], layout.height / seen.size[1]] * 2, np.float32)
        unmeasured = labels.boxes[~np.isin(labels.label_ids, cuboids.label_ids)] * scale
    looked_at = labelled_cells(layout.grid, from_varied_ground(projection, variant), layout.width, unmeasured)
    targets = make_bev_targets(ground, looked_at, num_classes, layout.grid, config)
    outside = ~layout.grid.inside(layout.grid.position(ground.boxes))
    made: Arrays = {
        "projection": vary_projection(projection, variant, layout.width),
        "bev_heatmap": targets.heatmap,
        "bev_care": targets.care,
        "bev_cell": _filled(targets.cell, config.max_objects, 0),
        "bev_values": _filled(targets.values, config.max_objects, 0),
        "bev_weight": _filled(targets.weight, config.max_objects, 0),
        **_padded(ground.boxes, ground.classes, ground.ignored | outside, config.max_objects, "3d"),
        "truth_known3d": np.array(ground.known),
    }
    if layout.grid_planes:
        made["bev"] = grid_planes(layout, layout.grid, ground.points, ground.tracks)
    return made


def _ground(seen: Seen, cuboids: Cuboids | None, config: PerceptionConfig) -> Ground:
    if cuboids is None:
        none = np.empty((0, 9), np.float32)
        return Ground(seen.points, seen.tracks, none, np.empty(0, np.int64), np.empty(0, bool), False)
    ignored = cuboids.points < config.min_box_points
    return Ground(seen.points, seen.tracks, cuboids.boxes, cuboids.classes, ignored, True)


def _padded(
    boxes: NDArray[np.float32], classes: NDArray[np.int64], ignored: NDArray[np.bool_], room: int, suffix: str
) -> Arrays:
    return {
        f"truth_boxes{suffix}": _filled(boxes, room, 0),
        f"truth_classes{suffix}": _filled(classes, room, NO_CLASS),
        f"truth_ignored{suffix}": _filled(ignored, room, 0),
    }


def _filled(rows: NDArray[Any], room: int, value: int) -> NDArray[Any]:
    """`rows` and below them `value`, `room` rows in all."""
    if len(rows) > room:
        raise DatasetError(
            f"a frame holds {len(rows)} objects, more than {room}",
            code="too_many_objects",
            remedy="raise max_objects in training.yaml",
        )
    return np.concatenate([rows, np.full((room - len(rows), *rows.shape[1:]), value, rows.dtype)])
