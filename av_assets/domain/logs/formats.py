"""Which files are logs: told by their first bytes, never by their names.

Belongs here: magic bytes, and finding the logs of a folder (single files, rosbag2 folders with or without
metadata.yaml, split recordings). Does not belong here: reading a log.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from av_assets.domain.errors import LogError

LogFormat = Literal["mcap", "ros1", "sqlite3"]

MCAP_MAGIC = b"\x89MCAP0\r\n"
ROS1_MAGIC = b"#ROSBAG V2.0\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
# sqlite3 decodes its own error messages, which quote damaged bytes, and so may fail at telling of a failure.
SQLITE_ERRORS = (sqlite3.Error, OverflowError, UnicodeDecodeError)
METADATA_FILE = "metadata.yaml"
LOG_ENDINGS = (".mcap", ".bag", ".bag.active", ".db3")
MAX_FILES = 100_000
MAX_METADATA_BYTES = 8 << 20


@dataclass(frozen=True)
class LogFile:
    """One log file. `message_codec` is set where rosbag2 compressed each message by itself."""

    path: Path
    format: LogFormat
    message_codec: str = ""


@dataclass(frozen=True)
class FoundLogs:
    """The logs of a folder in reading order, and the files that only look like logs: (path, code, reason)."""

    logs: tuple[LogFile, ...]
    rejected: tuple[tuple[Path, str, str], ...] = ()


def sniff(path: Path) -> LogFormat | None:
    """The format of a file by its magic bytes; None when it is no log.

    Raises:
        LogError: not_found, empty_log, permission_denied or unreadable_file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if not head:
                raise LogError("the file is empty", code="empty_log", file=path)
    except OSError as error:
        raise os_error(error, path) from error
    if head.startswith(MCAP_MAGIC):
        return "mcap"
    if head.startswith(ROS1_MAGIC):
        return "ros1"
    return "sqlite3" if head.startswith(SQLITE_MAGIC) and _has_messages(path) else None


def _has_messages(path: Path) -> bool:
    """A database that cannot be asked counts as a log: its damage is told, its kind not doubted."""
    try:
        with _read_only(path) as tables:
            return {"messages", "topics"} <= set(tables)
    except SQLITE_ERRORS:
        return True


class _read_only:
    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(sqlite_uri(path), uri=True)

    def __enter__(self) -> list[str]:
        try:
            self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            rows = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchmany(1000)
            return [name for (name,) in rows if isinstance(name, str)]
        except BaseException:
            self._db.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._db.close()


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


def find_logs(path: Path) -> FoundLogs:
    """The log at `path`, or all logs under it, in the order of metadata.yaml or else of the names.

    Raises:
        LogError: not_found, not_a_log, empty_log, no_logs, or the file system refused.
    """
    if not path.is_dir():
        return FoundLogs((_single(path),))
    logs: list[LogFile] = []
    rejected: list[tuple[Path, str, str]] = []
    for folder, files in _folders(path):
        ordered, codec = _by_metadata(folder, files, rejected)
        for file in ordered:
            try:
                logs.append(LogFile(file, _single(file).format, codec))
            except LogError as error:
                if file.name.lower().endswith(LOG_ENDINGS):
                    rejected.append((file, error.code, error.reason))
    if not logs:
        worst = rejected[0] if rejected else (path, "no_logs", "the folder holds no log")
        code = worst[1] if len(rejected) == 1 else "no_logs"
        raise LogError(worst[2], code=code, file=worst[0])
    return FoundLogs(tuple(logs), tuple(rejected))


def _single(path: Path) -> LogFile:
    kind = sniff(path)
    if kind is None:
        raise LogError("neither MCAP nor ROS 1 bag nor rosbag2 database", code="not_a_log", file=path)
    return LogFile(path, kind)


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
    for name in listed:
        if name not in by_name:
            rejected.append((folder / name, "missing_split", "metadata.yaml lists a file that is not there"))
    order = [by_name[name] for name in dict.fromkeys(listed) if name in by_name]
    rest = [file for file in files if file not in set(order)]
    per_message = str(info.get("compression_mode", "")).lower() == "message"
    return order + rest, str(info.get("compression_format", "")) if per_message else ""


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
