"""Where sensors are mounted and how cameras see: read from the log, or listed as missing, never invented.

Belongs here: the calibration of one drive, its sanity and its file. Does not belong here: estimating
calibration.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from av_assets.domain.errors import CalibrationError
from av_assets.domain.geometry.transforms import (
    Array,
    compose,
    invert,
    is_rigid,
    quaternions_to_matrices,
    se3,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

EGO_FRAME = "base_link"
Matrix3 = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
Row4 = tuple[float, float, float, float]
Matrix4 = tuple[Row4, Row4, Row4, Row4]


def _check_rigid(name: str, matrix: Matrix4) -> None:
    if not is_rigid(matrix):
        raise ValueError(f"{name} is not a rigid transform")


class CameraCalibration(BaseModel):
    """Intrinsics (pixels, plumb_bob D) and mounting of one camera; optical frame x right, y down, z
    forward."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    width: int
    height: int
    K: Matrix3
    D: tuple[float, ...] = ()
    ego_SE3_camera: Matrix4  # noqa: N815

    @model_validator(mode="after")
    def _sane(self) -> Self:
        _check_rigid("ego_SE3_camera", self.ego_SE3_camera)
        if self.width <= 0 or self.height <= 0 or self.K[0][0] <= 0 or self.K[1][1] <= 0:
            raise ValueError("a camera needs a positive picture size and focal lengths")
        return self


class LidarCalibration(BaseModel):
    """Mounting of one lidar."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    ego_SE3_lidar: Matrix4  # noqa: N815

    @model_validator(mode="after")
    def _sane(self) -> Self:
        _check_rigid("ego_SE3_lidar", self.ego_SE3_lidar)
        return self


class Calibration(BaseModel):
    """All of one drive. `missing` lists roles without a usable one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    cameras: dict[str, CameraCalibration] = {}
    lidars: dict[str, LidarCalibration] = {}
    source: Literal["log", "ledger", "mixed", "missing"] = "missing"
    missing: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Sorted JSON: the same calibration gives the same bytes."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
        path.write_text(text + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a `calibration.json`.

        Raises:
            CalibrationError: unreadable, or not a calibration.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise CalibrationError(
                f"not a calibration: {error}", code="bad_calibration_file", file=path
            ) from error


class Mount(NamedTuple):
    """A sensor for which calibration is wanted. `info_topic` is where a camera says its intrinsics."""

    role: str
    kind: Literal["camera", "lidar", "radar"]
    frame: str | None
    info_topic: str | None = None


def transforms_of(message: Any) -> Iterable[tuple[str, str, Array]]:
    """(parent, child, parent_SE3_child) of a tf2_msgs/TFMessage; unusable rotations are left out."""
    for item in message.transforms:
        t, q = item.transform.translation, item.transform.rotation
        try:
            rotation = quaternions_to_matrices([q.x, q.y, q.z, q.w])
        except CalibrationError:
            continue
        matrix = se3(rotation, [t.x, t.y, t.z])
        if is_rigid(matrix):
            yield item.header.frame_id.lstrip("/"), item.child_frame_id.lstrip("/"), matrix


class FrameTree:
    """Static transforms between named frames; a later message about the same pair replaces the earlier
    one."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, Array]] = {}

    def add(self, parent: str, child: str, parent_SE3_child: Array) -> None:  # noqa: N803
        self._edges.setdefault(parent, {})[child] = parent_SE3_child
        self._edges.setdefault(child, {})[parent] = invert(parent_SE3_child)

    def lookup(self, target: str, source: str) -> Array | None:
        """target_SE3_source along the shortest chain of edges, None where the frames are not connected."""
        reached: dict[str, Array] = {target: np.eye(4)}
        front = [target]
        while front and source not in reached:
            following = []
            for frame in front:
                for neighbour, edge in sorted(self._edges.get(frame, {}).items()):
                    if neighbour not in reached:
                        reached[neighbour] = compose(reached[frame], edge)
                        following.append(neighbour)
            front = following
        return reached.get(source)


def frame_tree(messages: Iterable[Any]) -> FrameTree:
    """The tree of all transforms in decoded tf2_msgs/TFMessage messages."""
    tree = FrameTree()
    for message in messages:
        for parent, child, matrix in transforms_of(message):
            tree.add(parent, child, matrix)
    return tree


def calibration_from_log(
    mounts: Iterable[Mount],
    transforms: Iterable[Any] | FrameTree,
    camera_infos: Mapping[str, Any],
    ego_frame: str = EGO_FRAME,
) -> Calibration:
    """Calibration out of decoded messages.

    Args:
        mounts: the cameras and lidars of the drive (other kinds are ignored).
        transforms: tf2_msgs/TFMessage messages of /tf_static in log order, or the tree made of them.
        camera_infos: role -> sensor_msgs/CameraInfo. Its frame_id names the frame where the mount has none.

    A camera needs both intrinsics and a chain to `ego_frame`; a lidar needs the chain. What lacks is in
    `missing`.
    """
    tree = transforms if isinstance(transforms, FrameTree) else frame_tree(transforms)
    cameras: dict[str, CameraCalibration] = {}
    lidars: dict[str, LidarCalibration] = {}
    missing: list[str] = []
    for mount in mounts:
        info = camera_infos.get(mount.role)
        frame = mount.frame or (info.header.frame_id if info is not None else None)
        pose = tree.lookup(ego_frame, frame.lstrip("/")) if frame else None
        if mount.kind == "camera":
            camera = _camera(info, pose)
            if camera is not None:
                cameras[mount.role] = camera
        elif mount.kind == "lidar" and pose is not None:
            lidars[mount.role] = LidarCalibration(ego_SE3_lidar=_matrix4(pose))
        if mount.kind != "radar" and mount.role not in cameras and mount.role not in lidars:
            missing.append(mount.role)
    source: Literal["log", "missing"] = "log" if cameras or lidars else "missing"
    return Calibration(cameras=cameras, lidars=lidars, source=source, missing=tuple(sorted(missing)))


def _camera(info: Any, pose: Array | None) -> CameraCalibration | None:
    """None where the log has no mounting, no intrinsics, or intrinsics that say nothing (all zero:
    uncalibrated)."""
    if info is None or pose is None:
        return None
    k = np.asarray(info.k if hasattr(info, "k") else info.K, np.float64).reshape(3, 3)
    d = np.asarray(info.d if hasattr(info, "d") else info.D, np.float64)
    if info.distortion_model not in ("", "plumb_bob") or len(d) > 5:
        return None
    try:
        return CameraCalibration(
            width=info.width,
            height=info.height,
            K=k.tolist(),  # type: ignore[arg-type]  # validated by the model
            D=tuple(map(float, d)),
            ego_SE3_camera=_matrix4(pose),
        )
    except ValidationError:
        return None


def _matrix4(matrix: Array) -> Matrix4:
    a, b, c, d = (tuple(float(value) for value in row) for row in matrix)
    return a, b, c, d  # type: ignore[return-value]
