"""Ten minutes of driving take as much memory to judge as one."""

from __future__ import annotations

import heapq
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from mcap.writer import CompressionType, Writer

from av_assets.domain.simulation import messages

if TYPE_CHECKING:
    from collections.abc import Iterator

START_NS = 1_748_764_800_000_000_000
RATES_HZ = {"/can": 1600, "/imu": 100, "/gnss": 10, "/cam_a/image": 10, "/cam_b/image": 10}
CHECK = """
import resource, sys
from pathlib import Path
from av_assets.domain.logs.integrity.check import check_log
from av_assets.domain.logs.reader import LogReader
from av_assets.policies.integrity import IntegrityPolicy
with LogReader(Path(sys.argv[1])) as reader:
    report = check_log(reader, None, IntegrityPolicy.load())
assert not report.failed("error"), report.failed("error")
print(report.messages, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _payloads(topic: str) -> tuple[str, list[bytes]]:
    """The type of a topic, and messages that are repeated on it."""
    if topic == "/can":
        kind, made = (
            "can_msgs/msg/Frame",
            [messages.can_frame(START_NS, 256 + k, bytes(8)) for k in range(50)],
        )
    elif topic == "/imu":
        kind, made = (
            "sensor_msgs/msg/Imu",
            [messages.imu(START_NS, "imu", np.array([0, 0, 9.8]), np.zeros(3))],
        )
    elif topic == "/gnss":
        kind, made = "sensor_msgs/msg/NavSatFix", [messages.gnss_fix(START_NS, "gnss", 48.0, 11.0, 500.0)]
    else:
        kind = "sensor_msgs/msg/CompressedImage"
        noise = np.random.default_rng(0).integers(0, 256, (4, 60, 80, 3), dtype=np.uint8)
        pictures = [cv2.imencode(".jpg", picture)[1].reshape(-1) for picture in noise]
        made = [messages.jpeg_image(START_NS, "camera", picture) for picture in pictures]
    return kind, [bytes(messages.typestore().serialize_cdr(one, kind)) for one in made]


def _due(topic: str, seconds: int) -> Iterator[tuple[int, str, int]]:
    period_ns = 1_000_000_000 // RATES_HZ[topic]
    return ((START_NS + i * period_ns, topic, i) for i in range(seconds * RATES_HZ[topic]))


def _write(path: Path, seconds: int) -> None:
    store = messages.typestore()
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.NONE)
        writer.start("ros2", "test")
        payloads, channels = {}, {}
        for topic in RATES_HZ:
            kind, payloads[topic] = _payloads(topic)
            text, _ = store.generate_msgdef(kind, ros_version=2)
            schema = writer.register_schema(kind, "ros2msg", text.encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for log_ns, topic, i in heapq.merge(*(_due(topic, seconds) for topic in RATES_HZ)):
            payload = payloads[topic][i % len(payloads[topic])]
            stamp = struct.pack("<iI", *divmod(log_ns - 3_000_000, 1_000_000_000))
            writer.add_message(channels[topic], log_ns, payload[:4] + stamp + payload[12:], log_ns)
        writer.finish()


def _peak(path: Path) -> int:
    command = [sys.executable, "-c", CHECK, str(path)]
    count, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(count) > 60_000
    return int(peak)


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    _write(tmp_path / "short.mcap", 60)
    _write(tmp_path / "long.mcap", 600)
    assert _peak(tmp_path / "long.mcap") <= 1.2 * _peak(tmp_path / "short.mcap")
