"""Finished segments of unfinished bundles, kept in the lake so that any machine can go on where another one stopped.

A segment is a bundle of its own under manifests/segments/; its objects are the ones that the finished bundle will refer
to. Belongs here: keeping and forgetting them. Does not belong here: what a segment holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest, safe_relative_path
from resources.lake import Lake

ASSET = "segments"


@dataclass(frozen=True)
class LakeSegments:
    """The segments of one bundle to be; another `made_from` is another bundle and shares none of them.

    Attributes:
        folder: where segments are laid out locally.
    """

    lake: Lake
    asset: str
    partition: str
    made_from: MadeFrom
    folder: Path

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """As `av_assets.domain.evidence.segments.Segments` asks."""
        target = self.folder / safe_relative_path(name)
        if target.is_dir():
            return target
        present = self.finished(name)
        if present is None:
            growing = target.with_name(f".{target.name}.part")
            growing.mkdir(parents=True)
            make(growing)
            present = self.finish(name, growing)
        target.mkdir(parents=True)
        return self.lake.checkout(present, target)

    def finished(self, name: str) -> Manifest | None:
        """The segment that an earlier attempt left, if its bytes are all there."""
        present = self.lake.manifest(ASSET, self._key(name))
        whole = present is not None and all(self.lake.holds(f) for f in present.files)
        return present if whole else None

    def finish(self, name: str, folder: Path | None = None, links: Iterable[FileEntry] = ()) -> Manifest:
        """Keep files of `folder`, or objects that the lake holds already, as a finished segment."""
        return self.lake.publish(ASSET, self._key(name), folder, links=links, made_from=self.made_from)

    def _key(self, name: str) -> str:
        attempt = sha256_json(self.made_from.model_dump())[:16]
        return f"{_prefix(self.asset, self.partition)}/{attempt}/{safe_relative_path(name)}"


def forget_segments(lake: Lake, asset: str, partition: str) -> None:
    """Remove the manifests of a bundle's segments, of earlier attempts too: the finished bundle needs none."""
    for key in list(lake.store.keys(f"manifests/{ASSET}/{_prefix(asset, partition)}/")):
        lake.store.delete(key)


def _prefix(asset: str, partition: str) -> str:
    return f"{asset}/{partition}"
