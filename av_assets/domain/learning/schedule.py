"""When: the learning rate of each step, and how long to wait between two checkpoints.

Belongs here: functions of counts and seconds. Does not belong here: optimisers, clocks, files.
"""

from __future__ import annotations

import math


def learning_rate_share(step: int, steps: int, warmup_share: float, floor: float) -> float:
    """Share of the peak learning rate at `step` of `steps`: linear warm-up, then a cosine down to `floor`."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def young_interval_s(write_s: float, mean_s_between_failures: float) -> float:
    """Seconds between checkpoints that lose the least time to writing and to doing work again.

    sqrt(2 C M) for writes of C seconds and a failure every M seconds: J. W. Young, "A first order approximation to
    the optimum checkpoint interval", CACM 17(9), 1974. It holds for C much shorter than M; never below C itself.
    """
    return max(write_s, math.sqrt(2 * write_s * mean_s_between_failures))
