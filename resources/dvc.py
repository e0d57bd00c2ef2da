"""Archives of datasets in a DVC remote, a folder or a bucket: pushed, pulled back, forgotten.

DVC runs in an environment of its own (tool_environments) and in a folder that is gone afterwards: what lasts is the
remote, and the pointer files that `push` gives, by which anybody's DVC finds the shards again. Layout of the remote:
    files/md5/ab/cdef...        bytes by their md5, as DVC keeps them
    archives/<version>.json     which of them a version of a dataset has; written before the first byte is pushed
Belongs here: running DVC, and what it cannot do by itself: taking bytes out of a remote. Does not belong here: making
shards (`domain.datasets.archive`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg
import yaml

from av_assets.domain.errors import AvError, EvidenceError, TransientError
from av_assets.domain.evidence.digests import canonical_json
from resources.environment import environment
from resources.objects import BucketStore, FolderStore, open_store
from resources.tool_environments import tool, tool_variables

POINTER: Final = ".dvc"
TIMEOUT_S: Final = 3600
_MD5 = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Archives(dg.ConfigurableResource["Archives"]):
    """A DVC remote.

    Attributes:
        remote: a folder, or `s3://bucket/prefix`.
        endpoint: S3 endpoint, for stores that are not AWS.
    """

    remote: str
    endpoint: str | None = None

    def push(
        self, dataset: str, version: str, shards: Sequence[Path], md5s: Sequence[str]
    ) -> dict[str, bytes]:
        """Move the shards (files of one folder, which DVC works in) to the remote; gives their pointer files by name.

        Raises:
            TransientError: tool_not_installed; dvc_failed.
            EvidenceError: archive_differs, DVC has read other bytes than `md5s` say.
        """
        index = {"dataset": dataset, "version": version, "md5": sorted(set(md5s))}
        self._store.put(_index(version), canonical_json(index))
        folder = shards[0].parent
        self._make_repository(folder)
        names = [shard.name for shard in shards]
        self._dvc(folder, "add", "--quiet", *names)
        pointers = {f"{name}{POINTER}": (folder / f"{name}{POINTER}").read_bytes() for name in names}
        for (name, data), md5 in zip(pointers.items(), md5s, strict=True):
            if read_pointer(name, data) != md5:
                raise _differs(name)
        self._dvc(folder, "push", "--quiet")
        return pointers

    def pull(self, pointers: Mapping[str, bytes], target: Path) -> list[Path]:
        """Bring the shards of these pointer files into `target`, an empty folder, by DVC alone.

        Raises:
            EvidenceError: bad_pointer; archive_missing, the remote has not got the bytes.
            TransientError: tool_not_installed; dvc_failed.
        """
        md5s = {name: read_pointer(name, data) for name, data in pointers.items()}
        for name, md5 in md5s.items():
            if not self.holds([md5]):
                raise EvidenceError(
                    "the remote does not hold this archive",
                    code="archive_missing",
                    file=name,
                    remedy="materialize dataset_archives again",
                )
        target.mkdir(parents=True, exist_ok=True)
        with _folder(target) as folder:
            self._make_repository(folder)
            for name, data in pointers.items():
                (folder / name).write_bytes(data)
            self._dvc(folder, "pull", "--quiet", *sorted(pointers))
            pulled = [name.removesuffix(POINTER) for name in pointers]
            for name in pulled:
                (folder / name).replace(target / name)
        return [target / name for name in pulled]

    def holds(self, md5s: Iterable[str]) -> bool:
        """Whether the remote has all these bytes, by their names alone."""
        return all(self._store.size(_object(md5)) is not None for md5 in md5s)

    def forget(self, version: str) -> list[str]:
        """Take a version out of the remote; bytes that other versions have as well stay. Gives the removed keys.

        A version that was never pushed, or was forgotten before, has none.
        """
        if not _VERSION.fullmatch(version):
            raise AvError(
                f"{version[:80]!r} is no version", code="bad_version", remedy="give all 64 characters"
            )
        mine = set(self._index_of(version))
        if not mine:
            return []
        keys = [key for key in self._store.keys("archives/") if key.endswith(".json")]
        others = {Path(key).stem for key in keys} - {version}
        kept = {md5 for other in others for md5 in self._index_of(other)}
        removed = self.purge(mine - kept)
        self._store.delete(_index(version))  # last: what dies before it can be done again
        return [*removed, _index(version)]

    def purge(self, digests: Iterable[str]) -> list[str]:
        """Take bytes out of the remote by their md5, whoever has them; gives the removed keys.

        Raises:
            AvError: bad_digest.
        """
        removed = []
        for md5 in sorted(set(digests)):
            if not _MD5.fullmatch(md5):
                raise AvError(f"{md5[:80]!r} is no md5", code="bad_digest", remedy="see archive.json")
            if self.holds([md5]):
                self._store.delete(_object(md5))
                removed.append(_object(md5))
        return removed

    def uri(self, md5: str) -> str:
        """Where the remote keeps these bytes: `file://...` or `s3://...`."""
        return f"{self._root}/{_object(md5)}"

    @property
    def _root(self) -> str:
        bucket = self.remote.startswith("s3://")
        return self.remote.rstrip("/") if bucket else Path(self.remote).absolute().as_uri()

    @property
    def _store(self) -> FolderStore | BucketStore:
        return open_store(self._root, self.endpoint)

    def _index_of(self, version: str) -> list[str]:
        data = self._store.get(_index(version))
        try:
            return [] if data is None else [str(md5) for md5 in json.loads(data)["md5"]]
        except (ValueError, KeyError, TypeError) as error:
            raise EvidenceError("not an index of archives", code="bad_index", file=_index(version)) from error

    def _make_repository(self, folder: Path) -> None:
        """What `dvc init --no-scm`, `dvc remote add` and `dvc remote modify` leave, without their three seconds."""
        remote = self.remote if self.remote.startswith("s3://") else str(Path(self.remote).absolute())
        lines = ["[core]", "no_scm = True", "analytics = false", "check_update = false", "remote = archives"]
        lines += ["[cache]", 'type = "hardlink,copy"', "['remote \"archives\"']", f"url = {_quoted(remote)}"]
        if self.endpoint and remote.startswith("s3://"):
            lines.append(f"endpointurl = {_quoted(self.endpoint)}")
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("\n".join(lines) + "\n", "utf-8")

    def _dvc(self, folder: Path, *arguments: str) -> None:
        own = str(folder / ".dvc" / "own")  # neither settings nor caches of whoever is logged in
        variables = tool_variables(
            DVC_NO_ANALYTICS="1",
            DVC_GLOBAL_CONFIG_DIR=own,
            DVC_SYSTEM_CONFIG_DIR=own,
            DVC_SITE_CACHE_DIR=own,
        )
        command = [str(tool("dvc", "dvc")), *arguments]
        try:
            subprocess.run(
                command,
                cwd=folder,
                env=variables,
                check=True,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.CalledProcessError as error:
            said = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
            reason = said[0].removeprefix("ERROR: ") if said else f"it ended with {error.returncode}"
            raise _failed(arguments[0], reason) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _failed(arguments[0], type(error).__name__) from error


def installed_archives() -> Archives:
    """The remote of this installation."""
    here = environment()
    return Archives(remote=here.dvc_remote, endpoint=here.s3_endpoint)


def forget(version: str) -> list[str]:
    """`Archives.forget` at the remote of this installation."""
    return installed_archives().forget(version)


def read_pointer(name: str, data: bytes) -> str:
    """The md5 that the pointer file `<shard>.dvc` names.

    Raises:
        EvidenceError: bad_pointer.
    """
    try:
        [out] = yaml.safe_load(data)["outs"]
        md5, path = str(out["md5"]), str(out["path"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise EvidenceError("not a pointer file of DVC", code="bad_pointer", file=name) from error
    if not _MD5.fullmatch(md5) or not _PLAIN.fullmatch(path) or f"{path}{POINTER}" != name:
        raise EvidenceError("the pointer file points elsewhere", code="bad_pointer", file=name)
    return md5


@contextmanager
def _folder(beside: Path) -> Iterator[Path]:
    """An empty folder on the same disk, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=".dvc-", dir=beside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _object(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _index(version: str) -> str:
    return f"archives/{version}.json"


def _quoted(value: str) -> str:
    if any(c in value for c in '"\n\r'):
        raise AvError("the remote's name holds quotes", code="bad_remote", remedy="set AV_DVC_REMOTE")
    return f'"{value}"'


def _failed(command: str, reason: str) -> TransientError:
    return TransientError(
        f"dvc {command} failed: {reason}",
        code="dvc_failed",
        remedy="check AV_DVC_REMOTE and its credentials",
    )


def _differs(name: str) -> EvidenceError:
    return EvidenceError(
        "what DVC holds is not what was written",
        code="archive_differs",
        file=name,
        remedy="materialize dataset_archives again",
    )
