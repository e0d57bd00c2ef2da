"""What an erasure writes down: the plan that people see, the deed that is being done, the receipt that stays.

The plan says what would go. The deed is what goes: found anew when the plan is carried out, and kept until the end, so
that a killed erasure knows what it had begun. The receipt comes last.
Belongs here: the shape of those records. Does not belong here: where they lie, doing.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from av_assets.domain.erasure.reach import Affected
from av_assets.domain.erasure.requests import Request
from av_assets.domain.evidence.digests import canonical_json, sha256_json

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class BundleVersion(BaseModel):
    """A version that contains an erased drive, and what happens to it."""

    model_config = _FROZEN
    asset: str
    partition: str
    digest: str
    action: str
    why: str
    current: bool

    @property
    def bundle(self) -> str:
        return f"{self.asset}/{self.partition}"


class DatasetVersion(BaseModel):
    """A named version of a dataset that contains an erased drive; `version` is the digest of its content."""

    model_config = _FROZEN
    name: str
    version: str
    bundle: str
    manifest: str


class Extent(BaseModel):
    """How far an erasure goes.

    Attributes:
        objects: sha256 -> bytes, of what no other bundle refers to.
        shared: sha256 of the drives' own bytes -> bundles that stay and have the same bytes.
        rows: table -> rows of the drives, and of the bundles that go.
        histories: tables whose old files or log hold the drives.
        vectors: tables of vectors that are dropped -> rows of the drives in them.
        files: place outside the lake -> files.
        events: entries of Dagster's event log.
        datasets: versions that get a tombstone.
        remake_now, remake_listed: bundles to be made again without the drives.
    """

    model_config = _FROZEN
    versions: tuple[BundleVersion, ...] = ()
    objects: dict[str, int] = {}
    shared: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    histories: tuple[str, ...] = ()
    vectors: dict[str, int] = {}
    files: dict[str, int] = {}
    events: int = 0
    datasets: tuple[DatasetVersion, ...] = ()
    remake_now: tuple[str, ...] = ()
    remake_listed: tuple[str, ...] = ()

    @property
    def leaving(self) -> tuple[BundleVersion, ...]:
        return tuple(one for one in self.versions if one.action != "list")

    @property
    def listed(self) -> tuple[BundleVersion, ...]:
        return tuple(one for one in self.versions if one.action == "list")

    @property
    def own(self) -> tuple[BundleVersion, ...]:
        return tuple(one for one in self.versions if one.why == "own")

    @property
    def object_bytes(self) -> int:
        return sum(self.objects.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the drives themselves is left; bundles of all drives do not count."""
        mine = [one for one in self.leaving if one.why != "every_drive"]
        return not (mine or any(self.rows.values()) or any(self.files.values()))


class Plan(BaseModel):
    """A dry run, to be carried out by its id."""

    model_config = _FROZEN
    request: Request
    made_ns: int
    drives: tuple[str, ...]
    held: dict[str, tuple[str, ...]]
    undecided: tuple[str, ...]
    policy: str
    extent: Extent

    @property
    def id(self) -> str:
        return sha256_json(self.model_dump(mode="json", exclude={"extent"}))[:16]

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))


class Deed(BaseModel):
    """One round of carrying a plan out. `held`: drives that a hold has kept since the plan was made."""

    model_config = _FROZEN
    plan: str
    round: int
    at_ns: int
    drives: tuple[str, ...]
    held: dict[str, tuple[str, ...]]
    extent: Extent

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))


class Receipt(BaseModel):
    """What an erasure leaves behind: what went, what stayed and why, and that it was looked for afterwards."""

    model_config = _FROZEN
    plan: str
    request: Request
    policy: str
    started_ns: int
    drives: tuple[str, ...]
    removed: dict[str, Any]
    kept: dict[str, Any]
    datasets: tuple[dict[str, Any], ...]
    models: tuple[dict[str, str], ...]
    remade: dict[str, str]
    to_remake: tuple[str, ...]
    verification: dict[str, Any]

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))


def versions_of(affected: list[Affected], current: dict[str, str]) -> tuple[BundleVersion, ...]:
    """As they are written down; `current`: bundle -> digest of its current version."""
    return tuple(
        BundleVersion(
            asset=one.version.asset,
            partition=one.version.partition,
            digest=one.version.digest,
            action=one.action,
            why=one.why,
            current=current.get(one.version.bundle) == one.version.digest,
        )
        for one in affected
    )


def removed_of(deeds: list[Deed]) -> dict[str, Any]:
    """Counts and digests of what the rounds took away, by kind."""
    extents = [deed.extent for deed in deeds]
    objects = {sha: size for one in extents for sha, size in one.objects.items()}
    return {
        "bundles": sorted(f"{v.bundle}@{v.digest}" for one in extents for v in one.leaving),
        "objects": {"count": len(objects), "bytes": sum(objects.values()), "sha256": sorted(objects)},
        "rows": _summed([one.rows for one in extents]),
        "vectors": _summed([one.vectors for one in extents]),
        "files": _summed([one.files for one in extents]),
        "events": sum(one.events for one in extents),
    }


def _summed(parts: list[dict[str, int]]) -> dict[str, int]:
    names = sorted({name for part in parts for name in part})
    return {name: sum(part.get(name, 0) for part in parts) for name in names}
