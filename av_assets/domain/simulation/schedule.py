"""When every sensor measures, what its clock says then, and when the message reaches the log.

Belongs here: topics, rates, clocks, the order of the log. Does not belong here: content of messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation import canbus
from av_assets.domain.simulation.camera import CAMERAS
from av_assets.domain.simulation.lidar import TURN_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.simulation.script import DriveScript


@dataclass(frozen=True)
class Clock:
    """How stamps of a sensor differ from the truth: its clock is off, and its messages arrive late."""

    offset_ns: int
    latency_ns: int
    jitter_ns: int


CLOCKS = {
    "camera_front": Clock(1_200_000, 45_000_000, 5_000_000),
    "camera_rear": Clock(-900_000, 45_000_000, 5_000_000),
    "lidar_top": Clock(300_000, 30_000_000, 1_500_000),
    "radar_front": Clock(-2_000_000, 20_000_000, 2_000_000),
    "imu": Clock(0, 2_000_000, 400_000),
    "gnss": Clock(0, 60_000_000, 8_000_000),
    "can": Clock(500_000, 1_500_000, 300_000),
}
TOPICS = {
    "camera_front": "/camera_front/image/compressed",
    "camera_rear": "/camera_rear/image/compressed",
    "lidar_top": "/lidar_top/points",
    "radar_front": "/radar_front/tracks",
    "imu": "/imu/data",
    "gnss": "/gnss/fix",
    "can": "/can/frames",
}
TYPES = {
    "camera_front": "sensor_msgs/msg/CompressedImage",
    "camera_rear": "sensor_msgs/msg/CompressedImage",
    "lidar_top": "sensor_msgs/msg/PointCloud2",
    "radar_front": "av_msgs/msg/RadarTracks",
    "imu": "sensor_msgs/msg/Imu",
    "gnss": "sensor_msgs/msg/NavSatFix",
    "can": "can_msgs/msg/Frame",
}
RATES_HZ = {
    "camera_front": 10.0,
    "camera_rear": 5.0,
    "lidar_top": 10.0,
    "radar_front": 13.0,
    "imu": 100.0,
    "gnss": 10.0,
}
# The beam looks back when a turn starts and ahead half a turn later: that is when the cameras expose.
PHASES_S = {"camera_front": TURN_S / 2, "camera_rear": 0.0, "radar_front": 0.013, "imu": 0.002, "gnss": 0.02}
INFO_RATE_HZ = 1.0


@dataclass(frozen=True, order=True)
class Due:
    """A message to be made: when it is logged decides the order in the file."""

    log_ns: int
    topic: str
    index: int
    role: str
    true_ns: int
    sensor_ns: int


def _stamps(script: DriveScript, role: str, rate_hz: float, phase_s: float) -> Iterator[tuple[int, int]]:
    """Index and true time in ns of every measurement of the recording."""
    index = 0
    while index / rate_hz + phase_s < script.seconds - 1e-9:
        yield index, script.start_ns + round((index / rate_hz + phase_s) * 1e9)
        index += 1


def schedule(script: DriveScript) -> list[Due]:
    """All messages in the order of the log."""
    rng = np.random.default_rng([script.seed, 21])
    due: list[Due] = [Due(script.start_ns, "/tf_static", 0, "tf", script.start_ns, script.start_ns)]
    for role, clock in CLOCKS.items():
        rate = canbus.RATE_HZ if role == "can" else RATES_HZ[role]
        for index, true_ns in _stamps(script, role, rate, PHASES_S.get(role, 0.0)):
            delay = clock.latency_ns + round(float(rng.uniform(-1, 1)) * clock.jitter_ns)
            # A turn can be sent only when it is complete.
            done_ns = true_ns + (round(TURN_S * 1e9) if role == "lidar_top" else 0)
            stamp = true_ns + clock.offset_ns
            due.append(Due(done_ns + delay, TOPICS[role], index, role, true_ns, stamp))
    for camera in CAMERAS:
        clock = CLOCKS[camera.role]
        for index, true_ns in _stamps(script, camera.role, INFO_RATE_HZ, PHASES_S[camera.role]):
            topic = f"/{camera.role}/camera_info"
            stamp = true_ns + clock.offset_ns
            due.append(Due(true_ns + clock.latency_ns, topic, index, "info " + camera.role, true_ns, stamp))
    return sorted(due)
