"""JSON messages of MCAP channels: objects with attributes, and stamps found without parsing the rest.

Belongs here: bounded parsing, times as JSON writers spell them. Does not belong here: what fields mean (`foxglove`).
"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_JSON_BYTES = 64 << 20
_SECONDS, _NANOSECONDS = ("sec", "secs", "seconds"), ("nsec", "nanosec", "nsecs", "nanos")
_TIME = re.compile(
    rb'\s*:\s*\{\s*"(?:sec|secs|seconds)"\s*:\s*(-?\d{1,12})\s*,\s*"(?:nsec|nanosec|nsecs|nanos)"\s*:\s*(\d{1,10})\s*\}'
)
_MAX_HITS, _EDGE_BYTES = 8, 4096


class JsonObject(SimpleNamespace):
    """A JSON object: its members are attributes, whatever their names."""


def decode(data: bytes | memoryview) -> Any:
    """The message: objects as `JsonObject`, all else as `json` gives it.

    Raises:
        LogError: bad_message when it is no JSON, too deep, or over 64 MiB.
    """
    return _parsed(data, lambda pairs: JsonObject(**dict(pairs)))


def members(data: bytes | memoryview) -> dict[str, Any]:
    """The members of the root object as plain dicts and lists.

    Raises:
        LogError: bad_message, also when the root is no object.
    """
    root = _parsed(data, dict)
    if not isinstance(root, dict):
        raise LogError("the JSON message is no object", code="bad_message")
    return root


def _parsed(data: bytes | memoryview, make: Any) -> Any:
    if len(data) > MAX_JSON_BYTES:
        raise LogError("a JSON message of more than 64 MiB", code="bad_message")
    try:
        return json.loads(bytes(data), object_pairs_hook=make)
    except (ValueError, RecursionError) as error:
        raise LogError(f"not JSON: {type(error).__name__}", code="bad_message") from error


def time_ns(value: Any) -> int | None:
    """A time object ({sec, nsec}, {sec, nanosec}, {secs, nsecs} or {seconds, nanos}) in ns; None if it is none."""
    if not isinstance(value, dict):
        return None
    seconds = next((value[name] for name in _SECONDS if name in value), None)
    nanoseconds = next((value[name] for name in _NANOSECONDS if name in value), 0)
    if type(seconds) is not int or type(nanoseconds) is not int:
        return None
    return seconds * 1_000_000_000 + nanoseconds


def header_stamp_ns(data: bytes) -> int | None:
    """`timestamp` of the root, or `stamp` of its `header`, in ns; None without either.

    Only braces are counted, so that a message of megabytes is not parsed for it. A brace inside a string before the
    stamp hides it, and so do many nested members of that name.
    """
    found = _time_at_depth(data, b'"timestamp"', 1)
    return found if found is not None else _time_at_depth(data, b'"stamp"', 2)


def _time_at_depth(data: bytes, name: bytes, depth: int) -> int | None:
    for at in _places(data, name):
        time = _TIME.match(data, at + len(name))
        if time is None or _depth(data, at) != depth:
            continue
        before = data[: data.rfind(b"{", 0, at)].rstrip(b" \t\r\n:") if depth > 1 else b""
        if depth == 1 or before.endswith(b'"header"'):
            return int(time[1]) * 1_000_000_000 + int(time[2])
    return None


def _depth(data: bytes, at: int) -> int:
    """Objects that are open at `at`, counted from the nearer end."""
    if at <= len(data) // 2:
        return data.count(b"{", 0, at) - data.count(b"}", 0, at)
    return data.count(b"}", at) - data.count(b"{", at)


def _places(data: bytes, name: bytes) -> Iterator[int]:
    """Where a name stands: at the beginning and the end of a message first, for a payload is long to search."""
    end = len(data)
    head, tail = min(_EDGE_BYTES, end), max(_EDGE_BYTES, end - _EDGE_BYTES)
    for start, stop in ((0, head), (tail, end), (head - len(name), tail + len(name))):
        at = data.find(name, max(0, start), stop)
        for _ in range(_MAX_HITS):
            if at < 0:
                break
            yield at
            at = data.find(name, at + len(name), stop)
