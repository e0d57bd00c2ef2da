"""Rules over the files and topics of a drive as a whole.

Belongs here: what is true of a log whatever its streams are. Does not belong here: single streams (`stream_rules`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from av_assets.domain.logs.integrity.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from av_assets.domain.logs.integrity.stream_stats import StreamStats
    from av_assets.domain.logs.reader import LogReader


def file_findings(reader: LogReader, stats: Mapping[str, StreamStats]) -> Iterator[Finding]:
    """Damage, counts, indexes and order of the files; to be asked after all messages were read."""
    damaged = [f"{source.path.name}: {source.damage.first}" for source in reader.sources if source.damage]
    damaged += [f"{path.name}: {reason}" for path, _, reason in reader.rejected]
    yield Finding.judge("file_is_whole", "error", not damaged, len(damaged), 0, "; ".join(damaged))
    read = sum(one.count for one in stats.values())
    if damaged:  # what damage takes away is no second fault
        reason = "a file is damaged: its loss is accounted for there"
        yield Finding("count_matches_index", "error", "skipped", None, None, reason)
    else:
        reason = f"the index promises {reader.message_count} messages, {read} were read"
        same = read == reader.message_count
        yield Finding.judge("count_matches_index", "error", same, read, reader.message_count, reason)
    yield Finding.judge("log_has_messages", "error", read > 0, read, 1, "no message at all")
    without = [source.path.name for source in reader.sources if not (source.indexed or source.damage)]
    reason = f"without an index: {', '.join(without)}"
    yield Finding.judge("log_is_indexed", "warn", not without, len(without), 0, reason)
    back = 0
    for source in reader.sources:
        in_file = sorted(source.blocks, key=lambda block: block.offset)
        back += sum(late.start_ns < early.start_ns for early, late in pairwise(in_file))
    reason = f"{back} chunks start before the chunk before them"
    yield Finding.judge("log_is_in_order", "warn", not back, back, 0, reason)


def topic_findings(stats: Mapping[str, StreamStats]) -> Iterator[Finding]:
    empty = sorted(topic for topic, one in stats.items() if not one.count)
    reason = f"topics without a message: {', '.join(empty)}"
    yield Finding.judge("topic_has_messages", "warn", not empty, len(empty), 0, reason)
    unknown = sorted(topic for topic, one in stats.items() if one.unknown_type)
    reason = f"kept as bytes, no definition: {', '.join(unknown)}"
    yield Finding.judge("type_known", "warn", not unknown, len(unknown), 0, reason)
