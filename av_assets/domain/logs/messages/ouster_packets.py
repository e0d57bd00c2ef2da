"""Packets of Ouster lidars: what the sensor says about itself, the layouts of its packets, its beam geometry.

Belongs here: one packet into columns, ranges into points. Does not belong here: sweeps, messages, logs (`ouster`).
Sources: Ouster sensor documentation, "Lidar Data Packet Format" and "Coordinate Frames and XYZ Calculation".
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from av_assets.domain.errors import LogError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_COLUMNS, MAX_BEAMS, MAX_COLUMNS_PER_PACKET = 4096, 256, 64


class _Profile(NamedTuple):
    """Bytes of one pixel, where its range and reflectivity stand, and around them the bytes of column and packet."""

    pixel: int
    range_type: str
    range_mask: int
    range_unit_m: float
    reflectivity_at: int
    column_head: int = 12
    column_tail: int = 0
    packet_head: int = 32
    packet_tail: int = 32


PROFILES = {
    "LEGACY": _Profile(12, "<u4", 0xFFFFF, 1e-3, 4, 16, 4, 0, 0),
    "RNG19_RFL8_SIG16_NIR16": _Profile(12, "<u4", 0x7FFFF, 1e-3, 4),
    "RNG19_RFL8_SIG16_NIR16_DUAL": _Profile(16, "<u4", 0x7FFFF, 1e-3, 3),  # the first return
    "RNG15_RFL8_NIR8": _Profile(4, "<u2", 0x7FFF, 8e-3, 2),
}


@dataclass(frozen=True)
class OusterSensor:
    """What is needed to read the packets of one sensor.

    altitude_rad, azimuth_rad: (beams,). beam_to_lidar_m: x and z of the beams' origin. lidar_to_sensor: (4, 4), m.
    """

    profile: str
    columns: int
    columns_per_packet: int
    altitude_rad: NDArray[np.float64]
    azimuth_rad: NDArray[np.float64]
    beam_to_lidar_m: tuple[float, float]
    lidar_to_sensor: NDArray[np.float64]

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Metadata as the sensor (firmware 2.0 and later) or `ouster_ros` writes it.

        Raises:
            LogError: bad_sensor_metadata.
        """
        try:
            root = json.loads(text)
            shape, beams = root["lidar_data_format"], root["beam_intrinsics"]
            origin_mm = float(beams.get("lidar_origin_to_beam_origin_mm", 0.0))
            move = np.asarray(beams.get("beam_to_lidar_transform", _shifted(origin_mm)), float).reshape(4, 4)
            turn = np.array(root["lidar_intrinsics"]["lidar_to_sensor_transform"], float).reshape(4, 4)
            turn[:3, 3] *= 1e-3
            altitude, azimuth = (
                np.radians(np.asarray(beams[f"beam_{name}_angles"], float))
                for name in ("altitude", "azimuth")
            )
            sensor = cls(
                str(shape["udp_profile_lidar"]), int(shape["columns_per_frame"]), int(shape["columns_per_packet"]),
                altitude, azimuth, (float(move[0, 3]) * 1e-3, float(move[2, 3]) * 1e-3), turn,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            reason = f"no Ouster metadata: {type(error).__name__} {error}"[:200]
            raise LogError(reason, code="bad_sensor_metadata") from error
        sensor._check()
        return sensor

    def _check(self) -> None:
        sane = (
            0 < self.columns <= MAX_COLUMNS
            and 0 < self.columns_per_packet <= min(MAX_COLUMNS_PER_PACKET, self.columns)
            and 0 < len(self.altitude_rad) <= MAX_BEAMS
            and self.altitude_rad.shape == self.azimuth_rad.shape == (self.beams,)
        )
        if not sane or not all(np.isfinite(part).all() for part in (self.altitude_rad, self.azimuth_rad)):
            raise LogError("the Ouster metadata contradicts itself", code="bad_sensor_metadata")
        if self.profile not in PROFILES:
            raise LogError(f"Ouster profile {self.profile[:40]} is not known", code="bad_sensor_metadata")

    @property
    def beams(self) -> int:
        return len(self.altitude_rad)

    @property
    def packet_bytes(self) -> int:
        p = PROFILES[self.profile]
        column = p.column_head + p.pixel * self.beams + p.column_tail
        return p.packet_head + column * self.columns_per_packet + p.packet_tail

    def xyz(self, range_m: NDArray[np.float64], column: NDArray[np.int64]) -> NDArray[np.float64]:
        """(..., beams, 3) in the sensor frame of ranges (..., beams), measured in these columns (...)."""
        shift_x, shift_z = self.beam_to_lidar_m
        encoder = 2 * np.pi * (1.0 - column[..., None] / self.columns)
        level = (range_m - np.hypot(shift_x, shift_z)) * np.cos(self.altitude_rad)
        x = level * np.cos(encoder - self.azimuth_rad) + shift_x * np.cos(encoder)
        y = level * np.sin(encoder - self.azimuth_rad) + shift_x * np.sin(encoder)
        z = (range_m - np.hypot(shift_x, shift_z)) * np.sin(self.altitude_rad) + shift_z
        turn = self.lidar_to_sensor
        return np.asarray(np.stack([x, y, z], axis=-1) @ turn[:3, :3].T + turn[:3, 3])


def _shifted(x_mm: float) -> list[float]:
    return [1.0, 0, 0, x_mm, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


class Columns(NamedTuple):
    """The valid columns of one packet: time ns (C,), measurement id (C,), range m and reflectivity (C, beams)."""

    frame: int
    time_ns: NDArray[np.uint64]
    column: NDArray[np.int64]
    range_m: NDArray[np.float64]
    reflectivity: NDArray[np.uint8]


def read_packet(sensor: OusterSensor, packet: memoryview | bytes) -> Columns:
    """One UDP packet.

    Raises:
        LogError: bad_message, when it is shorter than its profile says.
    """
    p = PROFILES[sensor.profile]
    if len(packet) < sensor.packet_bytes:
        raise LogError(f"an Ouster packet of {len(packet)} bytes", code="bad_message")
    width = p.column_head + p.pixel * sensor.beams + p.column_tail
    body = np.frombuffer(packet, np.uint8, width * sensor.columns_per_packet, p.packet_head).reshape(
        -1, width
    )
    head = np.ascontiguousarray(body[:, : p.column_head])
    if p.packet_head:
        (frame,) = struct.unpack_from("<H", packet, 2)
        valid = head[:, 10] & 1 == 1
    else:
        frame = int(head[:, 10:12].copy().view("<u2")[0, 0])
        valid = body[:, -p.column_tail] & 1 == 1
    column = head[:, 8:10].copy().view("<u2")[:, 0].astype(np.int64)
    valid &= column < sensor.columns
    pixels = body[:, p.column_head : p.column_head + p.pixel * sensor.beams].reshape(
        -1, sensor.beams, p.pixel
    )
    size = np.dtype(p.range_type).itemsize
    ranges = np.ascontiguousarray(pixels[..., :size]).view(p.range_type)[..., 0] & p.range_mask
    time_ns = head[:, :8].copy().view("<u8")[:, 0]
    range_m = ranges[valid] * p.range_unit_m
    return Columns(frame, time_ns[valid], column[valid], range_m, pixels[valid][..., p.reflectivity_at])
