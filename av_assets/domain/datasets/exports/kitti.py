"""KITTI object detection (cvlibs.net/datasets/kitti, readme of the object development kit): one text line per object.

    training/image_2/000000.png    training/label_2/000000.txt    training/calib/000000.txt
    training/velodyne/000000.bin   ImageSets/<split>.txt          names.csv: number, split, name of the frame

Camera frame: x right, y down, z forward; a cuboid is given by the centre of its bottom. R0_rect is the identity, P0, P1
and P3 repeat P2: there is one camera. Velodyne frame: that of the first lidar, and all points of the frame are in it.
What is not known has KITTI's own words for it: truncation -1, occlusion 3, sizes -1, places -1000, angles -10.
Pictures of cameras with distortion are not rectified; the export says for which drives.
Belongs here: this format. Does not belong here: reading datasets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.datasets.exports.frames import Cuboid, write_png
from av_assets.domain.geometry.transforms import apply, invert
from av_assets.domain.models.inputs import CameraView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from av_assets.domain.datasets.exports.frames import Box, DatasetFrames, Frame
    from av_assets.domain.models.golden import Split
    from av_assets.policies.archives import ArchivesPolicy

TYPES: Final = {"vehicle": "Car", "pedestrian": "Pedestrian", "cone": "Misc"}
UNKNOWN_OCCLUSION: Final = 3


@dataclass(frozen=True)
class KittiBox:
    """Height, width, length; bottom centre in the camera frame; turn around the camera's y axis, 0 along its x."""

    height_m: float
    width_m: float
    length_m: float
    x_m: float
    y_m: float
    z_m: float
    rotation_y: float

    @property
    def alpha(self) -> float:
        """The turn as the camera sees it: without the direction of the view, in [-pi, pi)."""
        return wrapped(self.rotation_y - math.atan2(self.x_m, self.z_m))


UNKNOWN: Final = KittiBox(-1, -1, -1, -1000, -1000, -1000, -10)


def to_kitti(cuboid: Cuboid, ego_SE3_camera: NDArray[np.float64]) -> KittiBox:  # noqa: N803
    """The cuboid as the camera has it; KITTI's boxes stand on the camera's x-z plane, so that a camera tilts them."""
    camera_SE3_ego = invert(ego_SE3_camera)  # noqa: N806
    bottom = [[cuboid.x_m, cuboid.y_m, cuboid.z_m - cuboid.height_m / 2]]
    x, y, z = (float(v) for v in apply(camera_SE3_ego, bottom)[0])
    ahead = camera_SE3_ego[:3, :3] @ [math.cos(cuboid.yaw_rad), math.sin(cuboid.yaw_rad), 0.0]
    turn = math.atan2(-float(ahead[2]), float(ahead[0]))
    return KittiBox(cuboid.height_m, cuboid.width_m, cuboid.length_m, x, y, z, turn)


def from_kitti(box: KittiBox, ego_SE3_camera: NDArray[np.float64], points: int = 0) -> Cuboid:  # noqa: N803
    """The inverse of `to_kitti`, for objects whose heading lies in the ego frame's ground plane."""
    x, y, z = (float(v) for v in apply(ego_SE3_camera, [[box.x_m, box.y_m, box.z_m]])[0])
    rows = invert(ego_SE3_camera)[[0, 2], :2]  # x and z of the camera from x and y of the ego frame
    c, s = np.linalg.solve(rows, [math.cos(box.rotation_y), -math.sin(box.rotation_y)])
    yaw = math.atan2(float(s), float(c))
    return Cuboid(x, y, z + box.height_m / 2, box.length_m, box.width_m, box.height_m, yaw, points)


def wrapped(angle_rad: float) -> float:
    """The same angle in [-pi, pi)."""
    return (angle_rad + math.pi) % (2 * math.pi) - math.pi


def export_kitti(
    frames: DatasetFrames,
    splits: Sequence[Split],
    out: Path,
    policy: ArchivesPolicy,
    advance: Callable[[], None],
) -> dict[str, str]:
    """Write the frames of the splits below `out`; gives drives that were left out, and why."""
    for name in ("image_2", "label_2", "calib", "velodyne"):
        (out / "training" / name).mkdir(parents=True)
    (out / "ImageSets").mkdir()
    left_out, number = {}, 0
    with (out / "names.csv").open("w", encoding="utf-8") as names:
        names.write("number,split,name\n")
        for split in splits:
            first = number
            for drive in frames.spec.drives(split):
                calibration = frames.calibration(drive)
                view = CameraView.from_calibration(calibration, frames.spec.camera)
                if view is None:
                    left_out[drive] = "its camera has no calibration"
                    continue
                lidar = first_lidar(calibration)
                for frame in frames.of_drive(drive):
                    _write_frame(frame, view, lidar, out / "training", number, policy)
                    names.write(f"{number:06},{split},{frame.name}\n")
                    number += 1
                    advance()
            numbers = "".join(f"{n:06}\n" for n in range(first, number))
            (out / "ImageSets" / f"{split}.txt").write_text(numbers, "utf-8")
    return left_out


def first_lidar(calibration: dict[str, dict[str, dict[str, object]]]) -> NDArray[np.float64]:
    """ego_SE3_lidar of the first lidar by name, (4, 4); without one the points are left in the ego frame."""
    lidars = calibration.get("lidars", {})
    return np.asarray(lidars[min(lidars)]["ego_SE3_lidar"], np.float64) if lidars else np.eye(4)


def points_of_lidar(
    points_ego: NDArray[np.float32],
    ego_SE3_lidar: NDArray[np.float64],  # noqa: N803
) -> NDArray[np.float32]:
    """(n, 4) x, y, z in the lidar's frame, intensity."""
    points = np.asarray(points_ego, np.float32).copy()
    points[:, :3] = apply(invert(ego_SE3_lidar), points[:, :3])
    return points


def _write_frame(
    frame: Frame,
    view: CameraView,
    lidar: NDArray[np.float64],
    folder: Path,
    number: int,
    policy: ArchivesPolicy,
) -> None:
    name = f"{number:06}"
    write_png(frame.picture, folder / "image_2" / f"{name}.png")
    lines = [line(box, view, policy) for box in frame.boxes]
    (folder / "label_2" / f"{name}.txt").write_text("".join(f"{text}\n" for text in lines), "utf-8")
    (folder / "calib" / f"{name}.txt").write_text(calib(view, lidar), "utf-8")
    if frame.points_ego is not None:
        data = points_of_lidar(frame.points_ego, lidar).astype("<f4").tobytes()
        (folder / "velodyne" / f"{name}.bin").write_bytes(data)


def line(box: Box, view: CameraView, policy: ArchivesPolicy) -> str:
    """One object: type, truncation, occlusion, alpha, 2D box, height, width, length, x, y, z, rotation_y."""
    solid = UNKNOWN if box.cuboid is None else to_kitti(box.cuboid, view.ego_SE3_camera)
    inside = box.x1 > 0 and box.y1 > 0 and box.x2 < view.width - 1 and box.y2 < view.height - 1
    alpha = -10.0 if box.cuboid is None else solid.alpha
    size = (solid.height_m, solid.width_m, solid.length_m)
    place = (solid.x_m, solid.y_m, solid.z_m, solid.rotation_y)
    figures = (alpha, box.x1, box.y1, box.x2, box.y2, *size, *place)
    # Whether the picture's border cuts an object off is known where it does not touch it.
    start = f"{TYPES.get(box.cls, 'Misc')} {0.0 if inside else -1.0:.2f} {_occluded(box.occlusion, policy)}"
    return " ".join([start, *(f"{v:.4f}" for v in figures)])


def _occluded(share: float | None, policy: ArchivesPolicy) -> int:
    if share is None:
        return UNKNOWN_OCCLUSION
    return (share >= policy.kitti_partly_occluded) + (share >= policy.kitti_largely_occluded)


def calib(view: CameraView, ego_SE3_lidar: NDArray[np.float64]) -> str:  # noqa: N803
    """Projection matrices, row by row; Tr_velo_to_cam is camera_SE3_lidar, Tr_imu_to_velo lidar_SE3_ego."""
    projection = np.hstack([view.K, np.zeros((3, 1))])
    camera_SE3_lidar = invert(view.ego_SE3_camera) @ ego_SE3_lidar  # noqa: N806
    rows = {f"P{n}": projection for n in range(4)}
    rows |= {
        "R0_rect": np.eye(3),
        "Tr_velo_to_cam": camera_SE3_lidar[:3],
        "Tr_imu_to_velo": invert(ego_SE3_lidar)[:3],
    }
    return "".join(f"{k}: {' '.join(f'{v:.12e}' for v in matrix.ravel())}\n" for k, matrix in rows.items())
