"""Which files are logs, and in which order a folder holds them.

Belongs here: finding the logs of a folder (single files, rosbag2 folders with or without metadata.yaml, split
recordings). Does not belong here: what a single file is (`magic`), reading a log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.magic import (
    SQLITE_ERRORS,
    SQLITE_SIDE_FILES,
    LogFormat,
    LogKind,
    os_error,
    sniff,
    sqlite_uri,
)

__all__ = [
    "LOG_ENDINGS",
    "SQLITE_ERRORS",
    "FoundLogs",
    "LogFile",
    "LogFormat",
    "LogKind",
    "find_logs",
    "os_error",
    "sniff",
    "sqlite_uri",
]

METADATA_FILE = "metadata.yaml"
PACKED_ENDINGS = (".zstd", ".zst")
VIDEO_ENDING = ".mp4"
_BARE_ENDINGS = (".mcap", ".bag", ".bag.active", ".db3")
LOG_ENDINGS = (*_BARE_ENDINGS, *(bare + packed for bare in _BARE_ENDINGS for packed in PACKED_ENDINGS),
               VIDEO_ENDING)  # fmt: skip
MAX_FILES = 100_000
MAX_METADATA_BYTES = 8 << 20


@dataclass(frozen=True)
class LogFile:
    """One log file.

    `message_codec` is set where rosbag2 compressed each message by itself, `file_codec` where the whole file
    is compressed (`format` is that of the file inside), `reader` where a plug-in reads it.
    """

    path: Path
    format: LogFormat
    message_codec: str = ""
    file_codec: str = ""
    reader: str = ""


@dataclass(frozen=True)
class FoundLogs:
    """The logs of a folder in reading order, and the files that only look like logs: (path, code, reason)."""

    logs: tuple[LogFile, ...]
    rejected: tuple[tuple[Path, str, str], ...] = ()


def find_logs(path: Path) -> FoundLogs:
    """The log at `path`, or all logs under it, in the order of metadata.yaml or else of the names.

    Raises:
        LogError: not_found, not_a_log, empty_log, no_logs, cut_stream, reader_failed, or the file system
        refused.
    """
    if not path.is_dir():
        return FoundLogs((_single(path, ""),))
    logs: list[LogFile] = []
    rejected: list[tuple[Path, str, str]] = []
    for folder, files in _folders(path):
        ordered, codec = _by_metadata(folder, files, rejected)
        for file in ordered:
            try:
                logs.append(_single(file, codec))
            except LogError as error:
                if file.name.lower().endswith(LOG_ENDINGS) or error.code == "reader_failed":
                    rejected.append((file, error.code, error.reason))
    if not logs:
        worst = rejected[0] if rejected else (path, "no_logs", "the folder holds no log")
        code = worst[1] if len(rejected) == 1 else "no_logs"
        raise LogError(worst[2], code=code, file=worst[0])
    return FoundLogs(tuple(logs), tuple(rejected))


def _single(path: Path, message_codec: str) -> LogFile:
    kind = sniff(path)
    if kind is None:
        reason = "neither MCAP nor ROS 1 bag nor rosbag2 database nor MP4, and no plug-in reads it"
        raise LogError(reason, code="not_a_log", file=path)
    return LogFile(path, kind.format, message_codec, kind.file_codec, kind.reader)


def _folders(root: Path) -> list[tuple[Path, list[Path]]]:
    """Folders below root with their regular files, in name order; links to folders are not followed.

    Raises:
        LogError: more than MAX_FILES files, or a folder that may not be listed.
    """
    found: list[tuple[Path, list[Path]]] = []
    total = 0

    def refuse(error: OSError) -> None:
        raise os_error(error, Path(error.filename or root)) from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders.sort()
        files = [Path(folder) / name for name in sorted(names, key=_natural)]
        found.append((Path(folder), [file for file in files if file.is_file()]))
        total += len(names)
        if total > MAX_FILES:
            raise LogError(f"more than {MAX_FILES} files", code="too_many_files", file=root)
    return found


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Split recordings count without leading zeros: `x_10.mcap` follows `x_9.mcap`."""
    parts: list[tuple[int, int, str]] = []
    word, number = "", ""
    for char in name + "\0":
        if char.isascii() and char.isdigit():
            number += char
            continue
        if number:
            parts += [(1, 0, word), (0, int(number[:18]), "")]
            word, number = "", ""
        word += char
    return [*parts, (1, 0, word)]


def _by_metadata(
    folder: Path, files: list[Path], rejected: list[tuple[Path, str, str]]
) -> tuple[list[Path], str]:
    """Files in the order of metadata.yaml, then the others; and the codec of single messages."""
    info = _metadata(folder / METADATA_FILE)
    names = info.get("relative_file_paths")
    listed = [Path(str(name)).name for name in names] if isinstance(names, list) else []
    by_name = {file.name: file for file in files}
    order: dict[str, Path] = {}
    for name in listed:
        # A recorder that was stopped early lists names from before it compressed the files.
        found = next((n for n in (name, *(name + end for end in PACKED_ENDINGS)) if n in by_name), None)
        if found:
            order[found] = by_name[found]
        else:
            rejected.append((folder / name, "missing_split", "metadata.yaml lists a file that is not there"))
    rest = {name: file for name, file in by_name.items() if name not in order}
    for packed in [name for name in by_name if name.lower().endswith(PACKED_ENDINGS)]:
        plain = packed[: packed.rindex(".")]
        left_out, kept = (plain, packed) if packed in order else (packed, plain)
        if left_out in rest and kept in by_name:
            reason = f"{kept} holds the same and is read instead"
            rejected.append((rest.pop(left_out), "duplicate_log", reason))
    per_message = str(info.get("compression_mode", "")).lower() == "message"
    codec = str(info.get("compression_format", "")).lower() if per_message else ""
    return [*order.values(), *rest.values()], codec


def _metadata(path: Path) -> dict[str, object]:
    """The rosbag2 part of a metadata.yaml, or nothing: a recording is readable without it."""
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            return {}
        data = yaml.safe_load(path.read_text("utf-8"))
        info = data.get("rosbag2_bagfile_information") if isinstance(data, dict) else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def companions(log: Path) -> list[Path]:
    """Files beside a single log without which it is not whole: times of a video, journals of a database."""
    from av_assets.domain.logs.files.video_times import NAMES

    names = [pattern.format(log.stem) for pattern in NAMES] + [log.name + end for end in SQLITE_SIDE_FILES]
    return [log.with_name(name) for name in names if log.with_name(name).is_file()]
