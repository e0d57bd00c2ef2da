"""What a file is: told by its first bytes, never by its name.

Belongs here: magic bytes, the typed twins of file system errors. Does not belong here: the logs of a folder
(`formats`), reading a log.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Literal, NamedTuple

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.compression import is_zstd, zstd_prefix
from av_assets.domain.logs.files.plugins import reader_for

if TYPE_CHECKING:
    from pathlib import Path

LogFormat = Literal["mcap", "ros1", "sqlite3", "video", "plugin"]

MCAP_MAGIC = b"\x89MCAP0\r\n"
ROS1_MAGIC = b"#ROSBAG V2.0\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
MP4_MAGIC = b"ftyp"  # behind the length of the first box
HEAD_BYTES = 4096
ZSTD_HEAD_BYTES = 1 << 18  # a zstd block holds at most 128 KiB, and gives nothing before it is whole
SQLITE_SIDE_FILES = ("-wal", "-journal")  # changes that sqlite has not brought into the database yet
# sqlite3 decodes its own error messages, which quote damaged bytes, and so may fail at telling of a failure.
SQLITE_ERRORS = (sqlite3.Error, OverflowError, UnicodeDecodeError)


class LogKind(NamedTuple):
    """What a file is.

    `file_codec` is set where the whole file is compressed and `format` is that of the file inside; `reader`
    names the plug-in that reads it, where `format` is plugin.
    """

    format: LogFormat
    file_codec: str = ""
    reader: str = ""


def sniff(path: Path) -> LogKind | None:
    """The kind of a file by its magic bytes; None when it is no log.

    The built-in formats come first: a plug-in is asked only about what they do not know.

    Raises:
        LogError: not_found, empty_log, permission_denied or unreadable_file; cut_stream when a compressed
            file ends before it gives a byte; reader_failed when a plug-in fails at looking.
    """
    head = _head(path, HEAD_BYTES)
    if is_zstd(head):
        inside = zstd_prefix(_head(path, ZSTD_HEAD_BYTES), HEAD_BYTES)
        if not inside:
            raise LogError("the zstd stream ends before its first block", code="cut_stream", file=path)
        if kind := _built_in(inside):
            return LogKind(kind, "zstd")
    elif kind := _built_in(head):
        return LogKind(kind) if kind != "sqlite3" or _has_messages(path) else None
    if head[4:8] == MP4_MAGIC:
        return LogKind("video")
    reader = reader_for(head, path)
    return LogKind("plugin", reader=reader) if reader else None


def _built_in(head: bytes) -> LogFormat | None:
    if head.startswith(MCAP_MAGIC):
        return "mcap"
    if head.startswith(ROS1_MAGIC):
        return "ros1"
    return "sqlite3" if head.startswith(SQLITE_MAGIC) else None


def _head(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(size)
    except OSError as error:
        raise os_error(error, path) from error
    if not head:
        raise LogError("the file is empty", code="empty_log", file=path)
    return head


def _has_messages(path: Path) -> bool:
    """A database that cannot be asked counts as a log: its damage is told, its kind not doubted."""
    try:
        with closing(sqlite3.connect(sqlite_uri(path), uri=True)) as db:
            db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            rows = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchmany(1000)
    except SQLITE_ERRORS:
        return True
    # Without any table it may be a recording whose first transaction is still in the file beside it.
    beside = any(path.with_name(path.name + ending).exists() for ending in SQLITE_SIDE_FILES)
    return {("messages",), ("topics",)} <= set(rows) or (beside and not rows)


def sqlite_uri(path: Path) -> str:
    """Read only and immutable: opening a landed file never writes beside it."""
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


def os_error(error: OSError, path: Path) -> LogError:
    """The typed twin of an error of the operating system."""
    codes = {
        FileNotFoundError: "not_found",
        NotADirectoryError: "not_found",
        PermissionError: "permission_denied",
    }
    reason = error.strerror or type(error).__name__
    return LogError(reason, code=codes.get(type(error), "unreadable_file"), file=path)
