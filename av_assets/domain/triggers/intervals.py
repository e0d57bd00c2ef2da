"""Exact intervals of shares and rates. Belongs here: those two. Does not belong here: what they judge."""

from __future__ import annotations


def share_interval(hits: int, total: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a share by Clopper and Pearson (1934); everything where nothing was counted."""
    from scipy.stats import beta

    if total == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, total - hits)) if hits < total else 1.0
    return low, high


def rate_interval(count: int, hours: float, confidence: float) -> tuple[float, float]:
    """Two-sided interval of events per hour by Garwood (1936), for counts that are Poisson.

    Raises:
        ValueError: hours are not positive.
    """
    from scipy.stats import chi2

    if hours <= 0:
        raise ValueError("a rate needs hours")
    tail = (1 - confidence) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low / hours, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2 / hours
