"""The time that a vehicle spent in private places: cut out of pictures and of every signal that tells positions.

Where no fix tells the position, a stretch of time is private if the vehicle could have been inside at the speed that
the policy allows. All times here are log times (ns), which every message has.
Belongs here: circles on the globe, intervals of time, a reader that keeps to them. Does not belong here: pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.errors import LogError
from av_assets.domain.logs.files.blocks import MAX_TIME_NS
from av_assets.domain.logs.messages.foxglove import GNSS_TYPES
from av_assets.domain.logs.reader import LogReader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from av_assets.domain.logs.drive_spec import StreamSpec
    from av_assets.domain.logs.files.blocks import RawMessage
    from av_assets.domain.privacy.windows import MessageSource
    from av_assets.policies.redaction import PrivatePlace, RedactionPolicy, TrimPolicy

Interval = tuple[int, int]
"""Half-open log time in ns."""
EARTH_RADIUS_M: Final = 6_371_008.8
FIRST_NS, LAST_NS = 0, (1 << 63) - 1
_NO_FIX: Final = -1


def private_intervals(reader: MessageSource, policy: RedactionPolicy) -> list[Interval]:
    """What to cut out of a drive, from all its position fixes; nothing without private places in the policy.

    A drive that holds no usable fix is private as a whole.
    """
    if not policy.private_places:
        return []
    topics = {topic for topic, info in reader.topics.items() if info.msgtype in GNSS_TYPES}
    fixes = [fix for raw in reader.messages(topics) if (fix := _fix(reader, raw))] if topics else []
    log_ns = np.array([fix[0] for fix in fixes], np.int64)
    degrees = np.array([fix[1:] for fix in fixes], np.float64).reshape(-1, 2)
    return trim_intervals(log_ns, degrees[:, 0], degrees[:, 1], policy.private_places, policy.trim)


def trim_intervals(
    log_ns: np.ndarray,
    latitude: np.ndarray,
    longitude: np.ndarray,
    places: Sequence[PrivatePlace],
    policy: TrimPolicy,
) -> list[Interval]:
    """Sorted, disjoint intervals that are private, given (N,) fixes in degrees.

    A stay begins inside a circle and ends `hysteresis_m` outside of it. The time between two fixes is private if a
    stay reaches it from either side, or if some place was within reach on the way. All time before the first fix is
    private, and that after the last from when a place could have been reached. Stays get `margin_s` on both sides.
    """
    if not places:
        return []
    if not len(log_ns):
        return [(FIRST_NS, LAST_NS)]
    order = np.argsort(log_ns, kind="stable")
    times = np.asarray(log_ns, np.int64)[order]
    outside_m = np.stack([_outside_m(latitude[order], longitude[order], place) for place in places])
    staying = np.asarray(np.any([_staying(row, policy.hysteresis_m) for row in outside_m], axis=0))
    way_m = np.maximum(outside_m, 0)
    reach_m = np.diff(times) / 1e9 * policy.max_speed_mps
    passed = (way_m[:, :-1] + way_m[:, 1:] <= reach_m).any(axis=0)
    private = np.asarray(passed | staying[:-1] | staying[1:])
    after_s = 0.0 if staying[-1] else float(way_m[:, -1].min()) / policy.max_speed_mps
    margin = round(policy.margin_s * 1e9)
    stretches = [(FIRST_NS, int(times[0]))]
    stretches += [
        (max(int(times[i]) - margin, FIRST_NS), min(int(times[i + 1]) + 1 + margin, LAST_NS))
        for i in np.flatnonzero(private)
    ]
    stretches += [(int(times[-1]) + round(min(after_s, 1e9) * 1e9), LAST_NS)]
    return _merged(stretches)


def in_private_place(log_ns: np.ndarray, intervals: Sequence[Interval]) -> np.ndarray:
    """(N,) bool mask of the times that lie in one of the sorted, disjoint intervals."""
    if not intervals:
        return np.zeros(len(log_ns), bool)
    starts, ends = (np.array(side, np.int64) for side in zip(*intervals, strict=True))
    index = np.searchsorted(starts, log_ns, side="right") - 1
    return np.asarray((index >= 0) & (log_ns < ends[index]))


def great_circle_m(
    latitude: np.ndarray, longitude: np.ndarray, to_latitude: float, to_longitude: float
) -> np.ndarray:
    """Distances in metres on a sphere of the mean radius, from degrees (haversine formula: Sinnott 1984)."""
    phi, to_phi = np.radians(latitude), np.radians(to_latitude)
    half_phi, half_lambda = (to_phi - phi) / 2, np.radians(to_longitude - np.asarray(longitude)) / 2
    chord = np.sin(half_phi) ** 2 + np.cos(phi) * np.cos(to_phi) * np.sin(half_lambda) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(chord, 0, 1))))


def _outside_m(latitude: np.ndarray, longitude: np.ndarray, place: PrivatePlace) -> np.ndarray:
    """Metres outside of the circle; negative inside."""
    return great_circle_m(latitude, longitude, place.latitude, place.longitude) - place.radius_m


def _staying(outside_m: np.ndarray, hysteresis_m: float) -> np.ndarray:
    """Inside, or not yet far enough outside since."""
    told = (outside_m <= 0) | (outside_m > hysteresis_m)
    last_told = np.maximum.accumulate(np.where(told, np.arange(len(told)), -1))
    return np.asarray((last_told >= 0) & (outside_m[last_told] <= 0))


def _merged(stretches: Sequence[Interval]) -> list[Interval]:
    """Sorted and disjoint; empty ones are left out."""
    merged: list[Interval] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif end > start:
            merged.append((start, end))
    return merged


def _fix(reader: MessageSource, raw: RawMessage) -> tuple[int, float, float] | None:
    """(log_ns, latitude, longitude) of a message that holds a position."""
    try:
        message = reader.deserialize(raw)
        latitude, longitude = float(message.latitude), float(message.longitude)
        status = getattr(getattr(message, "status", None), "status", 0)
    except (LogError, AttributeError, TypeError, ValueError):
        return None
    known = status != _NO_FIX and abs(latitude) <= 90 and abs(longitude) <= 180
    # Receivers without a fix often give 0, 0.
    return (raw.log_ns, latitude, longitude) if known and (latitude or longitude) else None


class _Trimmed(LogReader):
    """A reader that gives no position from private places; all else is that of the reader it was made from."""

    def __init__(self, reader: LogReader, topics: frozenset[str], private: Sequence[Interval]) -> None:
        self.__dict__.update(reader.__dict__)
        self._positions, self._private = topics, private

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, end_ns: int = MAX_TIME_NS + 1
    ) -> Iterator[RawMessage]:
        for raw in super().messages(topics, start_ns, end_ns):
            if raw.topic not in self._positions or not any(a <= raw.log_ns < b for a, b in self._private):
                yield raw


def without_private_positions(
    reader: LogReader, streams: Mapping[str, StreamSpec], policy: RedactionPolicy
) -> LogReader:
    """The reader itself where no place is private, else one that leaves fixes and poses there out."""
    private = private_intervals(reader, policy)
    topics = frozenset(stream.topic for stream in streams.values() if stream.kind in ("gnss", "pose"))
    return _Trimmed(reader, topics, private) if private and topics else reader
