"""What the reading of a log tells: of each topic, of each file, and of all of them together.

Belongs here: the records of a verdict and their JSON form. Does not belong here: coming to it (`inspect`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

State = Literal["ok", "salvaged", "quarantined"]
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class TopicSummary:
    """Messages found by reading, and their mean rate over the topic's own span (None below two messages)."""

    msgtype: str
    count: int
    start_ns: int
    end_ns: int
    lost: int | None = 0

    @property
    def rate_hz(self) -> float | None:
        span = self.end_ns - self.start_ns
        return round((self.count - 1) * NANOSECONDS / span, 3) if span > 0 else None

    def to_dict(self) -> dict[str, object]:
        found: dict[str, object] = {"type": self.msgtype, "count": self.count, "rate_hz": self.rate_hz}
        return found if self.lost == 0 else {**found, "lost": self.lost}


@dataclass(frozen=True)
class FileSummary:
    """One file; `damage` is its loss account, empty for a whole one.

    `remarks` tell what was assumed at no loss, such as the unit of times that does not say which it is.
    """

    path: str
    format: str
    bytes: int
    indexed: bool
    messages: int
    code: str = ""
    reason: str = ""
    damage: dict[str, object] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if value not in ("", {}, ())}


@dataclass(frozen=True)
class Inspection:
    """What `inspect_log` found. `code` and `reason` are empty when the state is ok."""

    state: State
    code: str = ""
    reason: str = ""
    messages: int = 0
    topics: dict[str, TopicSummary] = field(default_factory=dict)
    start_ns: int = 0
    end_ns: int = 0
    files: tuple[FileSummary, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return {
            "state": self.state,
            "code": self.code,
            "reason": self.reason,
            "messages": self.messages,
            "topics": {name: topic.to_dict() for name, topic in sorted(self.topics.items())},
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "files": [file.to_dict() for file in self.files],
        }
