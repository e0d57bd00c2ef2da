"""Where shards come from: a file of this machine for as long as somebody reads it.

Belongs here: the name of a shard, the protocol of sources, and the folder as a source. Does not belong here: caches and
buckets (`resources`), what is in a shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from av_assets.domain.errors import DatasetError
from av_assets.domain.evidence.digests import sha256_file

_REMEDY = "fetch the dataset again; `av datasets verify` names every file that is missing or damaged"


@dataclass(frozen=True)
class ShardRef:
    """One shard.

    Attributes:
        sha256: of its bytes; empty where nobody noted it.
        bytes: its size; 0 where nobody noted it.
        path: relative to the folder of the dataset, or a URI.
    """

    sha256: str
    bytes: int
    path: str


class ShardSource(Protocol):
    """Gives shards as local files; it is pickled into worker processes."""

    def local(self, ref: ShardRef) -> AbstractContextManager[Path]:
        """The shard's file, which stays as long as the context is open.

        Raises:
            DatasetError: missing_shard, shard_changed.
            TransientError: it could not be fetched now.
        """
        ...


@dataclass
class FolderSource:
    """A dataset in a folder of this machine.

    Attributes:
        verify: "size" compares sizes; "sha256" reads every shard once per process before its first use.
    """

    root: Path
    verify: Literal["size", "sha256"] = "size"
    _checked: dict[str, Path] = field(default_factory=dict, repr=False)

    @contextmanager
    def local(self, ref: ShardRef) -> Iterator[Path]:
        path = self._checked.get(ref.path)
        if path is None:
            path = self.root / ref.path
            self._check(path, ref)
            self._checked[ref.path] = path
        yield path

    def _check(self, path: Path, ref: ShardRef) -> None:
        inside = PurePosixPath(ref.path)
        if inside.is_absolute() or ".." in inside.parts:
            raise DatasetError("the shard lies outside of the dataset", code="foreign_shard", file=ref.path)
        if not path.is_file():
            raise DatasetError("the shard is not there", code="missing_shard", file=ref.path, remedy=_REMEDY)
        size = path.stat().st_size
        if ref.bytes and size != ref.bytes:
            raise DatasetError(
                f"the shard has {size} bytes instead of {ref.bytes}",
                code="shard_changed",
                file=ref.path,
                remedy=_REMEDY,
            )
        if self.verify == "sha256" and ref.sha256 and sha256_file(path) != ref.sha256:
            raise DatasetError(
                "the bytes of the shard are not those of its digest",
                code="shard_changed",
                file=ref.path,
                remedy=_REMEDY,
            )
