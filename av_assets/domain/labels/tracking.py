"""Labels of one object over time get one id: assignment of detections to predicted places (Kuhn, "The
Hungarian method", 1955), with constant relative velocity in the ego frame.

Belongs here: association. Does not belong here: detection, smoothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.labels.lidar_objects import LidarObject
    from av_assets.policies.autolabels import AutolabelPolicy

Floats = npt.NDArray[np.float64]
VELOCITY_GAIN = 0.6
IMPOSSIBLE = 1e6


@dataclass
class _Track:
    number: int
    cls: str
    place: Floats
    velocity: Floats
    time_s: float
    hits: int = 1

    def predicted(self, time_s: float) -> Floats:
        return self.place + self.velocity * (time_s - self.time_s)


class Tracker:
    """Hands out track numbers, frame after frame, in the order in which tracks first appear."""

    def __init__(self, policy: AutolabelPolicy) -> None:
        self._policy = policy
        self._tracks: list[_Track] = []
        self._next = 0

    def update(self, objects: Sequence[LidarObject], time_s: float) -> list[int]:
        """Track number of every object of the frame at `time_s`; frames come in time order."""
        self._tracks = [t for t in self._tracks if time_s - t.time_s <= self._policy.track_max_gap_s]
        places = np.array([[o.box.x_m, o.box.y_m] for o in objects], dtype=np.float64).reshape(-1, 2)
        numbers = [-1] * len(objects)
        for row, column in self._assign(objects, places, time_s):
            self._move(self._tracks[row], places[column], time_s)
            numbers[column] = self._tracks[row].number
        for column, thing in enumerate(objects):
            if numbers[column] < 0:
                self._tracks.append(_Track(self._next, thing.cls, places[column], np.zeros(2), time_s))
                numbers[column] = self._next
                self._next += 1
        return numbers

    def _assign(self, objects: Sequence[LidarObject], places: Floats, time_s: float) -> list[tuple[int, int]]:
        from scipy.optimize import linear_sum_assignment

        if not self._tracks or not objects:
            return []
        cost = np.full((len(self._tracks), len(objects)), IMPOSSIBLE)
        for row, track in enumerate(self._tracks):
            gate = self._policy.track_gate_m
            if track.hits == 1:
                # A new track has no speed yet; things approach along the road, so the gate grows with time.
                gate += self._policy.track_max_speed_mps * (time_s - track.time_s)
            off = places - track.predicted(time_s)
            # Sideways motion is slow: it counts more.
            distance = np.hypot(off[:, 0], 3.0 * off[:, 1])
            same = np.array([o.cls == track.cls for o in objects])
            cost[row] = np.where(same & (distance < gate), distance, IMPOSSIBLE)
        rows, columns = linear_sum_assignment(cost)
        chosen = zip(rows.tolist(), columns.tolist(), strict=True)
        return [(r, c) for r, c in chosen if cost[r, c] < IMPOSSIBLE]

    def _move(self, track: _Track, place: Floats, time_s: float) -> None:
        step = max(time_s - track.time_s, 1e-6)
        measured = (place - track.place) / step
        gain = 1.0 if track.hits == 1 else VELOCITY_GAIN
        track.velocity = (1 - gain) * track.velocity + gain * measured
        track.place, track.time_s, track.hits = place, time_s, track.hits + 1
