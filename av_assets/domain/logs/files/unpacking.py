"""Private temporary copies of landed files: whole files that were compressed, databases to be completed.

Landed files are never written, nor anything beside them. Belongs here: making such a copy within bounds, and
its end. Does not belong here: what is in the file.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from av_assets.domain.errors import LogError, TransientError
from av_assets.domain.logs.files.magic import os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RATIO = (
    1000  # recordings shrink 2 to 50 times, of a standing scene some hundred times; a bomb 10,000 times
)
MIN_LIMIT_BYTES = 1 << 30
MAX_UNPACKED_BYTES = 1 << 38
RESERVE_BYTES = 1 << 30  # free space that is left to everybody else
_PIECE = 1 << 13  # of zstd; decodes to at most 256 MiB


class Unpacked(NamedTuple):
    """A decoded file; `whole` is False when the stream was cut or broken, `packed_bytes` its landed size."""

    path: Path
    whole: bool
    packed_bytes: int


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A folder that only this process sees used, gone at the end. Open files outlive it.

    Raises:
        TransientError: no_space, there is no room for temporary files.
    """
    try:
        folder = tempfile.mkdtemp(prefix=f"av-{prefix}-")
    except OSError as error:
        raise TransientError(f"no temporary folder: {error.strerror}", code="no_space") from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack_zstd(path: Path, folder: Path) -> Unpacked:
    """Decode a zstd file into `folder`, as far as its stream goes.

    Raises:
        LogError: the file system refused to read it; unpacked_too_large beyond MAX_RATIO.
        TransientError: no_space.
    """
    target = folder / "unpacked"
    try:
        packed = path.stat().st_size
        limit = min(MAX_UNPACKED_BYTES, max(MIN_LIMIT_BYTES, MAX_RATIO * packed))
        source = path.open("rb")
    except OSError as error:
        raise os_error(error, path) from error
    try:
        with source, target.open("wb") as out:
            whole = _copy_decoded(source, out, limit, _room(folder), path)
    except OSError as error:
        raise _no_space(folder) if error.errno == errno.ENOSPC else os_error(error, path) from error
    return Unpacked(target, whole, packed)


def copy_beside(path: Path, folder: Path, endings: tuple[str, ...]) -> Path:
    """Copy a file and those of its side files (`path` + ending) that exist.

    Raises:
        LogError: the file system refused to read.
        TransientError: no_space.
    """
    files = [path, *(path.with_name(path.name + ending) for ending in endings)]
    try:
        present = [file for file in files if file.is_file()]
        if sum(file.stat().st_size for file in present) > _room(folder):
            raise _no_space(folder)
        for file in present:
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise os_error(error, path) from error
    return folder / path.name


def _room(folder: Path) -> int:
    return shutil.disk_usage(folder).free - RESERVE_BYTES


def _no_space(folder: Path) -> TransientError:
    return TransientError(f"not enough room for temporary files in {folder.parent}", code="no_space")


def _copy_decoded(source: BinaryIO, out: BinaryIO, limit: int, room: int, path: Path) -> bool:
    """Whether the stream was whole, its last frame included."""
    import zstandard

    zstd = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    size = 0
    between_frames = True
    with suppress(zstandard.ZstdError):
        for part, between_frames in _decoded(zstd, source):  # noqa: B007 - its last value is the answer
            size += len(part)
            if size > limit:
                raise LogError(f"decodes to more than {limit} bytes", code="unpacked_too_large", file=path)
            if size > room:
                raise _no_space(Path(out.name).parent)
            out.write(part)
        return between_frames
    return False


def _decoded(zstd: Any, source: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Decoded parts, and whether a frame ends with each of them."""
    frame: Any = None
    while piece := source.read(_PIECE):
        while piece:
            frame = frame or zstd.decompressobj()
            part = frame.decompress(piece)
            piece = frame.unused_data if frame.eof else b""
            ended = bool(frame.eof)
            frame = None if ended else frame
            yield part, ended
