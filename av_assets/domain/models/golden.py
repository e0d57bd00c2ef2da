"""Reads a frozen dataset folder: its spec, its labels, and the sensor data of the labelled frames.

Belongs here: labelled frames with what the sensors saw. Does not belong here: the small files (`golden_tables`, whose
names readers find here too), freezing datasets (`datasets`), tensors, metrics.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.loading.ego_speed import SIGNALS, SPEED_COLUMN, ego_speeds_mps, tells_speed
from av_assets.domain.models.golden_tables import (
    CUBOIDS_FILE,
    INDEX_FILE,
    Cuboids,
    GoldenSpec,
    Labels,
    Member,
    Split,
    dataset_digest,
    labelled_frames,
    read_calibration,
    read_cuboids,
    read_labels,
    read_spec,
    read_view,
)
from av_assets.domain.models.grid import track_rows
from av_assets.domain.models.inputs import CameraView
from av_assets.domain.privacy.frames import RedactedFrame, frames_from_shard

__all__ = [
    "CUBOIDS_FILE",
    "INDEX_FILE",
    "Cuboids",
    "GoldenSpec",
    "Labels",
    "Member",
    "Scene",
    "Split",
    "dataset_digest",
    "labelled_frames",
    "read_calibration",
    "read_cuboids",
    "read_labels",
    "read_scenes",
    "read_spec",
    "read_view",
]
_TRACK = np.dtype([("track_id", "<i4"), *((name, "<f4") for name in ("x_m", "y_m", "vx_mps", "vy_mps"))])


@dataclass(frozen=True)
class Scene:
    """One labelled frame with what the sensors saw.

    Attributes:
        points_ego: (n, 4) x, y, z in the EGO frame, intensity.
        cuboids: None where the dataset has no 3D truth for the drive.
        tracks: (m, 4) of all radars, over ground: see `grid.track_rows`; None without radar.
    """

    drive: str
    labels: Labels
    frame: RedactedFrame
    points_ego: NDArray[np.float32] | None
    view: CameraView | None
    cuboids: Cuboids | None = None
    tracks: NDArray[np.float32] | None = None


def read_scenes(
    root: Path, drive: str, spec: GoldenSpec, only: Collection[int] | None = None
) -> Iterator[Scene]:
    """The labelled frames of a drive with their sensor data, one clip in memory at a time, in time order.

    Frames whose camera picture is missing are left out: there is nothing to look at.

    Args:
        only: reference stamps of the frames that are wanted; None gives all.
    """
    folder = root / "drives" / drive
    held = _Drive(
        drive,
        spec.camera,
        read_calibration(root, drive),
        {i.ref_ns: i for i in read_labels(root, drive, spec) if only is None or i.ref_ns in only},
        read_cuboids(root, drive, spec),
    )
    for path in sorted((folder / "clips").glob("*.parquet")):
        yield from held.scenes_of(path)


@dataclass(frozen=True)
class _Drive:
    """What all clips of a drive share."""

    drive: str
    camera: str
    calibration: dict[str, Any]
    labels: dict[int, Labels]
    cuboids: dict[tuple[str, int], Cuboids]

    def scenes_of(self, path: Path) -> Iterator[Scene]:
        view = CameraView.from_calibration(self.calibration, self.camera)
        lidars = {
            role: np.asarray(c["ego_SE3_lidar"], np.float64)
            for role, c in self.calibration.get("lidars", {}).items()
        }
        table, radars = self._read(path, lidars)
        if not table.num_rows:
            return
        clouds = {role: table[role].to_pylist() for role in lidars if role in table.column_names}
        tracks = [table[role].to_pylist() for role in radars]
        told = SIGNALS in table.column_names
        speeds = ego_speeds_mps(table[SIGNALS]) if told else np.full(table.num_rows, np.nan)
        for row, frame in enumerate(frames_from_shard(table, self.camera)):
            if frame is not None:
                labels = self.labels[table["ref_ns"][row].as_py()]
                points = _points_ego([(lidars[role], cells[row]) for role, cells in clouds.items()])
                cuboids = self.cuboids.get((labels.clip_id, labels.ref_ns))
                heard = track_rows(_tracks([cells[row] for cells in tracks]), float(speeds[row]))
                yield Scene(self.drive, labels, frame, points, view, cuboids, heard)

    def _read(self, path: Path, lidars: Collection[str]) -> tuple[pa.Table, list[str]]:
        """The rows of labelled frames, with the columns that scenes hold; and the roles of the radars."""
        with pq.ParquetFile(path) as source:
            schema = source.schema_arrow
            if self.camera not in schema.names:
                reason = f"clip has no camera {self.camera}"
                raise DatasetError(reason, code="no_such_camera", file=path, drive=self.drive)
            radars = [
                f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("tracks") >= 0
            ]
            stamps = source.read(["ref_ns"])
            rows = np.isin(stamps["ref_ns"].to_numpy(), list(self.labels))
            if not rows.any():  # a clip without a wanted frame is not read
                return stamps.slice(0, 0), radars
            wanted = {"ref_ns", self.camera, *lidars, *radars}
            speed = [SPEED_COLUMN] if radars and self._moves(path, schema) else []
            table = source.read([*(name for name in schema.names if name in wanted), *speed])
        return table.filter(rows), radars

    def _moves(self, path: Path, schema: pa.Schema) -> bool:
        try:
            return tells_speed(schema)
        except ValueError as error:
            raise DatasetError(str(error), code="bad_shard", file=path, drive=self.drive) from error


def _points_ego(cells: list[tuple[NDArray[np.float64], dict[str, Any] | None]]) -> NDArray[np.float32] | None:
    clouds = []
    for pose, cell in cells:
        if cell is None or not cell["valid"] or cell["points"] is None:
            continue
        points = np.frombuffer(cell["points"], "<f4").reshape(-1, 4).copy()
        points[:, :3] = points[:, :3] @ pose[:3, :3].T + pose[:3, 3]
        clouds.append(points[np.isfinite(points).all(1)])
    return np.concatenate(clouds) if clouds else None


def _tracks(cells: list[dict[str, Any] | None]) -> NDArray[np.void] | None:
    heard = [
        cell["tracks"] for cell in cells if cell is not None and cell["valid"] and cell["tracks"] is not None
    ]
    if not heard:
        return None
    rows = [tuple(track[name] for name in _TRACK.names or ()) for tracks in heard for track in tracks]
    return np.array(rows, _TRACK)
