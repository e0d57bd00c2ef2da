"""What changed between two versions of a map: features added, modified, deleted, from where and for how long.

Belongs here: making, applying, reading and comparing deltas. Does not belong here: judging a map (lint).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from av_assets.domain.errors import PoisonError
from av_assets.domain.roads.features import Feature, Key, by_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SCHEMA = 1
Change = Literal["add", "modify", "delete"]


@dataclass(frozen=True)
class Edit:
    """One feature that changed; `before` is None for an added one, `after` for a deleted one.

    Attributes:
        source: who says so: the name of an extract, an authority, a survey.
        valid_from_ns, valid_until_ns: half-open interval in which the edit holds; None is open.
    """

    change: Change
    key: Key
    before: Feature | None
    after: Feature | None
    source: str
    valid_from_ns: int | None = None
    valid_until_ns: int | None = None

    def overlaps(self, other: Edit) -> bool:
        """Whether there is a moment at which both hold."""
        begins = [e.valid_from_ns for e in (self, other) if e.valid_from_ns is not None]
        ends = [e.valid_until_ns for e in (self, other) if e.valid_until_ns is not None]
        return not begins or not ends or max(begins) < min(ends)


@dataclass(frozen=True)
class Conflict:
    """Two edits of one feature that hold at one moment and disagree."""

    key: Key
    sources: tuple[str, str]


def delta(before: Iterable[Feature], after: Iterable[Feature], source: str) -> list[Edit]:
    """Edits that lead from one version to the other, sorted by key; none for two versions of the same roads.

    An edit holds for as long as the feature that it brings (or takes away) is there.
    """
    old, new = by_key(before), by_key(after)
    edits = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if was != now:
            change: Change = "add" if was is None else "delete" if now is None else "modify"
            about = now or was
            assert about is not None  # the key came from one of the two
            edits.append(Edit(change, key, was, now, source, about.valid_from_ns, about.valid_until_ns))
    return edits


def apply(features: Iterable[Feature], edits: Sequence[Edit]) -> list[Feature]:
    """The version after `edits`, sorted by key.

    Raises:
        PoisonError: an edit was made for another state of a road (code stale_map_edit).
    """
    found, stale = applied(features, [edits])
    if stale:
        raise PoisonError(
            f"way {stale[0].key[0]} is not what the edit of {stale[0].sources[0]} was made for",
            code="stale_map_edit",
            remedy="make the delta again from the present map",
        )
    return found


def applied(
    features: Iterable[Feature], deltas: Sequence[Sequence[Edit]]
) -> tuple[list[Feature], list[Conflict]]:
    """The version after all deltas, sorted by key, and the edits that were left out: made for another state of a road.

    An edit that the map holds already is no conflict: the next extract has taken it up.
    """
    found, stale = by_key(features), []
    for edit in (edit for edits in deltas for edit in edits):
        present = found.get(edit.key)
        if present == edit.after:
            continue
        if present != edit.before:
            stale.append(Conflict(edit.key, (edit.source, "the map")))
        elif edit.after is None:
            del found[edit.key]
        else:
            found[edit.key] = edit.after
    return list(by_key(found.values()).values()), stale


def conflicts(deltas: Sequence[Sequence[Edit]]) -> list[Conflict]:
    """Features that two deltas leave in different states at one moment, sorted by key."""
    by_feature: dict[Key, list[Edit]] = {}
    for edits in deltas:
        for edit in edits:
            by_feature.setdefault(edit.key, []).append(edit)
    return [
        Conflict(key, (a.source, b.source))
        for key in sorted(by_feature)
        for a, b in combinations(by_feature[key], 2)
        if a.after != b.after and a.overlaps(b)
    ]


def merged(versions: Sequence[tuple[str, Iterable[Feature]]]) -> tuple[list[Feature], list[Conflict]]:
    """One map out of several extracts: the first that knows a feature is believed; differing ones are conflicts."""
    found: dict[Key, tuple[str, Feature]] = {}
    differing = []
    for source, features in versions:
        for key, feature in by_key(features).items():
            first = found.setdefault(key, (source, feature))
            if first[1] != feature:
                differing.append(Conflict(key, (first[0], source)))
    return [found[key][1] for key in sorted(found)], sorted(differing, key=lambda c: (c.key, c.sources))


def to_json(edits: Sequence[Edit]) -> dict[str, Any]:
    """JSON-able; `from_json` reads it."""
    return {"schema": SCHEMA, "edits": [_record(edit) for edit in edits]}


def _record(edit: Edit) -> dict[str, Any]:
    return {
        "change": edit.change,
        "way": edit.key[0],
        "part": edit.key[1],
        "before": edit.before.to_record() if edit.before else None,
        "after": edit.after.to_record() if edit.after else None,
        "source": edit.source,
        "valid_from_ns": edit.valid_from_ns,
        "valid_until_ns": edit.valid_until_ns,
    }


def read_delta(path: Path, max_bytes: int) -> list[Edit]:
    """The edits of a file.

    Raises:
        PoisonError: larger than `max_bytes` (map_too_large), or not a delta (bad_map_delta).
    """
    if path.stat().st_size > max_bytes:
        raise PoisonError(f"the delta is larger than {max_bytes} bytes", code="map_too_large", file=path)
    return from_json(path.read_bytes(), str(path))


def from_json(data: bytes, source: str) -> list[Edit]:
    """Edits out of JSON.

    Raises:
        PoisonError: not a delta (code bad_map_delta).
    """
    try:
        record = json.loads(data)
        if record["schema"] != SCHEMA:
            raise ValueError("unknown schema")
        return [_edit(entry, source) for entry in record["edits"]]
    except (ValueError, KeyError, TypeError, AttributeError, PoisonError, RecursionError) as error:
        raise PoisonError(f"not a map delta: {error}", code="bad_map_delta", file=source) from error


def _edit(entry: Any, source: str) -> Edit:
    before, after = (
        None if entry[side] is None else Feature.from_record(entry[side], source)
        for side in ("before", "after")
    )
    expected = {(False, True): "add", (True, False): "delete", (True, True): "modify"}
    change = expected.get((before is not None, after is not None))
    key = (entry["way"], entry["part"])
    times = [entry["valid_from_ns"], entry["valid_until_ns"]]
    if entry["change"] != change or any(f is not None and f.key != key for f in (before, after)):
        raise ValueError("an edit contradicts itself")
    if not all(t is None or type(t) is int for t in times) or not isinstance(entry["source"], str):
        raise ValueError("an edit without readable source or validity")
    return Edit(entry["change"], key, before, after, entry["source"], *times)
