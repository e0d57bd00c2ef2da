"""The manifest: the one idea that idempotence, resume, caching, reproduction and evidence follow from.

A bundle is a set of files plus its manifest. Two digests name it:
  content  sha256 over asset, partition, schema and the sorted files: what a reader gets. It is Dagster's data
           version, so that a rerun which makes the same bytes makes nothing downstream stale.
  digest   sha256 over the whole manifest including `made_from`: what the evidence chain refers to.
Neither holds times, hosts or run ids, so an interrupted and resumed run ends in the same digests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import canonical_json, sha256_bytes, sha256_json

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_SAFE_PATH = re.compile(r"^[^\x00-\x1f\\]+$")


def safe_relative_path(path: str) -> str:
    """`path` itself if it stays inside its bundle.

    Raises:
        ValueError: absolute, empty, with `..`, with control characters or backslashes.
    """
    pure = PurePosixPath(path)
    if (
        not _SAFE_PATH.fullmatch(path)
        or not pure.parts
        or pure.is_absolute()
        or ".." in pure.parts
        or str(pure) != path
    ):
        raise ValueError(f"unsafe path in manifest: {path!r}")
    return path


class FileEntry(BaseModel):
    """One file of a bundle; the bytes live under their sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256

    _path_is_safe = field_validator("path")(safe_relative_path)


class MadeFrom(BaseModel):
    """What a bundle was made from: enough to make it again, and to know when to."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    inputs: dict[str, str] = Field(default_factory=dict, description="asset/partition -> manifest digest")
    rows: dict[str, Sha256] = Field(
        default_factory=dict, description="table -> digest of the rows that were read"
    )
    code_version: str = ""
    policies: dict[str, Sha256] = Field(default_factory=dict, description="policy name -> digest")
    environment: str = Field(default="", description="digest of the locked environment")


class Manifest(BaseModel):
    """A finished bundle. `note` says why it is empty or partial, where it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    asset: str
    partition: str
    schema_version: int = 1
    files: tuple[FileEntry, ...] = ()
    note: str = ""
    made_from: MadeFrom = Field(default_factory=MadeFrom)

    @field_validator("files")
    @classmethod
    def _sorted_and_unique(cls, files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
        paths = [f.path for f in files]
        if len(set(paths)) != len(paths):
            raise ValueError("a path appears twice in the manifest")
        return tuple(sorted(files, key=lambda f: f.path))

    @cached_property
    def content(self) -> str:
        return sha256_json(self.model_dump(mode="json", exclude={"made_from"}))

    @cached_property
    def digest(self) -> str:
        return sha256_bytes(self.to_json())

    @property
    def size_bytes(self) -> int:
        return total_bytes(self.files)

    def holds(self, path: str) -> bool:
        return any(f.path == path for f in self.files)

    def entry(self, path: str) -> FileEntry:
        """The file at `path`.

        Raises:
            EvidenceError: the bundle has no such file.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise EvidenceError(
            f"{self.asset}/{self.partition} holds no {path}",
            code="missing_file",
            file=path,
            drive=self.partition,
        )

    def matching(self, *patterns: str) -> tuple[FileEntry, ...]:
        """Files whose path matches any of the glob patterns, in path order."""
        return tuple(f for f in self.files if any(PurePosixPath(f.path).match(p) for p in patterns))

    def to_json(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, data: bytes, source: str) -> Manifest:
        """Parse, and refuse what is not a manifest.

        Raises:
            EvidenceError: torn or foreign JSON.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise EvidenceError("not a manifest", code="bad_manifest", file=source) from error


def bundle_name(asset: str, partition: str) -> str:
    return f"{asset}/{partition}"


def total_bytes(files: Iterable[FileEntry]) -> int:
    return sum(f.bytes for f in files)
