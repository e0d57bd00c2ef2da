"""Is a change larger than the one between drives? Permutation of whole drives, and correction over many
features.

Belongs here: p-values and their correction. Does not belong here: PSI, thresholds.
"""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.monitoring.psi import Counts, Floats


def ks_distance(reference: Floats, current: Floats) -> Floats:
    """Kolmogorov-Smirnov distance of ordered counts (..., B): largest difference of the two cumulative shares."""
    first, second = (np.cumsum(side, axis=-1) for side in (reference, current))
    totals = np.maximum(first[..., -1:], 1e-9), np.maximum(second[..., -1:], 1e-9)
    distance: Floats = np.abs(first / totals[0] - second / totals[1]).max(axis=-1)
    return distance


def drive_permutation_p(
    reference: Counts, current: Counts, permutations: int, rng: np.random.Generator
) -> float:
    """p-value of the Kolmogorov-Smirnov distance under exchange of whole drives between the two sides.

    reference (R, B) and current (C, B) are counts per drive on ordered bins. Frames of one drive resemble each
    other, so drives and not rows are exchanged. All C(R + C, C) choices are counted when they are at most
    `permutations` (the p-value is then exact), else that many are drawn and the observed one is added, which
    keeps the test valid. The distance and not PSI is permuted: PSI of a few drives is large for nearly every
    choice of drives, because each of them fills bins that the others leave empty.
    """
    counts = np.concatenate([reference, current]).astype(np.float64)
    picks = _picks(len(reference), len(current), permutations, rng)
    shifted = picks.astype(np.float64) @ counts
    values = ks_distance(counts.sum(axis=0) - shifted, shifted)
    # A tolerance, because equal choices summed in another order differ in the last bits.
    return float(np.mean(values >= values[0] - 1e-12))


def _picks(
    n_reference: int, n_current: int, permutations: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Rows of a (P, R + C) mask of the drives taken as current; the first row is the observed choice."""
    total = n_reference + n_current
    observed = np.arange(total) >= n_reference
    if comb(total, n_current) <= permutations:
        picks = np.zeros((comb(total, n_current), total), dtype=bool)
        for row, chosen in enumerate(combinations(range(total - 1, -1, -1), n_current)):
            picks[row, list(chosen)] = True
        return picks
    order = np.argsort(rng.random((permutations, total)), axis=1)
    return np.concatenate([observed[None], order >= n_reference])


def smallest_p(n_reference: int, n_current: int, permutations: int) -> float:
    """The smallest p-value that so many drives can give at all."""
    return 1.0 / min(comb(n_reference + n_current, n_current), permutations + 1)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order (Benjamini and Hochberg 1995): reject where <= alpha."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [float(value) for value in adjusted]
