"""What lies of erased drives outside bundles and tables: the landing area, ground truth, returned labels, work in
progress, caches, offline runs of the tracker, accepted mining specs, and what interrupted runs left in the lake.

Belongs here: finding and removing files. Does not belong here: bundles, tables, Dagster's own storage.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.erasure.naming import names_in_bytes, names_of
from av_assets.domain.evidence.digests import sha256_file
from av_assets.domain.evidence.manifest import Manifest
from av_assets.erasure import specs
from av_assets.policies.mining import ACCEPTED_FOLDER
from resources.objects import BucketStore, FolderStore
from resources.segments import ROOT as SEGMENTS
from resources.shard_cache.sources import shards_folder
from resources.shard_cache.upkeep import files_of as cached_files

if TYPE_CHECKING:
    from resources.environment import Environment
    from resources.lake import Lake
    from resources.landing import Landing


@dataclass(frozen=True)
class Places:
    """Where else drives leave files. A place that is not there is empty.

    Attributes:
        by_name: place -> folder in which whatever is named after a drive goes, at any depth.
        scratch: folders of work in progress; those that no run uses are rests of killed ones, and go.
        tracker: offline runs; a file with the bytes of an object that goes, or that names a drive, goes.
        shards: this machine's shard cache; a file that is an object that goes, goes.
        specs: accepted mining specs; those that name a drive go.
    """

    landing: Landing | None = None
    by_name: dict[str, Path] = field(default_factory=dict)
    scratch: Path | None = None
    tracker: Path | None = None
    shards: Path | None = None
    specs: Path | None = None


def places(here: Environment, landing: Landing | None) -> Places:
    """Those of this installation."""
    by_name = {"truth": here.truth, "labels": here.labels, "cache": here.cache}
    accepted = here.policies / ACCEPTED_FOLDER
    return Places(landing, by_name, here.scratch, here.home / "wandb", shards_folder(here), accepted)


def files_of(
    found: Places, drives: Sequence[str], objects: AbstractSet[str], idle_before_s: float
) -> dict[str, list[Path]]:
    """Place -> local files that go; those of a landing area in a bucket are listed by `landed_keys`.

    Args:
        objects: sha256 of the objects that go.
        idle_before_s: work in progress that was changed since then belongs to a run that is going on.
    """
    by_place = {name: list(_named(folder, drives)) for name, folder in found.by_name.items()}
    if found.landing is not None and found.landing.bucket is None:
        by_place["landing"] = list(_named(found.landing.root, drives))
    if found.scratch is not None:
        by_place["scratch"] = [p for p in _files(found.scratch) if p.lstat().st_mtime < idle_before_s]
    if found.tracker is not None:
        by_place["tracker"] = [p for p in _files(found.tracker) if _tells(p, drives, objects)]
    if found.shards is not None:
        by_place["shards"] = list(cached_files(found.shards, objects))
    if found.specs is not None:
        by_place["specs"] = list(specs.naming(found.specs, drives))
    return {name: files for name, files in sorted(by_place.items()) if files}


def landed_keys(found: Places, drives: Sequence[str]) -> list[str]:
    """Keys of the drives in a landing area that is a bucket."""
    bucket = found.landing.bucket if found.landing is not None else None
    return [key for drive in drives for key in bucket.keys(f"{drive}/")] if bucket is not None else []


def remove(found: Places, drives: Sequence[str], files: dict[str, list[Path]], keys: Sequence[str]) -> None:
    """Remove what `files_of` and `landed_keys` found of the drives."""
    for path in files.get("specs", ()):
        specs.drop(path, drives)
    for path in (path for place, paths in files.items() if place != "specs" for path in paths):
        path.unlink(missing_ok=True)
        _remove_empty(path.parent, [*found.by_name.values(), found.scratch, found.tracker])
    bucket = found.landing.bucket if found.landing is not None else None
    for key in keys if bucket is not None else ():
        bucket.delete(key)  # type: ignore[union-attr]


def _named(folder: Path, drives: Sequence[str]) -> Iterator[Path]:
    """Files whose path below `folder` has a part that is a drive's id, or holds it as a word."""
    said = names_of(drives)
    for path in _files(folder):
        if any(said.search(part) for part in path.relative_to(folder).parts):
            yield path


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(p for p in folder.rglob("*") if p.is_symlink() or p.is_file())


def _tells(path: Path, drives: Sequence[str], objects: AbstractSet[str]) -> bool:
    if path.is_symlink():
        return False
    return sha256_file(path) in objects or bool(names_in_bytes(drives).search(path.read_bytes()))


def _remove_empty(folder: Path, roots: Sequence[Path | None]) -> None:
    while folder not in roots and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


# -- in the lake -------------------------------------------------------------------------------------------------


def segment_keys(lake: Lake, drives: Sequence[str], bundles: Sequence[str]) -> list[str]:
    """Keys of pieces of unfinished bundles of the drives, and of bundles that go."""
    keys = list(lake.store.keys(f"{SEGMENTS}/"))
    roots = {f"{SEGMENTS}/{bundle}/" for bundle in bundles}
    return [k for k in keys if k.split("/")[2] in drives or "/".join(k.split("/")[:3]) + "/" in roots]


def noted_objects(lake: Lake, keys: Sequence[str]) -> dict[str, int]:
    """Objects that unfinished bundles have stored already: sha256 -> bytes."""
    found: dict[str, int] = {}
    for key in keys:
        data = lake.store.get(key) if key.endswith(".manifest") else None
        if data is not None:
            found |= {entry.sha256: entry.bytes for entry in Manifest.from_json(data, key).files}
    return found


def orphans(lake: Lake, referred: AbstractSet[str], idle_before_s: float) -> dict[str, int]:
    """Objects that no manifest refers to, older than every run that is going on: sha256 -> bytes.

    Runs that died before their manifest left them; nobody can say of which drive, so that all of them go.
    """
    return {
        key.rsplit("/", 1)[1]: size
        for key, size, modified_s in _listed(lake, "objects/")
        if key.rsplit("/", 1)[1] not in referred and modified_s < idle_before_s
    }


def torn_files(lake: Lake, idle_before_s: float) -> list[Path]:
    """Halves of files that killed writers left below a folder lake, under hidden names."""
    if not isinstance(lake.store, FolderStore):
        return []
    root = lake.store.root
    hidden = [p for top in ("objects", SEGMENTS) for p in (root / top).rglob(".*") if p.is_file()]
    return [p for p in hidden if p.stat().st_mtime < idle_before_s]


def _listed(lake: Lake, prefix: str) -> Iterator[tuple[str, int, float]]:
    if isinstance(lake.store, BucketStore):
        for entry in lake.store.entries(prefix):
            yield entry.key, entry.bytes, entry.modified_s
        return
    for key in lake.store.keys(prefix):
        status = (lake.store.root / key).stat()
        yield key, status.st_size, status.st_mtime


def drop_folder(lake: Lake, key: str) -> None:
    """Take an empty folder of a folder lake away; a bucket has none."""
    if isinstance(lake.store, FolderStore):
        shutil.rmtree(lake.store.root / key, ignore_errors=True)
