"""Ouster lidar packets (ouster_ros/PacketMsg) as timed point clouds, given what the sensor says about itself.

A sweep becomes a sensor_msgs/PointCloud2 with x, y, z, intensity, t (ns after its stamp) and ring, so that all that
reads clouds reads packets as well. Without the metadata of the sensor packets stay what they are: bytes.
Belongs here: packets into turns, turns into clouds, and those into a log beside the recording.
Does not belong here: packet layouts (`ouster_packets`), how clouds are used (sync/pointclouds).
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import MAX_TIME_NS, RawMessage
from av_assets.domain.logs.files.mcap_writer import McapChannel, McapWriter, written_whole
from av_assets.domain.logs.messages.ouster_packets import Columns, OusterSensor, read_packet
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PACKET_TYPES = frozenset({"ouster_ros/msg/PacketMsg", "ouster_sensor_msgs/msg/PacketMsg"})
LIBRARY = "av-assets ouster"
CLOUD_TYPE = "sensor_msgs/msg/PointCloud2"
REMEDY = "record the metadata topic of the driver, or give the metadata JSON of the sensor"
POINT = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("intensity", "u1"),
        ("pad", "u1"),
        ("ring", "<u2"),
        ("t", "<u4"),
    ]
)
_POINT_FIELDS = (("x", 7), ("y", 7), ("z", 7), ("intensity", 2), ("ring", 4), ("t", 6))


@dataclass
class SweepBuilder:
    """Collects packets and gives one cloud per turn. `broken` counts packets that could not be read."""

    sensor: OusterSensor
    topic: str
    frame_id: str
    broken: int = 0
    _parts: list[Columns] = field(default_factory=list)
    _log_ns: int = 0

    def push(self, raw: RawMessage) -> Iterator[RawMessage]:
        """The cloud that this packet completes by being the first of the next turn."""
        try:
            found = read_packet(self.sensor, _packet(raw))
        except LogError:
            self.broken += 1
            return
        is_full = len(self._parts) * self.sensor.columns_per_packet >= 2 * self.sensor.columns
        if self._parts and (found.frame != self._parts[0].frame or is_full):
            yield from self.flush()
        self._parts.append(found)
        self._log_ns = raw.log_ns

    def flush(self) -> Iterator[RawMessage]:
        """The turn so far, complete or not; nothing where it has no valid column."""
        parts, self._parts = [part for part in self._parts if len(part.time_ns)], []
        if not parts:
            return
        stamp_ns = min(int(part.time_ns.min()) for part in parts)
        points = np.concatenate([self._points(part, stamp_ns) for part in parts])
        data = _cloud(points, stamp_ns, self.frame_id)
        yield RawMessage(self.topic, CLOUD_TYPE, self._log_ns, data, "cdr", 4)

    def _points(self, part: Columns, stamp_ns: int) -> NDArray[Any]:
        column, beam = np.nonzero(part.range_m)  # zero: nothing came back
        xyz = self.sensor.xyz(part.range_m, part.column)[column, beam]
        points = np.zeros(len(column), POINT)
        points["x"], points["y"], points["z"] = xyz.T
        points["intensity"] = part.reflectivity[column, beam]
        points["ring"] = beam
        points["t"] = np.minimum(part.time_ns - np.uint64(stamp_ns), 0xFFFF_FFFF)[column]
        return points


def _packet(raw: RawMessage) -> memoryview:
    """The `uint8[] buf` of a PacketMsg."""
    at = 4 if raw.serialization == "cdr" else 0
    if len(raw.data) < at + 4:
        raise LogError("an Ouster packet message is cut", code="bad_message")
    order = ">" if raw.serialization == "cdr" and not raw.data[1] & 1 else "<"
    (length,) = struct.unpack_from(order + "I", raw.data, at)
    return memoryview(raw.data)[at + 4 : at + 4 + length]


def _cloud(points: NDArray[Any], stamp_ns: int, frame_id: str) -> bytes:
    """A little-endian CDR PointCloud2."""
    name = frame_id.encode() + b"\0"
    out = bytearray(b"\0\1\0\0" + struct.pack("<iII", *divmod(stamp_ns, 10**9), len(name)) + name)

    def words(*values: int) -> None:
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(struct.pack(f"<{len(values)}I", *values))

    words(1, len(points), len(_POINT_FIELDS))
    for label, kind in _POINT_FIELDS:
        words(len(label) + 1)
        out.extend(label.encode() + b"\0")
        words(POINT.fields[label][1])  # type: ignore[index]
        out.append(kind)
        words(1)
    out.append(0)  # little-endian
    words(POINT.itemsize, POINT.itemsize * len(points), points.nbytes)
    return bytes(out + points.tobytes() + b"\1")


def ouster_sensors(reader: LogReader, given: Mapping[str, str] | None = None) -> dict[str, OusterSensor]:
    """Packet topic -> its sensor, for all lidar packet topics of a log.

    Args:
        given: packet topic -> metadata JSON, for logs that do not hold it; the log's own comes first.

    Raises:
        LogError: no_sensor_metadata or bad_sensor_metadata.
    """
    sensors = {}
    for topic, info in reader.topics.items():
        if info.msgtype in PACKET_TYPES and "lidar" in topic.rsplit("/", 1)[-1]:
            text = _recorded(reader, topic.rsplit("/", 1)[0] + "/metadata") or (given or {}).get(topic)
            if text is None:
                reason = f"{topic}: the log does not hold the metadata of its sensor"
                raise LogError(reason, code="no_sensor_metadata", remedy=REMEDY)
            sensors[topic] = OusterSensor.from_json(text)
    return sensors


def _recorded(reader: LogReader, topic: str) -> str | None:
    if topic not in reader.topics:
        return None
    raw = next(reader.messages({topic}), None)
    return None if raw is None else str(reader.deserialize(raw).data)


def ouster_clouds(
    reader: LogReader, sensors: Mapping[str, OusterSensor], start_ns: int = 0, end_ns: int = MAX_TIME_NS + 1
) -> Iterator[RawMessage]:
    """One PointCloud2 per turn on `<namespace>/points`, at the log time of its last packet.

    The first and last turn of the window may be incomplete. Packets that cannot be read are left out.
    """
    builders = {
        topic: SweepBuilder(sensor, f"{topic.rsplit('/', 1)[0]}/points", "os_sensor")
        for topic, sensor in sensors.items()
    }
    for raw in reader.messages(set(builders), start_ns, end_ns):
        yield from builders[raw.topic].push(raw)
    for builder in builders.values():
        yield from builder.flush()


def convert_ouster(
    log: Path | Sequence[Path], out: Path, given: Mapping[str, str] | None = None, *, overwrite: bool = False
) -> dict[str, int]:
    """Write the clouds of all lidar packets of a log into the MCAP file `out`; gives clouds per topic.

    Landed beside the recording, the drive has lidar streams like any other: a reader merges its files by time.

    Args:
        given: as in `ouster_sensors`.

    Raises:
        LogError: no_packets, no_sensor_metadata, bad_sensor_metadata, output_exists, or the log cannot be opened.
        TransientError: disk_full or cannot_write.
    """
    counts: Counter[str] = Counter()
    with LogReader(log) as reader:
        sensors = ouster_sensors(reader, given)
        if not sensors:
            raise LogError("the log holds no Ouster packets", code="no_packets")
        with written_whole(out, overwrite) as growing, McapWriter(growing, "ros2", LIBRARY) as writer:
            schema = _cloud_schema()
            for raw in ouster_clouds(reader, sensors):
                channel = McapChannel(raw.topic, "cdr", CLOUD_TYPE, "ros2msg", schema)
                writer.message(writer.channel(channel), raw.log_ns, raw.data)
                counts[raw.topic] += 1
            writer.finish()
    return dict(sorted(counts.items()))


def _cloud_schema() -> bytes:
    from rosbags.typesys import Stores, get_typestore

    return str(get_typestore(Stores.ROS2_JAZZY).generate_msgdef(CLOUD_TYPE, ros_version=2)[0]).encode()


def with_clouds(log: Path, out: Path) -> tuple[list[Path], str]:
    """A log, and beside it the clouds of its Ouster packets where it holds any: what to open, and a note.

    Packets whose sensor says nothing of itself stay raw, and the note says what is missing.

    Raises:
        TransientError: disk_full or cannot_write.
    """
    with LogReader(log) as reader:
        if not any(info.msgtype in PACKET_TYPES for info in reader.topics.values()):
            return [log], ""
    try:
        convert_ouster(log, out)
    except LogError as error:
        return [log], f"Ouster packets are kept raw: {error.reason}"
    return [log, out], ""
