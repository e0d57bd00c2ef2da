"""A camera without a vehicle: messages made by hand, and detectors that find what a script says."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import cv2
import numpy as np

from av_assets.domain.logs.blocks import RawMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TOPIC = "/camera_front/image/compressed"
STEP_NS = 100_000_000


def picture(seed: int = 0, size: tuple[int, int] = (96, 160)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def encoded(rgb: np.ndarray, kind: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(kind, rgb[..., ::-1])[1])


def image_message(data: bytes, index: int, declared: str = "jpeg", topic: str = TOPIC) -> RawMessage:
    """A sensor_msgs/msg/CompressedImage in little-endian CDR; recorded 20 ms after its stamp."""
    stamp_ns = 1_750_000_000 * 10**9 + index * STEP_NS
    body = struct.pack("<iI", *divmod(stamp_ns, 10**9))
    for text in (b"camera_front\0", declared.encode() + b"\0"):
        body += b"\0" * (-len(body) % 4) + struct.pack("<I", len(text)) + text
    body += b"\0" * (-len(body) % 4) + struct.pack("<I", len(data)) + data
    cdr = b"\x00\x01\x00\x00" + body
    return RawMessage(topic, "sensor_msgs/msg/CompressedImage", stamp_ns + 20_000_000, cdr)


class Scripted:
    """A detector that finds what the script says for the n-th picture it is shown."""

    model_digest = "0" * 64

    def __init__(
        self, script: Callable[[int], Sequence[Sequence[float]]] = lambda _: (), kind: str = "face"
    ) -> None:
        self.kind, self._script, self._seen = kind, script, 0

    def detect(self, rgb: np.ndarray) -> np.ndarray:
        del rgb
        self._seen += 1
        return np.array(self._script(self._seen - 1), np.float32).reshape(-1, 5)


class Log:
    """A log in memory."""

    def __init__(self, messages: Sequence[RawMessage]) -> None:
        self._messages = messages

    def messages(self, topics: Sequence[str]) -> Iterator[RawMessage]:
        return (m for m in self._messages if m.topic in topics)
