"""What redaction did to a drive, in counts and digests: the content of `redaction_report.json`.

Belongs here: counts, digests, intervals of time. Does not belong here: pixels, places, anything about a person.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.privacy.modes import BANDS, FINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from av_assets.domain.privacy.places import Interval
    from av_assets.domain.privacy.tracks import Region

REPORT_FILE: Final = "redaction_report.json"
REPORT_SCHEMA: Final = 2
BOX_SCHEMA: Final = pa.schema(
    [("role", pa.string()), ("sensor_ns", pa.int64()), ("kind", pa.string()), ("score", pa.float32())]
    + [(side, pa.float32()) for side in ("x1", "y1", "x2", "y2")]
    + [("found", pa.bool_()), ("part", pa.int32()), ("track", pa.int32())]
)
"""One row a hidden area (px, after dilation). A track is one object within one part of one role's clip."""
_BAND_KINDS: Final = frozenset(band for band, _ in BANDS.values())


@dataclass
class StreamCounts:
    """One camera, or one part of it. Every frame that came in was released or is in `dropped` under its reason.

    By kind: `found` findings that were hidden, `carried` those hidden without a finding in their frame, `bands` that
    stood in for finer findings.
    """

    frames_in: int = 0
    released: int = 0
    redacted: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    bands: Counter[str] = field(default_factory=Counter)
    unstamped: int = 0

    def release(self, hidden: Iterable[Region]) -> None:
        hidden = list(hidden)
        self.released += 1
        self.redacted += bool(hidden)
        self.found.update(r.kind for r in hidden if r.found and r.kind in FINDINGS)
        self.carried.update(r.kind for r in hidden if not r.found and r.kind in FINDINGS)
        self.bands.update(r.kind for r in hidden if r.kind in _BAND_KINDS)

    def __iadd__(self, other: StreamCounts) -> StreamCounts:
        for entry in fields(self):
            setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))
        return self

    @classmethod
    def of(cls, parts: Iterable[StreamCounts]) -> StreamCounts:
        """The sum of several."""
        total = cls()
        for part in parts:
            total += part
        return total

    def to_dict(self) -> dict[str, Any]:
        return {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> StreamCounts:
        known: dict[str, Any] = {k: Counter(v) if isinstance(v, dict) else v for k, v in counts.items()}
        return cls(**known)


@dataclass(frozen=True)
class FileRecord:
    """One file of the bundle; `rows` of a Parquet file, else zero."""

    path: str
    sha256: str
    bytes: int
    rows: int = 0


@dataclass(frozen=True)
class RedactionSummary:
    """What went out of a drive, and how it was made; `note` says why there is nothing.

    Attributes:
        streams: counts by camera role.
        models: name of a network -> sha256 of its weights.
        policies: policy -> {version, digest}: of redaction, and of detection where the caller gave it.
        files: every file of the bundle but the report itself.
        private: intervals of log time in which nothing was released.
    """

    streams: Mapping[str, StreamCounts]
    models: Mapping[str, str]
    mode: str
    cover: str
    policies: Mapping[str, Mapping[str, str]]
    files: Sequence[FileRecord] = ()
    private: Sequence[Interval] = ()
    note: str = ""

    @property
    def total(self) -> StreamCounts:
        return StreamCounts.of(self.streams.values())

    def to_json(self) -> bytes:
        """Canonical JSON: integers and text only, so the same drive gives the same bytes everywhere."""
        return canonical_json(
            {
                "schema": REPORT_SCHEMA,
                "streams": {role: counts.to_dict() for role, counts in self.streams.items()},
                "models": dict(self.models),
                "mode": self.mode,
                "cover": self.cover,
                "policies": {name: dict(policy) for name, policy in self.policies.items()},
                "files": [asdict(record) for record in self.files],
                "private_ns": [list(interval) for interval in self.private],
                "note": self.note,
            }
        )
