"""Faults of what the log says of itself: topics, types, encodings and calibration.

Belongs here: damage to names, definitions, encodings, camera_info and transforms. Does not belong here: measured values
(`faults_content`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from av_assets.domain.logs.integrity.probes import CAMERA_INFO, TRANSFORMS
from av_assets.domain.simulation.rewrite import rewrite, topic_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from av_assets.domain.logs.files.blocks import Channel


def missing_calibration(folder: Path, rng: np.random.Generator) -> None:
    rewrite(
        folder, reconnect=lambda channel: None if channel.msgtype in (CAMERA_INFO, TRANSFORMS) else channel
    )


def missing_extrinsics(folder: Path, rng: np.random.Generator) -> None:
    rewrite(folder, reconnect=lambda channel: None if channel.msgtype == TRANSFORMS else channel)


def bad_intrinsics(folder: Path, rng: np.random.Generator) -> None:
    def negate(info: Any) -> None:
        name = "k" if hasattr(info, "k") else "K"
        matrix = getattr(info, name).copy()
        matrix[0] = -matrix[0]
        setattr(info, name, matrix)

    rewrite(folder, lambda message: message.changed(negate) if message.msgtype == CAMERA_INFO else message)


def bad_extrinsics(folder: Path, rng: np.random.Generator) -> None:
    def stretch(tree: Any) -> None:
        for one in tree.transforms:
            one.transform.rotation.w += 0.7

    rewrite(folder, lambda message: message.changed(stretch) if message.msgtype == TRANSFORMS else message)


def rename_topic(folder: Path, rng: np.random.Generator) -> None:
    topic = topic_of(folder, "camera")
    _reconnect(folder, topic, topic=topic + "_v2")


def wrong_type(folder: Path, rng: np.random.Generator) -> None:
    """The lidar's topic carries the messages of something else that starts with a header."""
    _reconnect(folder, topic_of(folder, "lidar"), msgtype="sensor_msgs/msg/Temperature", definition="")


def unknown_type(folder: Path, rng: np.random.Generator) -> None:
    """A topic beside the contract whose type nobody knows."""
    topic = topic_of(folder, "radar")
    _reconnect(folder, topic, msgtype="acme_msgs/msg/Proprietary/RadarTracks", definition="")


def _reconnect(folder: Path, old: str, **changes: Any) -> None:
    def reconnect(channel: Channel) -> Channel:
        return channel._replace(**changes) if channel.topic == old else channel

    rewrite(folder, reconnect=reconnect)


def wrong_serialization(folder: Path, rng: np.random.Generator) -> None:
    """The IMU's bytes begin without the encapsulation that CDR demands."""
    topic = topic_of(folder, "imu")
    rewrite(
        folder,
        lambda message: (
            replace(message, raw=b"\xc0\xde" + message.raw[2:]) if message.topic == topic else message
        ),
    )


def corrupt_message(folder: Path, rng: np.random.Generator) -> None:
    """Messages end too early for their definition."""
    topic, since = topic_of(folder, "imu"), float(rng.uniform(0.2, 0.5))
    rewrite(
        folder,
        lambda message: (
            replace(message, raw=message.raw[: len(message.raw) * 3 // 4])
            if message.topic == topic and message.index >= since * message.count
            else message
        ),
    )
