"""How far an erasure goes: everything in this installation that holds something of the drives.

Belongs here: looking, in every store, and removing what was found. Does not belong here: plans, rounds, holds and
receipts (erasure), what contains what (domain/erasure/reach).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from av_assets.domain.erasure.reach import Affected, objects_of, reach, remakes
from av_assets.domain.erasure.records import BundleVersion, DatasetVersion, Extent, versions_of
from av_assets.domain.errors import TransientError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes
from av_assets.erasure import places, survey, tables
from av_assets.erasure.places import Places
from av_assets.erasure.tables import Doomed
from av_assets.policies.retention import RetentionPolicy
from resources.lake import object_key

if TYPE_CHECKING:
    import dagster as dg

    from av_assets.erasure.events import Forgotten
    from resources.label_studio import LabelStudio
    from resources.lake import Lake

EMBEDDED = "clip_embeddings"


@dataclass(frozen=True)
class Installation:
    """All that an erasure reaches.

    Attributes:
        instance: Dagster's; None where there is none, and so no events and no runs to wait for.
        scene_index: DynamoDB table that scenes are registered in; empty: none.
        forget_archive: takes a version of a dataset out of the remote of its archives; None: there is none.
        label_studio: server with a project for each drive and round; None: there is none.
    """

    lake: Lake
    policy: RetentionPolicy
    places: Places
    instance: dg.DagsterInstance | None = None
    scene_index: str = ""
    forget_archive: Callable[[str], object] | None = None
    label_studio: LabelStudio | None = None

    # -- looking -------------------------------------------------------------------------------------------------

    def extent(self, drives: Sequence[str], *, tables_too: bool) -> Extent:
        """What holds something of `drives` now.

        Args:
            tables_too: count bundles that read every drive through tables; false once those were removed.
        """
        chosen, current = frozenset(drives), survey.current(self.lake)
        affected = self._affected(chosen, tables_too)
        versions = versions_of(affected, current)
        objects = objects_of(survey.manifests(self.lake), affected, chosen)
        gone = objects.gone | self._loose(drives, [v.bundle for v in versions if v.action != "list"])
        doomed = self.doomed(drives, versions)
        found = Extent(
            versions=versions,
            objects=dict(sorted(gone.items())),
            shared=objects.shared,
            rows=tables.rows_of(self.lake, doomed),
            vectors=self._vectors(drives, versions),
            files=self._files(drives, gone),
            datasets=self._datasets(versions),
            remake_now=tuple(remakes(affected, current, self.policy, "now")),
            remake_listed=tuple(remakes(affected, current, self.policy, "listed")),
        )
        histories = {*found.rows, *tables.histories_of(self.lake, doomed)}
        return found.model_copy(
            update={"histories": tuple(sorted(histories)), "events": self._events(drives, versions)}
        )

    def _affected(self, drives: frozenset[str], tables_too: bool) -> list[Affected]:
        """Bundles of all drives are removed only where the drive got so far that they can hold it."""
        found = reach(survey.manifests(self.lake), drives, self.policy, tables_too=tables_too)
        if any(one.why == "own" for one in found):
            return found
        return reach(survey.manifests(self.lake), drives, self.policy, tables_too=False)

    def _loose(self, drives: Sequence[str], bundles: Sequence[str]) -> dict[str, int]:
        """Objects without a manifest: of unfinished bundles of the drives, and of nobody."""
        mine = places.segment_keys(self.lake, drives, bundles)
        others = set(self.lake.store.keys("segments/")) - set(mine)
        kept = {e.sha256 for m in survey.manifests(self.lake) for e in m.files}
        kept |= places.noted_objects(self.lake, sorted(others)).keys()
        noted = places.noted_objects(self.lake, mine)
        own = {sha: size for sha, size in noted.items() if sha not in kept}
        return own | places.orphans(self.lake, kept, self.idle_before_s())

    def doomed(self, drives: Sequence[str], versions: Sequence[BundleVersion]) -> Doomed:
        """Rows of the drives, and rows that bundles which go have written."""
        partitions: dict[str, tuple[str, tuple[str, ...]]] = {}
        for one in versions:
            for table, column in self.policy.rule(one.asset).tables.items():
                if one.action != "list":
                    values = partitions.get(table, (column, ()))[1]
                    partitions[table] = (column, tuple(sorted({*values, one.partition})))
        return Doomed(tuple(drives), self.policy.row_columns, partitions)

    def _vectors(self, drives: Sequence[str], versions: Sequence[BundleVersion]) -> dict[str, int]:
        from resources.vectors import vectors

        store, embedded = vectors(self.lake), any(v.why == "own" and v.asset == EMBEDDED for v in versions)
        said = ", ".join(f"'{drive}'" for drive in drives)
        counts = {}
        for name in store.names():
            table = store.open(name)
            counts[name] = table.count(f"drive IN ({said})") if table and drives else 0
        # Old versions and indexes of a table may hold rows that its head does not: without a manifest only the head.
        return {name: count for name, count in counts.items() if count or embedded}

    def _files(self, drives: Sequence[str], objects: dict[str, int]) -> dict[str, int]:
        found = places.files_of(self.places, drives, objects.keys(), self.idle_before_s())
        counts = {name: len(files) for name, files in found.items()}
        if keys := places.landed_keys(self.places, drives):
            counts["landing"] = len(keys)
        uploads = self.label_studio.uploads(drives) if self.label_studio and drives else {}
        return counts | {f"label_studio/{folder}": 1 for folder in uploads}

    def _datasets(self, versions: Sequence[BundleVersion]) -> tuple[DatasetVersion, ...]:
        found = []
        for one in versions:
            name = self.policy.rule(one.asset).dataset
            made = self.lake.past_manifest(one.bundle, one.digest) if name and one.action != "list" else None
            if made is not None:
                found.append(
                    DatasetVersion(name=name, version=made.content, bundle=one.bundle, manifest=one.digest)
                )
        return tuple(found)

    def _events(self, drives: Sequence[str], versions: Sequence[BundleVersion]) -> int:
        if self.instance is None:
            return 0
        from av_assets.erasure import events

        return events.count(self.instance, self.forgotten(drives, versions))

    def forgotten(self, drives: Sequence[str], versions: Sequence[BundleVersion]) -> Forgotten:
        from av_assets.erasure.events import Forgotten, bundles_of

        others = [v.bundle for v in versions if v.action != "list" and v.why != "own"]
        return Forgotten(frozenset(drives), bundles_of(others))

    def idle_before_s(self) -> float:
        """What was written since then may belong to a run that is going on."""
        if self.instance is None:
            return math.inf
        from av_assets.erasure import events

        oldest = events.oldest_going(self.instance)
        return math.inf if oldest is None else oldest

    # -- removing: every step may be done again ---------------------------------------------------------------------

    def steps(self, plan: str, drives: Sequence[str], extent: Extent) -> Iterator[str]:
        """Remove all of `extent`, a step at a time. The manifests go last: they say what there is to remove."""
        for one in extent.leaving:
            key = f"manifests/{one.bundle}/current.json"
            data = self.lake.store.get(key) if one.current else None
            if data is not None and sha256_bytes(data) == one.digest:
                self.lake.store.delete(key)
        yield "current"
        for dataset in extent.datasets:
            stone = {"name": dataset.name, "version": dataset.version, "reason": f"erasure {plan}"}
            key = f"datasets/{dataset.name}/erased/{dataset.version}.json"
            self.lake.store.put(key, canonical_json(stone), create=True)
            if self.forget_archive is not None:
                self.forget_archive(dataset.version)
        yield "datasets"
        for name in extent.histories:
            tables.remove(self.lake, name, self.doomed(drives, extent.versions), plan)
        yield "tables"
        self._drop_vectors(extent)
        yield "vectors"
        self._delete_objects(drives, extent)
        yield "objects"
        self._delete_segments(drives, extent)
        yield "segments"
        self._delete_files(drives, extent)
        yield "places"
        if self.instance is not None:
            from av_assets.erasure import events

            events.forget(self.instance, self.forgotten(drives, extent.versions))
        yield "events"
        self._delete_manifests(extent)
        yield "manifests"

    def _drop_vectors(self, extent: Extent) -> None:
        from resources.vectors import vectors

        store = vectors(self.lake)
        for name in extent.vectors:
            store.drop(name)
            if any(True for _ in self.lake.store.keys(f"vectors/{name}.lance/")):
                raise TransientError(f"the index {name} is in use", code="index_busy")
            places.drop_folder(self.lake, f"vectors/{name}.lance")

    def _delete_objects(self, drives: Sequence[str], extent: Extent) -> None:
        """Without those that somebody has published since: the same bytes may have come from elsewhere."""
        leaving = {(v.asset, v.partition, v.digest) for v in extent.leaving}
        needed = {
            entry.sha256
            for made in survey.manifests(self.lake)
            if (made.asset, made.partition, made.digest) not in leaving
            for entry in made.files
        }
        mine = places.segment_keys(self.lake, drives, [v.bundle for v in extent.leaving])
        others = sorted(set(self.lake.store.keys("segments/")) - set(mine))
        needed |= places.noted_objects(self.lake, others).keys()
        for sha256 in extent.objects.keys() - needed:
            self.lake.store.delete(object_key(sha256))
        for path in places.torn_files(self.lake, self.idle_before_s()):
            path.unlink(missing_ok=True)

    def _delete_segments(self, drives: Sequence[str], extent: Extent) -> None:
        for key in places.segment_keys(self.lake, drives, [v.bundle for v in extent.leaving]):
            self.lake.store.delete(key)

    def _delete_files(self, drives: Sequence[str], extent: Extent) -> None:
        from resources.registration import register_scenes

        gone = extent.objects.keys()
        files = places.files_of(self.places, drives, gone, self.idle_before_s())
        places.remove(self.places, drives, files, places.landed_keys(self.places, drives))
        for drive in drives:
            register_scenes(self.scene_index, drive, ())
        if studio := self.label_studio:
            for drive in sorted(set(studio.uploads(drives).values())):
                studio.forget(drive)

    def _delete_manifests(self, extent: Extent) -> None:
        for one in extent.leaving:
            base = f"manifests/{one.bundle}"
            for ending in ("signature", "json"):
                self.lake.store.delete(f"{base}/{one.digest}.{ending}")
            if one.why == "own":
                places.drop_folder(self.lake, base)
