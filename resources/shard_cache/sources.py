"""Shards of a lake as local files: those of a folder where they lie, those of a bucket through this node's cache.

Sources are sent to worker processes, so that they hold names and numbers; what they name is opened at the first use.
Belongs here: finding the cache of an installation, sources for the loader. Does not belong here: the cache itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.errors import DatasetError, EvidenceError
from av_assets.domain.loading.sources import ShardRef, ShardSource
from av_assets.policies.cache import CachePolicy
from resources.environment import environment
from resources.object_keys import object_key
from resources.objects import FolderStore
from resources.shard_cache.cache import ShardCache

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest
    from resources.environment import Environment
    from resources.lake import Lake


@dataclass(frozen=True)
class LakeFolder:
    """Objects of a folder lake are local files already; nothing is copied."""

    root: Path

    @contextmanager
    def local(self, ref: ShardRef) -> Iterator[Path]:
        """The object itself, read-only.

        Raises:
            EvidenceError: missing_object; damaged_object, it has another size.
        """
        path = self.root / object_key(ref.sha256)
        if not path.is_file():
            raise EvidenceError("object is missing from the lake", code="missing_object", file=ref.path)
        size = path.stat().st_size
        if size != ref.bytes:
            reason = f"object has {size} bytes, not {ref.bytes}"
            raise EvidenceError(reason, code="damaged_object", file=ref.path)
        yield path


@dataclass(frozen=True)
class CachedShards:
    """Shards through a cache; each process that gets this opens the cache for itself."""

    cache: ShardCache

    @contextmanager
    def local(self, ref: ShardRef) -> Iterator[Path]:
        """The cached file, fetched where it is missing. Raises what `ShardCache.local` raises."""
        with self.cache.local(ref.sha256, ref.bytes) as path:
            yield path


@dataclass(frozen=True)
class OfManifest:
    """Of a source, the files of one bundle, by their path in it.

    Attributes:
        bundle: `<asset>/<partition>`.
        files: path -> sha256 and bytes.
    """

    source: ShardSource
    bundle: str
    files: dict[str, tuple[str, int]] = field(repr=False)

    @contextmanager
    def local(self, ref: ShardRef) -> Iterator[Path]:
        """The file; a reference without digest gets that of the manifest.

        Raises:
            DatasetError: foreign_shard, the bundle has no such file; shard_changed, it has another one of that name.
            And what the source raises.
        """
        if ref.path not in self.files:
            raise DatasetError(f"{self.bundle} has no such file", code="foreign_shard", file=ref.path)
        sha256, size = self.files[ref.path]
        if ref.sha256 not in ("", sha256):
            raise DatasetError(
                f"{self.bundle} holds another file of this name", code="shard_changed", file=ref.path
            )
        with self.source.local(ShardRef(sha256, size, ref.path)) as path:
            yield path


def shard_refs(manifest: Manifest, *patterns: str) -> list[ShardRef]:
    """The files of the bundle that match, as the loader names them; all where there is no pattern."""
    chosen = manifest.matching(*patterns) if patterns else manifest.files
    return [ShardRef(entry.sha256, entry.bytes, entry.path) for entry in chosen]


def shard_source(lake: Lake, manifest: Manifest, cache: ShardCache | None = None) -> ShardSource:
    """Where a loader takes the files of this bundle from.

    Args:
        cache: for a lake in a bucket; None: this node's.
    """
    store = lake.store
    folder = isinstance(store, FolderStore)
    inner = LakeFolder(store.root) if folder else CachedShards(cache or node_cache(lake))  # type: ignore[union-attr]
    files = {entry.path: (entry.sha256, entry.bytes) for entry in manifest.files}
    return OfManifest(inner, f"{manifest.asset}/{manifest.partition}", files)


def node_cache(lake: Lake, here: Environment | None = None) -> ShardCache:
    """The cache of this machine for that lake: AV_CACHE_GB, else the policy, says how large it may be."""
    policy, here = CachePolicy.load(), here or environment()
    budget_gb = here.cache_gb or policy.budget_gb
    return ShardCache(shards_folder(here), round(budget_gb * 1e9), lake.store, policy)


def shards_folder(here: Environment) -> Path:
    return here.cache / "shards"
