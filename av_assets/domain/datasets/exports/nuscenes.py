"""nuScenes (nuscenes.org, schema of v1.0): thirteen tables of JSON and the files that they name.

    <version>/*.json   samples/CAM_.../*.jpg   samples/LIDAR_TOP/*.pcd.bin   maps/none.png

One scene per drive, one sample per labelled frame. Global frame: metres east and north of the drive's first position,
z = 0 the ground under the ego vehicle: roads are taken as flat. An annotation is a verified box with a cuboid of the
same object; boxes without one cannot be said in this format and are counted. Attributes are not labelled, rings of
points are not known (-1), and there is no map: its mask is empty.
Belongs here: from frames to rows and files. Does not belong here: reading datasets, the path of the vehicle (poses),
writing tables (nuscenes_tables).
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow.parquet as pq

from av_assets.domain.datasets.exports.frames import write_jpeg
from av_assets.domain.datasets.exports.kitti import first_lidar, points_of_lidar
from av_assets.domain.datasets.exports.nuscenes_tables import (
    LIDAR,
    VISIBILITY,
    Tables,
    token,
    write_vocabulary,
)
from av_assets.domain.datasets.exports.poses import EgoPath, ego_path
from av_assets.domain.geometry.transforms import matrices_to_quaternions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from av_assets.domain.datasets.exports.frames import Box, DatasetFrames, Frame
    from av_assets.domain.models.golden import Split

VERSION: Final = "v1.0-av"


def export_nuscenes(
    frames: DatasetFrames, splits: Sequence[Split], out: Path, advance: Callable[[], None]
) -> dict[str, str]:
    """Write the drives of the splits below `out`, one drive's rows in memory; gives drives left out, and why."""
    camera = f"CAM_{frames.spec.camera.removeprefix('camera_').upper()}"
    left_out, scenes = {}, {}
    with Tables(out / VERSION) as tables:
        write_vocabulary(tables, frames.spec.classes, camera)
        for split in splits:
            for drive in frames.spec.drives(split):
                scene = _Drive(frames, drive, out, camera)
                if scene.refusal:
                    left_out[drive] = scene.refusal
                    continue
                for frame in frames.of_drive(drive):
                    scene.add(frame)
                    advance()
                scene.write(tables)
                scenes[drive] = split
        (out / "maps").mkdir()
        _write_empty_mask(out / "maps" / "none.png")
        tables.add(
            "map",
            token=token("map"),
            log_tokens=[token("log", drive) for drive in scenes],
            category="semantic_prior",
            filename="maps/none.png",
        )
    by_split: dict[str, list[str]] = {split: [d for d in scenes if scenes[d] == split] for split in splits}
    (out / "splits.json").write_text(json.dumps(by_split, indent=1) + "\n", "utf-8")
    return left_out


def visibility_of(occlusion: float | None) -> str:
    """The level's token, empty where nobody said how much is hidden."""
    if occlusion is None:
        return ""
    return max(level for level, (_, least) in VISIBILITY.items() if 1.0 - occlusion >= least or level == "1")


def in_global(box: Box, pose: tuple[float, float, float]) -> dict[str, Any]:
    """translation (centre, m), size (width, length, height, m), rotation (w, x, y, z) of the box's cuboid."""
    cuboid, (x, y, yaw) = box.cuboid, pose
    assert cuboid is not None
    c, s = math.cos(yaw), math.sin(yaw)
    centre = [x + c * cuboid.x_m - s * cuboid.y_m, y + s * cuboid.x_m + c * cuboid.y_m, cuboid.z_m]
    size = [cuboid.width_m, cuboid.length_m, cuboid.height_m]
    return {"translation": centre, "size": size, "rotation": upright(yaw + cuboid.yaw_rad)}


def upright(yaw_rad: float) -> list[float]:
    """The turn around z as w, x, y, z."""
    return [math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)]


class _Drive:
    """The rows of one drive; written when the last frame is known, since rows name the next one."""

    def __init__(self, frames: DatasetFrames, drive: str, out: Path, camera: str) -> None:
        self.drive, self._out, self._camera = drive, out, camera
        self._calibration = frames.calibration(drive)
        self._view = self._calibration.get("cameras", {}).get(frames.spec.camera)
        self._lidar = first_lidar(self._calibration)
        path = _path_of(frames.root / "drives" / drive)
        self.refusal = "" if path else "its motion was not measured: frames cannot be placed"
        if not self._view or self._view.get("K") is None or self._view.get("ego_SE3_camera") is None:
            self.refusal = "its camera has no calibration"
        self._path = path
        self._samples: list[int] = []
        self._data: dict[str, list[dict[str, Any]]] = {camera: [], LIDAR: []}
        self._boxes: dict[str, list[tuple[int, Box]]] = {}

    def add(self, frame: Frame) -> None:
        """Write the files of the frame and keep its rows."""
        self._samples.append(frame.ref_ns)
        name = self._file(self._camera, frame, ".jpg")
        write_jpeg(frame.picture, self._out / name)
        size = {"fileformat": "jpg", "width": frame.width, "height": frame.height}
        self._keep(self._camera, frame, frame.picture.sensor_ns, filename=name, **size)
        if frame.points_ego is not None:
            name = self._file(LIDAR, frame, ".pcd.bin")
            points = points_of_lidar(frame.points_ego, self._lidar)
            rings = np.full((len(points), 1), -1, np.float32)
            (self._out / name).write_bytes(np.hstack([points, rings]).astype("<f4").tobytes())
            self._keep(LIDAR, frame, frame.ref_ns, filename=name, fileformat="pcd", width=0, height=0)
        for box in frame.boxes:
            if box.cuboid is not None:
                self._boxes.setdefault(box.label_id, []).append((frame.ref_ns, box))

    def write(self, tables: Tables) -> None:
        if not self._samples:
            return
        self._write_scene(tables)
        for channel in (c for c in self._data if self._data[c]):
            self._write_channel(tables, channel)
        for label_id, seen in self._boxes.items():
            self._write_object(tables, label_id, seen)

    def _file(self, channel: str, frame: Frame, suffix: str) -> str:
        (self._out / "samples" / channel).mkdir(parents=True, exist_ok=True)
        return f"samples/{channel}/{self.drive}__{channel}__{frame.ref_ns // 1000}{suffix}"

    def _keep(self, channel: str, frame: Frame, time_ns: int, **row: object) -> None:
        known = {
            "token": token("data", self.drive, channel, frame.ref_ns),
            "sample_token": token("sample", self.drive, frame.ref_ns),
        }
        self._data[channel].append({**known, "time_ns": time_ns, **row})

    def _write_scene(self, tables: Tables) -> None:
        assert self._path is not None
        scene, names = token("scene", self.drive), [token("sample", self.drive, ns) for ns in self._samples]
        origin = self._path.origin
        place = f"{origin[0]:.6f},{origin[1]:.6f}" if origin else "unknown"
        tables.add(
            "log",
            token=token("log", self.drive),
            logfile=self.drive,
            vehicle=self.drive.split("-")[0],
            date_captured=datetime.fromtimestamp(self._samples[0] // 10**9, UTC).strftime("%Y-%m-%d"),
            location=place,
        )
        turned = "" if self._path.turned else "; x is the first heading: no position tells where north is"
        tables.add(
            "scene",
            token=scene,
            log_token=token("log", self.drive),
            nbr_samples=len(names),
            first_sample_token=names[0],
            last_sample_token=names[-1],
            name=self.drive,
            description=f"origin {place}{turned}",
        )
        for ns, name, (before, after) in zip(self._samples, names, _neighbours(names), strict=True):
            tables.add("sample", token=name, timestamp=ns // 1000, prev=before, next=after, scene_token=scene)

    def _write_channel(self, tables: Tables, channel: str) -> None:
        assert self._path is not None
        pose = (
            np.asarray(self._view["ego_SE3_camera"], np.float64) if channel == self._camera else self._lidar
        )
        x, y, z, w = (float(v) for v in matrices_to_quaternions(pose[:3, :3]))
        calibrated = token("calibrated", self.drive, channel)
        tables.add(
            "calibrated_sensor",
            token=calibrated,
            sensor_token=token("sensor", channel),
            translation=pose[:3, 3].tolist(),
            rotation=[w, x, y, z],
            camera_intrinsic=self._view["K"] if channel == self._camera else [],
        )
        rows = self._data[channel]
        for row, (before, after) in zip(rows, _neighbours([r["token"] for r in rows]), strict=True):
            east, north, yaw = self._path.at(row["time_ns"])
            stamp, rest = row["time_ns"] // 1000, {k: v for k, v in row.items() if k != "time_ns"}
            tables.add(
                "ego_pose",
                token=row["token"],
                timestamp=stamp,
                rotation=upright(yaw),
                translation=[east, north, 0.0],
            )
            tables.add(
                "sample_data",
                **rest,
                ego_pose_token=row["token"],
                calibrated_sensor_token=calibrated,
                timestamp=stamp,
                is_key_frame=True,
                prev=before,
                next=after,
            )

    def _write_object(self, tables: Tables, label_id: str, seen: list[tuple[int, Box]]) -> None:
        assert self._path is not None
        instance = token("instance", self.drive, label_id)
        names = [token("annotation", self.drive, label_id, ns) for ns, _ in seen]
        tables.add(
            "instance",
            token=instance,
            category_token=token("category", seen[0][1].cls),
            nbr_annotations=len(names),
            first_annotation_token=names[0],
            last_annotation_token=names[-1],
        )
        for (ns, box), name, (before, after) in zip(seen, names, _neighbours(names), strict=True):
            assert box.cuboid is not None
            tables.add(
                "sample_annotation",
                token=name,
                sample_token=token("sample", self.drive, ns),
                instance_token=instance,
                visibility_token=visibility_of(box.occlusion),
                attribute_tokens=[],
                **in_global(box, self._path.at(ns)),
                prev=before,
                next=after,
                num_lidar_pts=box.cuboid.points,
                num_radar_pts=0,
            )


def _neighbours(names: Sequence[str]) -> list[tuple[str, str]]:
    """For each name the one before and the one after, empty at the ends."""
    before = ["", *names[:-1]]
    after = [*names[1:], ""]
    return list(zip(before, after, strict=True))


def _path_of(folder: Path) -> EgoPath | None:
    """The path of a drive from the signals of its clips."""
    rows: list[dict[str, Any]] = []
    for clip in sorted((folder / "clips").glob("*.parquet")):
        with pq.ParquetFile(clip) as source:
            if "signals" not in source.schema_arrow.names:
                return None
            rows += source.read(["ref_ns", "signals"]).to_pylist()
    rows.sort(key=lambda r: r["ref_ns"])
    kept = [b for a, b in pairwise([{"ref_ns": None}, *rows]) if a["ref_ns"] != b["ref_ns"]]
    names = ("speed_mps", "yaw_rate_radps", "latitude_deg", "longitude_deg")
    columns = [[(r["signals"] or {}).get(name) for r in kept] for name in names]
    return ego_path([r["ref_ns"] for r in kept], *columns)


def _write_empty_mask(path: Path) -> None:
    import cv2

    path.write_bytes(bytes(cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1]))
