"""Which files of a damaged drive can be opened for recovery, and whether by index or by scan: whatever gives more.

Belongs here: that choice, and files whose first bytes are lost. Does not belong here: formats
(`sources`), writing (`salvage`).
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.formats import LogFile, LogFormat, find_logs, sniff
from av_assets.domain.logs.recovery.sources import open_for_recovery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.logs.files.blocks import LogSource
    from av_assets.domain.logs.recovery.recovered import Recovered

Rejected = tuple[Path, str, str]
_FORMATS: dict[str, LogFormat] = {".mcap": "mcap", ".bag": "ros1", ".bag.active": "ros1", ".db3": "sqlite3"}
# What says nothing about the log: the caller named a wrong path, or the file system refused.
_NOT_OF_THE_LOG = frozenset({"not_found", "permission_denied", "unreadable_file", "too_many_files"})


@dataclass
class Origin:
    """One file as it is recovered. `promised` is what its index says it holds per topic, None without one."""

    path: Path
    source: Recovered
    promised: dict[str, int] | None


def find_for_recovery(paths: Sequence[Path]) -> tuple[list[LogFile], list[Rejected]]:
    """The logs below `paths`; a file without its magic bytes is taken by its name.

    Raises:
        LogError: not_found, permission_denied, unreadable_file or too_many_files.
    """
    logs: list[LogFile] = []
    rejected: list[Rejected] = []
    for path in paths:
        try:
            found = find_logs(path)
            logs += found.logs
            refused = list(found.rejected)
        except LogError as error:
            if error.code in _NOT_OF_THE_LOG:
                raise
            refused = [(Path(error.file or path), error.code, error.reason)]
        for one in refused:
            log = _by_name(one)
            if log is None:
                rejected.append(one)
            else:
                logs.append(log)
    return logs, rejected


def _by_name(refused: Rejected) -> LogFile | None:
    path, code, _ = refused
    ending = next((e for e in _FORMATS if path.name.lower().endswith(e)), None)
    named = code == "not_a_log" and ending and path.is_file()
    return LogFile(path, _FORMATS[ending]) if named and ending else None


def open_origin(log: LogFile) -> Origin:
    """Open one file by whatever gives the most messages.

    Raises:
        LogError: the file system refused, or nothing of it is a log.
        TransientError: no_space for a temporary copy.
    """
    source = first = open_for_recovery(log, scan=False)
    promised = None
    if first.indexed:
        promised = _by_topic(first)
        source = _better(first, log)
    if source is not first:
        source.damage.reasons |= first.damage.reasons
        source.damage.first = source.damage.first or first.damage.first
    if sniff(log.path) is None:
        source.damage.note("bad_magic", "the first bytes are not those of its format")
    return Origin(log.path, source, promised)


def _better(first: Recovered, log: LogFile) -> Recovered:
    """The file read by its index or by a scan; whichever it is not is closed."""
    expected = sum(first.counts.values())
    if first.format == "sqlite3" and _readable(first) == expected:
        return first
    try:
        scanned = open_for_recovery(log, scan=True)
    except LogError:
        return first
    if sum(scanned.counts.values()) >= expected or _readable(scanned) >= _readable(first):
        first.close()
        return scanned
    scanned.close()
    return first


def _readable(source: Recovered) -> int:
    """How many messages come out; reading for recovery tells of the damage, this reading does not."""
    before = copy.deepcopy(source.damage)
    count = sum(1 for block in source.blocks for _ in source.survivors(block))
    source.damage = before
    return count


def _by_topic(source: LogSource) -> dict[str, int]:
    promised: Counter[str] = Counter()
    for number, count in source.counts.items():
        if number in source.channels:
            promised[source.channels[number].topic] += count
    return dict(promised)
