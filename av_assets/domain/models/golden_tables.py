"""Reads the small files of a frozen dataset folder: its spec, its labels and cuboids, its calibrations.

Belongs here: the layout of golden datasets as their readers see it. Does not belong here: sensor data (`golden`),
freezing datasets (`datasets`), tensors, metrics.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from av_assets.domain.errors import DatasetError
from av_assets.domain.evidence.digests import sha256_file, sha256_json
from av_assets.domain.models.inputs import CameraView

Split = Literal["train", "val", "test"]
INDEX_FILE = "index.parquet"
CUBOIDS_FILE = "cuboids.parquet"
_BOX3D = ("x_m", "y_m", "z_m", "length_m", "width_m", "height_m", "yaw_rad", "vx_mps", "vy_mps")


class Member(BaseModel):
    """One drive of the dataset."""

    drive: str
    split: Split
    tags: dict[str, str] = Field(default_factory=dict)


class GoldenSpec(BaseModel):
    """The part of dataset.json that learning and evaluation read."""

    version: str
    classes: tuple[str, ...]
    camera: str
    members: tuple[Member, ...]
    slices: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def drives(self, split: Split) -> tuple[str, ...]:
        return tuple(sorted(m.drive for m in self.members if m.split == split))


@dataclass(frozen=True)
class Labels:
    """Labels of one frame: boxes (n, 4) px of the camera picture, classes (n,) index, occlusion (n,) 0..1."""

    clip_id: str
    ref_ns: int
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    occlusion: NDArray[np.float32]
    drivable_png: bytes | None  # None: nobody drew it, which is not the same as nowhere to drive
    label_ids: tuple[str, ...] = ()

    def drivable(self) -> NDArray[np.uint8] | None:
        """(H, W) uint8, 1 where the ego vehicle may drive; None where nobody drew it.

        Raises:
            DatasetError: bad_mask, it is no picture.
        """
        import cv2

        if self.drivable_png is None:
            return None
        mask = cv2.imdecode(np.frombuffer(self.drivable_png, np.uint8), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            drive = self.clip_id.rpartition("/")[0]
            raise DatasetError(
                f"drivable mask of {self.clip_id} does not decode", code="bad_mask", drive=drive
            )
        return np.asarray(mask > 127, np.uint8)


@dataclass(frozen=True)
class Cuboids:
    """Cuboids of one frame, of those of its labels that were measured.

    They lie where the sweep of the frame saw the objects: with points that were not moved to `ref_ns` that is when the
    beam came by, not `ref_ns` itself.

    Attributes:
        boxes: (n, 9) float32 x y z l w h yaw vx vy: centre, size, direction and velocity over ground in m, rad and m/s,
            all along the axes of the ego frame; the velocity is NaN where unknown.
        classes: (n,) index. points: (n,) lidar points on it; 0 where it was bridged between sightings.
        label_ids: of the labels whose objects they are.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    points: NDArray[np.int64]
    label_ids: tuple[str, ...]


def read_spec(root: Path) -> GoldenSpec:
    """The dataset's spec.

    Raises:
        DatasetError: no dataset.json, or not one.
    """
    path = root / "dataset.json"
    try:
        return GoldenSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DatasetError(
            f"no readable dataset.json: {error}", code="bad_dataset_json", file=path
        ) from error


def dataset_digest(root: Path) -> str:
    """What a model learns from: the spec (which names the shards by digest), the bytes of all labels, and which frames
    count.
    """
    files = sorted(p for pattern in ("*.parquet", "*.json") for p in (root / "drives").glob(f"*/{pattern}"))
    files += [path for name in ("dataset.json", INDEX_FILE) if (path := root / name).is_file()]
    found = {p.relative_to(root).as_posix(): sha256_file(p) for p in files}
    return sha256_json(found)


def labelled_frames(root: Path, drive: str, spec: GoldenSpec) -> set[tuple[str, int]]:
    """(clip_id, ref_ns) of the frames that people are done with, also of those in which they found nothing.

    The dataset's index names them. In a folder without one a box or a mask makes a labelled frame.

    Raises:
        DatasetError: no_labels, a file of the drive is missing or no table.
    """
    index, names = root / INDEX_FILE, ["clip_id", "ref_ns", "camera"]
    if index.is_file():
        rows = _rows(index, drive, columns=names, filters=[("drive", "=", drive)])
    else:
        folder = root / "drives" / drive
        files = ("labels.parquet", "drivable.parquet")
        rows = [row for name in files for row in _rows(folder / name, drive, columns=names)]
    return {(row["clip_id"], row["ref_ns"]) for row in rows if row["camera"] == spec.camera}


def _rows(path: Path, drive: str, **which: Any) -> list[dict[str, Any]]:
    try:
        return list(pq.read_table(path, **which).to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"labels cannot be read: {error}", code="no_labels", file=path, drive=drive
        ) from error


def read_labels(root: Path, drive: str, spec: GoldenSpec) -> list[Labels]:
    """Labels of all `labelled_frames` of the drive, by time; a frame without objects has empty arrays.

    Raises:
        DatasetError: labels are missing or name a class that the spec does not know.
    """
    folder = root / "drives" / drive
    rows = _rows(folder / "labels.parquet", drive)
    masks = _rows(folder / "drivable.parquet", drive)
    png = {(m["clip_id"], m["ref_ns"]): m["mask"] for m in masks if m["camera"] == spec.camera}
    by_frame: dict[tuple[str, int], list[dict[str, Any]]] = {
        key: [] for key in labelled_frames(root, drive, spec)
    }
    for row in rows:
        key = (row["clip_id"], row["ref_ns"])
        if row["camera"] == spec.camera and key in by_frame:
            by_frame[key].append(row)
    ids = {name: index for index, name in enumerate(spec.classes)}
    if unknown := {r["cls"] for r in rows} - set(ids):
        raise DatasetError(f"unknown classes {sorted(unknown)}", code="unknown_class", drive=drive)
    return [
        _labels(key, by_frame[key], ids, png.get(key)) for key in sorted(by_frame, key=lambda k: (k[1], k[0]))
    ]


def _labels(
    key: tuple[str, int], rows: list[dict[str, Any]], ids: dict[str, int], png: bytes | None
) -> Labels:
    return Labels(
        *key,
        boxes=np.array([[r["x1"], r["y1"], r["x2"], r["y2"]] for r in rows], np.float32).reshape(-1, 4),
        classes=np.array([ids[r["cls"]] for r in rows], np.int64),
        occlusion=np.array([r.get("occlusion") or 0.0 for r in rows], np.float32),
        drivable_png=png,
        label_ids=tuple(str(r.get("label_id") or "") for r in rows),
    )


def read_cuboids(root: Path, drive: str, spec: GoldenSpec) -> dict[tuple[str, int], Cuboids]:
    """Cuboids by (clip_id, ref_ns) of all `labelled_frames` of the drive; empty where the dataset has no 3D truth.

    Raises:
        DatasetError: no_labels, the file is no table; unknown_class.
    """
    path = root / "drives" / drive / CUBOIDS_FILE
    if not path.is_file():
        return {}
    by_frame: dict[tuple[str, int], list[dict[str, Any]]] = {
        key: [] for key in labelled_frames(root, drive, spec)
    }
    names = ["clip_id", "ref_ns", "label_id", "cls", "points", *_BOX3D]
    for row in _rows(path, drive, columns=names):
        if (key := (row["clip_id"], row["ref_ns"])) in by_frame:
            by_frame[key].append(row)
    ids = {name: index for index, name in enumerate(spec.classes)}
    if unknown := {row["cls"] for rows in by_frame.values() for row in rows} - set(ids):
        raise DatasetError(f"unknown classes {sorted(unknown)}", code="unknown_class", file=path, drive=drive)
    return {key: _cuboids(rows, ids) for key, rows in by_frame.items()}


def _cuboids(rows: list[dict[str, Any]], ids: dict[str, int]) -> Cuboids:
    values = [[np.nan if r[name] is None else r[name] for name in _BOX3D] for r in rows]
    return Cuboids(
        np.array(values, np.float32).reshape(-1, len(_BOX3D)),
        np.array([ids[r["cls"]] for r in rows], np.int64),
        np.array([r["points"] or 0 for r in rows], np.int64),
        tuple(r["label_id"] for r in rows),
    )


def read_view(root: Path, drive: str, spec: GoldenSpec) -> CameraView | None:
    """Where the dataset's camera looks on the drive; None where it is not calibrated."""
    return CameraView.from_calibration(read_calibration(root, drive), spec.camera)


def read_calibration(root: Path, drive: str) -> dict[str, Any]:
    """calibration.json of the drive.

    Raises:
        DatasetError: no_calibration.
    """
    path = root / "drives" / drive / "calibration.json"
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"no calibration: {error}", code="no_calibration", file=path, drive=drive
        ) from error
