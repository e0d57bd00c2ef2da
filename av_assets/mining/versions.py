"""Versions of frozen datasets: reading everything again, making one anew, comparing two, and asking for one.

Belongs here: what `av datasets` and `av diff` do. Does not belong here: names and tags (resources/datasets), printing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from av_assets.domain.errors import DatasetError, EvidenceError
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest
from av_assets.mining.freezing import INDEX_FILE, freeze
from av_assets.mining.gathering import read
from av_assets.policies.golden import GoldenPolicy
from av_assets.production import Work
from resources.datasets import DatasetVersion
from resources.segments import LakeSegments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from resources.lake import Lake

ASSET = "golden_slices"


@dataclass(frozen=True)
class Broken:
    """A file of a version that is missing or damaged; `source` is the bundle that it is a link to, if it is one."""

    file: str
    source: str
    sha256: str


@dataclass(frozen=True)
class Rebuilt:
    """A version made anew from its spec and its inputs, and what came out differently."""

    version: str
    rebuilt: str
    differing: tuple[str, ...]

    @property
    def same(self) -> bool:
        return self.version == self.rebuilt


def dataset_of(lake: Lake, version: DatasetVersion) -> dict[str, Any]:
    """dataset.json of a version."""
    return dict(json.loads(lake.read_bytes(version.manifest, "dataset.json")))


def verify_version(lake: Lake, version: DatasetVersion) -> list[Broken]:
    """Read every byte of the version again; gives what is missing or damaged, sorted by path."""
    return [
        Broken(path, _source(path), version.manifest.entry(path).sha256)
        for path in sorted(lake.verify(version.manifest))
    ]


def rebuild(lake: Lake, version: DatasetVersion) -> Rebuilt:
    """Freeze again from the version's own spec and the very inputs it was made from; nothing is published.

    Raises:
        DatasetError: spec_unreadable, it was frozen by code with another policy model; see also freeze.
        EvidenceError: missing_input, a bundle it was made from is gone; damaged_object.
    """
    policy = policy_of(dataset_of(lake, version))
    inputs = {name: _input(lake, name, digest) for name, digest in version.manifest.made_from.inputs.items()}
    partition = version.manifest.partition
    with lake.workdir() as folder:
        segments = LakeSegments(lake, ASSET, partition, version.manifest.made_from, folder / "segments")
        work = Work(partition, folder / "out", lake, inputs, folder, segments)
        work.out.mkdir()
        note = freeze(work, policy)
        files = (*work.links, *_entries(work.out))
    made = Manifest(asset=version.manifest.asset, partition=partition, files=files, note=note)
    return Rebuilt(version.version, made.content, _differing(version.manifest, made))


def policy_of(dataset: dict[str, Any]) -> GoldenPolicy:
    """The policy that a dataset was frozen under, as it wrote it down.

    Raises:
        DatasetError: spec_unreadable.
    """
    spec = {name: value for name, value in dataset["spec"].items() if name != "policy_digest"}
    try:
        return GoldenPolicy.model_validate(spec)
    except ValidationError as error:
        raise DatasetError(
            f"its spec is of another model of the policy ({error.error_count()} fields)",
            code="spec_unreadable",
            remedy="rebuild it with the code version that froze it",
        ) from error


def compare(lake: Lake, before: DatasetVersion, after: DatasetVersion) -> dict[str, Any]:
    """What changed from one version to another and why; see domain/datasets/difference."""
    from av_assets.domain.datasets import difference

    data = {v.version: dataset_of(lake, v) for v in (before, after)}
    found = difference.compare_datasets(data[before.version], data[after.version])
    a, b = before.manifest, after.manifest
    found["frames"] = difference.compare_frames(_table(lake, a, INDEX_FILE), _table(lake, b, INDEX_FILE))
    drives = [m["drive"] for m in data[after.version]["members"]]
    held = {m["drive"] for m in data[before.version]["members"]}
    found["labels"] = {
        drive: difference.compare_boxes(_table(lake, a, path), _table(lake, b, path))
        for drive in drives
        if drive in held and _digest(a, path := f"drives/{drive}/labels.parquet") != _digest(b, path)
    }
    found["why"] = {
        "dataset": difference.why_dataset(a.made_from, b.made_from),
        "members": {
            drive: reasons
            for drive in sorted({*drives, *held})
            if (reasons := difference.why_member(drive, a.made_from, b.made_from, _lineage(lake)))
        },
    }
    names = {"before": before, "after": after}
    return {k: {"reference": v.reference, "version": v.version} for k, v in names.items()} | found


def summary(lake: Lake, version: DatasetVersion) -> dict[str, Any]:
    """What a version is, in figures."""
    data = dataset_of(lake, version)
    return {
        "name": version.name,
        "version": version.version,
        "tags": list(version.tags),
        "week": data["week"],
        "manifest": version.manifest.digest,
        "files": len(version.manifest.files),
        "bytes": version.manifest.size_bytes,
        "drives": len(data["members"]),
        "frames": sum(c["frames"] for c in data["counts"].values()),
        "counts": data["counts"],
        "slices": data.get("slice_counts", {}),
        "thin_slices": data.get("thin_slices", {}),
        "left_out": data.get("left_out", {}),
    }


def files_of(
    lake: Lake, version: DatasetVersion, split: str | None, slice_name: str | None
) -> list[dict[str, Any]]:
    """Files of a version; with a split or a slice those of drives that have frames there, and of clips that have.

    Raises:
        DatasetError: unknown_split, unknown_slice, selects_nothing.
    """
    if split is None and slice_name is None:
        return [asdict(row) for row in map(_row, version.manifest.files)]
    index = (
        _table(lake, version.manifest, INDEX_FILE).select(["drive", "split", "shard", "slices"]).to_pylist()
    )
    known = {"split": {r["split"] for r in index} | {"train", "val", "test"},
             "slice": set(dataset_of(lake, version)["slice_counts"])}  # fmt: skip
    for what, asked in (("split", split), ("slice", slice_name)):
        if asked is not None and asked not in known[what]:
            raise DatasetError(f"there is no {what} {asked}", code=f"unknown_{what}",
                               remedy=f"choose from {', '.join(sorted(known[what]))}")  # fmt: skip
    rows = [
        r for r in index if split in (None, r["split"]) and (slice_name is None or slice_name in r["slices"])
    ]
    if not rows:
        raise DatasetError(
            f"no frame of {version.reference} is in split {split or 'any'} and slice {slice_name or 'any'}",
            code="selects_nothing",
            remedy=f"see its counts: av datasets show {version.reference}",
        )
    shards, drives = {r["shard"] for r in rows}, {r["drive"] for r in rows}
    return [
        asdict(_row(f))
        for f in version.manifest.files
        if f.path in shards or (f.path.split("/")[0] == "drives" and "/clips/" not in f.path
                                and f.path.split("/")[1] in drives)
    ]  # fmt: skip


@dataclass(frozen=True)
class _File:
    path: str
    bytes: int
    sha256: str
    source: str


def _row(entry: FileEntry) -> _File:
    return _File(entry.path, entry.bytes, entry.sha256, _source(entry.path))


def _source(path: str) -> str:
    """The bundle that a path of a dataset is a link to, by the layout; empty for files of its own."""
    parts = path.split("/")
    if parts[0] != "drives":
        return ""
    return f"{'synced_shards' if parts[2] in ('clips', 'calibration.json') else 'verified_labels'}/{parts[1]}"


def _input(lake: Lake, name: str, digest: str) -> Manifest:
    found = lake.past_manifest(name, digest)
    if found is None:
        raise EvidenceError(
            f"{name} of manifest {digest[:12]}, which it was made from, is not in the lake",
            code="missing_input",
            file=name,
        )
    return found


def _entries(folder: Path) -> list[FileEntry]:
    from av_assets.domain.evidence.digests import sha256_file

    return [
        FileEntry(path=p.relative_to(folder).as_posix(), bytes=p.stat().st_size, sha256=sha256_file(p))
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    ]


def _differing(a: Manifest, b: Manifest) -> tuple[str, ...]:
    x, y = ({f.path: f.sha256 for f in m.files} for m in (a, b))
    return tuple(sorted(path for path in x.keys() | y.keys() if x.get(path) != y.get(path)))


def _digest(manifest: Manifest, path: str) -> str | None:
    return next((f.sha256 for f in manifest.files if f.path == path), None)


def _table(lake: Lake, manifest: Manifest, path: str) -> pa.Table:
    rows = read(lake, manifest, path)
    if rows is None:
        raise EvidenceError(f"this version has no {path}", code="missing_file", file=path)
    return rows


def _lineage(lake: Lake) -> Callable[[str, str], MadeFrom | None]:
    def of(bundle: str, digest: str) -> MadeFrom | None:
        found = lake.past_manifest(bundle, digest)
        return None if found is None else found.made_from

    return of
