"""What two results, or a result and this installation, were made from, and in what they differ.

Belongs here: comparing records of origin. Does not belong here: reading lakes, making anything again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from av_assets.domain.evidence.manifest import MadeFrom

ENVIRONMENT_NAMES: Final = {
    "threads": "threads",
    "world_size": "world size",
    "seed": "seed",
    "dataset_digest": "input content",
    "python": "environment",
    "torch": "environment",
    "numpy": "environment",
}
"""Fields of environment.json by ingredient; what is not named here is about the machine."""


@dataclass(frozen=True)
class Difference:
    """One ingredient that is not the same; None: not there, or not known."""

    ingredient: str
    what: str
    before: Any
    after: Any

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Origin:
    """Where one bundle comes from.

    Attributes:
        contents: content digests of its inputs; the digest of a manifest also changes with what it was made from.
        facts: environment.json of a checkpoint, else empty.
    """

    made_from: MadeFrom
    contents: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def differences(before: Origin, after: Origin) -> list[Difference]:
    """Every ingredient that differs, in a fixed order: code, environment, policies, inputs, rows, then the machine."""
    a, b = before.made_from, after.made_from
    pairs = [
        ("code version", "code version", a.code_version, b.code_version),
        ("environment", "locked environment", a.environment, b.environment),
        *(
            ("policy", name, a.policies.get(name), b.policies.get(name))
            for name in _both(a.policies, b.policies)
        ),
        *(
            ("input content", name, before.contents.get(name), after.contents.get(name))
            for name in _both(before.contents, after.contents)
        ),
        *(
            ("input content", f"rows of {name}", a.rows.get(name), b.rows.get(name))
            for name in _both(a.rows, b.rows)
        ),
        *(
            (ENVIRONMENT_NAMES.get(name, "hardware"), name, before.facts.get(name), after.facts.get(name))
            for name in _both(before.facts, after.facts)
            if before.facts and after.facts
        ),
    ]
    return [Difference(*pair) for pair in pairs if pair[2] != pair[3]]


def _both(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted({*a, *b})
