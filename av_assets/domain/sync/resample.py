"""All signals of a drive on the reference grid.

Belongs here: which signal is interpolated and which is held, and the report of it. Does not belong here: the
arithmetic (match), reading (signals).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.sync.grid import NS_PER_S, Ns, period_of
from av_assets.domain.sync.match import hold, interpolate, interpolate_rotations

if TYPE_CHECKING:
    from av_assets.domain.geometry.transforms import Array
    from av_assets.domain.sync.streams import Survey
    from av_assets.policies.sync import SyncPolicy

_QUATERNION = ("qx", "qy", "qz", "qw")
_FULL_CIRCLE_DEG = 360.0


def resample_signals(
    found: Survey, ref_ns: Ns, policy: SyncPolicy
) -> tuple[dict[str, Array], dict[str, Any]]:
    """name -> (rows,) float64 with NaN where unknown, and name -> {source, mode, valid}.

    Linear for measurements, the shorter way round for angles and longitude, SLERP for quaternions, the
    last value for
    discrete signals. Nothing is extrapolated, or interpolated across more than max_gap_periods of the signal.
    """
    values: dict[str, Array] = {}
    report: dict[str, Any] = {}
    for name in found.signals.names():
        source = found.signals.source(name)
        stamps, samples = found.signals.series(name, found.stamps[source].used_ns)
        if name not in values:
            mode, resampled = _resample(found, name, stamps, samples, ref_ns, policy)
            values.update(resampled)
        valid = round(float(np.isfinite(values[name]).mean()), 6)
        report[name] = {"topic": source, "mode": mode, "samples": len(samples), "valid": valid}
    return values, report


def _resample(
    found: Survey, name: str, stamps: Ns, samples: Array, ref_ns: Ns, policy: SyncPolicy
) -> tuple[str, dict[str, Array]]:
    if name in policy.hold_signals:
        match = hold(ref_ns, stamps, round(policy.hold_max_age_s * NS_PER_S))
        held = np.where(match.sample >= 0, samples[np.maximum(match.sample, 0)], np.nan)
        return "hold", {name: held}
    floor_ns = round(policy.min_gap_s * NS_PER_S)
    gap_ns = max(round(policy.max_gap_periods * period_of(np.sort(stamps))), floor_ns)
    stem = name.removesuffix("qw")
    names = [stem + part for part in _QUATERNION]
    if name.endswith("_qw") and set(names) <= set(found.signals.names()):
        series = [found.signals.series(n, found.stamps[found.signals.source(n)].used_ns)[1] for n in names]
        turned = interpolate_rotations(ref_ns, stamps, np.stack(series, axis=1), gap_ns)
        return "slerp", dict(zip(names, turned.T, strict=True))
    period = 2 * np.pi if name in policy.angle_signals else None
    period = _FULL_CIRCLE_DEG if name == "longitude_deg" else period
    mode = "linear" if period is None else "angle"
    return mode, {name: interpolate(ref_ns, stamps, samples, gap_ns, period)}
