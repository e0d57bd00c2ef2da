"""Random variants of a frame in which picture, ground and labels still belong together.

A variant zooms, mirrors and recolours the picture, turns and mirrors the ground, and may take away lidar or radar. The
projection carries what happened to either side, so that a cell of the grid still finds its place in the picture.
Belongs here: drawing and applying variants, numpy on one frame. Does not belong here: targets, files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.models.inputs import COLOURS
from av_assets.domain.models.targets import STRIDE, Example

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from av_assets.policies.perception import PerceptionConfig

MIN_VISIBLE_SHARE: Final = 0.3  # of a box after zooming; less is ignored


@dataclass(frozen=True)
class Ground:
    """What lies around the vehicle, in the ego frame.

    Attributes:
        points: (n, >=3) m, lidar. tracks: (m, 4) radar, rows of `grid.track_rows`. None where there is no such sensor.
        boxes: (k, 9) float32 x y z length width height yaw vx vy; velocity NaN where unknown. classes: (k,) int64.
        ignored: (k,) bool, neither object nor background.
        known: whether people measured cuboids in this frame at all.
    """

    points: NDArray[np.float32] | None
    tracks: NDArray[np.float32] | None
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    known: bool


@dataclass(frozen=True)
class Variant:
    """What is done to a frame; the default does nothing.

    Attributes:
        zoom: (scale, shift right, shift down) of the picture, shifts in input pixels.
        mirror: left and right change places, in the picture and on the ground.
        turn_rad: the ground turns by this about the ego origin; the picture does not.
        gain, contrast: of colours.
    """

    zoom: tuple[float, float, float] = (1.0, 0.0, 0.0)
    mirror: bool = False
    turn_rad: float = 0.0
    gain: float = 1.0
    contrast: float = 1.0
    without_lidar: bool = False
    without_radar: bool = False

    @property
    def ground_turn(self) -> NDArray[np.float64]:
        """(2, 2) what happens to x and y on the ground: turned first, then mirrored."""
        c, s = np.cos(self.turn_rad), np.sin(self.turn_rad)
        side = -1.0 if self.mirror else 1.0
        return np.array([[c, -s], [side * s, side * c]])


def draw_variant(config: PerceptionConfig, rng: np.random.Generator) -> Variant:
    """A random variant; every number is drawn whatever the others are."""
    flip, lidar, radar = rng.random(3) < (
        config.flip_probability, config.lidar_dropout, config.radar_dropout,
    )  # fmt: skip
    gain, contrast, zoom, turn = rng.uniform(-1, 1, 4)
    scale = 1 + config.scale_jitter * zoom
    right, down = (config.input_width, config.input_height) * rng.random(2) * (1 - scale)
    return Variant(
        zoom=(float(scale), float(right), float(down)),
        mirror=bool(flip),
        turn_rad=float(np.deg2rad(config.turn_jitter_deg * turn)),
        gain=float(1 + config.brightness * gain),
        contrast=float(1 + config.contrast * contrast),
        without_lidar=bool(lidar),
        without_radar=bool(radar),
    )


def vary_picture(example: Example, variant: Variant) -> Example:
    example = _recolour(example, variant)
    if variant.zoom != (1.0, 0.0, 0.0):
        example = _zoom(example, *variant.zoom)
    return _mirror(example) if variant.mirror else example


def vary_ground(ground: Ground, variant: Variant) -> Ground:
    turn = variant.ground_turn.astype(np.float32)
    side = -1 if variant.mirror else 1
    boxes = ground.boxes.copy()
    boxes[:, :2], boxes[:, 7:] = boxes[:, :2] @ turn.T, boxes[:, 7:] @ turn.T
    yaw = side * (boxes[:, 6] + np.float32(variant.turn_rad))
    boxes[:, 6] = (yaw + np.pi) % (2 * np.pi) - np.pi
    points = None if ground.points is None or variant.without_lidar else ground.points.copy("K")
    if points is not None:
        points[:, :2] = points[:, :2] @ turn.T
    tracks = None if ground.tracks is None or variant.without_radar else ground.tracks.copy()
    if tracks is not None:
        tracks[:, :2], tracks[:, 2:] = tracks[:, :2] @ turn.T, tracks[:, 2:] @ turn.T
    return replace(ground, points=points, tracks=tracks, boxes=boxes)


def from_varied_ground(projection: NDArray[np.float32], variant: Variant) -> NDArray[np.float32]:
    """(3, 4) from the varied ground to the picture as it was."""
    back = np.eye(4)
    back[:2, :2] = variant.ground_turn.T
    return np.asarray(projection @ back, np.float32)


def vary_projection(projection: NDArray[np.float32], variant: Variant, width: int) -> NDArray[np.float32]:
    """(3, 4) from the varied ground to the varied picture, which is `width` pixels wide."""
    scale, right, down = variant.zoom
    zoom = np.array([[scale, 0, right], [0, scale, down], [0, 0, 1]])
    mirror = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]]) if variant.mirror else np.eye(3)
    return np.asarray(mirror @ zoom @ from_varied_ground(projection, variant), np.float32)


def _recolour(example: Example, variant: Variant) -> Example:
    import cv2

    picture = example.picture
    if (variant.gain, variant.contrast) == (1.0, 1.0) and not variant.without_lidar:
        return example
    levels = ((np.arange(256) - 128) * variant.contrast + 128) * variant.gain
    curve = np.clip(levels, 0, 255).astype(np.uint8)
    lidar = np.zeros(256, np.uint8) if variant.without_lidar else np.arange(256, dtype=np.uint8)
    table = np.stack([curve] * COLOURS + [lidar] * (picture.shape[2] - COLOURS), axis=1)[None]
    return replace(example, picture=cv2.LUT(picture, table))


def _zoom(example: Example, scale: float, right: float, down: float) -> Example:
    import cv2

    height, width, count = example.picture.shape
    matrix = np.array([[scale, 0, right], [0, scale, down]])
    planes = cv2.split(example.picture)
    moved_planes = [*cv2.split(cv2.warpAffine(cv2.merge(planes[:COLOURS]), matrix, (width, height)))]
    if count > COLOURS:
        # Interpolating between a return and no return would invent depths.
        lidar = cv2.warpAffine(cv2.merge(planes[COLOURS:]), matrix, (width, height), flags=cv2.INTER_NEAREST)
        moved_planes += cv2.split(lidar)
    moved = example.boxes * scale + np.array([right, down, right, down], np.float32)
    boxes = np.clip(moved, 0, (width, height, width, height)).astype(np.float32)
    area, before = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, moved))
    drivable = example.drivable
    if drivable is not None:
        drivable = cv2.warpAffine(drivable, matrix / [[1, 1, STRIDE]], drivable.shape[::-1])
    keep = area > 0
    ignored = example.ignored | (area < MIN_VISIBLE_SHARE * before)
    return Example(cv2.merge(moved_planes), boxes[keep], example.classes[keep], ignored[keep], drivable)


def _mirror(example: Example) -> Example:
    width = example.picture.shape[1]
    boxes = example.boxes.copy()
    boxes[:, [0, 2]] = width - example.boxes[:, [2, 0]]
    drivable = None if example.drivable is None else example.drivable[:, ::-1]
    return replace(example, picture=example.picture[:, ::-1], boxes=boxes, drivable=drivable)
