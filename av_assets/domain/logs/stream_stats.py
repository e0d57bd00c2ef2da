"""One streaming pass over a drive: stamps, sizes and fingerprints of every topic, in numbers.

Belongs here: measuring. Does not belong here: judging (`integrity`).
"""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.payloads import header_stamp_ns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.logs.reader import LogReader, RawMessage

NavSatFix = "sensor_msgs/msg/NavSatFix"
_FINGERPRINTED = frozenset({"camera", "lidar"})
_HEAD_BYTES = 40  # stamps differ even where the payload is frozen


@dataclass
class StreamStats:
    """Measurements of one topic, messages in log time order.

    log_ns, sensor_ns: int64 arrays of equal length N; sensor_ns is empty where the type has no stamp.
    longest_freeze: most identical payloads in a row. fixes: (M, 3) time ns, latitude deg, longitude deg.
    """

    topic: str
    msgtype: str
    log_ns: array[int] = field(default_factory=lambda: array("q"))
    sensor_ns: array[int] = field(default_factory=lambda: array("q"))
    bytes: int = 0
    longest_freeze: int = 0
    fixes: list[tuple[int, float, float]] = field(default_factory=list)
    decode_errors: list[str] = field(default_factory=list)
    unknown_type: bool = False
    last: RawMessage | None = None
    _crc: int = -1
    _run: int = 0

    def add(self, raw: RawMessage, fingerprint: bool) -> None:
        self.log_ns.append(raw.log_ns)
        self.bytes += len(raw.data)
        stamp = header_stamp_ns(raw)
        if stamp is not None:
            self.sensor_ns.append(stamp)
        if fingerprint:
            crc = zlib.crc32(memoryview(raw.data)[_HEAD_BYTES:])
            self._run = self._run + 1 if crc == self._crc else 1
            self._crc = crc
            self.longest_freeze = max(self.longest_freeze, self._run)
        self.last = raw

    @property
    def log_times(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array(self.log_ns, dtype=np.int64)

    @property
    def sensor_times(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array(self.sensor_ns, dtype=np.int64)


def measure(reader: LogReader, kinds: Mapping[str, str]) -> dict[str, StreamStats]:
    """Read every message once; `kinds`: topic -> stream kind. Only first, last and fixes are decoded."""
    stats = {topic: StreamStats(topic, info.msgtype) for topic, info in reader.topics.items()}
    for raw in reader.messages():
        one = stats[raw.topic]
        if not one.log_ns:
            _try_decode(reader, one, raw)
        one.add(raw, kinds.get(raw.topic) in _FINGERPRINTED)
        if raw.msgtype == NavSatFix:
            _add_fix(reader, one, raw)
    for one in stats.values():
        if one.last is not None and len(one.log_ns) > 1:
            _try_decode(reader, one, one.last)
        one.last = None
    return stats


def _try_decode(reader: LogReader, stats: StreamStats, raw: RawMessage) -> Any:
    try:
        return reader.deserialize(raw)
    except LogError as error:
        if error.code == "unknown_type":
            stats.unknown_type = True
        else:
            stats.decode_errors.append(error.reason)
        return None


def _add_fix(reader: LogReader, stats: StreamStats, raw: RawMessage) -> None:
    if stats.unknown_type:
        return
    fix = _try_decode(reader, stats, raw)
    if fix is not None and fix.status.status >= 0:
        stats.fixes.append((raw.log_ns, float(fix.latitude), float(fix.longitude)))
