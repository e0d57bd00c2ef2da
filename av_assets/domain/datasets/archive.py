"""Frozen datasets as few tar files: the same files give the same bytes, on every machine.

Members keep the paths that they have in the dataset, sorted; times, owners and modes are the same for all. Readers of
WebDataset shards read them too: `00000.parquet` below `drives/<drive>/clips/` is the sample of that path.
Belongs here: which file goes into which shard, and writing and checking shards. Does not belong here: where shards are
kept (resources), what is in a dataset.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from av_assets.domain.evidence.manifest import FileEntry

SCHEMA: Final = 1
_BUFFER: Final = 1 << 20
_MODE: Final = 0o644


@dataclass(frozen=True)
class ShardPlan:
    """A tar file to be written: its name and its members in their order."""

    name: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Shard:
    """A written tar file. DVC and W&B name bytes by md5, the platform by sha256: both are taken in one pass."""

    name: str
    bytes: int
    sha256: str
    md5: str
    members: tuple[FileEntry, ...]


def plan_shards(prefix: str, files: Sequence[FileEntry], target_bytes: int) -> list[ShardPlan]:
    """Fill shards with the files in path order until the next one would not fit; a larger file is alone in one.

    Names are `<prefix>-00000.tar`, `<prefix>-00001.tar`, ...

    Raises:
        ValueError: target_bytes is not positive.
    """
    if target_bytes <= 0:
        raise ValueError("a shard has room for at least one byte")
    groups: list[list[FileEntry]] = []
    room = 0
    for file in sorted(files, key=lambda f: f.path):
        if not groups or file.bytes > room:
            groups.append([])
            room = target_bytes
        groups[-1].append(file)
        room -= file.bytes
    return [ShardPlan(f"{prefix}-{number:05}.tar", tuple(group)) for number, group in enumerate(groups)]


def write_shard(plan: ShardPlan, folder: Path, out: Path) -> Shard:
    """Write `out / plan.name` from the dataset laid out in `folder`, in bounded memory.

    Raises:
        EvidenceError: damaged_object, a file is missing or is not what its digest says.
    """
    with (out / plan.name).open("wb") as target:
        digesting = _Digesting(target)
        with tarfile.open(
            fileobj=cast("Any", digesting), mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER
        ) as tar:
            for entry in plan.files:
                _add(tar, entry, folder / entry.path)
    return Shard(
        plan.name,
        digesting.bytes,
        digesting.sha256.hexdigest(),
        digesting.md5.hexdigest(),
        plan.files,
    )


def archive_json(dataset: str, version: str, week: str, shards: Sequence[Shard]) -> dict[str, Any]:
    """The content of `archive.json`: which shard holds which file, and every digest."""
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "version": version,
        "week": week,
        "bytes": sum(s.bytes for s in shards),
        "files": sum(len(s.members) for s in shards),
        "shards": [{**asdict(s), "members": [m.model_dump(mode="json") for m in s.members]} for s in shards],
    }


def pulled_back(shard: Mapping[str, Any], folder: Path) -> bool:
    """Whether `folder` holds the shard (a row of `archive.json`) as it was written."""
    path = folder / str(shard["name"])
    return path.is_file() and sha256_file(path) == str(shard["sha256"])


def _add(tar: tarfile.TarFile, entry: FileEntry, path: Path) -> None:
    info = tarfile.TarInfo(entry.path)
    info.size, info.mode = entry.bytes, _MODE  # mtime, uid and gid are 0 and names are empty by default
    try:
        with path.open("rb") as file:
            source = _Read(file)
            tar.addfile(info, cast("Any", source))
            whole = not file.read(1) and source.sha256.hexdigest() == entry.sha256
    except OSError as error:
        raise _damaged(entry, f"cannot be read whole ({error})") from error
    if not whole:
        raise _damaged(entry, "differs from its digest")


def _damaged(entry: FileEntry, how: str) -> EvidenceError:
    return EvidenceError(f"a file of the dataset {how}", code="damaged_object", file=entry.path)


class _Read:
    """A file that is digested as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


class _Digesting:
    """A file that is digested as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.bytes = file, 0
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.md5.update(data)
        self.bytes += len(data)
        return self._file.write(data)
