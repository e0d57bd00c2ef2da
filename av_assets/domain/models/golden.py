"""Reads a frozen dataset folder: its spec, its labels, and the sensor data of the labelled frames.

Belongs here: the layout of golden datasets as their readers see it. Does not belong here: freezing datasets
(`datasets`), tensors, metrics.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard

Split = Literal["train", "val", "test"]
INDEX_FILE = "index.parquet"


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


@dataclass(frozen=True)
class Scene:
    """One labelled frame with what the sensors saw; points (n, 4) x, y, z in the EGO frame, intensity."""

    drive: str
    labels: Labels
    frame: RedactedFrame
    points_ego: NDArray[np.float32] | None
    view: CameraView | None

    def drivable(self) -> NDArray[np.uint8] | None:
        """(H, W) uint8, 1 where the ego vehicle may drive; None where nobody labelled it."""
        import cv2

        if self.labels.drivable_png is None:
            return None
        mask = cv2.imdecode(np.frombuffer(self.labels.drivable_png, np.uint8), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise DatasetError("drivable mask does not decode", code="bad_mask", drive=self.drive)
        return np.asarray(mask > 127, np.uint8)


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
    )


def read_scenes(root: Path, drive: str, spec: GoldenSpec) -> Iterator[Scene]:
    """The labelled frames of a drive with their sensor data, one clip in memory at a time, in time order.

    Frames whose camera picture is missing are left out: there is nothing to look at.
    """
    folder = root / "drives" / drive
    calibration = json.loads((folder / "calibration.json").read_text("utf-8"))
    view = CameraView.from_calibration(calibration, spec.camera)
    labels = {item.ref_ns: item for item in read_labels(root, drive, spec)}
    for path in sorted((folder / "clips").glob("*.parquet")):
        yield from _scenes_of_clip(path, drive, spec.camera, calibration, view, labels)


def _scenes_of_clip(
    path: Path,
    drive: str,
    camera: str,
    calibration: dict[str, Any],
    view: CameraView | None,
    labels: dict[int, Labels],
) -> Iterator[Scene]:
    lidars = {
        role: np.asarray(c["ego_SE3_lidar"], np.float64) for role, c in calibration.get("lidars", {}).items()
    }
    with pq.ParquetFile(path) as source:
        names = [n for n in source.schema_arrow.names if n in ("ref_ns", camera) or n in lidars]
        if camera not in names:
            raise DatasetError(f"clip has no camera {camera}", code="no_such_camera", file=path, drive=drive)
        table = source.read(names)
    table = table.filter(np.isin(table["ref_ns"].to_numpy(), list(labels)))
    clouds = {role: table[role].to_pylist() for role in lidars if role in names}
    for row, frame in enumerate(frames_from_shard(table, camera)):
        if frame is not None:
            points = _points_ego([(lidars[role], cells[row]) for role, cells in clouds.items()])
            yield Scene(drive, labels[table["ref_ns"][row].as_py()], frame, points, view)


def _points_ego(cells: list[tuple[NDArray[np.float64], dict[str, Any] | None]]) -> NDArray[np.float32] | None:
    clouds = []
    for pose, cell in cells:
        if cell is None or not cell["valid"] or cell["points"] is None:
            continue
        points = np.frombuffer(cell["points"], "<f4").reshape(-1, 4).copy()
        points[:, :3] = points[:, :3] @ pose[:3, :3].T + pose[:3, 3]
        clouds.append(points[np.isfinite(points).all(1)])
    return np.concatenate(clouds) if clouds else None
