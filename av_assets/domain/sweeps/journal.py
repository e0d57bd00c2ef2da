"""The storage of a study as a file that several processes append to, and that a killed one does not spoil.

Optuna's own lock is a link that outlives its owner, and half a line at the end of the file makes every later line
unreadable. So the lock is the kernel's, which ends with its owner, and half a line is cut off by the next writer.
Belongs here: that file. Does not belong here: what is in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

BLOCK = 1 << 16


class KernelLock(BaseJournalFileLock):
    """`flock` on a file of its own: between threads and processes of one machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = threading.local()

    def acquire(self) -> bool:
        self._held.file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._held.file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self._held.file)


class MendingJournal(JournalFileBackend):
    """A journal whose unfinished last line, if there is one, is dropped before the next is written."""

    def __init__(self, path: Path) -> None:
        self._guard = KernelLock(path.with_name(f"{path.name}.lock"))
        self._path = path
        super().__init__(str(path), self._guard)
        self._guard.acquire()
        try:
            mend(path)
        finally:
            self._guard.release()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._guard.acquire()
        try:
            mend(self._path)
            lines = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs)
            with self._path.open("ab") as file:
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._guard.release()


def mend(path: Path) -> None:
    """Cut off what stands after the last line's end; nobody has read it."""
    with path.open("r+b") as file:
        end = kept = file.seek(0, os.SEEK_END)
        while kept:
            start = max(0, kept - BLOCK)
            file.seek(start)
            found = file.read(kept - start).rfind(b"\n")
            if found >= 0:
                kept = start + found + 1
                break
            kept = start
        if kept != end:
            file.truncate(kept)


def open_storage(place: Path | str) -> BaseStorage:
    """The storage at a path (a journal, made with its folder where it is missing) or at a database's URL."""
    if isinstance(place, str):
        from optuna.storages import RDBStorage

        return RDBStorage(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(MendingJournal(place))
