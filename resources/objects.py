"""Where bytes lie: a folder or an S3 bucket behind the same six verbs.

Belongs here: durable puts, conditional creates, reads and listings by key. Does not belong here: what the keys mean.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote, urlparse

from av_assets.domain.errors import AvError, EvidenceError, TransientError
from resources.object_patience import PATIENCE, Patience

if TYPE_CHECKING:
    from obstore.store import S3Store


class Entry(NamedTuple):
    """One object of a listing; `version` changes when its bytes do."""

    key: str
    bytes: int
    modified_s: float
    version: str


class ObjectStore(Protocol):
    """Keys are relative POSIX paths. A put is seen whole or not at all."""

    def get(self, key: str) -> bytes | None: ...
    def size(self, key: str) -> int | None: ...
    def put(self, key: str, data: bytes, *, create: bool = False) -> bool: ...
    def put_file(self, key: str, path: Path, *, consume: bool) -> None: ...
    def fetch(self, key: str, target: Path) -> None: ...
    def delete(self, key: str) -> None: ...
    def keys(self, prefix: str) -> Iterator[str]: ...


class FolderStore:
    """Objects are files under `root`; every put is a temporary file, fsync and rename."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def size(self, key: str) -> int | None:
        try:
            return (self.root / key).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes, *, create: bool = False) -> bool:
        """Write; with `create`, only where there is nothing yet. Returns whether this call wrote it."""
        target = self._parent(key)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if create:
                try:
                    os.link(temporary, target)  # atomic, and fails where the target exists
                except FileExistsError:
                    return False
            else:
                temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise _busy(error, target) from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def put_file(self, key: str, path: Path, *, consume: bool) -> None:
        """Store the file's bytes; `consume` moves it where the file system allows."""
        target = self._parent(key)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            if path.is_symlink():
                _linked(path, temporary)
                if consume:
                    path.unlink()
            elif not consume or not _renamed(path, temporary):
                shutil.copyfile(path, temporary)
            temporary.chmod(0o444)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _busy(error, target) from error

    def fetch(self, key: str, target: Path) -> None:
        """A local file with the object's bytes: here a symbolic link, no copy."""
        source = self.root / key
        if not source.is_file():
            raise EvidenceError("object is missing from the lake", code="missing_object", file=key)
        target.symlink_to(source)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self.root / prefix
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.root).as_posix()

    def _parent(self, key: str) -> Path:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


class BucketStore:
    """Objects are keys of an S3 bucket; conditional creates are the server's own."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None, patience: Patience = PATIENCE) -> None:
        self._bucket, self._prefix, self._endpoint, self._patience = bucket, prefix, endpoint, patience
        self._opened: S3Store | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Sent to other processes unopened."""
        return BucketStore, (self._bucket, self._prefix, self._endpoint, self._patience)

    @property
    def _store(self) -> S3Store:
        if self._opened is None:
            from obstore.store import S3Store

            options = self._patience.options()
            if self._endpoint:
                options |= {"endpoint": self._endpoint}
                options["client_options"] |= {"allow_http": True}
            self._opened = S3Store(self._bucket, prefix=self._prefix or None, **options)
        return self._opened

    def get(self, key: str) -> bytes | None:
        with _bucket_errors(key):
            try:
                return bytes(self._store.get(key).bytes())
            except FileNotFoundError:
                return None

    def size(self, key: str) -> int | None:
        with _bucket_errors(key):
            try:
                return int(self._store.head(key)["size"])
            except FileNotFoundError:
                return None

    def put(self, key: str, data: bytes, *, create: bool = False) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with _bucket_errors(key):
            try:
                self._store.put(key, data, mode="create" if create else "overwrite")
            except AlreadyExistsError:
                return False
        return True

    def put_file(self, key: str, path: Path, *, consume: bool) -> None:
        with _bucket_errors(key):
            self._store.put(key, path)
        if consume:
            path.unlink()

    def fetch(self, key: str, target: Path, *, expect_bytes: int | None = None) -> None:
        """A local file with the object's bytes.

        Args:
            expect_bytes: an object of another size is refused before its bytes arrive.

        Raises:
            EvidenceError: missing_object, damaged_object. TransientError: store_failed, disk_full, write_failed.
        """
        try:
            with target.open("wb") as file:
                for chunk in self.chunks(key, expect_bytes=expect_bytes):
                    file.write(chunk)
        except OSError as error:
            raise _busy(error, target) from error
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def delete(self, key: str) -> None:
        with _bucket_errors(key), contextlib.suppress(FileNotFoundError):
            self._store.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        yield from (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object under `prefix`, page after page until the server has no more."""
        with _bucket_errors(prefix):
            for page in self._store.list(prefix or None):
                for item in sorted(page, key=lambda item: item["path"]):
                    version = item["e_tag"] or f"{item['size']}-{item['last_modified'].timestamp()}"
                    yield Entry(item["path"], item["size"], item["last_modified"].timestamp(), version)

    def chunks(self, key: str, *, expect_bytes: int | None = None) -> Iterator[bytes]:
        """The object's bytes as they arrive.

        Raises:
            EvidenceError: missing_object; damaged_object, it has not the bytes that are expected.
        """
        with _bucket_errors(key):
            try:
                found = self._store.get(key)
            except FileNotFoundError as error:
                raise EvidenceError("no such object", code="missing_object", file=key) from error
            if expect_bytes is not None and found.meta["size"] != expect_bytes:
                reason = f"object has {found.meta['size']} bytes, not {expect_bytes}"
                raise EvidenceError(reason, code="damaged_object", file=key)
            yield from (bytes(chunk) for chunk in found.stream(min_chunk_size=8 << 20))


@contextlib.contextmanager
def _bucket_errors(key: str) -> Iterator[None]:
    """obstore has retried already: what reaches us here lasted, and the next run may still find it gone."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError as error:
        raise AvError(
            "there is no such bucket", code="missing_bucket", file=key, remedy="set AV_LAKE"
        ) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise AvError(
            "the bucket refuses these credentials",
            code="store_refused",
            file=key,
            remedy="grant access to it",
        ) from error
    except BaseError as error:
        raise TransientError("the bucket does not answer", code="store_failed", file=key) from error


def open_store(
    uri: str, endpoint: str | None = None, patience: Patience = PATIENCE
) -> FolderStore | BucketStore:
    """The store that `file:///folder` or `s3://bucket/prefix` names."""
    parsed = urlparse(uri)
    if parsed.scheme == "s3":
        return BucketStore(parsed.netloc, parsed.path.strip("/"), endpoint, patience)
    if parsed.scheme in ("file", ""):
        return FolderStore(Path(unquote(parsed.path)))
    raise AvError(f"a lake is file:// or s3://, not {uri}", code="bad_lake_uri", remedy="set AV_LAKE")


def _sync_folder(folder: Path) -> None:
    """A rename is durable only once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _linked(path: Path, target: Path) -> None:
    """The bytes behind a link: never the link itself, whose target may go."""
    try:
        os.link(path.resolve(), target)
    except OSError:  # another file system
        shutil.copyfile(path, target)


def _renamed(path: Path, target: Path) -> bool:
    with contextlib.suppress(OSError):  # another file system: copy instead
        path.rename(target)
        return True
    return False


def _busy(error: OSError, target: Path) -> TransientError:
    code = "disk_full" if error.errno == 28 else "write_failed"
    return TransientError(
        f"cannot write: {error.strerror}", code=code, file=target, remedy="free space and rerun"
    )
