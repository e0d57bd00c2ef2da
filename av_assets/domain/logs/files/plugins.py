"""Readers for formats that are not built in: plug-ins behind the entry point group `av_assets.readers`.

A plug-in is an object with `name`, `sniff` and `open` (`ReaderPlugin`), or a class that makes one without
arguments. It is loaded when a file is met that no built-in format claims, and never hides a built-in one. How
to write one: docs/readers.md.
Belongs here: finding, loading and guarding plug-ins. Does not belong here: any format.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import LogSource, RawMessage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import Block

GROUP = "av_assets.readers"


@runtime_checkable
class ReaderPlugin(Protocol):
    """What an entry point of the group gives."""

    name: str

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file is of this format; `head` holds its first bytes, 4096 of them if it has as many."""

    def open(self, path: Path) -> LogSource:
        """Open the file; raises LogError with a code when it cannot be read."""


@dataclass(frozen=True)
class InstalledReader:
    """One entry point. `plugin` is None where it could not be loaded, and `reason` says why."""

    name: str
    package: str
    plugin: ReaderPlugin | None
    reason: str = ""


@cache
def installed_readers() -> tuple[InstalledReader, ...]:
    """All installed reader plug-ins by name, the broken ones included; looked up once in a process."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return tuple(_load(entry) for entry in found)


def _load(entry: EntryPoint) -> InstalledReader:
    package = entry.dist.name if entry.dist else ""
    try:
        plugin = entry.load()
        plugin = plugin() if isinstance(plugin, type) else plugin
    except Exception as error:  # noqa: BLE001 - the code of others, which must not stop the built-in formats
        return InstalledReader(entry.name, package, None, f"{type(error).__name__} while loading")
    if not isinstance(plugin, ReaderPlugin):
        return InstalledReader(entry.name, package, None, "it has no name, sniff and open")
    return InstalledReader(entry.name, package, plugin)


def reader_for(head: bytes, path: Path) -> str:
    """Name of the entry point that reads the file, empty without one; the first by name wins.

    Raises:
        LogError: reader_failed when none claims the file and one of them fails at looking.
    """
    failed = ""
    for reader in installed_readers():
        try:
            if reader.plugin and reader.plugin.sniff(head, path):
                return reader.name
        except Exception as error:  # noqa: BLE001 - the next plug-in may well know the file
            failed = failed or f"reader plug-in {reader.name}: {type(error).__name__} while looking"
    if failed:
        raise LogError(failed, code="reader_failed", file=path, remedy="repair or remove the plug-in")
    return ""


def open_by_plugin(name: str, path: Path) -> LogSource:
    """Open a file by the plug-in of that name.

    Raises:
        LogError: its own; no_reader when it is not installed, reader_failed when it breaks.
    """
    plugin = next((reader.plugin for reader in installed_readers() if reader.name == name), None)
    if plugin is None:
        raise LogError(
            f"reader plug-in {name} is not installed or does not load", code="no_reader", file=path
        )
    try:
        source = plugin.open(path)
    except LogError:
        raise
    except Exception as error:
        raise _failure(name, type(error).__name__, path) from error
    if not isinstance(source, LogSource):
        raise _failure(name, "what it opened is no LogSource", path)
    return _Guarded(name, source)


def _failure(name: str, reason: str, path: Path) -> LogError:
    remedy = "repair the plug-in or the file"
    return LogError(f"reader plug-in {name}: {reason}", code="reader_failed", file=path, remedy=remedy)


class _Guarded:
    """A source of a plug-in, whose errors become damage. Fields as in `LogSource`."""

    def __init__(self, name: str, source: LogSource) -> None:
        self._source = source
        self.path, self.format = source.path, name
        self.channels, self.counts, self.blocks = source.channels, source.counts, source.blocks
        self.damage, self.indexed = source.damage, source.indexed

    def read(self, block: Block, wanted: frozenset[int]) -> Iterator[RawMessage]:
        last_ns = block.start_ns
        try:
            for message in self._source.read(block, wanted):
                if message.log_ns < last_ns:
                    self.damage.note("reader_failed", f"{self.format}: messages are not sorted by log time")
                last_ns = message.log_ns
                yield message
        except Exception as error:  # noqa: BLE001 - reading never raises; what is lost is told
            code = error.code if isinstance(error, LogError) else "reader_failed"
            self.damage.note(code, f"reader plug-in {self.format}: {error}", block.length)

    def close(self) -> None:
        self._source.close()
