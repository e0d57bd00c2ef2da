"""Where the ego vehicle was at any time of a drive: dead reckoning, laid onto its positions.

Speed and yaw rate give the shape of the path, positions only where it lies and how it is turned: two numbers and one
angle for a whole drive, so that the noise of single positions moves no object.
Belongs here: the path of a drive in metres. Does not belong here: roads, reading clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from av_assets.domain.labels.tracks.odometry import poses
from av_assets.domain.roads.plane import around

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SPREAD_M: Final = 5.0
"""A path whose points lie closer together (root mean square) than this tells no direction by its positions."""
_BEYOND_NS: Final = (
    200_000_000  # pictures are taken a little before the first or after the last reference time
)


@dataclass(frozen=True)
class EgoPath:
    """x east, y north of `origin` (latitude, longitude in degrees; None: no positions), yaw from x to y, unwrapped.

    Attributes:
        turned: False where no position tells the direction; yaw is then counted from the first heading.
    """

    times_ns: NDArray[np.int64]
    x_m: Floats
    y_m: Floats
    yaw_rad: Floats
    origin: tuple[float, float] | None
    turned: bool

    def at(self, time_ns: int) -> tuple[float, float, float]:
        """x, y, yaw; beyond both ends as the vehicle moved there, for a fifth of a second."""
        start = int(self.times_ns[0])
        at, when = (self.times_ns - start).astype(np.float64), float(time_ns - start)
        columns = (self.x_m, self.y_m, self.yaw_rad)
        x, y, yaw = (float(np.interp(when, _longer(at, None), _longer(at, column))) for column in columns)
        return x, y, yaw


def ego_path(
    times_ns: Sequence[int],
    speeds_mps: Sequence[float | None],
    yaw_rates_radps: Sequence[float | None],
    latitudes_deg: Sequence[float | None],
    longitudes_deg: Sequence[float | None],
) -> EgoPath | None:
    """The path of a drive from its signals, one value each per time; None where its motion was not measured."""
    driven = poses(times_ns, speeds_mps, yaw_rates_radps)
    if not driven or not driven[0].known:
        return None
    path = np.array([p.x_m + 1j * p.y_m for p in driven])
    yaw = np.array([p.yaw_rad for p in driven])
    lat, lon = (np.array(values, np.float64) for values in (latitudes_deg, longitudes_deg))
    known = np.isfinite(lat) & np.isfinite(lon)
    origin, angle, shift, turned = None, 0.0, 0j, False
    if known.any():
        origin = (float(lat[known][0]), float(lon[known][0]))
        east, north = around(np.float64(origin[1]), np.float64(origin[0]), lon[known], lat[known])  # type: ignore[arg-type]
        angle, shift, turned = _laid_on(path[known], east + 1j * north)
    placed = path * np.exp(1j * angle) + shift
    return EgoPath(
        np.asarray(times_ns, np.int64), placed.real.copy(), placed.imag.copy(), yaw + angle, origin, turned
    )


def _laid_on(path: NDArray[np.complex128], places: NDArray[np.complex128]) -> tuple[float, complex, bool]:
    """Rotation and shift that bring `path` closest to `places` (Kabsch 1976, in the plane: complex numbers)."""
    mean, there = path.mean(), places.mean()
    spread = float(np.sqrt(np.mean(np.abs(path - mean) ** 2)))
    if spread < SPREAD_M:
        return 0.0, complex(there - mean), False
    angle = float(np.angle(np.sum(np.conj(path - mean) * (places - there))))
    return angle, complex(there - np.exp(1j * angle) * mean), True


def _longer(at: Floats, values: Floats | None) -> Floats:
    """One more value at both ends, on the line through the two that are there (the times themselves: None)."""
    if len(at) < 2:
        return np.array([-_BEYOND_NS, _BEYOND_NS], np.float64) if values is None else np.repeat(values, 2)
    if values is None:
        return np.concatenate([[at[0] - _BEYOND_NS], at, [at[-1] + _BEYOND_NS]])
    first = (values[1] - values[0]) / (at[1] - at[0])
    last = (values[-1] - values[-2]) / (at[-1] - at[-2])
    return np.concatenate([[values[0] - first * _BEYOND_NS], values, [values[-1] + last * _BEYOND_NS]])
