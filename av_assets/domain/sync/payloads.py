"""The second pass: point clouds and tracks on their way from the log into the rows of clips.

Belongs here: reading each wanted message once and keeping it until its clip is complete. Does not belong
here:
pictures (frames), the plan (synchronize).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.errors import LogError, SyncError
from av_assets.domain.sync.pointclouds import CloudReader
from av_assets.domain.sync.streams import Survey, ego_pose, header_frame, read_messages
from av_assets.domain.sync.tracks import tracks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from av_assets.domain.logs.reader import LogReader, RawMessage
    from av_assets.domain.sync.grid import Ns

Place = tuple[str, int, int]  # role, clip, row in the clip


class PayloadStreamer:
    """Hands out the payloads of clip after clip, reading the log just far enough.

    Args:
        indices: role -> per row the position of the wanted message in its topic (-1: none).
        rows: the rows of each clip.

    Attributes:
        unreadable: role -> messages that were wanted and could not be decoded.
    """

    def __init__(
        self, reader: LogReader, found: Survey, indices: Mapping[str, Ns], rows: Sequence[slice]
    ) -> None:
        self._roles, self._rows = sorted(indices), rows
        topics = {role: found.streams[role].topic for role in indices}
        self._places: dict[tuple[str, int], list[Place]] = defaultdict(list)
        self._pending = Counter[int]()
        for role, index in indices.items():
            self._place(role, topics[role], index)
        self._decode = {role: _decoder(reader, found, role) for role in indices}
        self._messages = read_messages(reader, set(topics.values()))
        self._seen = Counter[str]()
        self._kept: dict[int, dict[str, list[Any]]] = {}
        self.unreadable = Counter[str]()

    def _place(self, role: str, topic: str, index: Ns) -> None:
        for clip, rows in enumerate(self._rows):
            for row in np.flatnonzero(index[rows] >= 0).tolist():
                self._places[topic, int(index[rows.start + row])].append((role, clip, row))
                self._pending[clip] += 1

    def clip(self, number: int) -> dict[str, list[Any]]:
        """role -> one payload per row of the clip (None: no message, or it could not be decoded)."""
        while self._pending[number]:
            raw = next(self._messages, None)
            if raw is None:
                break
            self._take(raw)
        return self._kept.pop(number, None) or self._empty(number)

    def _take(self, raw: RawMessage) -> None:
        ordinal = self._seen[raw.topic]
        self._seen[raw.topic] += 1
        payload, decoded_for = None, ""
        for role, clip, row in self._places.pop((raw.topic, ordinal), ()):
            if decoded_for != role:
                payload, decoded_for = self._decoded(role, raw), role
            self._kept.setdefault(clip, self._empty(clip))[role][row] = payload
            self._pending[clip] -= 1

    def _decoded(self, role: str, raw: RawMessage) -> Any:
        try:
            return self._decode[role](raw)
        except (SyncError, LogError):
            self.unreadable[role] += 1
            return None

    def _empty(self, clip: int) -> dict[str, list[Any]]:
        rows = self._rows[clip]
        return {role: [None] * (rows.stop - rows.start) for role in self._roles}


def _decoder(reader: LogReader, found: Survey, role: str) -> Callable[[RawMessage], Any]:
    stream = found.streams[role]
    if stream.kind == "lidar":
        return CloudReader().read
    mount = ego_pose(found.tree, stream.frame or header_frame(reader, stream.topic))
    return lambda raw: tracks_of(reader.deserialize(raw), mount)
