"""Frozen datasets by name: which versions there are, what they are called, which were erased.

Layout under the lake's root, every file written once:
    datasets/<name>/versions/<version>.json   the bundle that the version is; the version is its content digest
    datasets/<name>/tags/<semver>.json        the version that a semantic version stands for
    datasets/<name>/erased/<version>.json     a tombstone: the version may not be read or named any more

Belongs here: recording, naming, finding. Does not belong here: freezing, comparing, erasing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.errors import DatasetError, EvidenceError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import Manifest, bundle_name

if TYPE_CHECKING:
    from resources.lake import Lake

GOLDEN: Final = "golden"
MIN_PREFIX: Final = 4
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_WEEK = re.compile(r"\d{4}-\d{2}-\d{2}")
_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
# Semantic Versioning 2.0.0, the pattern that semver.org suggests
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)


@dataclass(frozen=True)
class DatasetVersion:
    """One version of a dataset.

    Attributes:
        version: content digest of `manifest`.
        tags: semantic versions that stand for it, sorted as text.
        number: versions are numbered as they were recorded; never part of the version itself.
    """

    name: str
    version: str
    tags: tuple[str, ...]
    manifest: Manifest
    number: int = 0

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.tags[-1] if self.tags else self.version[:12]}"


def record(lake: Lake, name: str, manifest: Manifest) -> None:
    """Make a published bundle a version of the dataset; recording it again changes nothing.

    Raises:
        DatasetError: bad_dataset_name; version_taken, other evidence is held under this version; erased_version.
    """
    _require_name(name)
    _require_alive(lake, name, manifest.content)
    key = f"datasets/{name}/versions/{manifest.content}.json"
    row = {
        "name": name,
        "version": manifest.content,
        "bundle": bundle_name(manifest.asset, manifest.partition),
        "manifest": manifest.digest,
        "number": 1 + sum(1 for _ in lake.store.keys(f"datasets/{name}/versions/")),
    }
    if lake.store.put(key, canonical_json(row), create=True):
        return
    held = _read(lake, key)
    if (held.get("version"), held.get("bundle")) != (row["version"], row["bundle"]):
        raise DatasetError(
            f"version {manifest.content[:12]} of {name} is recorded as another bundle, {held.get('bundle')}",
            code="version_taken",
            file=key,
            remedy="versions are written once; freeze again, which gives a version of its own",
        )


def tag(lake: Lake, name: str, semver: str, version: str, by: str) -> None:
    """Let a semantic version stand for a version, for good; the same answer twice is no error.

    Args:
        version: whole, or its first characters.

    Raises:
        DatasetError: bad_semver, no_name, tag_taken, unknown_dataset, ambiguous_version, erased_version.
    """
    if not _SEMVER.fullmatch(semver) or len(semver) > 128:
        raise DatasetError(
            f"{semver[:64]!r} is no semantic version", code="bad_semver", remedy="e.g. 1.0.0 or 1.1.0-rc.1"
        )
    if not by.strip() or len(by) > 200 or not by.isprintable():
        raise DatasetError("a tag is set by somebody", code="no_name", remedy="use --by")
    found = resolve(lake, f"{name}@{version}")
    key = f"datasets/{name}/tags/{semver}.json"
    row = {"name": name, "tag": semver, "version": found.version, "by": by.strip()}
    if lake.store.put(key, canonical_json(row), create=True):
        return
    held = _read(lake, key)
    if held["version"] != found.version:
        raise DatasetError(
            f"{name}@{semver} is version {held['version'][:12]}, tagged by {held['by']}, and stays it",
            code="tag_taken",
            file=key,
            remedy=f"tags are written once; choose another one for {found.version[:12]}",
        )


def versions(lake: Lake, name: str) -> list[DatasetVersion]:
    """All versions that were not erased, oldest partition first, within one in the order they were recorded.

    Raises:
        EvidenceError: a record without its manifest.
    """
    tags, erased = _tags(lake, name), _names(lake, f"datasets/{name}/erased/")
    found = [
        _version(lake, name, version, tags)
        for version in _names(lake, f"datasets/{name}/versions/")
        if version not in erased
    ]
    return sorted(found, key=lambda v: (v.manifest.partition, v.number, v.version))


def names(lake: Lake) -> list[str]:
    """Datasets that have a version, sorted."""
    return sorted({key.split("/")[1] for key in lake.store.keys("datasets/") if "/versions/" in key})


def resolve(lake: Lake, reference: str) -> DatasetVersion:
    """`golden@1.2.0`, `golden@<first characters of a version>`, `golden@2025-06-02` or `golden`, the newest.

    A week stands for what its bundle is now, `golden` for the newest week.

    Raises:
        DatasetError: bad_reference, unknown_dataset, ambiguous_version, erased_version.
        EvidenceError: a record without its manifest.
    """
    name, at, which = reference.partition("@")
    _require_name(name)
    if not at or _WEEK.fullmatch(which):
        return _of_week(lake, name, which)
    if _SEMVER.fullmatch(which):
        version = _tags(lake, name).get(which)
        if version is None:
            raise _unknown(lake, name, f"{name} has no tag {which}")
        return _alive(lake, name, version)
    if not _PREFIX.fullmatch(which):
        raise DatasetError(
            f"{reference[:80]!r} names no dataset",
            code="bad_reference",
            remedy=f"{name}@1.0.0, {name}@<{MIN_PREFIX} or more characters of a version>, {name}@2025-06-02 or {name}",
        )
    return _of_prefix(lake, name, which)


def erased(lake: Lake, name: str, version: str) -> dict[str, Any] | None:
    """The tombstone of a version, or None."""
    data = lake.store.get(f"datasets/{name}/erased/{version}.json")
    return None if data is None else dict(json.loads(data))


def _of_week(lake: Lake, name: str, week: str) -> DatasetVersion:
    known = [v for v in versions(lake, name) if not week or v.manifest.partition == week]
    if not known:
        raise _unknown(lake, name, f"{name} has no version" + (f" of {week}" if week else ""))
    newest = known[-1]
    current = lake.manifest(newest.manifest.asset, newest.manifest.partition)
    return next((v for v in known if current is not None and v.version == current.content), newest)


def _of_prefix(lake: Lake, name: str, prefix: str) -> DatasetVersion:
    dead = _names(lake, f"datasets/{name}/erased/")
    matching = sorted(v for v in {*_names(lake, f"datasets/{name}/versions/"), *dead} if v.startswith(prefix))
    if not matching:
        raise _unknown(lake, name, f"{name} has no version {prefix}")
    if len(matching) > 1:
        raise DatasetError(
            f"{prefix} begins {len(matching)} versions: {', '.join(v[:12] for v in matching[:5])}",
            code="ambiguous_version",
            remedy="give more characters",
        )
    return _alive(lake, name, matching[0])


def _alive(lake: Lake, name: str, version: str) -> DatasetVersion:
    _require_alive(lake, name, version)
    return _version(lake, name, version, _tags(lake, name))


def _version(lake: Lake, name: str, version: str, tags: dict[str, str]) -> DatasetVersion:
    key = f"datasets/{name}/versions/{version}.json"
    held = _read(lake, key)
    manifest = lake.past_manifest(held["bundle"], held["manifest"])
    if manifest is None or manifest.content != version:
        raise EvidenceError(
            f"the manifest of {name}@{version[:12]} is missing or another one",
            code="broken_evidence",
            file=key,
        )
    mine = sorted((t for t, v in tags.items() if v == version), key=_order)
    return DatasetVersion(name, version, tuple(mine), manifest, held["number"])


def _order(semver: str) -> tuple[tuple[int, ...], bool, str]:
    """Good enough an order for showing: numbers first, a release after its candidates."""
    numbers, _, rest = semver.partition("+")[0].partition("-")
    return tuple(int(n) for n in numbers.split(".")), not rest, rest


def _require_alive(lake: Lake, name: str, version: str) -> None:
    if (tombstone := erased(lake, name, version)) is not None:
        raise DatasetError(
            f"{name}@{version[:12]} was erased" + (f": {r}" if (r := tombstone.get("reason")) else ""),
            code="erased_version",
            remedy=f"use {name}@{str(s)[:12]}"
            if (s := tombstone.get("successor"))
            else "use a later version",
        )


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DatasetError(
            f"{name[:64]!r} is no name of a dataset", code="bad_dataset_name", remedy="e.g. golden"
        )


def _unknown(lake: Lake, name: str, reason: str) -> DatasetError:
    known = [v.reference for v in versions(lake, name)]
    there = f"there are {', '.join(known[-5:])}" if known else "freeze it with: av datasets freeze"
    return DatasetError(reason, code="unknown_dataset", remedy=there)


def _tags(lake: Lake, name: str) -> dict[str, str]:
    prefix = f"datasets/{name}/tags/"
    return {tag: _read(lake, f"{prefix}{tag}.json")["version"] for tag in _names(lake, prefix)}


def _names(lake: Lake, prefix: str) -> list[str]:
    return [key[len(prefix) :].removesuffix(".json") for key in lake.store.keys(prefix)]


def _read(lake: Lake, key: str) -> dict[str, Any]:
    data = lake.store.get(key)
    try:
        return dict(json.loads(data or b""))
    except ValueError as error:
        raise EvidenceError("not a record of a dataset", code="broken_evidence", file=key) from error
