"""What a rule says about a stream or a drive.

Belongs here: the finding and how it is written down. Does not belong here: which rules there are (`rules`), judging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from av_assets.domain.logs.integrity.rules import RULES, Severity

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One rule on one stream, or on the drive where role is empty. A rule that passed has no reason.

    `fix` is what a person can do about this very failure; empty: what the catalogue advises.
    """

    rule: str
    severity: Severity
    status: Status
    measured: float | None = None
    threshold: float | None = None
    reason: str = ""
    role: str = ""
    topic: str = ""
    fix: str = ""

    @classmethod
    def judge(
        cls,
        rule: str,
        severity: Severity,
        good: bool,
        measured: float,
        threshold: float,
        reason: str,
        role: str = "",
        topic: str = "",
        fix: str = "",
    ) -> Finding:
        status: Status = "passed" if good else "failed"
        if good:
            reason = fix = ""
        return cls(
            rule, severity, status, round(float(measured), 6), float(threshold), reason, role, topic, fix
        )

    def to_dict(self) -> dict[str, object]:
        """As in the report: with the unit of the catalogue, and its advice where the rule failed."""
        rule = RULES[self.rule]
        found: dict[str, object] = {"id": self.rule, **{k: v for k, v in vars(self).items() if k != "rule"}}
        advice = self.fix or (rule.fix if self.status == "failed" else "")
        return {**found, "unit": rule.unit, "fix": advice}
