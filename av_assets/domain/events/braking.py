"""Harsh braking, and whether wheel speed, IMU and brakes tell the same.

Belongs here: decelerations and their cross-check. Does not belong here: other manoeuvres, reading clips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from av_assets.domain.events.windows import (
    NS_PER_S,
    Array,
    Event,
    Ns,
    Window,
    levelled,
    samples,
    smooth,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.policies.events import EventsPolicy

# Signals of the brakes, the better one first, and the unit in which evidence gives their highest value.
_BRAKES: Final = (("brake_pressure_bar", "pressure_bar"), ("brake", "applied_share"))


class Sources(NamedTuple):
    """What may tell of a braking: accelerations by source in m/s2 (N,), and the signals of the brakes (N,).

    Accelerations: `vehicle` (the vehicle's own accel_mps2), `wheel_speed` (slope of the speed), `imu`.
    """

    accelerations: Mapping[str, Array]
    brakes: Mapping[str, Array]


def harsh_brakes(
    times_ns: Ns, accel_mps2: Array, policy: EventsPolicy, sources: Sources | None = None
) -> list[Event]:
    """Stretches of deceleration (N,) at level 1 or more; the level is the highest that holds for
    min_duration_s.

    `peak` is the strongest smoothed deceleration in m/s2 (positive). Evidence holds what each of `sources` says
    and whether they agree; a disagreement changes neither level nor count.
    """
    decel = -smooth(times_ns, accel_mps2, policy.smoothing_hz, policy.median_s)
    levels, least_s = policy.brake.levels_mps2, policy.brake.min_duration_s
    smoothed = _smoothed(times_ns, sources, policy)
    events = []
    for window, level, held_s in levelled(times_ns, decel, levels, least_s, policy):
        at = window.first + int(np.nanargmax(decel[window.first : window.last + 1]))
        told = cross_check(smoothed, window, float(decel[at]), policy)
        evidence = {
            "min_accel_mps2": round(-float(decel[at]), 3),
            "level_held_s": round(held_s, 3),
            "sampled": "accel_mps2",
            "samples": samples(times_ns, -decel, window, at),
            **told,
        }
        tags = tuple(
            tag
            for tag, on in (
                ("sources_disagree", told["sources_agree"] is False),
                ("lone_source", told["lone_source"] is not None),
            )
            if on
        )
        start_ns, end_ns = int(times_ns[window.first]), int(times_ns[window.last])
        events.append(Event("harsh_brake", level, start_ns, end_ns, float(decel[at]), evidence, tags))
    return events


def _smoothed(times_ns: Ns, sources: Sources | None, policy: EventsPolicy) -> Sources:
    if sources is None:
        return Sources({}, {})
    filtered = {
        name: smooth(times_ns, values, policy.smoothing_hz, policy.median_s)
        for name, values in sources.accelerations.items()
    }
    return Sources(filtered, sources.brakes)


def cross_check(smoothed: Sources, window: Window, peak_mps2: float, policy: EventsPolicy) -> dict[str, Any]:
    """What each source says of a window, who disagrees, and who stands alone.

    `sources`: strongest deceleration of each in m/s2, highest brake signal; null where it is silent.
    `sources_agree` is null with fewer than two sources that speak.
    """
    part = slice(window.first, window.last + 1)
    said: dict[str, float | None] = {}
    agreeing: dict[str, bool] = {}
    for name, values in sorted(smoothed.accelerations.items()):
        known = values[part][np.isfinite(values[part])]
        said[f"{name}_decel_mps2"] = round(float(-known.min()), 3) if len(known) else None
        if len(known):
            agreeing[name] = abs(-float(known.min()) - peak_mps2) <= policy.brake.agree_mps2
    for name, threshold in _BRAKES:
        if name in smoothed.brakes:
            known = smoothed.brakes[name][part]
            known = known[np.isfinite(known)]
            said[name] = round(float(known.max()), 3) if len(known) else None
            if len(known) and "brakes" not in agreeing:
                agreeing["brakes"] = float(known.max()) >= getattr(policy.brake, threshold)
    speaking = sorted(agreeing)
    return {
        "sources": said,
        "sources_agree": all(agreeing.values()) if len(speaking) > 1 else None,
        "disagreeing": [name for name in speaking if not agreeing[name]],
        "lone_source": speaking[0] if len(speaking) == 1 else None,
    }


def acceleration(times_ns: Ns, signals: Mapping[str, Array], policy: EventsPolicy) -> Array | None:
    """Longitudinal acceleration (N,) in m/s2: the vehicle's own, else from speed, else the IMU's (tilt
    included)."""
    found = brake_sources(times_ns, signals, policy).accelerations
    return next((found[name] for name in ("vehicle", "wheel_speed", "imu") if name in found), None)


def brake_sources(times_ns: Ns, signals: Mapping[str, Array], policy: EventsPolicy) -> Sources:
    """The sources that a drive has."""
    accelerations: dict[str, Array] = {}
    if "accel_mps2" in signals:
        accelerations["vehicle"] = signals["accel_mps2"]
    if "speed_mps" in signals and len(times_ns) > 1:
        accelerations["wheel_speed"] = slope(times_ns, signals["speed_mps"], policy.max_gap_s)
    if "imu_ax_mps2" in signals:
        accelerations["imu"] = signals["imu_ax_mps2"]
    return Sources(accelerations, {name: signals[name] for name, _ in _BRAKES if name in signals})


def slope(times_ns: Ns, values: Array, max_gap_s: float) -> Array:
    """Central differences per second over neighbours at most max_gap_s apart; NaN at holes."""
    rise, run_s = np.diff(values), np.diff(times_ns) / NS_PER_S
    steps = np.where(run_s <= max_gap_s, rise / run_s, np.nan)
    both = np.stack([np.concatenate([[np.nan], steps]), np.concatenate([steps, [np.nan]])])
    known = np.isfinite(both)
    total = np.where(known, both, 0.0).sum(axis=0)
    return np.asarray(np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan))
