"""Opening rosbag2 databases without ever writing them, the changes that were left beside them included.

A recorder that was killed leaves a rollback journal (`-journal`) or a write-ahead log (`-wal`). Without them
the database lacks committed messages or holds half a transaction, so both are brought in as sqlite does it,
on a private copy.
Belongs here: connections. Does not belong here: topics and messages (`sqlite_log`).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.magic import SQLITE_ERRORS, SQLITE_SIDE_FILES, os_error, sqlite_uri
from av_assets.domain.logs.files.unpacking import copy_beside, private_folder

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import Damage

_HEADER_BYTES = 100
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # a finished journal that is kept has zeros here


def open_database(path: Path, damage: Damage) -> sqlite3.Connection:
    """A read-only connection to the database as sqlite itself would see it.

    Raises:
        LogError: the file system refused.
        TransientError: no_space for the private copy that changes beside the database need.
    """
    try:
        beside = [path.with_name(path.name + ending) for ending in SQLITE_SIDE_FILES]
        hot = [file.name for file in beside if _is_hot(file)]
    except OSError as error:
        raise os_error(error, path) from error
    if not hot:
        return _of_its_length(path, damage)
    with private_folder("db3") as folder:
        copy = copy_beside(path, folder, SQLITE_SIDE_FILES)
        before = _messages(path)
        try:
            _replay(copy)
            after = _messages(copy)
        except SQLITE_ERRORS as error:
            damage.note("hot_journal", f"{hot[0]} cannot be brought into the database: {error}")
            return _connect(path)
        damage.note("hot_journal", f"{hot[0]} was brought in on a copy: {before} messages became {after}")
        return _connect(copy)


def _of_its_length(path: Path, damage: Damage) -> sqlite3.Connection:
    """A database that was cut is read as far as its whole pages go.

    sqlite fills the missing part of a torn page with zeros, which would pass for the end of a message.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as error:
        raise os_error(error, path) from error
    page_bytes, stated = _pages(head)
    size = damage.bytes_total
    missing, torn = page_bytes * stated - size, size % page_bytes
    if missing <= 0 and not torn:
        return _connect(path)
    damage.note("cut_record", f"the database lacks its last {max(missing, page_bytes - torn)} bytes")
    if not torn:
        return _connect(path, cut=True)
    with private_folder("db3") as folder:
        copy = copy_beside(path, folder, ())
        os.truncate(copy, size - torn)
        return _connect(copy, cut=True)


def _pages(head: bytes) -> tuple[int, int]:
    """Bytes of a page and number of pages by the header; 0 pages where it does not keep their number."""
    page_bytes = int.from_bytes(head[16:18], "big")
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    if len(head) < _HEADER_BYTES or page_bytes < 512 or page_bytes & (page_bytes - 1):
        return 1, 0  # no database, as opening it will tell
    current = head[24:28] == head[92:96]
    return page_bytes, int.from_bytes(head[28:32], "big") if current else 0


def _is_hot(file: Path) -> bool:
    if not file.is_file() or not file.stat().st_size:
        return False
    if not file.name.endswith("-journal"):
        return True
    with file.open("rb") as journal:
        return journal.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC


def _connect(path: Path, cut: bool = False) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(sqlite_uri(path), uri=True, check_same_thread=False)
    except SQLITE_ERRORS as error:
        raise LogError(f"cannot open: {error}", code="unreadable_file", file=path) from error
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        if cut:
            db.execute(
                "PRAGMA writable_schema = ON"
            )  # or sqlite refuses a file with fewer pages than it states
        db.execute(
            "SELECT COUNT(*) FROM sqlite_master"
        ).fetchone()  # takes hold of the file before its name goes
    except SQLITE_ERRORS as error:
        db.close()
        raise LogError(f"damaged database: {error}", code="bad_database", file=path) from error
    return db


def _replay(copy: Path) -> None:
    """Let sqlite roll back or forward what it finds, and leave one file."""
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=rw", uri=True, isolation_level=None)) as db:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        db.execute("PRAGMA journal_mode = DELETE").fetchone()


def _messages(path: Path) -> str:
    try:
        with closing(sqlite3.connect(sqlite_uri(path), uri=True)) as db:
            return str(db.execute("SELECT COUNT(*) FROM messages").fetchone()[0])
    except SQLITE_ERRORS:
        return "unreadable"
