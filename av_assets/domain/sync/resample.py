"""Signals of a drive on the rows of one window.

Belongs here: which signal is interpolated and which is held, what happens where there is none, and the count
of it. Does not belong here: the arithmetic (match), reading (signal_log).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from av_assets.domain.errors import SyncError
from av_assets.domain.sync.grid import NS_PER_S, Ns
from av_assets.domain.sync.match import hold, interpolate, interpolate_rotations

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.sync.signal_log import SignalStore
    from av_assets.policies.sync import SyncPolicy

Mode = Literal["linear", "angle", "slerp", "hold"]
_QUATERNION = ("qx", "qy", "qz", "qw")
_FULL_CIRCLE_DEG = 360.0


class Resampled(NamedTuple):
    """Signals of some rows.

    Attributes:
        values: name -> (rows,) float64, NaN where unknown.
        keep: rows that no signal's boundary policy drops.
        counts: name -> rows with a value (`valid`), rows without a sample in reach (`boundary`), and of
            those the ones that were held over (`held`).
    """

    values: dict[str, Array]
    keep: NDArray[np.bool_]
    counts: dict[str, dict[str, int]]

    def part(self, rows: slice) -> Resampled:
        """Values of some of the rows; counts stay those of all."""
        values = {name: column[rows] for name, column in self.values.items()}
        return Resampled(values, self.keep[rows], self.counts)


class Resampler:
    """Brings the signals of a store onto rows, window by window; what comes out does not depend on windows.

    Linear for measurements, the shorter way round for angles and longitude, SLERP for quaternions, the
    last value for discrete signals. Nothing is extrapolated, or interpolated across more than the gap limit
    of the signal; the boundary policy of its class says what stands there instead.
    """

    def __init__(self, store: SignalStore, policy: SyncPolicy) -> None:
        self._store, self._policy = store, policy
        self.modes: dict[str, Mode] = {name: self._mode(name) for name in store.names()}
        self._gaps_ns = {name: self._gap_ns(name) for name in store.names()}
        self._age_ns = round(policy.hold_max_age_s * NS_PER_S)
        self.margin_ns = max([self._age_ns, *self._gaps_ns.values()])

    def _mode(self, name: str) -> Mode:
        if name in self._policy.hold_signals:
            return "hold"
        stem = name[:-1]
        if name.endswith(("_qx", "_qy", "_qz", "_qw")) and {stem + q[1] for q in _QUATERNION} <= set(
            self._store.names()
        ):
            return "slerp"
        return "angle" if name in self._policy.angle_signals or name == "longitude_deg" else "linear"

    def _gap_ns(self, name: str) -> int:
        if name in self._policy.max_gap_s:
            return round(self._policy.max_gap_s[name] * NS_PER_S)
        period_ns = min(group.period_ns for group in self._store.groups_of(name))
        return max(round(self._policy.max_gap_periods * period_ns), round(self._policy.min_gap_s * NS_PER_S))

    def rows(self, ref_ns: Ns) -> Resampled:
        """All signals at ref_ns (sorted).

        Raises:
            SyncError: signal_boundary, where the policy of a class is `error` and a row has no sample in reach.
        """
        series = self._store.reader(int(ref_ns[0]) - self.margin_ns, int(ref_ns[-1]) + self.margin_ns)
        values: dict[str, Array] = {}
        for name, mode in self.modes.items():
            if name not in values:
                values.update(self._values(name, mode, series, ref_ns))
        keep, counts = np.ones(len(ref_ns), np.bool_), {}
        for name, mode in self.modes.items():
            values[name], counts[name], kept = self._bounded(name, mode, series, ref_ns, values[name])
            keep &= kept
        return Resampled(values, keep, counts)

    def _values(
        self, name: str, mode: Mode, series: Callable[[str], tuple[Ns, Array]], ref_ns: Ns
    ) -> dict[str, Array]:
        stamps, samples = series(name)
        if mode == "hold":
            return {name: _held(ref_ns, stamps, samples, self._age_ns)}
        if mode == "slerp":
            names = [name[:-1] + part[1] for part in _QUATERNION]
            parts = [series(part)[1] for part in names]
            if all(len(part) == len(stamps) for part in parts):
                turned = interpolate_rotations(ref_ns, stamps, np.stack(parts, axis=1), self._gaps_ns[name])
                return dict(zip(names, turned.T, strict=True))
        period = 2 * np.pi if name in self._policy.angle_signals else None
        period = _FULL_CIRCLE_DEG if name == "longitude_deg" else period
        return {name: interpolate(ref_ns, stamps, samples, self._gaps_ns[name], period)}

    def _bounded(
        self, name: str, mode: Mode, series: Callable[[str], tuple[Ns, Array]], ref_ns: Ns, values: Array
    ) -> tuple[Array, dict[str, int], NDArray[np.bool_]]:
        """The boundary policy of the signal's class on the rows that have no value."""
        empty, rule = ~np.isfinite(values), self._policy.boundary[mode]
        kept = np.ones(len(ref_ns), np.bool_)
        if empty.any() and rule == "error":
            raise SyncError(
                f"{name} has no sample in reach of {int(empty.sum())} rows",
                code="signal_boundary",
                remedy="choose null, hold or drop as boundary policy of its class",
            )
        if rule == "hold":
            values = np.where(empty, _held(ref_ns, *series(name), self._age_ns), values)
        elif rule == "drop":
            kept = ~empty
        known = np.isfinite(values)
        counts = {
            "valid": int(known.sum()),
            "boundary": int(empty.sum()),
            "held": int((known & empty).sum()),
        }
        return values, counts, kept


def _held(ref_ns: Ns, stamps: Ns, samples: Array, age_ns: int) -> Array:
    match = hold(ref_ns, stamps, age_ns)
    if not len(samples):
        return np.full(len(ref_ns), np.nan)
    return np.where(match.sample >= 0, samples[np.maximum(match.sample, 0)], np.nan)
