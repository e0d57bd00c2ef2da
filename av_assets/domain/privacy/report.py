"""What redaction did to a drive, in counts: the content of `redaction_report.json`.

Belongs here: counts and digests. Does not belong here: pixels, times of day, anything about a person.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from av_assets.domain.privacy.tracks import Region

BOX_SCHEMA: Final = pa.schema(
    [("role", pa.string()), ("sensor_ns", pa.int64()), ("kind", pa.string()), ("score", pa.float32())]
    + [(side, pa.float32()) for side in ("x1", "y1", "x2", "y2")]
)


@dataclass
class StreamCounts:
    """One camera. Every frame that came in was released or is in `dropped` under its reason."""

    frames_in: int = 0
    released: int = 0
    redacted: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    unstamped: int = 0

    def release(self, regions: Iterable[Region]) -> None:
        regions = list(regions)
        self.released += 1
        self.redacted += bool(regions)
        self.found.update(r.kind for r in regions if r.found)
        self.carried.update(r.kind for r in regions if not r.found)


@dataclass(frozen=True)
class RedactionSummary:
    """`streams` by camera role; `models` kind -> digest of the weights; `note` says why there is nothing."""

    streams: Mapping[str, StreamCounts]
    models: Mapping[str, str]
    policy_version: str
    policy_digest: str
    note: str = ""

    @property
    def frames_in(self) -> int:
        return sum(s.frames_in for s in self.streams.values())

    @property
    def released(self) -> int:
        return sum(s.released for s in self.streams.values())

    @property
    def redacted(self) -> int:
        return sum(s.redacted for s in self.streams.values())

    @property
    def dropped(self) -> Counter[str]:
        return sum((s.dropped for s in self.streams.values()), Counter())

    @property
    def found(self) -> Counter[str]:
        """Findings by kind, without those that were carried over."""
        return sum((s.found for s in self.streams.values()), Counter())

    def to_json(self) -> str:
        streams: dict[str, Any] = {
            role: {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(counts).items()}
            for role, counts in self.streams.items()
        }
        policy = {"version": self.policy_version, "digest": self.policy_digest}
        body = {"streams": streams, "models": dict(self.models), "policy": policy, "note": self.note}
        return json.dumps({"schema": 1, **body}, indent=2, sort_keys=True) + "\n"
