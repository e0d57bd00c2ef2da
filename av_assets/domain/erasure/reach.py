"""What contains a drive: the versions of bundles that were made from it, through any number of steps.

Every manifest says from which others it was made. What was made from a bundle of the drive contains the drive, and so
does what was made from that; only a bundle that carries nothing on (a policy, a model to other than models) ends it.
Belongs here: the walk over versions, and which objects may go. Does not belong here: reading manifests.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.retention import Action, RetentionPolicy


class VersionId(NamedTuple):
    """One manifest that there was: `digest` is that of the manifest."""

    asset: str
    partition: str
    digest: str

    @property
    def bundle(self) -> str:
        return f"{self.asset}/{self.partition}"


@dataclass(frozen=True)
class Affected:
    """A version that contains an erased drive.

    Attributes:
        why: own (a bundle of the drive), every_drive, or the bundle that it was made from.
    """

    version: VersionId
    action: Action
    why: str


@dataclass
class Objects:
    """Objects of versions that go, as sha256 -> bytes.

    Attributes:
        gone: nothing that stays refers to them.
        shared: of the drives' own bundles, and a bundle that stays has the same bytes: sha256 -> those bundles.
    """

    gone: dict[str, int] = field(default_factory=dict)
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)


MAX_NAMED = 5


def version_of(manifest: Manifest) -> VersionId:
    return VersionId(manifest.asset, manifest.partition, manifest.digest)


def reach(
    manifests: Iterable[Manifest], drives: frozenset[str], policy: RetentionPolicy, *, tables_too: bool
) -> list[Affected]:
    """Every version that contains one of `drives`, sorted.

    Args:
        manifests: all that the lake holds, current and past, in any order.
        tables_too: count the assets that read every drive through tables; false once those were dealt with.
    """
    found: dict[VersionId, Affected] = {}
    made_from: dict[str, list[VersionId]] = defaultdict(list)
    for manifest in manifests:
        one = version_of(manifest)
        for bundle, digest in manifest.made_from.inputs.items():
            made_from[f"{bundle}@{digest}"].append(one)
        why = _seed(manifest, drives, policy, tables_too)
        if why:
            own = one.partition in drives
            found[one] = Affected(one, "remove" if own else policy.rule(one.asset).action, why)
    waiting = deque(found)
    while waiting:
        above = waiting.popleft()
        for below in made_from.get(f"{above.bundle}@{above.digest}", ()):
            if below not in found and _passes_on(found[above], below, policy):
                found[below] = Affected(below, policy.rule(below.asset).action, above.bundle)
                waiting.append(below)
    return [found[one] for one in sorted(found)]


def _seed(manifest: Manifest, drives: frozenset[str], policy: RetentionPolicy, tables_too: bool) -> str:
    if manifest.partition in drives:
        return "own"
    # By name, not by digest: the version that it was made from may be gone.
    for bundle in manifest.made_from.inputs:
        if bundle.rpartition("/")[2] in drives:
            return bundle
    return "every_drive" if tables_too and policy.rule(manifest.asset).every_drive else ""


def _passes_on(above: Affected, below: VersionId, policy: RetentionPolicy) -> bool:
    if above.why != "own" and not policy.rule(above.version.asset).carries:
        return False
    return above.action != "list" or policy.rule(below.asset).action == "list"


def objects_of(
    manifests: Iterable[Manifest], affected: Iterable[Affected], drives: frozenset[str]
) -> Objects:
    """Which objects of the affected versions may go, and which stay since others have the same bytes.

    Args:
        manifests: as `reach` got them, once more.
    """
    leaving = {one.version for one in affected if one.action != "list"}
    named: dict[str, int] = {}
    own: set[str] = set()
    staying: dict[str, set[str]] = defaultdict(set)
    for manifest in manifests:
        goes = version_of(manifest) in leaving
        for entry in manifest.files:
            if goes:
                named[entry.sha256] = entry.bytes
                own |= {entry.sha256} if manifest.partition in drives else set()
            elif len(staying[entry.sha256]) < MAX_NAMED:
                staying[entry.sha256].add(f"{manifest.asset}/{manifest.partition}")
    return Objects(
        {sha: size for sha, size in sorted(named.items()) if sha not in staying},
        {sha: tuple(sorted(staying[sha])) for sha in sorted(own) if sha in staying},
    )


def remakes(
    affected: Iterable[Affected], current: Mapping[str, str], policy: RetentionPolicy, how: str
) -> list[str]:
    """Bundles that had a current version which goes, by the `remake` of their rule, sorted.

    Args:
        current: bundle -> digest of its current version.
    """
    gone = [one.version for one in affected if one.action != "list" and one.why != "own"]
    return sorted(
        {v.bundle for v in gone if current.get(v.bundle) == v.digest and policy.rule(v.asset).remake == how}
    )
