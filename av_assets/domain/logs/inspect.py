"""The verdict on a log or a folder of logs: ok, salvaged or quarantined, with a reason, never an exception.

Belongs here: reading everything once, comparing the index with what is there, the verdict. Does not belong
here: whether the streams are good enough for a drive (`integrity`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from av_assets.domain.errors import LogError, TransientError
from av_assets.domain.logs.files.formats import LogFile, find_logs, os_error
from av_assets.domain.logs.files.mcap_log import McapLog
from av_assets.domain.logs.files.sources import open_source
from av_assets.domain.logs.inspection import FileSummary, Inspection, TopicSummary

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.logs.files.blocks import LogSource

__all__ = ["FileSummary", "Inspection", "TopicSummary", "inspect_log"]

# The most telling reason first: a cut explains a missing footer, not the other way round.
_TELLING = ("cut_stream", "bad_crc", "bad_chunk", "bad_record", "cut_chunk", "cut_record", "bad_database", "cut_video",
            "bad_index", "count_mismatch")  # fmt: skip
_SCANNED = ("mcap", "ros1")  # formats whose index may be left aside


def inspect_log(path: Path) -> Inspection:
    """Read all of a log, or of all logs of a folder, and say what it is worth.

    Every chunk is decoded and its checksum verified; counts of the index are compared with the messages
    found. A file whose index does not hold is scanned record by record, and what survives is counted.

    Codes of quarantine: not_found, permission_denied, unreadable_file, not_a_log, empty_log, no_logs,
    no_messages, bad_database, too_many_files, unpacked_too_large, unknown_compression, missing_timestamps,
    bad_timestamps, unsupported_codec, bad_video, no_reader. Codes of salvage: no_footer, no_index, bad_index,
    cut_chunk, cut_record, bad_chunk, bad_crc, bad_data_crc, bad_record, bad_stamp, hot_journal, cut_stream,
    cut_video, count_mismatch, unknown_channel, missing_split, duplicate_log, reader_failed and those above for
    one file of several.

    Raises:
        TransientError: no_space for temporary files, which says nothing about the log.
    """
    try:
        return _inspect(path)
    except TransientError:
        raise
    except LogError as error:
        return Inspection("quarantined", error.code, error.reason)
    except OSError as error:
        typed = os_error(error, path)
        return Inspection("quarantined", typed.code, typed.reason)
    except Exception as error:  # noqa: BLE001 - a verdict on hostile bytes must be a verdict
        return Inspection("quarantined", "unreadable_file", f"{type(error).__name__} while reading")


def _inspect(path: Path) -> Inspection:
    found = find_logs(path)
    files: list[FileSummary] = []
    topics: dict[str, TopicSummary] = {}
    for log in found.logs:
        try:
            summary, seen = _read_file(log, path)
        except LogError as error:
            summary, seen = _refused(log.path, path, error.code, error.reason), {}
        files.append(summary)
        for name, topic in seen.items():
            topics[name] = _together(topics.get(name), topic)
    files += [_refused(*rejected[:1], path, *rejected[1:]) for rejected in found.rejected]
    return _verdict(tuple(files), topics)


def _verdict(files: tuple[FileSummary, ...], topics: dict[str, TopicSummary]) -> Inspection:
    bad = [file for file in files if file.code]
    messages = sum(topic.count for topic in topics.values())
    if not messages:
        code, reason = ("no_messages", "the log holds no message")
        if bad and len(bad) == len(files) and bad[0].format == "":
            code, reason = bad[0].code, bad[0].reason
        elif bad:
            reason = f"nothing can be read: {bad[0].reason}"
        return Inspection("quarantined", code, reason, 0, topics, files=files)
    spans = [topic for topic in topics.values() if topic.count]
    return Inspection(
        state="salvaged" if bad else "ok",
        code=bad[0].code if bad else "",
        reason=f"{bad[0].path}: {bad[0].reason}" if bad else "",
        messages=messages,
        topics=topics,
        start_ns=min(topic.start_ns for topic in spans),
        end_ns=max(topic.end_ns for topic in spans),
        files=files,
    )


def _read_file(log: LogFile, root: Path) -> tuple[FileSummary, dict[str, TopicSummary]]:
    """Read by the index; when that shows damage, once more by scan, and keep what gave more."""
    source = open_source(log)
    try:
        if isinstance(source, McapLog) and source.indexed:
            source.check_data_section()
        seen = _tally(source)
        expected = _expected(source)
        counts = {name: topic.count for name, topic in seen.items() if topic.count}
        if source.indexed and counts != expected:
            source.damage.note("count_mismatch", f"the index says {sum(expected.values())} messages, "
                                                 f"{sum(counts.values())} can be read")  # fmt: skip
        if source.indexed and source.damage and log.format in _SCANNED:
            return _scan_again(log, root, source, seen, expected)
        return _summary(log, root, source, seen), seen
    finally:
        source.close()


def _scan_again(
    log: LogFile, root: Path, source: LogSource, seen: dict[str, TopicSummary], expected: dict[str, int]
) -> tuple[FileSummary, dict[str, TopicSummary]]:
    scanned = open_source(log, salvage=True)
    try:
        again = _tally(scanned)
        if sum(t.count for t in again.values()) >= sum(t.count for t in seen.values()):
            told = {code: source.damage.reasons[code] for code in ("bad_index", "count_mismatch")}
            scanned.damage.reasons |= Counter(told)
            scanned.damage.first = scanned.damage.first or source.damage.first
            source, seen = scanned, again
        seen = {n: replace(t, lost=max(0, expected.get(n, t.count) - t.count)) for n, t in seen.items()}
        return _summary(log, root, source, seen), seen
    finally:
        scanned.close()


def _tally(source: LogSource) -> dict[str, TopicSummary]:
    """Count and span of every topic, by reading every block."""
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    wanted = frozenset(source.channels)
    for block in source.blocks:
        for message in source.read(block, wanted):
            topic, log_ns = message.topic, message.log_ns
            counts[topic] += 1
            if log_ns < first.setdefault(topic, log_ns):
                first[topic] = log_ns
            if log_ns > last.setdefault(topic, log_ns):
                last[topic] = log_ns
    kinds = {channel.topic: channel.msgtype for channel in source.channels.values()}
    # Without an index nobody knows how many messages a damaged file held.
    lost = None if source.damage and not source.indexed else 0
    return {
        topic: TopicSummary(kinds[topic], counts[topic], first.get(topic, 0), last.get(topic, 0), lost)
        for topic in sorted(kinds)
    }


def _expected(source: LogSource) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for number, count in source.counts.items():
        if count and number in source.channels:
            counts[source.channels[number].topic] += count
    return dict(counts)


def _summary(log: LogFile, root: Path, source: LogSource, seen: dict[str, TopicSummary]) -> FileSummary:
    damage = source.damage
    code = next((code for code in _TELLING if code in damage.reasons), next(iter(damage.reasons), ""))
    return FileSummary(
        path=_name(log.path, root),
        format=source.format,
        bytes=log.path.stat().st_size,
        indexed=source.indexed,
        messages=sum(topic.count for topic in seen.values()),
        code=code,
        reason=damage.first,
        damage=damage.to_dict() if damage else {},
        remarks=tuple(damage.remarks),
    )


def _refused(file: Path, root: Path, code: str, reason: str) -> FileSummary:
    size = file.stat().st_size if file.exists() else 0
    return FileSummary(_name(file, root), "", size, False, 0, code, reason)


def _name(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file != root and file.is_relative_to(root) else file.name


def _together(one: TopicSummary | None, other: TopicSummary) -> TopicSummary:
    """The same topic in two files of a split recording."""
    if one is None or not one.count:
        return other if one is None or other.count else one
    if not other.count:
        return one
    lost = None if one.lost is None or other.lost is None else one.lost + other.lost
    start_ns, end_ns = min(one.start_ns, other.start_ns), max(one.end_ns, other.end_ns)
    return TopicSummary(one.msgtype, one.count + other.count, start_ns, end_ns, lost)
