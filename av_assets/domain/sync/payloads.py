"""The second pass: point clouds and tracks on their way from the log into the rows of clips.

Belongs here: reading each wanted message of a window once and keeping it until its clip is complete. Does not
belong here: pictures (frames), the plan (plan).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.logs.files.blocks import MAX_TIME_NS
from av_assets.domain.sync.streams import read_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from av_assets.domain.evidence.timing import Stopwatch
    from av_assets.domain.logs.reader import LogReader, RawMessage
    from av_assets.domain.sync.grid import Ns


class Wanted(NamedTuple):
    """One payload stream in the rows of a segment.

    Attributes:
        topic: where it is.
        log_ns: log times of all its messages, in recorded order.
        sample: per row of the drive the position of the wanted message (-1: none).
        decode: message and row of the drive -> payload.
    """

    topic: str
    log_ns: Ns
    sample: Ns
    decode: Callable[[RawMessage, int], Any]


class Place(NamedTuple):
    """Where one payload goes."""

    role: str
    clip: int
    row: int


class PayloadStreamer:
    """Hands out the payloads of clip after clip, reading the log just far enough.

    Args:
        wanted: role -> what is wanted of it.
        clips: number -> rows of each clip of this segment, in order.

    Attributes:
        unreadable: role -> messages that were wanted and could not be decoded.
    """

    def __init__(
        self, reader: LogReader, wanted: Mapping[str, Wanted], clips: Mapping[int, slice], watch: Stopwatch
    ) -> None:
        self._wanted, self._clips, self._watch = wanted, clips, watch
        self._places: dict[tuple[str, int], list[Place]] = defaultdict(list)
        self._pending = Counter[int]()
        for role, stream in sorted(wanted.items()):
            self._place(role, stream)
        self._kept: dict[int, dict[str, list[Any]]] = {}
        self.unreadable = Counter[str]()
        start_ns, end_ns = self._window()
        self._seen = Counter[str]()
        for stream in wanted.values():
            self._seen[stream.topic] = int(np.searchsorted(stream.log_ns, start_ns)) if start_ns else 0
        topics = {topic for topic, _ in self._places}
        self._messages = read_messages(reader, topics, start_ns, end_ns)

    def _place(self, role: str, stream: Wanted) -> None:
        for clip, rows in self._clips.items():
            for row in np.flatnonzero(stream.sample[rows] >= 0).tolist():
                number = int(stream.sample[rows.start + row])
                self._places[stream.topic, number].append(Place(role, clip, row))
                self._pending[clip] += 1

    def _window(self) -> tuple[int, int]:
        """Half-open log time that holds all wanted messages; all time where log times are not in order."""
        if any((np.diff(stream.log_ns) < 0).any() for stream in self._wanted.values()):
            return 0, MAX_TIME_NS + 1
        log_ns = {stream.topic: stream.log_ns for stream in self._wanted.values()}
        times = [int(log_ns[topic][number]) for topic, number in self._places]
        return (min(times), max(times) + 1) if times else (0, 0)

    def clip(self, number: int) -> dict[str, list[Any]]:
        """role -> one payload per row of the clip (None: no message, or it could not be decoded)."""
        while self._pending[number]:
            with self._watch("read"):
                raw = next(self._messages, None)
            if raw is None:
                break
            self._take(raw)
        return self._kept.pop(number, None) or self._empty(number)

    def _take(self, raw: RawMessage) -> None:
        number = self._seen[raw.topic]
        self._seen[raw.topic] += 1
        places = self._places.pop((raw.topic, number), ())
        with self._watch("decode"):
            for place in places:
                payload = self._decoded(place, raw)
                self._kept.setdefault(place.clip, self._empty(place.clip))[place.role][place.row] = payload
                self._pending[place.clip] -= 1

    def _decoded(self, place: Place, raw: RawMessage) -> Any:
        try:
            return self._wanted[place.role].decode(raw, self._clips[place.clip].start + place.row)
        except (SyncError, LogError):
            self.unreadable[place.role] += 1
            return None

    def _empty(self, clip: int) -> dict[str, list[Any]]:
        rows: slice = self._clips[clip]
        return {role: [None] * (rows.stop - rows.start) for role in sorted(self._wanted)}
