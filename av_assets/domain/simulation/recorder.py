"""Records a script as a landed drive: sensors at their rates, true latencies, a rosbag2 MCAP, and the truth.

Belongs here: schedule, clocks, files. Does not belong here: what the sensors see.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.logs.drive_spec import MARKER_FILE, SPEC_FILE, DriveSpec, StreamSpec
from av_assets.domain.simulation import canbus, messages, signals
from av_assets.domain.simulation.camera import CAMERAS, Camera
from av_assets.domain.simulation.lidar import MOUNT_M, Lidar
from av_assets.domain.simulation.scene import Renderer
from av_assets.domain.simulation.schedule import CLOCKS, RATES_HZ, TOPICS, TYPES, Due, schedule
from av_assets.domain.simulation.truth import TruthLog
from av_assets.domain.simulation.world import build_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from av_assets.domain.simulation.road import Array
    from av_assets.domain.simulation.script import DriveScript

JPEG_QUALITY = 90
DBC_FILE, SUMS_FILE, LOG_FOLDER = "vehicle.dbc", "SHA256SUMS", "recording"


def drive_spec(script: DriveScript) -> DriveSpec:
    """The `drive.yaml` of a script."""
    kinds: dict[str, Any] = {
        "camera_front": "camera", "camera_rear": "camera", "lidar_top": "lidar", "radar_front": "radar",
        "imu": "imu", "gnss": "gnss", "can": "can",
    }  # fmt: skip
    streams = {
        role: StreamSpec(
            topic=topic, kind=kinds[role], rate_hz=RATES_HZ.get(role), frame=None if role == "can" else role,
            dbc=DBC_FILE if role == "can" else None,
        )
        for role, topic in TOPICS.items()
    }  # fmt: skip
    conditions = {
        "weather": script.weather,
        "light": script.light,
        "zone": script.zone,
        "region": script.region,
    }
    return DriveSpec.model_validate(
        {
            "schema": 1, "drive": script.drive, "vehicle": script.vehicle, "logs": (LOG_FOLDER,),
            "streams": streams, "conditions": conditions,
        }
    )  # fmt: skip


def frame_poses() -> dict[str, Array]:
    """frame -> 4x4 that maps its points to base_link."""
    poses: dict[str, Array] = {camera.role: camera.ego_SE3_camera for camera in CAMERAS}
    mounts = {
        "lidar_top": MOUNT_M, "radar_front": signals.RADAR_MOUNT_M, "imu": signals.IMU_MOUNT_M,
        "gnss": signals.GNSS_MOUNT_M,
    }  # fmt: skip
    for frame, mount in mounts.items():
        poses[frame] = np.eye(4)
        poses[frame][:3, 3] = mount
    return poses


class _Vehicle:
    """Makes the messages that are due."""

    def __init__(self, script: DriveScript) -> None:
        self.script = script
        self.world = build_world(script)
        self.renderer, self.lidar = Renderer(self.world), Lidar(self.world)
        self.truth = TruthLog()
        self.cameras: dict[str, Camera] = {camera.role: camera for camera in CAMERAS}

    def make(self, due: Due) -> list[Any]:
        """The messages of one due measurement: several for CAN, one for all else."""
        t_s = (due.true_ns - self.script.start_ns) * 1e-9
        kind, _, role = due.role.rpartition(" ")
        rng = np.random.default_rng(
            [self.script.seed, 31, list(CLOCKS).index(role) if role in CLOCKS else 99, due.index]
        )
        if due.role == "tf":
            return [messages.static_transforms(due.sensor_ns, frame_poses())]
        if kind == "info":
            return [messages.camera_info(due.sensor_ns, self.cameras[role])]
        if role in self.cameras:
            return [self._image(due, t_s, rng)]
        if role == "lidar_top":
            return [messages.point_cloud(due.sensor_ns, role, self.lidar.turn(t_s, rng))]
        if role == "radar_front":
            return [messages.radar_tracks(due.sensor_ns, role, signals.radar(self.world, t_s, rng))]
        if role == "imu":
            return [messages.imu(due.sensor_ns, role, *signals.imu(self.world, t_s, rng))]
        if role == "gnss":
            return [messages.gnss_fix(due.sensor_ns, role, *signals.gnss(self.world, t_s, rng))]
        frames = canbus.frames(self.world, t_s, due.index, rng)
        return [messages.can_frame(due.sensor_ns, ident, data) for ident, data in frames]

    def _image(self, due: Due, t_s: float, rng: np.random.Generator) -> Any:
        import cv2

        frame = self.renderer.frame(self.cameras[due.role], t_s, rng)
        self.truth.add(due.sensor_ns, due.role, frame)
        bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return messages.jpeg_image(due.sensor_ns, due.role, data.reshape(-1))


def _message_type(due: Due) -> str:
    if due.role == "tf":
        return "tf2_msgs/msg/TFMessage"
    return "sensor_msgs/msg/CameraInfo" if due.role.startswith("info ") else TYPES[due.role]


def _write_log(folder: Path, script: DriveScript, progress: Callable[[int, int], None] | None) -> _Vehicle:
    from rosbags.rosbag2 import StoragePlugin, Writer

    vehicle, store, plan = _Vehicle(script), messages.typestore(), schedule(script)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in sorted({(due.topic, _message_type(due)) for due in plan})
        }
        for done, due in enumerate(plan, start=1):
            for message in vehicle.make(due):
                data = store.serialize_cdr(message, _message_type(due))
                writer.write(connections[due.topic], due.log_ns, data)
            if progress is not None:
                progress(done, len(plan))
    return vehicle


def write_sums(folder: Path) -> None:
    """`SHA256SUMS` over all files of a drive folder, in the format of sha256sum."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (SUMS_FILE, MARKER_FILE))
    lines = [f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS_FILE).write_text("".join(lines), "utf-8")


def record_drive(
    script: DriveScript,
    landing_dir: Path,
    truth_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Record `script` into `landing_dir/<drive>/` (marker last) and its truth into `truth_dir/<drive>/`.

    The same script gives the same bytes. A folder of an earlier recording of the drive is replaced.

    Args:
        progress: called with (messages done, messages in all).

    Returns:
        The landed folder.
    """
    folder = landing_dir / script.drive
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / DBC_FILE).write_text(canbus.DBC, "utf-8")
    vehicle = _write_log(folder / LOG_FOLDER, script, progress)
    (folder / SPEC_FILE).write_text(drive_spec(script).to_yaml(), "utf-8")
    clocks = {role: vars(clock) for role, clock in CLOCKS.items()}
    vehicle.truth.write(truth_dir / script.drive, vehicle.world, clocks)
    write_sums(folder)
    (folder / MARKER_FILE).touch()
    return folder
