"""What the one pass over a drive looks into: chosen messages, decoded, of which only numbers are kept.

Belongs here: the interface of probes, and how messages are chosen. Does not belong here: what a kind of sensor needs
(`picture_rules`, `measurement_rules`, `can_rules`, `calibration_rules`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from av_assets.domain.logs.integrity.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.logs.integrity.rules import Severity

TRANSFORMS = "tf2_msgs/msg/TFMessage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


class Probe(Protocol):
    """Looks into messages of one topic while they pass.

    Attributes:
        wants_all: whether `glance` is called for every message.
    """

    wants_all: bool

    def glance(self, raw: RawMessage) -> None:
        """Look at a message without decoding it."""

    def look(self, raw: RawMessage, message: Any) -> None:
        """Look into a chosen message that was decoded."""

    def findings(self, judge: StreamJudge) -> Iterator[Finding]:
        """What was found, after the last message."""


@dataclass(frozen=True)
class StreamJudge:
    """Makes findings of one stream."""

    role: str
    topic: str

    def judge(
        self, rule: str, severity: Severity, good: bool, measured: float, threshold: float, reason: str
    ) -> Finding:
        return Finding.judge(rule, severity, good, measured, threshold, reason, self.role, self.topic)

    def skip(self, rule: str, severity: Severity, reason: str) -> Finding:
        return Finding(rule, severity, "skipped", None, None, reason, self.role, self.topic)


def chosen_messages(topic: str, count: int, samples: int, seed: int) -> list[int]:
    """Places of the messages to decode, ascending: the first, the last, and `samples` at random."""
    if count <= samples + 2:
        return list(range(count))
    rng = np.random.default_rng([seed, zlib.crc32(topic.encode())])
    inner = rng.choice(count - 2, samples, replace=False) + 1
    return [0, *sorted(int(i) for i in inner), count - 1]
