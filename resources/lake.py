"""The lake: bundles that are there whole or not at all, and tables beside them.

Layout under the lake's root:
    objects/ab/abcd...                       bytes by their sha256, stored once whoever refers to them
    manifests/<asset>/<partition>/<digest>   every manifest there ever was
    manifests/<asset>/<partition>/current    the one that readers start from; written last
    manifests/<asset>/<partition>/<digest>.signature    over the manifest of that digest
    segments/                                finished pieces of bundles that are still being made
    tombstones/<partition>.json              this drive was erased, or is being erased: nothing is published for it
    tables/<name>/                           Delta tables
Belongs here: publishing, checking out, tables. Does not belong here: what is in a bundle.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import dagster as dg

from av_assets.domain.errors import EvidenceError, LandingError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_file
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest
from resources.object_keys import object_key as object_key
from resources.objects import BucketStore, FolderStore, open_store
from resources.tables import Tables


class Lake(dg.ConfigurableResource["Lake"]):
    """One lake on `file://` or `s3://`; the same calls on both.

    Attributes:
        uri: root of the lake.
        scratch: local folder for work in progress; beside a folder lake, so that finishing is a rename.
        endpoint: S3 endpoint, for stores that are not AWS.
    """

    uri: str
    scratch: str
    endpoint: str | None = None

    @cached_property
    def store(self) -> FolderStore | BucketStore:
        return open_store(self.uri, self.endpoint)

    @cached_property
    def tables(self) -> Tables:
        local = {"aws_endpoint": self.endpoint, "aws_allow_http": "true"} if self.endpoint else {}
        if self.uri.startswith("s3://"):
            return Tables(self.uri, local)
        return Tables(unquote(urlparse(self.uri).path), {})

    @contextmanager
    def workdir(self) -> Iterator[Path]:
        """An empty local folder that is gone afterwards, however the block ends."""
        Path(self.scratch).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # -- bundles -------------------------------------------------------------------------------------------------

    def adopt(self, path: Path, name: str, sha256: str | None = None) -> FileEntry:
        """Move a finished local file into the objects; bytes that are there already are not stored again."""
        entry = FileEntry(path=name, bytes=path.stat().st_size, sha256=sha256 or sha256_file(path))
        if self.holds(entry):
            path.unlink()
        else:
            self.store.put_file(object_key(entry.sha256), path, consume=True)
        return entry

    def holds(self, entry: FileEntry) -> bool:
        """Whether an object with these bytes is stored, for whichever bundle."""
        return self.store.size(object_key(entry.sha256)) == entry.bytes

    def publish(
        self,
        asset: str,
        partition: str,
        folder: Path | None = None,
        *,
        links: Iterable[FileEntry] = (),
        note: str = "",
        made_from: MadeFrom | None = None,
        write_once: bool = False,
    ) -> Manifest:
        """Store every file below `folder` plus `links` to objects that are here already; the manifest comes last.

        Raises:
            LandingError: `write_once`, and the partition holds other content (code content_conflict).
            EvidenceError: erased, the partition has a tombstone.
            TransientError: the disk is full or the store is busy.
        """
        self.refuse_erased(partition)
        entries = list(links)
        for path in sorted(p for p in (folder.rglob("*") if folder else ()) if p.is_file()):
            entries.append(self.adopt(path, path.relative_to(folder).as_posix()))  # type: ignore[arg-type]
        manifest = Manifest(
            asset=asset,
            partition=partition,
            files=tuple(entries),
            note=note,
            made_from=made_from or MadeFrom(),
        )
        base = f"manifests/{asset}/{partition}"
        self.store.put(f"{base}/{manifest.digest}.json", manifest.to_json())
        if self.store.put(f"{base}/current.json", manifest.to_json(), create=write_once):
            return manifest
        present = self.require(asset, partition)
        if present.content != manifest.content:
            raise LandingError(
                f"other content is held under this id ({present.content[:12]}, now {manifest.content[:12]})",
                code="content_conflict",
                drive=partition,
                remedy="land it under an id of its own",
            )
        return present

    def manifest(self, asset: str, partition: str) -> Manifest | None:
        """The current manifest, or None where the bundle was never finished."""
        key = f"manifests/{asset}/{partition}/current.json"
        data = self.store.get(key)
        return None if data is None else Manifest.from_json(data, key)

    def past_manifest(self, bundle: str, digest: str) -> Manifest | None:
        """The manifest with this digest that `<asset>/<partition>` once had, or None."""
        key = f"manifests/{bundle}/{digest}.json"
        data = self.store.get(key)
        return None if data is None else Manifest.from_json(data, key)

    def keep_signature(self, manifest: Manifest, data: bytes) -> None:
        self.store.put(_signature_key(manifest), data)

    def signature(self, manifest: Manifest) -> bytes | None:
        """The signature over this very manifest, or None."""
        return self.store.get(_signature_key(manifest))

    def refuse_erased(self, partition: str) -> None:
        """Raises EvidenceError (erased) where the partition is a drive that was erased, or is being erased."""
        if self.store.size(f"tombstones/{partition}.json") is not None:
            raise EvidenceError(
                "this drive was erased",
                code="erased",
                drive=partition,
                remedy="nothing brings it back; av receipts list says who asked for it",
            )

    def require(self, asset: str, partition: str) -> Manifest:
        found = self.manifest(asset, partition)
        if found is None:
            self.refuse_erased(partition)
            raise EvidenceError(
                f"{asset}/{partition} was not materialized",
                code="missing_bundle",
                drive=partition,
                remedy=f"materialize {asset} for {partition} first",
            )
        return found

    def partitions(self, asset: str) -> list[str]:
        """Partitions of `asset` that have a finished bundle, sorted."""
        prefix = f"manifests/{asset}/"
        return sorted(
            k[len(prefix) :].split("/")[0] for k in self.store.keys(prefix) if k.endswith("/current.json")
        )

    def checkout(self, manifest: Manifest, target: Path, *patterns: str) -> Path:
        """Lay the bundle's files (or those that match) out under `target` with their own names, read-only.

        Raises:
            EvidenceError: an object is missing, or is not what its digest says.
        """
        for entry in manifest.matching(*patterns) if patterns else manifest.files:
            path = target / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            self.store.fetch(object_key(entry.sha256), path)
            if path.stat().st_size != entry.bytes or (
                not path.is_symlink() and sha256_file(path) != entry.sha256
            ):
                raise EvidenceError(
                    "object differs from its digest",
                    code="damaged_object",
                    file=entry.path,
                    drive=manifest.partition,
                )
        return target

    def read_bytes(self, manifest: Manifest, path: str) -> bytes:
        entry = manifest.entry(path)
        data = self.store.get(object_key(entry.sha256))
        if data is None or sha256_bytes(data) != entry.sha256:
            raise EvidenceError("object is missing or damaged", code="damaged_object", file=path)
        return data

    def json_of(self, manifest: Manifest | None, path: str) -> dict[str, Any]:
        """A JSON file of a bundle; empty where there is no such bundle or file."""
        if manifest is None or not manifest.holds(path):
            return {}
        found: dict[str, Any] = json.loads(self.read_bytes(manifest, path))
        return found

    def rows_of(
        self, manifest: Manifest | None, path: str, columns: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a Parquet file of a bundle; none where there is no such bundle or file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if manifest is None or not manifest.holds(path):
            return []
        source = pa.BufferReader(self.read_bytes(manifest, path))
        return list(pq.read_table(source, columns=list(columns) if columns else None).to_pylist())

    def verify(self, manifest: Manifest) -> list[str]:
        """Paths whose bytes no longer give their digest; reads everything."""
        with self.workdir() as folder:
            broken = []
            for number, entry in enumerate(manifest.files):
                try:
                    self.store.fetch(object_key(entry.sha256), folder / str(number))
                    good = sha256_file(folder / str(number)) == entry.sha256
                except EvidenceError:
                    good = False
                broken += [] if good else [entry.path]
            return broken


def _signature_key(manifest: Manifest) -> str:
    return f"manifests/{manifest.asset}/{manifest.partition}/{manifest.digest}.signature"
