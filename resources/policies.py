"""Policies of this installation: what is active, and proposing other numbers.

Belongs here: proposing, resolving what holds for a drive. Does not belong here: rules about numbers
(`av_assets.domain.triggers`), activating (`activations`), back-tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import yaml

from av_assets.domain.errors import EvidenceError, LandingError, PolicyError
from av_assets.domain.evidence.digests import canonical_json, sha256_file
from av_assets.domain.evidence.manifest import Manifest, bundle_name
from av_assets.domain.evidence.signatures import sign
from av_assets.domain.triggers.areas import Bbox
from av_assets.domain.triggers.conflicts import refuse_contradictions, refuse_duplicate_keys
from av_assets.domain.triggers.rollout import areas_of, refuse_bad_geofences, resolve
from av_assets.domain.triggers.versions import changes, policy_key, require_bump, touched
from av_assets.policies import MAX_BYTES, Policy
from av_assets.policies.events import EventsPolicy
from av_assets.policies.label_fusion import LabelFusionPolicy
from av_assets.policies.triggers import GeofencesPolicy, Section, TriggersPolicy
from resources.policy_versions import (
    ACTIVATIONS,
    NO_GEOFENCES,
    POLICY_FILE,
    PROPOSAL_FILE,
    PROPOSALS,
    SHIPPED,
    Proposal,
    latest,
    model_of,
    numbered,
    person,
    proposal,
    proposals,
    require_intact,
    shipped,
)
from resources.signing import signing_key

if TYPE_CHECKING:
    from resources.lake import Lake

P = TypeVar("P", bound=Policy)


class Rollout(NamedTuple):
    """What is active: the events policy and the geofences over it."""

    events: EventsPolicy
    geofences: GeofencesPolicy

    def of(self, vehicle: str | None, bbox: Bbox | None) -> EventsPolicy:
        """The numbers for a drive."""
        return resolve(self.geofences, self.events, vehicle, bbox)

    def of_rows(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, EventsPolicy]:
        """The numbers of drives by their rows of the table `drives`; an empty row is a drive not known yet."""
        areas = areas_of(self.geofences)
        return {
            drive: resolve(self.geofences, self.events, *where_of(row), areas) for drive, row in rows.items()
        }

    @property
    def digests(self) -> dict[str, str]:
        return {p.name: p.digest for p in self}

    @property
    def dormant(self) -> bool:
        """Whether there are geofences that rest on another version than the active one, and so change nothing."""
        return self.geofences.version != NO_GEOFENCES.version and self.geofences.base != self.events.digest

    def with_version(self, policy: Policy) -> Rollout:
        """The same with one policy in the place of its kind."""
        if isinstance(policy, EventsPolicy):
            return self._replace(events=policy)
        return self._replace(geofences=_as(GeofencesPolicy, policy))


def propose(lake: Lake, kind: str, path: Path, author: str, now_ns: int) -> Proposal:
    """Check a file against its model, the active version and itself, and keep it signed. Repeating it changes nothing.

    Raises:
        PolicyError: unknown_policy_kind; policy_unreadable, policy_invalid, policy_too_large (the file);
            version_unchanged, version_not_greater, version_bump_too_small (its version); duplicate_key,
            contradiction, overlapping_regions, base_not_active, unknown_threshold, bad_region (its numbers).
    """
    model = model_of(kind)
    _refuse_contradicting_file(kind, path)
    policy = model.load(path)
    key = policy_key(kind, policy.version)
    present = lake.manifest(PROPOSALS, key)
    if present is not None:
        if lake.signature(present) is None and _vouches(lake, present, path, author):
            lake.keep_signature(present, sign(signing_key(), present))
        held = proposal(lake, key)
        if held.policy.digest == policy.digest:
            return held
        raise _unchanged(key, held.policy, policy, path)
    now = rollout(lake)
    _refuse_nonsense(policy, now, path)
    document = {"author": person(author), "kind": kind, "digest": policy.digest, "proposed_ns": now_ns}
    document |= {"version": policy.version, "bump": require_bump(*compared(active(lake, model), policy))}
    with lake.workdir() as folder:
        (folder / POLICY_FILE).write_bytes(path.read_bytes())
        (folder / PROPOSAL_FILE).write_bytes(canonical_json(document))
        try:
            manifest = lake.publish(PROPOSALS, key, folder, write_once=True)
        except LandingError as error:
            raise PolicyError(
                f"{key} was proposed with other content at the same time",
                code="version_unchanged",
                file=path,
                remedy="raise the version",
            ) from error
    lake.keep_signature(manifest, sign(signing_key(), manifest))
    return proposal(lake, key)


def active(lake: Lake, model: type[P]) -> P:
    """The version that was activated last, else the shipped one.

    Raises:
        EvidenceError: what was activated was tampered with; nothing is decided by it, and nothing falls back silently.
        PolicyError: this reader cannot take it.
    """
    last = latest(lake, model.name)
    if last is None:
        return _as(model, shipped(model.name))
    require_intact(lake, lake.require(ACTIVATIONS, numbered(model.name, last["number"])))
    if last["version"] == SHIPPED:
        return _as(model, shipped(model.name))
    found = proposal(lake, policy_key(model.name, last["version"]))
    if found.manifest.content != last["proposal"]:
        raise EvidenceError(
            "it is not what was activated", code="broken_evidence", file=bundle_name(PROPOSALS, found.key)
        )
    return _as(model, found.policy)


def rollout(lake: Lake) -> Rollout:
    """Both active policies."""
    return Rollout(active(lake, EventsPolicy), active(lake, GeofencesPolicy))


def policies_of_drives(
    lake: Lake, drives: Sequence[str], under: Rollout | None = None
) -> dict[str, EventsPolicy]:
    """The events policy of each drive, by the vehicle and the bounding box in the table `drives`.

    A drive that is not in the catalog yet gets the numbers of all places.

    Args:
        under: instead of what is active.
    """
    now = under or rollout(lake)
    if not now.geofences.regions and not now.geofences.overrides:
        return dict.fromkeys(drives, now.events)
    rows = lake.tables.read("drives", [("drive", "in", list(drives))]) if drives else None
    known = {row["drive"]: row for row in ([] if rows is None else rows.to_pylist())}
    return now.of_rows({drive: known.get(drive, {}) for drive in drives})


def outdated_drives(
    lake: Lake, asset: str, under: Rollout | None = None, drives: Sequence[str] | None = None
) -> list[str]:
    """Drives whose bundle of `asset` was made under other numbers than hold for them now, sorted.

    A drive is left alone where the other numbers cannot change its events: nothing but the version differs, or they
    are those of radar tracks and the drive has no radar in the table `streams`. A digest that no version has counts as
    other numbers.

    Args:
        under: instead of what is active.
        drives: only these are looked at; default: all that have a bundle.
    """
    looked_at = sorted(lake.partitions(asset) if drives is None else drives)
    wanted = policies_of_drives(lake, looked_at, under)
    known = {policy.digest: policy for policy in _every_version(lake)}
    streams = _streams(lake, None if drives is None else looked_at)
    sections = TriggersPolicy.load().sections
    found = []
    for drive in looked_at:
        made = lake.manifest(asset, drive)
        held = made.made_from.policies.get(EventsPolicy.name) if made else wanted[drive].digest
        if held == wanted[drive].digest:
            continue
        if held in known:
            old, new = known[held].model_dump(mode="json"), wanted[drive].model_dump(mode="json")
            if not _matters(touched(old, new), sections, streams.get(drive)):
                continue
        found.append(drive)
    return found


def _streams(lake: Lake, drives: Sequence[str] | None) -> dict[str, set[str]]:
    """Kinds of the streams of each drive in the catalog."""
    filters = None if drives is None else [("drive", "in", list(drives))]
    rows = lake.tables.read("streams", filters) if drives is None or drives else None
    found: dict[str, set[str]] = {}
    for row in [] if rows is None else rows.select(["drive", "kind"]).to_pylist():
        found.setdefault(row["drive"], set()).add(row["kind"])
    return found


def _matters(differing: Sequence[str], sections: Mapping[str, Section], streams: set[str] | None) -> bool:
    """Whether other numbers in these sections can change anything on a drive with these kinds of streams."""
    if streams is None or "radar" in streams:
        return bool(differing)
    return any(name not in sections or "tracks" not in sections[name].needs for name in differing)


def _every_version(lake: Lake) -> list[EventsPolicy]:
    """All that can still be read; one that is damaged is not known, and blocks nobody but who wants it."""
    every = [_as(EventsPolicy, shipped(EventsPolicy.name))]
    for key in proposals(lake, EventsPolicy.name):
        with suppress(EvidenceError, PolicyError):
            every.append(_as(EventsPolicy, proposal(lake, key).policy))
    return every


def where_of(row: Mapping[str, Any]) -> tuple[str | None, Bbox | None]:
    """Vehicle and bounding box of a row of the table `drives`."""
    sides = [row.get(f"{side}_{axis}_deg") for side in ("min", "max") for axis in ("longitude", "latitude")]
    bbox = None if any(value is None for value in sides) else (sides[0], sides[1], sides[2], sides[3])
    return row.get("vehicle"), bbox  # type: ignore[return-value]


def _vouches(lake: Lake, present: Manifest, path: Path, author: str) -> bool:
    """Whether this is the very proposal whose making ended before it was signed."""
    document = json.loads(lake.read_bytes(present, PROPOSAL_FILE))
    return bool(document["author"] == person(author)) and present.entry(POLICY_FILE).sha256 == sha256_file(
        path
    )


def _refuse_contradicting_file(kind: str, path: Path) -> None:
    """What contradicts is said by both keys, before the model finds a field that it does not like."""
    try:
        if path.stat().st_size <= MAX_BYTES:
            text = path.read_text("utf-8")
            refuse_duplicate_keys(text)
            data = yaml.safe_load(text) if kind == EventsPolicy.name else None
            refuse_contradictions(data if isinstance(data, dict) else {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # the model says what is wrong with such a file
    except PolicyError as error:
        raise PolicyError(error.reason, code=error.code, file=path, remedy=error.remedy) from error


def _refuse_nonsense(policy: Policy, now: Rollout, path: Path) -> None:
    try:
        if isinstance(policy, GeofencesPolicy):
            refuse_bad_geofences(policy, now.events)
    except PolicyError as error:
        raise PolicyError(error.reason, code=error.code, file=path, remedy=error.remedy) from error


def compared(before: Policy, after: Policy) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both as data; the overrides of geofences and the slices of thresholds are values, not shape."""
    found = []
    for policy in (before, after):
        data = policy.model_dump(mode="json")
        if isinstance(policy, GeofencesPolicy):
            data["overrides"] = sorted(data["overrides"].items())
        if isinstance(policy, LabelFusionPolicy):
            data["thresholds"] = sorted((cls, sorted(own.items())) for cls, own in data["thresholds"].items())
        found.append(data)
    return found[0], found[1]


def _unchanged(key: str, held: Policy, policy: Policy, path: Path) -> PolicyError:
    named = ", ".join(change.key for change in changes(*compared(held, policy))[:10])
    return PolicyError(
        f"{key} was proposed before with other numbers; these keys changed: {named}",
        code="version_unchanged",
        file=path,
        remedy="raise the version",
    )


def _as(model: type[P], policy: Policy) -> P:
    assert isinstance(policy, model)
    return policy
