"""When messages came and when they did not, for pictures and tables.

Belongs here: counts per time bin and the holes between messages. Does not belong here: drawing (`timeline_plot`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from av_assets.domain.logs.contract import stream_kind
from av_assets.domain.logs.integrity.stream_rules import EVENT_KINDS, NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.logs.integrity.stream_stats import StreamStats
    from av_assets.domain.logs.reader import LogReader
    from av_assets.policies.integrity import IntegrityPolicy


def timeline(reader: LogReader, stats: Mapping[str, StreamStats], policy: IntegrityPolicy) -> dict[str, Any]:
    """Messages per time bin and topic, and the holes; bins cover the drive evenly."""
    span = max(1, reader.end_ns - reader.start_ns)
    topics = {
        topic: {"counts": one.track.bins.tolist(), "holes": _holes(one, policy)}
        for topic, one in sorted(stats.items())
    }
    bins = policy.timeline_bins
    return {"start_ns": reader.start_ns, "bin_ns": span // bins, "bins": bins, "topics": topics}


def _holes(stats: StreamStats, policy: IntegrityPolicy) -> list[list[int]]:
    kind = stream_kind(stats.msgtype)
    if kind is None or kind in EVENT_KINDS or stats.count < policy.min_messages_for_rate:
        return []
    limit = max(policy.warn_gap_periods * stats.track.step_ns, policy.warn_gap_s * NANOSECONDS)
    return stats.track.holes(limit)
