"""Following findings through time, so that a frame in which a detector misses is covered by its neighbours.

Findings of one kind are linked to tracks by overlap. A track hides its object where it was found, in the gaps
between (interpolated), and for the time of the fill before its first and after its last finding (carried on at the
pace of the track, growing). Pace is counted in frames, so bursts of equal log times do no harm; reach is counted in
log time, so that what a frame depends on is bounded in time. Belongs here: linking and filling. Does not belong here:
pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.privacy.boxes import iou_matrix
from av_assets.domain.privacy.hiding import dilated

if TYPE_CHECKING:
    from av_assets.policies.redaction import RedactionPolicy

_PACE_FINDINGS = 3
WARM_UP_FILLS = _PACE_FINDINGS + 1
"""How many times the fill a track looks back: the findings of its pace, each a fill apart, and the fill itself."""


@dataclass(frozen=True)
class Region:
    """One box to hide; `found` is False where it was carried over from a neighbouring frame.

    `track` is the number of the object within its part of the clip.
    """

    kind: str
    score: float
    box: np.ndarray
    found: bool
    track: int = 0


@dataclass
class _Track:
    """`confirmed`: found in two frames or more, even where the older ones are forgotten by now."""

    kind: str
    number: int
    frames: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
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

    def latest_velocity(self) -> np.ndarray:
        last = len(self.frames) - 1
        return self.velocity(max(0, last - _PACE_FINDINGS + 1), last)

    def at(self, frame: int, at_ns: int, fill: Fill) -> Region | None:
        after = int(np.searchsorted(self.frames, frame))
        if after < len(self.frames) and self.frames[after] == frame:
            return Region(self.kind, self.scores[after], self.boxes[after], True, self.number)
        if 0 < after < len(self.frames):
            score = min(self.scores[after - 1 : after + 1])
            return Region(self.kind, score, self._between(frame, after), False, self.number)
        end = 0 if after == 0 else len(self.frames) - 1
        steps = frame - self.frames[end]
        alone = len(self.frames) == 1 and not self.confirmed and self.scores[0] < fill.hold_score
        if alone or abs(steps) > fill.max_frames or abs(at_ns - self.times[end]) > fill.reach_ns:
            return None
        early = min(_PACE_FINDINGS, len(self.frames)) - 1
        pace = self.velocity(0, early) if end == 0 else self.latest_velocity()
        box = dilated(self.boxes[end] + pace * steps, fill.growth * abs(steps))
        return Region(self.kind, self.scores[end], box, False, self.number)

    def _between(self, frame: int, after: int) -> np.ndarray:
        share = (frame - self.frames[after - 1]) / (self.frames[after] - self.frames[after - 1])
        return np.asarray(self.boxes[after - 1] * (1 - share) + self.boxes[after] * share)

    def forget(self, frame: int) -> None:
        """The findings before the frame that carry place and pace stay; older ones say nothing of later frames."""
        old = max(0, int(np.searchsorted(self.frames, frame)) - _PACE_FINDINGS)
        del self.frames[:old], self.times[:old], self.boxes[:old], self.scores[:old]


@dataclass(frozen=True)
class Fill:
    """How far a finding is carried, and from which score if it stands alone."""

    reach_ns: int
    max_frames: int
    growth: float
    hold_score: float


class TemporalFill:
    """Add findings frame by frame; ask for a frame once all frames up to `reach_ns` after it are added.

    State is bounded: tracks that ended longer than `reach_ns` before the last asked frame are dropped.
    """

    def __init__(self, policy: RedactionPolicy, reach_ns: int) -> None:
        self._policy, self.reach_ns = policy, reach_ns
        self._tracks: list[_Track] = []
        self._next = 0

    def add(self, frame: int, at_ns: int, kind: str, found: np.ndarray) -> None:
        """Findings (N, 5) of x1, y1, x2, y2, score in frame number `frame`; frames and times come in order."""
        open_tracks = [t for t in self._tracks if t.kind == kind and self._is_open(t, frame, at_ns)]
        links = self._links(frame, open_tracks, found)
        for index, row in enumerate(found):
            track = links.get(index)
            if track is None:
                track = _Track(kind, self._next)
                self._next += 1
                self._tracks.append(track)
            track.confirmed = bool(track.frames)
            track.frames.append(frame)
            track.times.append(at_ns)
            track.boxes.append(row[:4])
            track.scores.append(float(row[4]))

    def _is_open(self, track: _Track, frame: int, at_ns: int) -> bool:
        near = 0 < frame - track.frames[-1] <= self._policy.max_fill_frames
        return near and at_ns - track.times[-1] <= self.reach_ns

    def _links(self, frame: int, tracks: list[_Track], found: np.ndarray) -> dict[int, _Track]:
        """Greedy: the best overlap is taken first, each track and each finding once."""
        if not tracks or not len(found):
            return {}
        wide = self._policy.link_expand * 2
        expected = [
            dilated(track.boxes[-1] + track.latest_velocity() * (frame - track.frames[-1]), wide)
            for track in tracks
        ]
        overlap = iou_matrix(np.stack(expected), np.stack([dilated(row[:4], wide) for row in found]))
        links: dict[int, _Track] = {}
        while overlap.max() > self._policy.link_iou:
            old, new = np.unravel_index(int(overlap.argmax()), overlap.shape)
            links[int(new)] = tracks[int(old)]
            overlap[old, :], overlap[:, new] = -1, -1
        return links

    def regions(self, frame: int, at_ns: int) -> list[Region]:
        """All boxes to hide in `frame`, and forget what no later frame needs."""
        regions = [r for t in self._tracks if (r := t.at(frame, at_ns, self._fill(t.kind))) is not None]
        self._tracks = [t for t in self._tracks if t.times[-1] >= at_ns - self.reach_ns]
        for track in self._tracks:
            track.forget(frame)
        return regions

    def _fill(self, kind: str) -> Fill:
        policy = self._policy
        return Fill(self.reach_ns, policy.max_fill_frames, policy.hold_growth, policy.kind(kind).hold_score)
