"""Faults of contents: pictures, clouds, positions, units, CAN counters.

Belongs here: damage to measured values. Does not belong here: times (`faults_timing`), topics, types and calibration
(`faults_schema`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import PoisonError
from av_assets.domain.logs.files.blocks import RawMessage
from av_assets.domain.logs.messages.payloads import image_payload
from av_assets.domain.simulation.rewrite import Message, rewrite, stream_of, topic_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from av_assets.domain.logs.drive_spec import StreamKind

GPS_JUMP_DEG = 0.05
STANDARD_GRAVITY_MPS2 = 9.80665
NAN_SHARE = 0.4


def _change(
    folder: Path, kind: StreamKind, change: Callable[[Any], None], since: float = 0.0, until: float = 1.0
) -> None:
    """Changes the decoded messages of a part of a stream; since, until: shares of its messages."""
    topic = topic_of(folder, kind)

    def edit(message: Message) -> Message:
        inside = since * message.count <= message.index < until * message.count
        return message.changed(change) if message.topic == topic and inside else message

    rewrite(folder, edit)


def frozen_camera(folder: Path, rng: np.random.Generator) -> None:
    topic, since = topic_of(folder, "camera"), float(rng.uniform(0.2, 0.45))
    held: list[bytes] = []

    def edit(message: Message) -> Message:
        if message.topic != topic or message.index < since * message.count:
            return message
        held.append(message.raw) if not held else None
        # The clock goes on, the picture does not.
        return replace(message, raw=held[0]).stamped(message.sensor_ns)

    rewrite(folder, edit)


def black_frame(folder: Path, rng: np.random.Generator) -> None:
    """The encoder keeps the size of the picture and gives it one colour."""
    topic, since = topic_of(folder, "camera"), float(rng.uniform(0.1, 0.4))
    rewrite(
        folder,
        lambda message: (
            _blackened(message)
            if message.topic == topic and message.index >= since * message.count
            else message
        ),
    )


def _blackened(message: Message) -> Message:
    import cv2

    payload = image_payload(RawMessage(message.topic, message.msgtype, 0, message.raw, message.serialization))
    if payload.step:
        return message.changed(lambda image: setattr(image, "data", np.zeros_like(image.data)))
    picture = cv2.imdecode(np.frombuffer(payload.data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise PoisonError(f"{message.topic} holds no pictures", code="fault_needs_pictures")
    # Noise of one grey value keeps two black pictures from being equal, as a sensor would.
    rng = np.random.default_rng(message.index)
    picture[:] = rng.integers(0, 2, picture.shape[:2], dtype=np.uint8)[:, :, None]
    _, data = cv2.imencode(".jpg" if payload.encoding == "jpeg" else ".png", picture)
    return message.changed(lambda image: setattr(image, "data", data.reshape(-1)))


def half_jpeg(folder: Path, rng: np.random.Generator) -> None:
    topic, every = topic_of(folder, "camera"), int(rng.integers(5, 9))

    def cut(image: Any) -> None:
        image.data = image.data[: len(image.data) // 2]

    def edit(message: Message) -> Message:
        hit = message.topic == topic and message.index % every == every - 1
        return message.changed(cut) if hit else message

    rewrite(folder, edit)


def nan_lidar(folder: Path, rng: np.random.Generator) -> None:
    def spoil(cloud: Any) -> None:
        points = cloud.data.reshape(-1, cloud.point_step).copy()
        gone = rng.random(len(points)) < NAN_SHARE
        for field in cloud.fields:
            if field.name in ("x", "y", "z") and field.datatype == 7:
                points[gone, field.offset : field.offset + 4] = np.frombuffer(
                    np.float32(np.nan).tobytes(), np.uint8
                )
        cloud.data, cloud.is_dense = points.reshape(-1), True

    _change(folder, "lidar", spoil)


def empty_lidar(folder: Path, rng: np.random.Generator) -> None:
    def empty(cloud: Any) -> None:
        cloud.data, cloud.width, cloud.row_step = cloud.data[:0], 0, 0

    topic, every = topic_of(folder, "lidar"), int(rng.integers(2, 4))

    def edit(message: Message) -> Message:
        hit = message.topic == topic and message.index % every == 0
        return message.changed(empty) if hit else message

    rewrite(folder, edit)


def unit_swap(folder: Path, rng: np.random.Generator) -> None:
    def to_g(imu: Any) -> None:
        for axis in ("x", "y", "z"):
            value = getattr(imu.linear_acceleration, axis)
            setattr(imu.linear_acceleration, axis, value / STANDARD_GRAVITY_MPS2)

    _change(folder, "imu", to_g)


def imu_nan(folder: Path, rng: np.random.Generator) -> None:
    def spoil(imu: Any) -> None:
        imu.angular_velocity.z = float("nan")

    _change(folder, "imu", spoil, since=float(rng.uniform(0.2, 0.6)))


def gps_jump(folder: Path, rng: np.random.Generator) -> None:
    def move(fix: Any) -> None:
        fix.latitude += GPS_JUMP_DEG

    _change(folder, "gnss", move, since=float(rng.uniform(0.3, 0.7)))


def gps_null_island(folder: Path, rng: np.random.Generator) -> None:
    def zero(fix: Any) -> None:
        fix.latitude = fix.longitude = 0.0

    since = float(rng.uniform(0.0, 0.5))
    _change(folder, "gnss", zero, since, since + 0.3)


def gps_off_earth(folder: Path, rng: np.random.Generator) -> None:
    def exchange(fix: Any) -> None:
        fix.latitude, fix.longitude = 180.0 - fix.longitude, fix.latitude

    _change(folder, "gnss", exchange, since=float(rng.uniform(0.3, 0.7)))


def can_counter_skip(folder: Path, rng: np.random.Generator) -> None:
    """Every frame of the bus is lost for a moment, so that all counters skip."""
    stream, at = stream_of(folder, "can"), float(rng.uniform(0.3, 0.7))
    if stream.dbc is None:
        raise PoisonError("without a DBC nobody knows the counters", code="fault_needs_dbc")
    topic = stream.topic
    lost = range(5, 25)
    rewrite(
        folder,
        lambda message: (
            None if message.topic == topic and message.index - int(at * message.count) in lost else message
        ),
    )


def can_counter_wrap(folder: Path, rng: np.random.Generator) -> None:
    """Nothing is wrong: the recording starts at another value of every counter, and so wraps elsewhere."""
    topic, first = topic_of(folder, "can"), int(rng.integers(4, 40))
    rewrite(folder, lambda message: None if message.topic == topic and message.index < first else message)
