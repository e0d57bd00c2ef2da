"""A Kalman filter for things that move evenly, and its smoother in both directions.

State: place and rate of every coordinate, (2 n,). Kalman, "A new approach to linear filtering and prediction problems",
1960; Rauch, Tung and Striebel, "Maximum likelihood estimates of linear dynamic systems", 1965.
Belongs here: that algebra. Does not belong here: which measurement is whose (tracking), what the coordinates mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """Estimate at `time_s`: `mean` (2 n,) places then rates, `spread` (2 n, 2 n) covariance."""

    time_s: float
    mean: Floats
    spread: Floats

    @property
    def place(self) -> Floats:
        return self.mean[: len(self.mean) // 2]

    @property
    def rate(self) -> Floats:
        return self.mean[len(self.mean) // 2 :]


def begin(time_s: float, measured: Floats, noise: Floats, rate_sigma: Floats) -> State:
    """First state: at the measured place (n,), rate 0 within `rate_sigma` (n,); `noise` (n, n) covariance."""
    n = len(measured)
    spread = np.zeros((2 * n, 2 * n))
    spread[:n, :n], spread[n:, n:] = noise, np.diag(rate_sigma**2)
    return State(time_s, np.concatenate([measured, np.zeros(n)]), spread)


def predict(state: State, time_s: float, accel_sigma: Floats) -> State:
    """The state at `time_s`, its rates disturbed by white acceleration `accel_sigma` (n,) per root second."""
    step = time_s - state.time_s
    move, disturbed = _motion(step, accel_sigma)
    return State(time_s, move @ state.mean, move @ state.spread @ move.T + disturbed)


def innovation(state: State, measured: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """What the measurement (n,) says beyond the prediction, and the covariance (n, n) of that."""
    n = len(measured)
    return measured - state.place, state.spread[:n, :n] + noise


def update(state: State, measured: Floats, noise: Floats) -> State:
    """The state after a measurement (n,) of all places (Joseph's form, which stays symmetric)."""
    n = len(measured)
    beyond, total = innovation(state, measured, noise)
    gain = np.linalg.solve(total, state.spread[:n]).T
    kept = np.eye(2 * n)
    kept[:, :n] -= gain
    return State(
        state.time_s, state.mean + gain @ beyond, kept @ state.spread @ kept.T + gain @ noise @ gain.T
    )


def smooth(filtered: Sequence[State], accel_sigma: Floats) -> list[State]:
    """Every filtered state, in time order, corrected by all that came after it."""
    if not filtered:
        return []
    result = [filtered[-1]]
    for state in reversed(filtered[:-1]):
        later = result[-1]
        move, disturbed = _motion(later.time_s - state.time_s, accel_sigma)
        ahead = move @ state.spread @ move.T + disturbed
        back = np.linalg.solve(ahead, move @ state.spread).T
        mean = state.mean + back @ (later.mean - move @ state.mean)
        result.append(State(state.time_s, mean, state.spread + back @ (later.spread - ahead) @ back.T))
    return result[::-1]


def _motion(step_s: float, accel_sigma: Floats) -> tuple[Floats, Floats]:
    n = len(accel_sigma)
    move = np.eye(2 * n)
    move[:n, n:] = np.eye(n) * step_s
    part = np.array([[step_s**3 / 3, step_s**2 / 2], [step_s**2 / 2, step_s]])
    disturbed: Floats = np.kron(part, np.diag(accel_sigma**2))
    return move, disturbed
