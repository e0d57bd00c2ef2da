"""A log file by its bytes: read by offset and never beyond its end, opened by its index or by a scan.

Belongs here: what the chunked formats share: file access with typed errors, the order in which they are
opened, reading a block. Does not belong here: any format.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import Block, Channel, Damage, RawMessage, sorted_by_time
from av_assets.domain.logs.files.magic import os_error

if TYPE_CHECKING:
    from collections.abc import Iterator
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


class IndexedLog(LogBytes, ABC):
    """A log of blocks. Fields as in `LogSource`; `indexed` tells whether the file's own index was used."""

    harmless: ClassVar[frozenset[str]] = frozenset()  # reasons to scan that are no damage

    def __init__(self, path: Path, salvage: bool = False) -> None:
        """Open by the index, or by a scan when there is none, it is broken, or `salvage` asks for it.

        Raises:
            LogError: the file system refused, or nothing of it is a log.
        """
        super().__init__(path)
        self.damage = Damage(self.size)
        self.forget()
        try:
            self.indexed = not salvage and self._open_by_index()
            if not self.indexed:
                self._scan()
        except BaseException:
            self.close()
            raise

    def forget(self) -> None:
        self.channels: dict[int, Channel] = {}
        self.counts: dict[int, int] = {}
        self.blocks: list[Block] = []
        self._channel_sets: dict[frozenset[int], frozenset[int]] = {}

    def _open_by_index(self) -> bool:
        try:
            self._read_index()
        except (LogError, struct.error, KeyError, UnicodeDecodeError, OverflowError) as error:
            self.forget()
            code, reason = why(error, "bad_index")
            if code not in self.harmless:
                self.damage.note("bad_index" if code == "bad_record" else code, reason)
            return False
        return True

    def same_channels(self, channels: frozenset[int]) -> frozenset[int]:
        """One object for each set of channels: nearly all blocks of a log hold the same ones."""
        return self._channel_sets.setdefault(channels, channels)

    def read(self, block: Block, wanted: frozenset[int]) -> list[RawMessage]:
        """Messages of one block in time order; a block that does not decode is noted as lost."""
        try:
            found = list(self.messages(self.decoded(block), wanted, block.kind == "cut"))
        except (LogError, struct.error, KeyError, UnicodeDecodeError) as error:
            self.damage.note(*why(error, "bad_chunk"), block.length)
            return []
        sorted_by_time(found)
        if found and not block.start_ns <= found[0].log_ns <= found[-1].log_ns <= block.end_ns:
            self.damage.note("bad_index", "the index tells other times than the messages")
        return found

    @abstractmethod
    def _read_index(self) -> None:
        """Fill channels, counts and blocks; raises LogError, struct.error or KeyError where that fails."""

    @abstractmethod
    def _scan(self) -> None:
        """Fill channels, counts and blocks from the records alone; damage is noted."""

    @abstractmethod
    def decoded(self, block: Block) -> bytes:
        """The records of one block; raises LogError where it does not decode."""

    @abstractmethod
    def messages(self, data: bytes, wanted: frozenset[int], tolerant: bool = False) -> Iterator[RawMessage]:
        """Messages of the wanted channels among records; raises LogError unless tolerant."""


def why(error: Exception, code: str) -> tuple[str, str]:
    """Code and reason of an error; `code` for those that are not typed."""
    return (
        (error.code, error.reason)
        if isinstance(error, LogError)
        else (code, "the bytes do not fit the format")
    )
