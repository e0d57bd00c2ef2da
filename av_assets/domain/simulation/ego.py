"""How the ego vehicle moves: speed program from the script, lane keeping, and the signals that follow.

Belongs here: noise-free truth on a 100 Hz grid. Does not belong here: measured signals (signals, canbus).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.simulation.road import LANES_D_M, Array, Road

if TYPE_CHECKING:
    from av_assets.domain.simulation.script import DriveScript

STEP_S = 0.01
MARGIN_S = (
    12.0  # other vehicles are copies of this motion shifted in time, so it must reach beyond the recording
)
WHEELBASE_M = 2.8
FRONT_BUMPER_X_M, REAR_BUMPER_X_M = 3.8, -1.0
DISENGAGED_S = 3.5
CROSSING_S = 5.0
JERK_MPS3 = 18.0


@dataclass(frozen=True)
class Ego:
    """State of the ego vehicle at `t_s` (seconds after the start); all arrays have its shape."""

    t_s: Array
    s_m: Array
    d_m: Array
    speed_mps: Array
    accel_mps2: Array
    x_m: Array
    y_m: Array
    yaw_rad: Array
    yaw_rate_radps: Array
    steering_rad: Array
    brake: Array
    engaged: Array

    def at(self, name: str, t_s: Array | float) -> Array:
        """The field `name` at times `t_s`, linear between samples."""
        return np.asarray(np.interp(t_s, self.t_s, getattr(self, name)))

    def pose(self, t_s: float) -> tuple[float, float, float]:
        """World x, y, yaw at one time."""
        position = (t_s - self.t_s[0]) / STEP_S
        index = min(max(int(position), 0), len(self.t_s) - 2)
        part = position - index
        low, high = index, index + 1
        return (
            float(self.x_m[low] + part * (self.x_m[high] - self.x_m[low])),
            float(self.y_m[low] + part * (self.y_m[high] - self.y_m[low])),
            float(self.yaw_rad[low] + part * (self.yaw_rad[high] - self.yaw_rad[low])),
        )


def speed_program(script: DriveScript) -> list[tuple[float, float, float]]:
    """Steps (from_s, target speed in m/s, limit of acceleration in m/s2) in time order."""
    cruise = script.speed_mps
    steps = [(-MARGIN_S, cruise, 1.5)]
    for at in script.times("harsh_brake"):
        steps += [(at, 2.0, 5.5), (at + 3.2, cruise, 1.8)]
    for at in script.times("stationary_hazard"):
        steps += [(at, 0.0, 4.0), (at + 6.5, cruise, 1.8)]
    for at in script.times("cut_in"):
        steps += [(at + 1.2, cruise - 2.5, 1.5), (at + 4.5, cruise, 1.2)]
    for at in crossing_times(script):
        steps += [(at, 4.0, 1.8), (at + CROSSING_S, cruise, 2.5)]
    return sorted(steps)


def crossing_times(script: DriveScript) -> tuple[float, ...]:
    """When the ego vehicle begins to slow for a crossing: moments that are clear of the scripted events."""
    if not script.pace:
        return ()
    busy = [event.at_s for event in script.events]
    wanted = (-2.5, script.seconds * 0.5, script.seconds - 6.5)
    times: list[float] = []
    for at in wanted:
        # Events start from cruising speed: the slow stretch and the way back to it must be over.
        clear = all(at + CROSSING_S + 3.6 <= b or at >= b + 8.0 for b in busy)
        if clear and all(abs(at - other) >= 6.5 for other in times):
            times.append(at)
    return tuple(times)


def _longitudinal(script: DriveScript, t_s: Array) -> tuple[Array, Array, Array]:
    """s, speed and acceleration: a jerk-limited controller that follows the speed program."""
    steps = speed_program(script)
    s, v, a = 0.0, script.speed_mps, 0.0
    out = np.empty((3, len(t_s)))
    index = 0
    for i, t in enumerate(t_s):
        while index + 1 < len(steps) and steps[index + 1][0] <= t:
            index += 1
        _, target, limit = steps[index]
        wanted = min(max(4.0 * (target - v), -limit), limit)
        a += min(max(wanted - a, -JERK_MPS3 * STEP_S), JERK_MPS3 * STEP_S)
        if v + a * STEP_S <= 0.02 and target == 0.0:
            v, a = 0.0, 0.0
        out[:, i] = s, v, a
        s += v * STEP_S + 0.5 * a * STEP_S**2
        v = max(v + a * STEP_S, 0.0)
    return out[0] - np.interp(0.0, t_s, out[0]), out[1], out[2]


def drive_ego(script: DriveScript, road: Road) -> Ego:
    """The whole motion, from MARGIN_S before the recording until MARGIN_S after it."""
    count = round((script.seconds + 2 * MARGIN_S) / STEP_S) + 1
    t: Array = np.arange(count, dtype=np.float64) * STEP_S - MARGIN_S
    s, v, a = _longitudinal(script, t)
    lane = LANES_D_M["left" if script.zone == "construction" else "right"]
    d = lane + 0.12 * np.sin(s / 23.0 + script.seed)
    x, y, heading = road.pose(s, d)
    yaw = heading + 0.12 / 23.0 * np.cos(s / 23.0 + script.seed)
    yaw_rate: Array = np.gradient(yaw, STEP_S)
    curvature = yaw_rate / np.maximum(v, 0.5)
    engaged = np.ones(count)
    brake = np.clip(-(a + 0.25) / 8.0, 0.0, 1.0)
    for at in script.times("disengagement"):
        engaged[(t >= at) & (t < at + DISENGAGED_S)] = 0.0
        if script.seed % 2:  # the driver takes over with the pedal; otherwise the system gives up
            brake[(t >= at - 0.2) & (t < at + 0.6)] = np.maximum(
                brake[(t >= at - 0.2) & (t < at + 0.6)], 0.08
            )
    steering = np.arctan(WHEELBASE_M * curvature)
    return Ego(t, s, d, v, a, x, y, yaw, yaw_rate, steering, brake, engaged)
