"""The integrity report of a drive.

Belongs here: what a report holds and how it is written. Does not belong here: making one (`integrity`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from av_assets.domain.logs.aliases import AliasProposal
    from av_assets.domain.logs.clocks.forensics import ClockFinding
    from av_assets.domain.logs.integrity.findings import Finding

Verdict = Literal["passed", "warned", "failed"]


@dataclass(frozen=True)
class LogReport:
    """The verdict on a drive's logs.

    streams: role -> topic, type, kind, messages, bytes, median_rate_hz, mean_rate_hz, max_gap_s, median_delay_s.
    timeline: start_ns, bin_ns, and per topic the messages in each bin and the holes as [start_ns, end_ns].
    clocks: topic -> what is known of the clock of a stream. repairs: topic -> name, parameters and reason of the
    repair that the clock policy answers with; nothing is repaired here.
    aliases: for every declared stream that is absent, the topic it may have become.
    policy: digest of the integrity policy; policies: of all that were asked, by name.
    """

    drive: str
    verdict: Verdict
    start_ns: int
    end_ns: int
    messages: int
    findings: tuple[Finding, ...]
    streams: dict[str, dict[str, object]] = field(default_factory=dict)
    timeline: dict[str, Any] = field(default_factory=dict)
    files: tuple[dict[str, object], ...] = ()
    aliases: tuple[AliasProposal, ...] = ()
    clocks: dict[str, ClockFinding] = field(default_factory=dict)
    repairs: dict[str, dict[str, object]] = field(default_factory=dict)
    policy: str = ""
    policies: dict[str, str] = field(default_factory=dict)

    def failed(self, severity: str = "error") -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.status == "failed" and f.severity == severity)

    def to_dict(self) -> dict[str, object]:
        return {
            "schema": 2,
            "drive": self.drive,
            "verdict": self.verdict,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "messages": self.messages,
            "rules": [finding.to_dict() for finding in self.findings],
            "streams": self.streams,
            "timeline": self.timeline,
            "files": list(self.files),
            "clocks": {topic: self._clock(topic) for topic in sorted(self.clocks)},
            "aliases": [proposal.to_dict() for proposal in self.aliases],
            "policy": self.policy,
            "policies": self.policies,
        }

    def _clock(self, topic: str) -> dict[str, object]:
        """Without the series, which is for the picture."""
        facts = {k: v for k, v in self.clocks[topic].to_dict().items() if k != "series"}
        return {**facts, "repair": self.repairs.get(topic, {})}
