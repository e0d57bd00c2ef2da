"""Finished segments of unfinished bundles, kept in the lake so that any machine can go on where another one stopped.

Layout under the lake's root: segments/<asset>/<partition>/<attempt>/<name>/ and, written last, <name>.manifest beside
it. An attempt is named by what the bundle is made from, so that other inputs share nothing. Segments are not objects:
nobody else refers to them, and all of them can go once the bundle is whole.
Belongs here: keeping and forgetting segments. Does not belong here: what a segment holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from av_assets.domain.evidence.digests import sha256_file, sha256_json
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest, safe_relative_path
from resources.lake import Lake

ROOT = "segments"


@dataclass(frozen=True)
class LakeSegments:
    """The segments of one bundle to be.

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
        present = self._finished(name)
        if present is None:
            growing = target.with_name(f".{target.name}.part")
            growing.mkdir(parents=True)
            make(growing)
            present = self._keep(name, growing)
        target.mkdir(parents=True)
        for entry in present.files:
            (target / entry.path).parent.mkdir(parents=True, exist_ok=True)
            self.lake.store.fetch(f"{self._key(name)}/{entry.path}", target / entry.path)
        return target

    def _finished(self, name: str) -> Manifest | None:
        """The segment that an earlier attempt left, if its bytes are all there."""
        key = self._key(name)
        data = self.lake.store.get(f"{key}.manifest")
        found = None if data is None else Manifest.from_json(data, key)
        whole = found is not None and all(
            self.lake.store.size(f"{key}/{entry.path}") == entry.bytes for entry in found.files
        )
        return found if whole else None

    def _keep(self, name: str, folder: Path) -> Manifest:
        entries = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            relative = path.relative_to(folder).as_posix()
            entries.append(FileEntry(path=relative, bytes=path.stat().st_size, sha256=sha256_file(path)))
            self.lake.store.put_file(f"{self._key(name)}/{relative}", path, consume=True)
        return self._done(name, entries)

    def noted(self, name: str) -> FileEntry | None:
        """The object that an earlier attempt stored under this name, if the lake still holds it."""
        data = self.lake.store.get(f"{self._key(name)}.manifest")
        entry = None if data is None else Manifest.from_json(data, name).files[0]
        return entry if entry is not None and self.lake.holds(entry) else None

    def note(self, name: str, entry: FileEntry) -> None:
        """Remember an object that is stored and that the bundle will refer to."""
        self._done(name, [entry])

    def _done(self, name: str, entries: list[FileEntry]) -> Manifest:
        made = Manifest(asset=ROOT, partition=name, files=tuple(entries), made_from=self.made_from)
        self.lake.store.put(f"{self._key(name)}.manifest", made.to_json())
        return made

    def _key(self, name: str) -> str:
        attempt = sha256_json(self.made_from.model_dump())[:16]
        return f"{_prefix(self.asset, self.partition)}/{attempt}/{safe_relative_path(name)}"


def forget_segments(lake: Lake, asset: str, partition: str) -> None:
    """Remove the segments of a bundle, of earlier attempts too: the finished bundle needs none."""
    for key in list(lake.store.keys(f"{_prefix(asset, partition)}/")):
        lake.store.delete(key)


def _prefix(asset: str, partition: str) -> str:
    return f"{ROOT}/{asset}/{partition}"
