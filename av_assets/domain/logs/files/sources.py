"""Opening one log file, whole or damaged, and the account of what it lost.

Belongs here: the choice of the scanner, and the loss account of a file. Does not belong here: the scanners
themselves (`mcap_scan`, `ros1_scan`, `sqlite_log`), verdicts on whole drives (`inspect`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import LogSource, RawMessage, merge_by_time
from av_assets.domain.logs.files.mcap_log import McapLog
from av_assets.domain.logs.files.plugins import open_by_plugin
from av_assets.domain.logs.files.ros1_log import Ros1Log
from av_assets.domain.logs.files.sqlite_log import Sqlite3Log
from av_assets.domain.logs.files.unpacking import private_folder, unpack_zstd
from av_assets.domain.logs.files.video_file import VideoFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av_assets.domain.logs.files.formats import LogFile


def open_source(log: LogFile, salvage: bool = False) -> LogSource:
    """Open a log file; a file whose index is missing or broken is scanned instead, and its `damage` says so.

    `salvage` asks for the scan even where an index looks whole.

    Raises:
        LogError: the file system refused, or nothing of it is a log.
        TransientError: no_space for the temporary file that a compressed log needs.
    """
    if log.format == "plugin":
        return open_by_plugin(log.reader, log.path)
    if log.format == "video":
        return VideoFile(log.path)
    if log.file_codec:
        return _open_packed(log, salvage)
    return _open(log, log.path, salvage)


def _open(log: LogFile, path: Path, salvage: bool) -> LogSource:
    if log.format == "mcap":
        return McapLog(path, salvage, log.message_codec)
    if log.format == "ros1":
        return Ros1Log(path, salvage)
    return Sqlite3Log(path, salvage, log.message_codec)


def _open_packed(log: LogFile, salvage: bool) -> LogSource:
    """A log inside a compressed file: decoded once, to a file without a name that goes when it is closed."""
    with private_folder("log") as folder:
        unpacked = unpack_zstd(log.path, folder)
        try:
            source = _open(log, unpacked.path, salvage)
        except LogError as error:
            raise LogError(error.reason, code=error.code, file=log.path) from error
    source.path = log.path
    if not unpacked.whole:
        source.damage.note("cut_stream", "the zstd stream of the file is cut or broken")
    return source


def source_messages(source: LogSource) -> Iterator[RawMessage]:
    """All messages of one file in log time order."""
    wanted = frozenset(source.channels)
    return merge_by_time([(source, block) for block in source.blocks], lambda s, block: s.read(block, wanted))


def loss_account(source: LogSource) -> dict[str, object]:
    """What a file kept and lost, after it was read: bytes, reasons, messages kept per topic (JSON-able)."""
    kept = Counter(message.topic for message in source_messages(source))
    return {
        "file": source.path.name,
        "format": source.format,
        "indexed": source.indexed,
        "messages_kept": dict(sorted(kept.items())),
        **source.damage.to_dict(),
    }
