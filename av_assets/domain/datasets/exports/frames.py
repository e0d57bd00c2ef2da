"""The labelled frames of a frozen dataset, as every export wants them: picture, boxes, cuboids, points.

Belongs here: joining what lies in a dataset's folder, and counting what could not be joined. Does not belong here:
formats.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from av_assets.domain.errors import DatasetError
from av_assets.domain.models.golden import CUBOIDS_FILE, labelled_frames, read_scenes, read_spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from av_assets.domain.models.golden import GoldenSpec, Scene, Split
    from av_assets.domain.models.inputs import CameraView
    from av_assets.domain.privacy.frames import RedactedFrame


@dataclass(frozen=True)
class Cuboid:
    """An object in the ego frame: its centre, its size, its heading from x to y; speeds over ground where known."""

    x_m: float
    y_m: float
    z_m: float
    length_m: float
    width_m: float
    height_m: float
    yaw_rad: float
    points: int


@dataclass(frozen=True)
class Box:
    """A verified box, pixels of the camera picture, and the cuboid of the same object, where there is one."""

    cls: str
    x1: float
    y1: float
    x2: float
    y2: float
    label_id: str
    occlusion: float | None
    cuboid: Cuboid | None


@dataclass(frozen=True)
class Frame:
    """One labelled frame with its picture; points (n, 4) x, y, z in the ego frame, intensity."""

    drive: str
    clip_id: str
    ref_ns: int
    width: int
    height: int
    picture: RedactedFrame
    boxes: tuple[Box, ...]
    points_ego: NDArray[np.float32] | None
    view: CameraView | None

    @property
    def name(self) -> str:
        """The name that pictures and tasks of this frame have everywhere."""
        return f"{self.drive}.{self.picture.role}.{self.ref_ns}"


@dataclass
class DatasetFrames:
    """A dataset's folder (see `models.golden`), read drive by drive.

    Attributes:
        cuboids: drive -> cuboids.parquet of the labels that people verified, for datasets that hold none of their own;
            drives without one have no cuboids.
        counts: what was given and what was missing, so far.
    """

    root: Path
    cuboids: Mapping[str, Path] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @cached_property
    def spec(self) -> GoldenSpec:
        return read_spec(self.root)

    def labelled(self, split: Split) -> int:
        """Labelled frames, whether or not they have a picture."""
        return sum(len(labelled_frames(self.root, drive, self.spec)) for drive in self.spec.drives(split))

    def calibration(self, drive: str) -> dict[str, Any]:
        path = self.root / "drives" / drive / "calibration.json"
        try:
            return dict(json.loads(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise DatasetError("no calibration", code="no_calibration", file=path, drive=drive) from error

    def of_drive(self, drive: str) -> Iterator[Frame]:
        """Frames by time, one clip in memory. A frame without a picture is counted and left out.

        Raises:
            DatasetError: files of the drive are missing, or its labels name unknown classes.
        """
        boxes, given = self._boxes(drive), 0
        for scene in read_scenes(self.root, drive, self.spec):
            given += 1
            frame = _frame(scene, tuple(boxes.get((scene.labels.clip_id, scene.labels.ref_ns), ())))
            self.counts["frames"] += 1
            self.counts["boxes"] += len(frame.boxes)
            self.counts["boxes_without_cuboid"] += sum(box.cuboid is None for box in frame.boxes)
            self.counts["frames_without_points"] += frame.points_ego is None
            yield frame
        self.counts["frames_without_picture"] += len(labelled_frames(self.root, drive, self.spec)) - given

    def _boxes(self, drive: str) -> dict[tuple[str, int], list[Box]]:
        solid = self._cuboids(drive)
        found: dict[tuple[str, int], list[Box]] = {}
        for r in self._rows(drive, "labels.parquet"):
            if r["camera"] != self.spec.camera:
                continue
            hidden = r.get("occlusion")
            box = Box(
                cls=r["cls"],
                x1=float(r["x1"]),
                y1=float(r["y1"]),
                x2=float(r["x2"]),
                y2=float(r["y2"]),
                label_id=r["label_id"],
                occlusion=None if hidden is None else float(hidden),
                cuboid=solid.pop((r["ref_ns"], r["label_id"]), None),  # one box of a frame is its object
            )
            found.setdefault((r["clip_id"], r["ref_ns"]), []).append(box)
        return found

    def _rows(self, drive: str, name: str) -> list[dict[str, Any]]:
        path = self.root / "drives" / drive / name
        try:
            return list(pq.read_table(path).to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(
                f"labels cannot be read: {error}", code="no_labels", file=path, drive=drive
            ) from error

    def cuboids_of(self, drive: str) -> Path | None:
        """The file with the drive's cuboids: the dataset's own, else the one that was given."""
        own = self.root / "drives" / drive / CUBOIDS_FILE
        return own if own.is_file() else self.cuboids.get(drive)

    def _cuboids(self, drive: str) -> dict[tuple[int, str], Cuboid]:
        path = self.cuboids_of(drive)
        if path is None:
            return {}
        names = ("x_m", "y_m", "z_m", "length_m", "width_m", "height_m", "yaw_rad")
        rows = pq.read_table(path, columns=["ref_ns", "label_id", "points", *names]).to_pylist()
        return {
            (r["ref_ns"], r["label_id"]): Cuboid(
                points=int(r["points"] or 0), **{name: float(r[name]) for name in names}
            )
            for r in rows
            if all(r[name] is not None for name in names)
        }


def _frame(scene: Scene, boxes: tuple[Box, ...]) -> Frame:
    if scene.view is not None:
        width, height = scene.view.width, scene.view.height
    else:
        height, width = scene.frame.pixels().shape[:2]
    return Frame(
        scene.drive,
        scene.labels.clip_id,
        scene.labels.ref_ns,
        width,
        height,
        scene.frame,
        boxes,
        scene.points_ego,
        scene.view,
    )


def write_jpeg(picture: RedactedFrame, path: Path) -> None:
    """The picture as it is stored, or encoded once where it is stored otherwise."""
    path.write_bytes(picture.data if picture.encoding == "jpeg" else _encoded(picture, ".jpg"))


def write_png(picture: RedactedFrame, path: Path) -> None:
    """The picture without further loss."""
    path.write_bytes(picture.data if picture.encoding == "png" else _encoded(picture, ".png"))


def _encoded(picture: RedactedFrame, suffix: str) -> bytes:
    import cv2

    return bytes(cv2.imencode(suffix, np.ascontiguousarray(picture.pixels()[..., ::-1]))[1])
