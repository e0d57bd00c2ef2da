"""Spans of the cache: what a trace of a slow batch shows of it.

Where tracing is not configured, there are none, and nothing is paid for them.
Belongs here: opening spans. Does not belong here: exporters, counters.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider


def span(part: str, sha256: str, size: int) -> AbstractContextManager[object]:
    """A span `shard_cache.<part>`: lookup, wait, room, fetch, verify or publish."""
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    about: dict[str, str | int] = {"shard.sha256": sha256, "shard.bytes": size}
    return tracer.start_as_current_span(f"shard_cache.{part}", attributes=about)


def prepare() -> None:
    """Import what spans need, so that the first file does not wait for it."""
    _api()


def _tracer() -> Tracer | None:
    """None where nobody has configured tracing; that may come later, so that it is asked every time."""
    trace = _api()
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else _of(provider)


@cache
def _api() -> Any:
    from opentelemetry import trace

    return trace


@cache
def _of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("av.shard_cache")
