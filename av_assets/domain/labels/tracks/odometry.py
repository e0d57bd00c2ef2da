"""How the ego vehicle moved, from its speed and yaw rate: places of one frame in a frame that stands still.

Belongs here: dead reckoning over the seconds that a track lives. Does not belong here: positions on a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]
MAX_STEP_S = 0.5


@dataclass(frozen=True)
class Pose:
    """Of the ego frame in the still frame; `known` is False where the motion was not measured."""

    x_m: float
    y_m: float
    yaw_rad: float
    known: bool

    def still(self, xy: Floats) -> Floats:
        """(N, 2) ego -> still frame."""
        moved: Floats = self.turned(xy) + np.array([self.x_m, self.y_m])
        return moved

    def ego(self, xy: Floats) -> Floats:
        """(N, 2) still -> ego frame."""
        return self.turned_back(np.asarray(xy, dtype=np.float64) - (self.x_m, self.y_m))

    def turned(self, xy: Floats) -> Floats:
        """Directions (N, 2) of the ego frame in the still frame."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        result: Floats = np.asarray(xy, dtype=np.float64) @ np.array([[c, s], [-s, c]])
        return result

    def turned_back(self, xy: Floats) -> Floats:
        """Directions (N, 2) of the still frame in the ego frame."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        result: Floats = np.asarray(xy, dtype=np.float64) @ np.array([[c, -s], [s, c]])
        return result


def poses(
    times_ns: Sequence[int], speeds_mps: Sequence[float | None], yaw_rates_radps: Sequence[float | None]
) -> list[Pose]:
    """Pose at every time, in time order, the first one at the origin.

    Single missing values take the nearest measured one. Where a drive measures neither, all poses are the origin and
    unknown: places stay those of the ego frame, and speeds are relative to the ego vehicle.
    """
    speed, rate = _filled(times_ns, speeds_mps), _filled(times_ns, yaw_rates_radps)
    if speed is None or rate is None:
        return [Pose(0.0, 0.0, 0.0, False)] * len(times_ns)
    step = np.diff(np.asarray(times_ns, dtype=np.int64)) * 1e-9
    yaw = np.concatenate([[0.0], np.cumsum(step * (rate[1:] + rate[:-1]) / 2)])
    middle = (yaw[1:] + yaw[:-1]) / 2
    gone = step * (speed[1:] + speed[:-1]) / 2
    x = np.concatenate([[0.0], np.cumsum(gone * np.cos(middle))])
    y = np.concatenate([[0.0], np.cumsum(gone * np.sin(middle))])
    return [Pose(float(a), float(b), float(c), True) for a, b, c in zip(x, y, yaw, strict=True)]


def _filled(times_ns: Sequence[int], values: Sequence[float | None]) -> Floats | None:
    known = [i for i, v in enumerate(values) if v is not None and np.isfinite(v)]
    if not known:
        return None
    at = np.asarray(times_ns, dtype=np.int64)
    if np.diff(at[known], prepend=at[0], append=at[-1]).max() * 1e-9 > MAX_STEP_S:
        return None
    start = int(at[0])
    return np.interp((at - start) * 1e-9, (at[known] - start) * 1e-9, [float(values[i]) for i in known])  # type: ignore[arg-type]
