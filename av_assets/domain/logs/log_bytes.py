"""The bytes of a log file, read by offset and never beyond its end.

Belongs here: file access with typed errors. Does not belong here: any format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from av_assets.domain.errors import LogError
from av_assets.domain.logs.formats import os_error

if TYPE_CHECKING:
    from pathlib import Path


class LogBytes:
    """An open file of `size` bytes."""

    def __init__(self, path: Path) -> None:
        """Raises: LogError: the file system refused."""
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
            self.size = self._file.seek(0, 2)
        except OSError as error:
            raise os_error(error, path) from error

    def bytes_at(self, offset: int, length: int) -> bytes:
        """What the file holds there; shorter, or nothing, at its end.

        Raises:
            LogError: unreadable_file, the device gave an error.
        """
        if offset >= self.size or length <= 0:
            return b""
        try:
            self._file.seek(offset)
            return self._file.read(min(length, self.size - offset))
        except OSError as error:
            raise os_error(error, self.path) from error

    def close(self) -> None:
        self._file.close()


def why(error: Exception, code: str) -> tuple[str, str]:
    """Code and reason of an error; `code` for those that are not typed."""
    return (
        (error.code, error.reason)
        if isinstance(error, LogError)
        else (code, "the bytes do not fit the format")
    )
