"""Following findings through time, so that a frame in which a detector misses is covered by its neighbours.

Findings of one kind are linked to tracks by overlap. A track hides its object where it was found, in the gaps
between (interpolated), and `reach` frames before its first and after its last finding (carried on at the pace
of the track, growing). Belongs here: linking and filling. Does not belong here: pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.privacy.detectors import iou_matrix
from av_assets.domain.privacy.hiding import dilated

if TYPE_CHECKING:
    from av_assets.policies.redaction import RedactionPolicy


@dataclass(frozen=True)
class Region:
    """One box to hide; `found` is False where it was carried over from a neighbouring frame."""

    kind: str
    score: float
    box: np.ndarray
    found: bool


@dataclass
class _Track:
    """`confirmed`: found in two frames or more, even where the older ones are forgotten by now."""

    kind: str
    frames: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    confirmed: bool = False

    def velocity(self, first: int, last: int) -> np.ndarray:
        """Pixels a frame of the box centre between two findings, as a (4,) shift."""
        steps = self.frames[last] - self.frames[first]
        if steps == 0:
            return np.zeros(4, np.float32)
        shift = (self.boxes[last] - self.boxes[first]) / steps
        centre = (shift[:2] + shift[2:]) / 2
        return np.concatenate([centre, centre]).astype(np.float32)

    def at(self, frame: int, reach: int, growth: float, sure_score: float) -> Region | None:
        after = int(np.searchsorted(self.frames, frame))
        if after < len(self.frames) and self.frames[after] == frame:
            return Region(self.kind, self.scores[after], self.boxes[after], found=True)
        if 0 < after < len(self.frames):
            return Region(
                self.kind, min(self.scores[after - 1 : after + 1]), self._between(frame, after), False
            )
        end = 0 if after == 0 else len(self.frames) - 1
        steps = frame - self.frames[end]
        alone = len(self.frames) == 1 and not self.confirmed and self.scores[0] < sure_score
        if alone or abs(steps) > reach:
            return None
        pace = (
            self.velocity(0, min(2, len(self.frames) - 1))
            if end == 0
            else self.velocity(max(0, end - 2), end)
        )
        box = dilated(self.boxes[end] + pace * steps, growth * abs(steps))
        return Region(self.kind, self.scores[end], box, found=False)

    def _between(self, frame: int, after: int) -> np.ndarray:
        share = (frame - self.frames[after - 1]) / (self.frames[after] - self.frames[after - 1])
        return np.asarray(self.boxes[after - 1] * (1 - share) + self.boxes[after] * share)


class TemporalFill:
    """Add findings frame by frame; ask for frame i once frames up to i + reach are added.

    State is bounded: tracks that ended more than `reach` frames before the last asked frame are dropped.
    """

    def __init__(self, policy: RedactionPolicy, reach: int) -> None:
        self._policy, self.reach = policy, reach
        self._tracks: list[_Track] = []

    def add(self, frame: int, kind: str, found: np.ndarray) -> None:
        """Findings (N, 5) of x1, y1, x2, y2, score in frame number `frame`; frames come in order."""
        open_tracks = [
            t for t in self._tracks if t.kind == kind and 0 < frame - t.frames[-1] <= self.reach + 1
        ]
        links = self._links(frame, open_tracks, found)
        for index, row in enumerate(found):
            track = links.get(index)
            if track is None:
                track = _Track(kind)
                self._tracks.append(track)
            track.confirmed = bool(track.frames)
            track.frames.append(frame)
            track.boxes.append(row[:4])
            track.scores.append(float(row[4]))

    def _links(self, frame: int, tracks: list[_Track], found: np.ndarray) -> dict[int, _Track]:
        """Greedy: the best overlap is taken first, each track and each finding once."""
        if not tracks or not len(found):
            return {}
        wide = self._policy.link_expand * 2
        expected = []
        for track in tracks:
            last = len(track.frames) - 1
            step = track.velocity(max(0, last - 2), last) * (frame - track.frames[-1])
            expected.append(dilated(track.boxes[-1] + step, wide))
        overlap = iou_matrix(np.stack(expected), np.stack([dilated(row[:4], wide) for row in found]))
        links: dict[int, _Track] = {}
        while overlap.max() > self._policy.link_iou:
            old, new = np.unravel_index(int(overlap.argmax()), overlap.shape)
            links[int(new)] = tracks[int(old)]
            overlap[old, :], overlap[:, new] = -1, -1
        return links

    def regions(self, frame: int) -> list[Region]:
        """All boxes to hide in `frame`, and forget what no later frame needs."""
        carried = (
            t.at(frame, self.reach, self._policy.hold_growth, self._policy.kind(t.kind).sure_score)
            for t in self._tracks
        )
        regions = [region for region in carried if region is not None]
        self._tracks = [t for t in self._tracks if t.frames[-1] >= frame - self.reach]
        for track in self._tracks:
            _forget(track, frame)
        return regions


def _forget(track: _Track, frame: int) -> None:
    # Three findings before the frame carry place and speed; older ones say nothing about later frames.
    old = max(0, int(np.searchsorted(track.frames, frame)) - 3)
    del track.frames[:old], track.boxes[:old], track.scores[:old]
