"""Writing an indexed MCAP file: zstd chunks, checksums, summary and statistics, and all of it or nothing.

Belongs here: the output file, its channels and schemas. Does not belong here: which messages go into it
(`salvage`, the exporter of shards).
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from av_assets.domain.errors import LogError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

CHUNK_BYTES = 1 << 20
MAX_NUMBER = (1 << 16) - 1  # schemas and channels are numbered with 16 bits
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class McapChannel(NamedTuple):
    """A topic with its schema as it stands in a file; `metadata` are sorted pairs."""

    topic: str
    serialization: str
    schema_name: str
    schema_encoding: str
    schema: bytes
    metadata: tuple[tuple[str, str], ...] = ()


class McapWriter:
    """One MCAP file in the making. Equal calls give equal bytes.

    Equal channels share one number and equal schemas one record, whatever file they came from.
    """

    def __init__(self, path: Path, profile: str, library: str) -> None:
        """Raises: TransientError: disk_full or cannot_write."""
        from mcap.writer import CompressionType, Writer

        self.path = path
        self.channels: dict[McapChannel, int] = {}
        self._schemas: dict[tuple[str, str, bytes], int] = {}
        with os_errors_typed(path):
            self._file: BinaryIO = path.open("wb")
        self._writer: Any = Writer(self._file, CHUNK_BYTES, CompressionType.ZSTD)
        self._finished = False
        try:
            with os_errors_typed(path):
                self._writer.start(profile, library)
        except TransientError:
            self.__exit__(None, None, None)
            raise

    def channel(self, channel: McapChannel) -> int:
        """The number of a channel, which is written when it is new.

        Raises:
            LogError: too_many_channels.
            TransientError: disk_full or cannot_write.
        """
        if channel not in self.channels:
            if max(len(self.channels), len(self._schemas)) >= MAX_NUMBER:
                raise LogError(f"more than {MAX_NUMBER} channels", code="too_many_channels", file=self.path)
            with os_errors_typed(self.path):
                self.channels[channel] = self._writer.register_channel(
                    channel.topic, channel.serialization, self._schema(channel), dict(channel.metadata)
                )
        return self.channels[channel]

    def _schema(self, channel: McapChannel) -> int:
        key = (channel.schema_name, channel.schema_encoding, channel.schema)
        if not any(key):
            return 0  # zero says that there is none
        if key not in self._schemas:
            self._schemas[key] = self._writer.register_schema(*key)
        return self._schemas[key]

    def message(
        self, channel: int, log_ns: int, data: bytes, publish_ns: int | None = None, sequence: int = 0
    ) -> None:
        """One message; without a time of publication its log time stands for it, as the format asks.

        Raises:
            TransientError: disk_full or cannot_write.
        """
        try:
            published = log_ns if publish_ns is None else publish_ns
            self._writer.add_message(channel, log_ns, data, published, sequence)
        except OSError as error:
            raise write_error(error, self.path) from error

    def attachment(self, name: str, media_type: str, log_ns: int, created_ns: int, data: bytes) -> None:
        with os_errors_typed(self.path):
            self._writer.add_attachment(created_ns, log_ns, name, media_type, data)

    def metadata(self, name: str, entries: Mapping[str, str]) -> None:
        with os_errors_typed(self.path):
            self._writer.add_metadata(name, dict(entries))

    def finish(self) -> None:
        """Index, statistics and footer, on disk when this returns.

        Raises:
            TransientError: disk_full or cannot_write.
        """
        with os_errors_typed(self.path):
            self._writer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What a full disk refused once it refuses again; the first error is the one to tell.
        with suppress(OSError):
            self._file.close()


@contextmanager
def os_errors_typed(path: Path) -> Iterator[None]:
    """Raises: TransientError: disk_full or cannot_write, in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path) from error


def write_error(error: OSError, path: Path) -> TransientError:
    full = error.errno in _FULL
    return TransientError(
        f"cannot write: {error.strerror or type(error).__name__}",
        code="disk_full" if full else "cannot_write",
        file=path,
        remedy="free some space and run it again" if full else "make the folder writable and run it again",
    )


@contextmanager
def written_whole(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path beside `out` that takes its name when the body ends well, and goes when it does not.

    Raises:
        LogError: output_exists.
        TransientError: disk_full or cannot_write.
    """
    if out.exists() and not overwrite:
        raise LogError(
            "the output exists already", code="output_exists", file=out, remedy="choose another name"
        )
    growing = out.with_name(f".{out.name}.part")
    try:
        with os_errors_typed(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            growing.unlink(missing_ok=True)
        yield growing
        with os_errors_typed(out):
            growing.replace(out)
    finally:
        growing.unlink(missing_ok=True)
