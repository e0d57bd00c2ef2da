"""How critical a meeting is: the published formulas for time to collision, cut-ins, crossings and safe distance.

Belongs here: formulas with their published numbers as defaults. Does not belong here: when a figure makes an
event (the detectors and their policy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.events.windows import Array

if TYPE_CHECKING:
    from av_assets.policies.events import CutInThresholds, RssThresholds

# UN R157 5.2.5.2: a cut-in must be handled when TTC exceeds v_rel / (2 * 6 m/s2) + 0.35 s.
R157_DECEL_MPS2, R157_DELAY_S = 6.0, 0.35
# EU 2022/1426 and AFGBV: v_rel / (2 a) + 0.1 s + tau / 2; a = 2.4, tau = 0.12 s with standing passengers.
AFGBV_DECEL_MPS2, AFGBV_BUILDUP_S, AFGBV_REACTION_S = 6.0, 0.3, 0.1


def r157_ttc_limit_s(
    closing_mps: float, decel_mps2: float = R157_DECEL_MPS2, delay_s: float = R157_DELAY_S
) -> float:
    """Time to collision above which UN R157 5.2.5.2 expects a cut-in to be avoided.

    >>> round(r157_ttc_limit_s(40 / 3.6), 2)
    1.28
    """
    return closing_mps / (2 * decel_mps2) + delay_s


def afgbv_ttc_limit_s(
    closing_mps: float,
    decel_mps2: float = AFGBV_DECEL_MPS2,
    buildup_s: float = AFGBV_BUILDUP_S,
    reaction_s: float = AFGBV_REACTION_S,
) -> float:
    """Time to collision above which EU 2022/1426 and the German AFGBV expect a cut-in to be avoided.

    >>> [round(afgbv_ttc_limit_s(60 / 3.6, *numbers), 2) for numbers in ((6.0, 0.3), (2.4, 0.12))]
    [1.64, 3.63]
    """
    return closing_mps / (2 * decel_mps2) + reaction_s + buildup_s / 2


def ttc_limits_s(closing_mps: float, limits: CutInThresholds) -> dict[str, float]:
    """The three limits by the numbers of the policy: r157, afgbv, afgbv_standing."""
    seated = (limits.afgbv_decel_mps2, limits.afgbv_buildup_s, limits.afgbv_reaction_s)
    standing = (limits.afgbv_standing_decel_mps2, limits.afgbv_standing_buildup_s, limits.afgbv_reaction_s)
    return {
        "r157": r157_ttc_limit_s(closing_mps, limits.r157_decel_mps2, limits.r157_delay_s),
        "afgbv": afgbv_ttc_limit_s(closing_mps, *seated),
        "afgbv_standing": afgbv_ttc_limit_s(closing_mps, *standing),
    }


def ttc_s(gap_m: Array, closing_mps: Array) -> Array:
    """Gap over closing speed, elementwise; infinite where the gap does not close, NaN where unknown."""
    closing = closing_mps > 0
    known = np.isfinite(gap_m) & np.isfinite(closing_mps)
    ratio = gap_m / np.where(closing, closing_mps, 1.0)
    return np.asarray(np.where(known, np.where(closing, ratio, np.inf), np.nan))


def rss_gap_m(
    rear_mps: Array | float,
    front_mps: Array | float,
    response_s: float = 1.0,
    accel_mps2: float = 3.5,
    brake_min_mps2: float = 4.0,
    brake_max_mps2: float = 8.0,
) -> Array:
    """Least safe distance behind a vehicle that drives the same way, never below zero (Shalev-Shwartz 2017).

    v_r rho + a rho^2 / 2 + (v_r + rho a)^2 / (2 b_min) - v_f^2 / (2 b_max).

    >>> round(float(rss_gap_m(20.0, 20.0)), 2)
    65.78
    """
    rear, front = np.asarray(rear_mps, np.float64), np.asarray(front_mps, np.float64)
    reaction = rear * response_s + accel_mps2 * response_s**2 / 2
    stopping = (rear + response_s * accel_mps2) ** 2 / (2 * brake_min_mps2)
    return np.asarray(np.maximum(reaction + stopping - front**2 / (2 * brake_max_mps2), 0.0))


def rss_gap_under(rear_mps: Array, front_mps: Array, limits: RssThresholds) -> Array:
    """`rss_gap_m` with the numbers of the policy."""
    numbers = (limits.response_s, limits.accel_mps2, limits.brake_min_mps2, limits.brake_max_mps2)
    return rss_gap_m(rear_mps, front_mps, *numbers)
