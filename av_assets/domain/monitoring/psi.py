"""Population stability index on bins that the reference fixed once.

Belongs here: edges, counts, the index and its size limit. Does not belong here: features, drives, decisions.
Bins of one feature, in this order: below the reference minimum, the quantile bins, above the reference
maximum, missing. The out-of-range bins are empty in the reference by construction. They are kept, so that a
reader sees what the reference never held; for the index they are folded into their neighbours, because bins
that are empty on one side by construction would take the index over its size limit four times as often as the
limit says (measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def quantile_edges(values: npt.ArrayLike, bins: int = 10) -> list[float]:
    """Edges (up to bins + 1, ascending, min and max included) of the quantile bins of the finite values.

    Ties collapse edges, so a feature with few distinct values gets fewer bins; a feature without values
    gets none. A minimum that fills a bin (such as a count of 0) gets that bin for itself.
    """
    data = np.asarray(values, dtype=np.float64)
    data = data[np.isfinite(data)]
    if data.size == 0:
        return []
    quantiles = np.quantile(data, np.linspace(0.0, 1.0, bins + 1), method="inverted_cdf")
    edges = [float(edge) for edge in np.unique(quantiles)]
    return [float(np.nextafter(edges[0], -np.inf)), *edges] if quantiles[0] == quantiles[1] else edges


def bin_counts(values: npt.ArrayLike, edges: Sequence[float]) -> Counts:
    """Counts (len(edges) + 2,): below, the quantile bins, above, missing. NaN is missing; infinities are
    out of range.

    Bins are half-open (low, high], the first one closed, so that tied values at an edge stay together.
    """
    data = np.asarray(values, dtype=np.float64)
    missing = int(np.isnan(data).sum())
    data = data[~np.isnan(data)]
    if len(edges) == 0:
        return np.array([0, data.size, missing], dtype=np.int64)
    slots = max(len(edges) - 1, 1)
    place = np.clip(np.searchsorted(np.asarray(edges), data, side="left"), 1, slots)
    place = np.where(data < edges[0], 0, np.where(data > edges[-1], slots + 1, place))
    return np.append(np.bincount(place, minlength=slots + 2), missing).astype(np.int64)


def fold_out_of_range(counts: Counts, missing: bool = True) -> Counts:
    """Counts (..., B) of `bin_counts` with the two out-of-range bins added to their neighbours.

    The missing bin is left out where `missing` is false. With fewer than two quantile bins nothing is folded:
    nothing would be left to compare.
    """
    inner = counts[..., 1:-2].copy()
    lost = counts[..., -1:] if missing else counts[..., :0]
    if inner.shape[-1] < 2:
        return np.concatenate([counts[..., :-1], lost], axis=-1)
    inner[..., 0] += counts[..., 0]
    inner[..., -1] += counts[..., -2]
    return np.concatenate([inner, lost], axis=-1)


def psi(reference: npt.ArrayLike, current: npt.ArrayLike, floor: float = 1e-4) -> Floats:
    """PSI of counts or shares, summed over the last axis: sum (a - e) ln(a / e), with shares of at least
    `floor`.

    Shapes (..., B) and (..., B) -> (...). A side without any count gives nan.
    """
    expected = np.maximum(_shares(reference), floor)
    actual = np.maximum(_shares(current), floor)
    result: Floats = np.sum((actual - expected) * np.log(actual / expected), axis=-1)
    return result


def _shares(counts: npt.ArrayLike) -> Floats:
    data = np.asarray(counts, dtype=np.float64)
    total = data.sum(axis=-1, keepdims=True)
    shares: Floats = np.divide(data, total, out=np.full_like(data, np.nan), where=total > 0)
    return shares


def occupied_bins(reference: npt.ArrayLike, current: npt.ArrayLike) -> int:
    """Number of bins that either side uses; empty ones add nothing to the index and no degree of freedom."""
    return int(((np.asarray(reference) > 0) | (np.asarray(current) > 0)).sum())


def psi_limit(n: int, m: int, bins: int, alpha: float = 0.05) -> float:
    """What PSI stays below with probability 1 - alpha when nothing changed (Yurdakul 2018).

    PSI * n m / (n + m) is then about chi-square with bins - 1 degrees of freedom. Rows are taken as
    independent, which rows of one drive are not: the permutation of drives is the second guard.
    """
    from scipy.stats import chi2

    if min(n, m) < 1 or bins < 2:
        return 0.0
    return float(chi2.ppf(1.0 - alpha, bins - 1)) * (1.0 / n + 1.0 / m)
