"""A camera without a vehicle: messages made by hand, and detectors that find what a script says.

Pictures carry their number as a row of black and white blocks that survives JPEG and video, so that a detector knows
which picture it sees, whatever else it was shown before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from av_assets.domain.evidence.timing import Stopwatch
from av_assets.domain.logs.files.blocks import RawMessage, TopicInfo
from av_assets.domain.privacy.stream import Released, WindowRedactor
from av_assets.domain.privacy.windows import END_NS, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from av_assets.domain.privacy.detectors import Detector
    from av_assets.domain.privacy.report import StreamCounts
    from av_assets.policies.redaction import RedactionPolicy

TOPIC = "/camera_front/image/compressed"
STEP_NS = 100_000_000
START_NS = 1_750_000_000 * 10**9
DELAY_NS = 20_000_000
SIZE = (96, 160)
_BITS, _BLOCK = 16, 8


def picture(number: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: smooth colours, and the number in the top rows."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    rgb = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)
    bits = number >> np.arange(_BITS) & 1
    rgb[:_BLOCK, : _BITS * _BLOCK] = np.repeat(bits * 255, _BLOCK)[None, :, None]
    return rgb


def number_of(rgb: np.ndarray) -> int:
    bits = rgb[_BLOCK // 2, _BLOCK // 2 : _BITS * _BLOCK : _BLOCK, 1] > 127
    return int((bits << np.arange(_BITS)).sum())


def encoded(rgb: np.ndarray, kind: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(kind, rgb[..., ::-1])[1])


@lru_cache(maxsize=512)
def still(number: int) -> bytes:
    return encoded(picture(number))


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def log_ns(index: int) -> int:
    return START_NS + index * STEP_NS + DELAY_NS


def image_message(
    data: bytes, index: int, declared: str = "jpeg", topic: str = TOPIC, at_ns: int | None = None
) -> RawMessage:
    """A sensor_msgs/msg/CompressedImage in little-endian CDR; recorded 20 ms after its stamp."""
    at_ns = log_ns(index) if at_ns is None else at_ns
    body = struct.pack("<iI", *divmod(at_ns - DELAY_NS, 10**9))
    for text in (b"camera_front\0", declared.encode() + b"\0"):
        body += b"\0" * (-len(body) % 4) + struct.pack("<I", len(text)) + text
    body += b"\0" * (-len(body) % 4) + struct.pack("<I", len(data)) + data
    cdr = b"\x00\x01\x00\x00" + body
    return RawMessage(topic, "sensor_msgs/msg/CompressedImage", at_ns, cdr)


def stills(count: int, first: int = 0) -> list[RawMessage]:
    return [image_message(still(i), i) for i in range(first, first + count)]


class Scripted:
    """A detector that finds, for every kind, what its script says for the number in the picture."""

    def __init__(self, kinds: Sequence[str] = ("face", "plate"), **scripts: Callable[[int], Any]) -> None:
        self.kinds: tuple[str, ...] = tuple(dict.fromkeys([*kinds, *scripts]))
        self.models: Mapping[str, str] = {"scripted": "0" * 64}
        self.batches: list[list[int]] = []
        self._scripts = scripts

    def detect(self, frames: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        numbers = [number_of(rgb) for rgb in frames]
        self.batches.append(numbers)
        return [{kind: self._found(kind, n) for kind in self.kinds} for n in numbers]

    def _found(self, kind: str, number: int) -> np.ndarray:
        script = self._scripts.get(kind)
        return np.array(script(number) if script else (), np.float32).reshape(-1, 5)


@dataclass
class Log:
    """A log in memory; `objects` are what messages of other topics decode to, by log time."""

    recorded: Sequence[RawMessage]
    objects: Mapping[int, Any] = field(default_factory=dict)

    @property
    def topics(self) -> Mapping[str, TopicInfo]:
        kinds = {raw.topic: raw.msgtype for raw in self.recorded}
        return {topic: TopicInfo(topic, kind, 0, "cdr") for topic, kind in kinds.items()}

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, end_ns: int = END_NS
    ) -> Iterator[RawMessage]:
        inside = (m for m in self.recorded if start_ns <= m.log_ns < end_ns)
        return (m for m in sorted(inside, key=lambda m: m.log_ns) if topics is None or m.topic in topics)

    def deserialize(self, raw: RawMessage) -> Any:
        return self.objects[raw.log_ns]


def redacted(
    messages: Sequence[RawMessage], detector: Detector, policy: RedactionPolicy, rate_hz: float = 10
) -> tuple[list[Released], StreamCounts]:
    """All of one camera as one window."""
    window = Window(0, END_NS, 0, END_NS, policy.fill_ns(round(1e9 / rate_hz)))
    redactor = WindowRedactor(detector, policy, window, [], Stopwatch())
    return list(redactor.run(messages)), redactor.counts
