"""A long drive with a busy CAN bus, written in seconds: its length is what matters, its content means nothing.

`python -m benchmarks.busy_drive FOLDER` synchronizes such a drive and prints its peak resident bytes.
Belongs here: that drive and that one measurement. Does not belong here: realistic drives (simulation).
"""

from __future__ import annotations

import heapq
import shutil
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

CAN_HZ, IDENTIFIERS = 1600, 40
FIELDS = 4  # signals of 16 bit in every identifier
SIGNALS = IDENTIFIERS * FIELDS
PICTURE_BYTES, CLOUD_POINTS = 30_000, 4_000
START_NS = 1_748_764_800_000_000_000
RATES_HZ = {"/can/frames": CAN_HZ, "/imu/data": 100, "/lidar_top/points": 10}
CAMERAS = ("camera_front", "camera_rear")
SPEC = """schema: 1
drive: busy-drive
streams:
  camera_front: {topic: /camera_front/image/compressed, kind: camera}
  camera_rear: {topic: /camera_rear/image/compressed, kind: camera}
  lidar_top: {topic: /lidar_top/points, kind: lidar, frame: lidar_top}
  imu: {topic: /imu/data, kind: imu, frame: imu}
  can: {topic: /can/frames, kind: can, dbc: vehicle.dbc}
"""


def busy_drive(folder: Path, seconds: float) -> Path:
    """Write a drive folder with a recording, a DBC and redacted pictures."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    from av_assets.domain.simulation.messages import typestore

    folder.mkdir(parents=True)
    (folder / "drive.yaml").write_text(SPEC, "utf-8")
    (folder / "vehicle.dbc").write_text(_dbc(), "utf-8")
    kinds = {
        "/can/frames": "can_msgs/msg/Frame", "/imu/data": "sensor_msgs/msg/Imu",
        "/lidar_top/points": "sensor_msgs/msg/PointCloud2",
        **{f"/{role}/image/compressed": "sensor_msgs/msg/CompressedImage" for role in CAMERAS},
    }  # fmt: skip
    with Writer(folder / "recording", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        to = {t: writer.add_connection(t, kind, typestore=typestore()) for t, kind in kinds.items()}
        for log_ns, topic, data in _messages(seconds):
            writer.write(to[topic], log_ns, data)
        writer.write(to["/camera_front/image/compressed"], START_NS + round(seconds * 1e9), _picture())
        writer.write(to["/camera_rear/image/compressed"], START_NS + round(seconds * 1e9), _picture())
    _pictures(folder / "redacted", seconds)
    return folder


def _messages(seconds: float) -> Iterator[tuple[int, str, bytes]]:
    """Messages of all streams but cameras in log time order, by stamping and filling in one of each."""
    of = {"/can/frames": _can_frame(), "/imu/data": _imu(), "/lidar_top/points": _cloud()}
    streams = [_stream(topic, data, seconds) for topic, data in of.items()]
    return heapq.merge(*streams, key=lambda item: item[0])


def _stream(topic: str, data: bytes, seconds: float) -> Iterator[tuple[int, str, bytes]]:
    words = np.random.default_rng(7).integers(0, 1 << 63, 1024).tolist()
    for number in range(round(seconds * RATES_HZ[topic])):
        stamp_ns = START_NS + number * 1_000_000_000 // RATES_HZ[topic]
        stamped = data[:4] + struct.pack("<iI", *divmod(stamp_ns, 1_000_000_000)) + data[12:]
        if topic == "/can/frames":
            payload = struct.pack("<Q", words[number % len(words)])
            at = len(stamped) - 16
            stamped = (
                stamped[:at] + struct.pack("<I", number % IDENTIFIERS) + stamped[at + 4 : at + 8] + payload
            )
        yield stamp_ns + 2_000_000, topic, stamped


def _can_frame() -> bytes:
    from av_assets.domain.simulation.messages import can_frame, typestore

    return bytes(typestore().serialize_cdr(can_frame(START_NS, 0, bytes(8)), "can_msgs/msg/Frame"))


def _imu() -> bytes:
    from av_assets.domain.simulation.messages import imu, typestore

    message = imu(START_NS, "imu", np.array([0.1, 0.0, 9.81]), np.array([0.0, 0.0, 0.01]))
    return bytes(typestore().serialize_cdr(message, "sensor_msgs/msg/Imu"))


def _header(frame: str) -> bytes:
    text = frame.encode() + b"\0"
    packed = struct.pack("<4sIII", b"\0\1\0\0", 0, 0, len(text)) + text
    return packed + bytes(-len(packed) % 4)


def _text(text: str) -> bytes:
    packed = struct.pack("<I", len(text) + 1) + text.encode() + b"\0"
    return packed + bytes(-len(packed) % 4)


def _cloud() -> bytes:
    """A PointCloud2 of x, y, z, intensity as floats."""
    fields = b"".join(
        _text(name) + struct.pack("<IBxxxI", 4 * number, 7, 1)
        for number, name in enumerate(("x", "y", "z", "intensity"))
    )
    points = np.random.default_rng(5).random((CLOUD_POINTS, 4), np.float32).tobytes()
    shape = struct.pack("<III", 1, CLOUD_POINTS, 4)
    layout = struct.pack("<BxxxIII", 0, 16, 16 * CLOUD_POINTS, len(points))
    return _header("lidar_top") + shape + fields + layout + points + b"\1"


def _picture() -> bytes:
    return _header("camera") + _text("jpeg") + struct.pack("<I", 4) + b"\xff\xd8\xff\xd9"


def _dbc() -> str:
    head = 'VERSION "1.0"\n\nNS_ :\n\nBS_:\n\nBU_: GATEWAY\n'
    blocks = []
    for number in range(IDENTIFIERS):
        signals = [f' SG_ s{number}_{k} : {16 * k}|16@1- (0.01,0) [0|0] "" GATEWAY' for k in range(FIELDS)]
        blocks.append("\n".join([f"BO_ {number} M{number}: 8 GATEWAY", *signals, ""]))
    return "\n".join([head, *blocks])


def _pictures(folder: Path, seconds: float) -> None:
    """A part per minute, as redaction writes them."""
    from av_assets.domain.privacy.frames import ClipRow, ClipWriter

    data = b"\xff\xd8" + np.random.default_rng(3).bytes(PICTURE_BYTES)
    for role in CAMERAS:
        (folder / role).mkdir(parents=True)
        for part in range(-(-round(seconds) // 60)):
            with ClipWriter(folder / role / f"{part:05d}.parquet") as writer:
                for number in range(part * 600, min((part + 1) * 600, round(seconds * 10))):
                    stamp_ns = START_NS + number * 100_000_000 + 50_000_000
                    writer.write(ClipRow(stamp_ns, stamp_ns + 40_000_000, "jpeg", data, 0, ""))


def main(folder: Path) -> int:
    """Synchronize a busy drive into a folder that is thrown away; its peak in bytes."""
    from av_assets.domain.logs.drive_spec import read_drive_spec
    from av_assets.domain.logs.reader import LogReader
    from av_assets.domain.sync.synchronize import synchronize_drive
    from av_assets.policies.sync import SyncPolicy

    out = Path(tempfile.mkdtemp(dir=folder.parent))
    spec: Any = read_drive_spec(folder / "drive.yaml")
    with LogReader(folder / "recording") as reader:
        made = synchronize_drive(reader, spec, folder / "redacted", SyncPolicy.load(), out, None, folder)
    shutil.rmtree(out)
    assert made.clips
    assert len(made.report["signals"]) > SIGNALS
    # Not getrusage: that keeps the peak of the process that started this one.
    status = Path("/proc/self/status").read_text("utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
