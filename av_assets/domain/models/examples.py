"""From a sample of the loader to the arrays of one batch row: what a network sees, and what it should answer.

`MakeInputs` gives inputs alone, `MakeExample` inputs and truth; both see through `inputs`, so that training and vehicle
cannot differ. They are pickled into worker processes and read labels once per drive there.
Belongs here: reading what belongs to a sample. Does not belong here: the arrays (`example_arrays`), shards and batches
(`loading`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.models.augmentation import Variant, draw_variant
from av_assets.domain.models.example_arrays import Arrays, Seen, make_arrays
from av_assets.domain.models.golden import Cuboids, GoldenSpec, Labels, read_cuboids, read_labels
from av_assets.domain.models.grid import track_rows
from av_assets.domain.models.inputs import CameraView, InputLayout, network_inputs
from av_assets.domain.privacy.frames import RedactedFrame
from av_assets.policies.perception import PerceptionConfig


class Sample(Protocol):
    """What is read of `loading.samples.RawSample`."""

    @property
    def key(self) -> tuple[str, str, int]: ...
    @property
    def calibration(self) -> Mapping[str, Any]: ...
    @property
    def rng(self) -> np.random.Generator: ...
    def frame(self, role: str) -> RedactedFrame | None: ...
    def jpeg_pixels(self, role: str, min_width: int = 0, min_height: int = 0) -> NDArray[np.uint8]: ...
    def points(self, role: str) -> NDArray[np.float32] | None: ...
    def tracks(self, role: str) -> NDArray[Any] | None: ...
    @property
    def ego_speed_mps(self) -> float: ...
    def room(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]: ...


@dataclass(frozen=True)
class MakeInputs:
    """The inputs of a network, without truth.

    Gives: picture (P, H, W) uint8; with a ground grid also bev (P', rows, columns) uint8 (not for cameras alone) and
    projection (3, 4) float32. A missing picture is black, as `has_picture` () bool says.
    """

    camera: str
    lidars: tuple[str, ...]
    radars: tuple[str, ...]
    layout: InputLayout

    @property
    def columns(self) -> tuple[str, ...]:
        """Roles that the loader has to read."""
        return (
            self.camera,
            *(self.lidars if self.layout.lidar else ()),
            *(self.radars if self.layout.radar else ()),
        )

    def __call__(self, sample: Sample) -> Arrays:
        seen = self.look(sample)
        room = sample.room(
            "picture", (len(self.layout.planes), self.layout.height, self.layout.width), np.uint8
        )
        made = network_inputs(self.layout, seen.pixels, seen.points, seen.view, seen.tracks, room)
        return made | {"has_picture": np.array(sample.frame(self.camera) is not None)}

    def look(self, sample: Sample) -> Seen:
        """The sensor data of a sample; a missing picture is a black one."""
        frame = sample.frame(self.camera)
        view = CameraView.from_calibration(dict(sample.calibration), self.camera)
        size = self.layout.width, self.layout.height
        pixels = np.zeros((*size[::-1], 3), np.uint8)
        if frame is not None:
            pixels = sample.jpeg_pixels(self.camera, *size)
            size = _picture_size(frame, pixels)
        return Seen(pixels, size, self._cloud(sample), self._tracks(sample), view)

    def _tracks(self, sample: Sample) -> NDArray[np.float32] | None:
        """Of all radars, over ground."""
        roles = self.radars if self.layout.radar else ()
        heard = [track_rows(sample.tracks(role), sample.ego_speed_mps) for role in roles]
        told = [rows for rows in heard if rows is not None]
        return np.concatenate(told) if told else None

    def _cloud(self, sample: Sample) -> NDArray[np.float32] | None:
        """All lidars in the ego frame; one whose mounting is not known is left out."""
        clouds = []
        for role in self.lidars if self.layout.lidar else ():
            points = sample.points(role)
            pose = sample.calibration.get("lidars", {}).get(role, {}).get("ego_SE3_lidar")
            if points is not None and pose is not None:
                clouds.append(in_ego_frame(points, np.asarray(pose, np.float32).reshape(4, 4)))
        if len(clouds) < 2:
            return clouds[0] if clouds else None
        return np.concatenate([cloud.T for cloud in clouds], axis=1).T


def in_ego_frame(points: NDArray[np.float32], ego_SE3_lidar: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: N803
    """(n, 4) points x, y, z, intensity of a lidar in the ego frame; each coordinate lies in one piece of memory, which
    is what makes drawing fast."""
    cloud = np.array(points.T, np.float32, order="C")
    with np.errstate(invalid="ignore", over="ignore"):
        cloud[:3] = ego_SE3_lidar[:3, :3] @ cloud[:3] + ego_SE3_lidar[:3, 3:]
    return cloud.T


def _picture_size(frame: RedactedFrame, pixels: NDArray[np.uint8]) -> tuple[int, int]:
    import simplejpeg

    if frame.encoding != "jpeg":
        return pixels.shape[1], pixels.shape[0]
    height, width, *_ = simplejpeg.decode_jpeg_header(frame.data)
    return width, height


class MakeExample:
    """Inputs and truth of a labelled frame of a golden dataset; the Transform for training and validation.

    Gives `MakeInputs`' arrays and, with M = max_objects and h, w = H / 4, W / 4:
        heatmap (C, h, w), distances (4, h, w), weight (h, w), care (h, w) float32: see `targets.Targets`;
        drivable (1, h, w) uint8 share of drivable pixels times 255, drivable_known (1, 1, 1) float32 0 or 1;
        truth_boxes (M, 4) float32 input px, truth_classes (M,) int64, NO_CLASS where there is no object,
        truth_ignored (M,) bool: what to score against;
    and with the task boxes3d:
        bev_heatmap (C, rows, columns), bev_care (rows, columns) float32; bev_cell (M,) int64, bev_values (M, 10),
        bev_weight (M, 10) float32: see `bev_targets.BevTargets`;
        truth_boxes3d (M, 9) float32, truth_classes3d (M,), truth_ignored3d (M,) as above, also those off the grid;
        truth_known3d () bool: whether people measured cuboids here.
    A frame without a picture teaches nothing and has no objects.

    Raises:
        DatasetError: labels cannot be read, or a frame holds more than max_objects (too_many_objects).
    """

    def __init__(self, root: Path, spec: GoldenSpec, config: PerceptionConfig, augment: bool) -> None:
        self.root, self.spec, self.config, self.augment = root, spec, config, augment
        self.inputs = MakeInputs(spec.camera, config.lidars, config.radars, InputLayout.of(config))
        self._labels: dict[str, dict[tuple[str, int], Labels]] = {}
        self._cuboids: dict[str, dict[tuple[str, int], Cuboids]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Roles that the loader has to read."""
        return self.inputs.columns

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_labels": {}, "_cuboids": {}}

    def __call__(self, sample: Sample) -> Arrays:
        labels, cuboids = self._truth(sample)
        variant = draw_variant(self.config, sample.rng) if self.augment else Variant()
        return make_arrays(
            self.inputs.look(sample), labels, cuboids, variant, len(self.spec.classes), self.config
        )

    def _truth(self, sample: Sample) -> tuple[Labels | None, Cuboids | None]:
        drive, *key = sample.key
        if drive not in self._labels:
            found = read_labels(self.root, drive, self.spec)
            self._labels[drive] = {(item.clip_id, item.ref_ns): item for item in found}
            self._cuboids[drive] = read_cuboids(self.root, drive, self.spec)
        frame = (key[0], key[1])
        if sample.frame(self.spec.camera) is None:
            return None, None
        if frame not in self._labels[drive]:
            raise DatasetError(f"nobody labelled {frame}", code="unlabelled_frame", drive=drive)
        return self._labels[drive][frame], self._cuboids[drive].get(frame)
