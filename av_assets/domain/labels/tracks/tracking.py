"""Which detection is which thing over time: two-threshold association.

Sure detections are assigned to tracks first; doubtful ones may carry on a track that found none, but begin no track
(Zhang et al., "ByteTrack: multi-object tracking by associating every detection box", 2022). Tracks are predicted by a
Kalman filter and assigned at the least total distance (Kuhn, "The Hungarian method", 1955).
Belongs here: association. Does not belong here: detection, what a place is (motion), smoothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from av_assets.domain.labels.tracks import kalman

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.policies.autolabels import TrackRules

Floats = npt.NDArray[np.float64]
IMPOSSIBLE = 1e9


@dataclass(frozen=True)
class Detection:
    """One thing at one time: `place` (n,), covariance `noise` (n, n), and how things of its class move, (n,) each.

    `rate_sigma` is what its rates may be before any is known, `accel_sigma` how much they change.
    """

    cls: str
    score: float
    place: Floats
    noise: Floats
    rate_sigma: Floats
    accel_sigma: Floats

    @property
    def order(self) -> tuple[float, str, tuple[float, ...]]:
        return -self.score, self.cls, tuple(self.place.tolist())


@dataclass
class Track:
    """One thing over time; `hits` are (frame, row of the detection)."""

    number: int
    cls: str
    accel_sigma: Floats
    state: kalman.State
    hits: list[tuple[int, int]] = field(default_factory=list)


class Tracker:
    """Collects tracks, frame after frame; `tracks` in the order in which they first appear."""

    def __init__(self, rules: TrackRules, first_number: int = 0) -> None:
        self._rules = rules
        self._first = first_number
        self._live: list[Track] = []
        self.tracks: list[Track] = []

    def update(self, frame: int, time_s: float, detections: Sequence[Detection]) -> list[int]:
        """Track number of every detection, -1 for doubtful ones that no track takes; frames come in time order.

        The order of the detections changes nothing but the order of the answer.
        """
        self._live = [t for t in self._live if time_s - t.state.time_s <= self._rules.max_gap_s]
        order = sorted(range(len(detections)), key=lambda row: detections[row].order)
        sure = [row for row in order if detections[row].score >= self._rules.sure_score]
        doubtful = [row for row in order if self._is_doubtful(detections[row])]
        numbers = [-1] * len(detections)
        free = list(self._live)
        for rows in (sure, doubtful):
            for track, row in self._assign(free, rows, detections, time_s):
                self._carry_on(track, frame, row, detections[row], time_s)
                numbers[row] = track.number
                free = [t for t in free if t is not track]
        for row in sure:
            if numbers[row] < 0:
                numbers[row] = self._begin(frame, row, detections[row], time_s)
        return numbers

    def _is_doubtful(self, one: Detection) -> bool:
        return self._rules.doubtful_score <= one.score < self._rules.sure_score

    def _assign(
        self, tracks: Sequence[Track], rows: Sequence[int], detections: Sequence[Detection], time_s: float
    ) -> list[tuple[Track, int]]:
        """Pairs of the assignment with the least total Mahalanobis distance among those within the gate."""
        from scipy.optimize import linear_sum_assignment

        if not tracks or not rows:
            return []
        cost = np.full((len(tracks), len(rows)), IMPOSSIBLE)
        for number, track in enumerate(tracks):
            expected = kalman.predict(track.state, time_s, track.accel_sigma)
            same = [i for i, row in enumerate(rows) if detections[row].cls == track.cls]
            for i in same:
                one = detections[rows[i]]
                beyond, total = kalman.innovation(expected, one.place, one.noise)
                distance = float(np.sqrt(beyond @ np.linalg.solve(total, beyond)))
                if distance <= self._rules.gate:
                    cost[number, i] = distance
        chosen = zip(*(part.tolist() for part in linear_sum_assignment(cost)), strict=True)
        return [(tracks[t], rows[i]) for t, i in chosen if cost[t, i] < IMPOSSIBLE]

    def _carry_on(self, track: Track, frame: int, row: int, one: Detection, time_s: float) -> None:
        expected = kalman.predict(track.state, time_s, track.accel_sigma)
        track.state = kalman.update(expected, one.place, one.noise)
        track.hits.append((frame, row))

    def _begin(self, frame: int, row: int, one: Detection, time_s: float) -> int:
        state = kalman.begin(time_s, one.place, one.noise, one.rate_sigma)
        number = self._first + len(self.tracks)
        track = Track(number, one.cls, one.accel_sigma, state, [(frame, row)])
        self.tracks.append(track)
        self._live.append(track)
        return number
