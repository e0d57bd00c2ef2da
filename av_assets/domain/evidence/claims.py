"""What a bundle claims of itself, judged when it is made and kept inside it: `checks.json`.

A record cannot exist apart from the files that it speaks of, so nobody can pass a check on one content and hand on
another. The next asset reads nothing whose record is missing or failed.
Belongs here: claims and their record. Does not belong here: any single claim, or what a failure leads to.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECORD_FILE = "checks.json"
SCHEMA = 1


@dataclass(frozen=True)
class Claim:
    """One claim: `name` is the rule, `subject` what it was judged on (a stream, a file; empty: the whole bundle).

    A failed claim stops the drive unless `tolerated` says why it need not.
    """

    name: str
    passed: bool
    reason: str = ""
    subject: str = ""
    measured: float | None = None
    threshold: float | None = None
    remedy: str = ""
    tolerated: str = ""

    @property
    def stops(self) -> bool:
        return not self.passed and not self.tolerated


@dataclass(frozen=True)
class Record:
    """All claims of one bundle."""

    claims: tuple[Claim, ...]

    @property
    def passed(self) -> bool:
        return not self.stopping

    @property
    def stopping(self) -> tuple[Claim, ...]:
        return tuple(claim for claim in self.claims if claim.stops)

    def to_json(self) -> str:
        rows = [{k: v for k, v in asdict(claim).items() if v not in ("", None)} for claim in self.claims]
        return json.dumps({"schema": SCHEMA, "passed": self.passed, "claims": rows}, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, data: bytes) -> Record:
        """Raises: EvidenceError: broken_record, the file is not what `to_json` writes."""
        try:
            held: Mapping[str, Any] = json.loads(data)
            return cls(tuple(Claim(**row) for row in held["claims"]))
        except (ValueError, KeyError, TypeError) as error:
            raise EvidenceError("not a record of checks", code="broken_record", file=RECORD_FILE) from error


def tolerating(claims: Sequence[Claim], why: Mapping[str, str]) -> Record:
    """The record of `claims` in which failures of the rules in `why` (rule -> reason) stop nobody."""
    return Record(
        tuple(c if c.passed else Claim(**{**asdict(c), "tolerated": why.get(c.name, "")}) for c in claims)
    )
