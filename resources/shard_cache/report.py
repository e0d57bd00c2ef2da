"""What the cache did, for people, scripts and Prometheus.

Belongs here: layouts. Does not belong here: counting (`metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from resources.shard_cache.metrics import BOUNDS_S, COUNTERS, PER_OCTAVE, Latency

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from resources.shard_cache.upkeep import Stats

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_GAUGES = {
    "files": "whole files",
    "bytes": "bytes of whole files",
    "coming_bytes": "bytes that are reserved for fetches that are going on",
    "pinned_files": "files that are never evicted",
    "pinned_bytes": "bytes that are never evicted",
    "budget_bytes": "what all files together never exceed",
}
_EVERY = 2 * PER_OCTAVE
"""Prometheus gets a bucket for every factor of four."""


def as_dict(stats: Stats) -> dict[str, Any]:
    """Everything, for scripts; seconds, null where nothing was measured."""
    return {
        **{name: getattr(stats, name) for name in _GAUGES},
        **{name: stats.counts[name] for name in COUNTERS},
        "hit_rate": stats.counts.hit_rate,
        "latency_s": {kind: _quantiles(stats.counts.latency(kind)) for kind in ("hit", "miss")},
    }


def lines(stats: Stats) -> list[str]:
    """For people."""
    counts, rate = stats.counts, stats.counts.hit_rate
    return [
        f"{stats.files} files, {_mb(stats.bytes)} of {_mb(stats.budget_bytes)}"
        f" ({stats.pinned_files} pinned, {_mb(stats.pinned_bytes)}; {_mb(stats.coming_bytes)} coming)",
        f"{counts['hits']:,} hits, {counts['misses']:,} fetched, {counts['joined']:,} waited for another's fetch"
        + ("" if rate is None else f": hit rate {rate:.1%}"),
        *(_latency(kind, counts.latency(kind)) for kind in ("hit", "miss")),
        f"{counts['evictions']:,} evicted ({_mb(counts['evicted_bytes'])}), {_mb(counts['fetched_bytes'])} fetched,"
        f" {_mb(counts['served_bytes'])} handed out",
        f"{counts['failures']:,} fetches failed, {counts['damaged']:,} files damaged,"
        f" {counts['refetches']:,} fetched again, {counts['verified']:,} read again in full",
    ]


def as_prometheus(stats: Stats) -> str:
    """The text format, for a node exporter's folder or a scrape of the command's output."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(stats))
    return generate_latest(registry).decode()


class _Collector:
    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for name, meaning in _GAUGES.items():
            yield GaugeMetricFamily(f"av_cache_{name}", meaning, value=getattr(self._stats, name))
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"av_cache_{name}", meaning, value=self._stats.counts[name])
        seconds = HistogramMetricFamily("av_cache_seconds", "until a file was handed out", labels=["outcome"])
        for kind in ("hit", "miss"):
            latency = self._stats.counts.latency(kind)
            seconds.add_metric([kind], _cumulated(latency), latency.sum_s)
        yield seconds


def _cumulated(latency: Latency) -> list[tuple[str, float]]:
    """(upper bound, files up to it), the last bound being infinite."""
    buckets = [
        (f"{BOUNDS_S[last]:.9g}", float(sum(latency.counts[: last + 1])))
        for last in range(_EVERY, len(BOUNDS_S), _EVERY)
    ]
    return [*buckets, ("+Inf", float(latency.count))]


def _quantiles(latency: Latency) -> dict[str, float | None]:
    return {name: latency.quantile(share) for name, share in QUANTILES.items()}


def _latency(kind: str, latency: Latency) -> str:
    if not latency.count:
        return f"{kind}: none yet"
    return f"{kind}: " + ", ".join(
        f"{name} {_time(s)}" for name, s in _quantiles(latency).items() if s is not None
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
