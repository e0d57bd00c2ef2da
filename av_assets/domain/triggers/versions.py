"""Versions of policies: the grammar, which number has to rise, and which versions an older reader can take.

    patch  nothing that decides has changed
    minor  numbers have changed, or a whole section is new: an older reader has no detector that would read it
    major  a known section gained or lost a field, or a section went: an older reader must not guess
Belongs here: versions and shapes of plain policy data. Does not belong here: what the numbers mean (`conflicts`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import total_ordering
from typing import Any, Final, NamedTuple

from av_assets.domain.errors import PolicyError

KEY: Final = re.compile(r"^[a-z0-9]+(_[a-z0-9]+)*(-[a-z0-9.]+)*$")
MAX_LENGTH: Final = 64
# The grammar of semver.org 2.0.0 without build metadata, in lower case: versions are also keys of partitions.
_NUMBER: Final = r"0|[1-9][0-9]*"
_SEMVER: Final = re.compile(
    rf"^({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-((?:{_NUMBER}|[0-9]*[a-z-][0-9a-z-]*)(?:\.(?:{_NUMBER}|[0-9]*[a-z-][0-9a-z-]*))*))?$"
)
LEVELS: Final = ("patch", "minor", "major")


@total_ordering
class Version:
    """A version with the order of semver.org 2.0.0, rule 11.

    Raises:
        PolicyError: bad_version.
    """

    def __init__(self, text: str) -> None:
        found = _SEMVER.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if found is None:
            raise PolicyError(
                f"{text[:MAX_LENGTH]!r} is not a version",
                code="bad_version",
                remedy='write three numbers, as in version: "1.2.0"',
            )
        self.text = text
        self.numbers = (int(found[1]), int(found[2]), int(found[3]))
        self.before = tuple(found[4].split(".")) if found[4] else ()

    @property
    def major(self) -> int:
        return self.numbers[0]

    def _order(self) -> tuple[Any, ...]:
        # A version before a release is older than it; identifiers of digits are older than those with letters.
        marks = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in self.before)
        return (self.numbers, not self.before, marks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._order() == other._order()

    def __lt__(self, other: Version) -> bool:
        return self._order() < other._order()

    def __hash__(self) -> int:
        return hash(self._order())

    def __repr__(self) -> str:
        return f"Version({self.text!r})"


def policy_key(kind: str, version: str) -> str:
    """The partition of a version: `events-1.1.0`.

    Raises:
        PolicyError: bad_version, or bad_policy_key where the grammar of keys refuses it.
    """
    key = f"{kind}-{Version(version).text}"
    if not KEY.fullmatch(key) or not kind.replace("_", "").isalnum():
        raise PolicyError(f"{key!r} cannot be a key", code="bad_policy_key", remedy="as in events-1.1.0")
    return key


def split_key(key: str) -> tuple[str, str]:
    """`events-1.1.0` -> (`events`, `1.1.0`).

    Raises:
        PolicyError: bad_policy_key or bad_version.
    """
    kind, dash, version = key.partition("-")
    if not dash or not KEY.fullmatch(key):
        raise PolicyError(
            f"{key[:MAX_LENGTH]!r} is not the key of a policy",
            code="bad_policy_key",
            remedy="as in events-1.1.0",
        )
    return kind, Version(version).text


class Change(NamedTuple):
    """One key whose value differs; None where the key is not there."""

    key: str
    before: Any
    after: Any


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; sequences are values."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.") or {f"{prefix}{name}": {}}
        else:
            found[f"{prefix}{name}"] = value
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Keys that differ, sorted; the version itself is none of them."""
    old, new = flat(before), flat(after)
    keys = sorted((old.keys() | new.keys()) - {"version"})
    return [
        Change(k, old.get(k), new.get(k)) for k in keys if k not in old or k not in new or old[k] != new[k]
    ]


def touched(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of the top keys below which anything differs."""
    return sorted({change.key.split(".")[0] for change in changes(before, after)})


def least_bump(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`patch`, `minor` or `major`: what the change asks for at least."""
    old, new = flat(before), flat(after)
    sections = {key.split(".")[0] for key in new}
    gone = old.keys() - new.keys()
    grown = {key for key in new.keys() - old.keys() if "." not in key or key.split(".")[0] in before}
    if gone or grown or not {key.split(".")[0] for key in old} <= sections:
        return "major"
    return "minor" if changes(before, after) else "patch"


def require_bump(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The bump that `after` makes over `before`, which must be large enough.

    Raises:
        PolicyError: version_unchanged, version_not_greater, version_bump_too_small; each names the keys that changed.
    """
    old, new, needed = Version(before["version"]), Version(after["version"]), least_bump(before, after)
    named = ", ".join(change.key for change in changes(before, after)[:10]) or "nothing"
    if new == old:
        raise PolicyError(
            f"version is still {new.text}, and these keys changed: {named}",
            code="version_unchanged",
            remedy=f"raise the {needed} number",
        )
    if new < old:
        raise PolicyError(
            f"version {new.text} is not above {old.text}",
            code="version_not_greater",
            remedy="count up from the active version; to go back, activate the earlier one",
        )
    made = _bump(old, new)
    if LEVELS.index(made) < LEVELS.index(needed):
        raise PolicyError(
            f"{old.text} -> {new.text} is a {made} change, but these keys changed: {named}",
            code="version_bump_too_small",
            remedy=f"raise the {needed} number",
        )
    return made


def _bump(old: Version, new: Version) -> str:
    if new.numbers[0] != old.numbers[0]:
        return "major"
    return "minor" if new.numbers[1] != old.numbers[1] else "patch"


class Fitted(NamedTuple):
    """Policy data in the shape that the reader knows, and what was done for that, in words."""

    data: dict[str, Any]
    notes: tuple[str, ...]


def fit(found: Mapping[str, Any], shipped: Mapping[str, Any]) -> Fitted:
    """`found`, written by another release of the code, for a reader whose own policy is `shipped`.

    Within one major version a section that the reader does not know is left out (it has no such detector), and one that
    the writer did not know is the shipped one (nobody has decided otherwise). Both are said in the notes.

    Raises:
        PolicyError: policy_needs_newer_reader or policy_of_older_shape, with the keys.
    """
    written, known = Version(str(found.get("version", ""))), Version(shipped["version"])
    sections = {name for name, value in shipped.items() if isinstance(value, Mapping)}
    unknown = {name for name in found if name not in shipped}
    droppable = {name for name in unknown if isinstance(found[name], Mapping)}
    lacking = sections - found.keys()
    kept = {name: value for name, value in found.items() if name not in unknown}
    kept |= {name: shipped[name] for name in lacking}
    foreign = sorted((flat(kept).keys() - flat(shipped).keys()) | (unknown - droppable))
    missing = sorted(flat(shipped).keys() - flat(kept).keys())
    if (foreign or unknown) and (foreign or written.major != known.major):
        raise PolicyError(
            f"version {written.text} has keys that this reader (of {known.text}) does not know: "
            f"{', '.join(foreign or sorted(unknown))}",
            code="policy_needs_newer_reader",
            remedy="update the software first, or activate an earlier version",
        )
    if missing or (lacking and written.major != known.major):
        raise PolicyError(
            f"version {written.text} lacks keys that this reader (of {known.text}) needs: "
            f"{', '.join(missing or sorted(lacking))}",
            code="policy_of_older_shape",
            remedy="propose the numbers again on top of the shipped file, or activate the shipped version",
        )
    notes = [f"left out {name}: this reader has no such detector" for name in sorted(droppable)]
    notes += [f"{name} as shipped: version {written.text} does not know it" for name in sorted(lacking)]
    return Fitted(kept, tuple(notes))
