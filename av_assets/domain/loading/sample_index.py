"""Which samples there are: the shard and row of each, and what it is called.

Belongs here: making an index of a frozen dataset or of shards. Does not belong here: order, reading pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from av_assets.domain.errors import DatasetError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_file, sha256_json
from av_assets.domain.loading.sources import ShardRef, ShardSource

INDEX_FILE: Final = "index.parquet"
_REMEDY: Final = "freeze the dataset again, or fetch it again"
_COLUMNS: Final = ("drive", "split", "clip_id", "ref_ns", "camera", "shard", "shard_sha256", "row")


class SampleKey(NamedTuple):
    """What a sample is called; ref_ns is the time of its row."""

    drive: str
    clip_id: str
    ref_ns: int


class _Row(NamedTuple):
    shard: int
    row: int
    key: SampleKey


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """The samples of a dataset, in a fixed order; 24 bytes a sample.

    Attributes:
        shards: what `shard` counts.
        shard, row: (n,) int32 place of each sample.
        ref_ns: (n,) int64.
        drive, clip: (n,) int32 numbers in `drives` and `clips`.
    """

    shards: tuple[ShardRef, ...]
    drives: tuple[str, ...]
    clips: tuple[str, ...]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    ref_ns: NDArray[np.int64]
    drive: NDArray[np.int32]
    clip: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.row)

    def key(self, position: int) -> SampleKey:
        drive, clip = self.drives[self.drive[position]], self.clips[self.clip[position]]
        return SampleKey(drive, clip, int(self.ref_ns[position]))

    def place(self, position: int) -> tuple[ShardRef, int]:
        return self.shards[self.shard[position]], int(self.row[position])

    def name(self, position: int) -> str:
        """For people: the shard and the row in it."""
        ref, row = self.place(position)
        return f"{ref.path} row {row}"

    @cached_property
    def digest(self) -> str:
        """Of everything that is in it: the same digest is the same samples, in the same order."""
        columns = (self.shard, self.row, self.ref_ns, self.drive, self.clip)
        return sha256_json(
            {
                "shards": [[ref.sha256, ref.path] for ref in self.shards],
                "names": [list(self.drives), list(self.clips)],
                "columns": [sha256_bytes(np.ascontiguousarray(column).tobytes()) for column in columns],
            }
        )

    def subset(self, positions: Sequence[int] | NDArray[np.int64]) -> SampleIndex:
        """Only these samples, in this order, of the same shards."""
        chosen = np.asarray(positions, np.int64)
        columns = [getattr(self, name)[chosen] for name in ("shard", "row", "ref_ns", "drive", "clip")]
        return SampleIndex(self.shards, self.drives, self.clips, *columns)

    @classmethod
    def of_golden(cls, root: Path, split: str | None, camera: str | None = None) -> SampleIndex:
        """The labelled frames of a dataset folder, in the order of its index; of one split, or of all.

        Args:
            camera: role of the labelled camera; the dataset's own where none is given.

        Raises:
            DatasetError: bad_dataset_json, no_labels, no_such_row; missing_shard, where a row must be looked up.
        """
        from av_assets.domain.models.golden import read_spec

        spec = read_spec(root)
        camera = camera or spec.camera
        chosen = {m.drive for m in spec.members if split in (None, m.split)}
        if (root / INDEX_FILE).is_file():
            rows = _index_rows(root / INDEX_FILE, camera, chosen)
        else:
            rows = [row for drive in sorted(chosen) for row in _labelled_rows(root, drive, spec)]
        return _build([_with_row(root, row) for row in rows], lambda path: _size(root / path))

    @classmethod
    def of_shards(cls, refs: Sequence[ShardRef], source: ShardSource, every: int = 1) -> SampleIndex:
        """Every n-th row of these shards.

        Raises:
            DatasetError: bad_shard, or what the source raises.
        """
        rows: list[_Row] = []
        for number, ref in enumerate(refs):
            with source.local(ref) as path:
                drive, clips, stamps = _stamps(path, ref.path)
            rows += [
                _Row(number, row, SampleKey(drive, clips[row], stamps[row]))
                for row in range(0, len(stamps), every)
            ]
        return _from_rows(tuple(refs), rows)

    @classmethod
    def joined(cls, parts: Sequence[SampleIndex]) -> SampleIndex:
        """The samples of all parts, in their order: of indexes of single shards what `of_shards` gives of them all."""
        shards: list[ShardRef] = []
        rows: list[_Row] = []
        for part in parts:
            rows += [
                _Row(len(shards) + int(part.shard[n]), int(part.row[n]), part.key(n))
                for n in range(len(part))
            ]
            shards += part.shards
        return _from_rows(tuple(shards), rows)


def _index_rows(path: Path, camera: str, drives: set[str]) -> list[dict[str, Any]]:
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"no readable index: {error}", code="no_labels", file=path) from error
    return [row for row in table.to_pylist() if row["camera"] == camera and row["drive"] in drives]


def _labelled_rows(root: Path, drive: str, spec: Any) -> list[dict[str, Any]]:
    """As an index would have them; their shard is found by clip id."""
    from av_assets.domain.models.golden import labelled_frames

    rows, frames = [], labelled_frames(root, drive, spec)
    for path in sorted((root / "drives" / drive / "clips").glob("*.parquet")):
        name = path.relative_to(root).as_posix()
        _, clips, stamps = _stamps(path, name)
        rows += [
            {"drive": drive, "clip_id": clip, "ref_ns": ref_ns, "shard": name,
             "shard_sha256": sha256_file(path), "row": row}
            for row, (clip, ref_ns) in enumerate(zip(clips, stamps, strict=True))
            if (clip, ref_ns) in frames
        ]  # fmt: skip
    return rows


def _with_row(root: Path, row: dict[str, Any]) -> dict[str, Any]:
    """An index that does not say the row is asked for the time instead."""
    if row["row"] is not None:
        return row
    _, clips, stamps = _stamps(root / row["shard"], row["shard"])
    for number, found in enumerate(zip(clips, stamps, strict=True)):
        if found == (row["clip_id"], row["ref_ns"]):
            return row | {"row": number}
    raise DatasetError(
        f"no row at {row['ref_ns']}",
        code="no_such_row",
        file=row["shard"],
        drive=row["drive"],
        remedy=_REMEDY,
    )


def _stamps(path: Path, name: str) -> tuple[str, list[str], list[int]]:
    """Drive, and clip_id and ref_ns of each row of a shard."""
    try:
        with pq.ParquetFile(path) as source:
            table = source.read(["clip_id", "ref_ns"], use_threads=False)
            drive = (source.schema_arrow.metadata or {}).get(b"drive", b"").decode()
    except FileNotFoundError as error:
        raise DatasetError(
            "the shard is not there", code="missing_shard", file=name, remedy=_REMEDY
        ) from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(f"the shard cannot be read: {error}", code="bad_shard", file=name) from error
    clips, stamps = table["clip_id"].to_pylist(), table["ref_ns"].to_pylist()
    if None in clips or None in stamps:
        raise DatasetError("a row has no clip or no time", code="bad_shard", file=name)
    return drive or (clips[0].rsplit("/", 1)[0] if clips else ""), clips, stamps


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _build(rows: Iterable[dict[str, Any]], size: Any) -> SampleIndex:
    refs: dict[str, ShardRef] = {}
    numbers: dict[str, int] = {}
    found = []
    for row in rows:
        name = row["shard"]
        if name not in refs:
            numbers[name] = len(refs)
            refs[name] = ShardRef(row["shard_sha256"], size(name), name)
        key = SampleKey(row["drive"], row["clip_id"], row["ref_ns"])
        found.append(_Row(numbers[name], row["row"], key))
    return _from_rows(tuple(refs.values()), found)


def _from_rows(shards: tuple[ShardRef, ...], rows: Sequence[_Row]) -> SampleIndex:
    drives = {name: n for n, name in enumerate(sorted({row.key.drive for row in rows}))}
    clips = {name: n for n, name in enumerate(sorted({row.key.clip_id for row in rows}))}
    return SampleIndex(
        shards,
        tuple(drives),
        tuple(clips),
        np.array([row.shard for row in rows], np.int32),
        np.array([row.row for row in rows], np.int32),
        np.array([row.key.ref_ns for row in rows], np.int64),
        np.array([drives[row.key.drive] for row in rows], np.int32),
        np.array([clips[row.key.clip_id] for row in rows], np.int32),
    )
