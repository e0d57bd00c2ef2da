"""The coverage as a picture: one heat map per pair of dimensions.

Belongs here: drawing. Does not belong here: counting.
"""

from __future__ import annotations

from io import BytesIO
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.mining.columns import UNKNOWN
from av_assets.domain.mining.coverage import DIMENSIONS, pairs, share_seen

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.policies.coverage import CoveragePolicy


def coverage_png(cells: pa.Table, policy: CoveragePolicy, title: str) -> bytes:
    """PNG of hours per pair of values, those below the minimum in red; what is unknown is a row and column of its own.

    Same cells, same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(18, 24), layout="constrained")
    FigureCanvasAgg(figure)
    rows = cells.to_pylist()
    combined = list(combinations(DIMENSIONS, 2))
    for axes, (a, b) in zip(figure.subplots(5, 2).flat, combined, strict=True):
        _heat_map(axes, rows, a, b, policy)
    seen = share_seen(pairs(cells, policy))
    hours = sum(row["hours"] for row in rows)
    figure.suptitle(
        f"{title}: hours per pair of values, {hours:.3g} h in all, {seen:.0%} of the pairs have {policy.min_hours:g} h",
        fontsize=15,
    )
    out = BytesIO()
    figure.savefig(out, format="png", dpi=60, metadata={"Software": None})
    return out.getvalue()


def _heat_map(axes: Any, rows: list[dict[str, Any]], a: str, b: str, policy: CoveragePolicy) -> None:
    ys, xs = _shown(rows, a, policy), _shown(rows, b, policy)
    hours = np.zeros((len(ys), len(xs)))
    for row in rows:
        hours[ys.index(row[a]), xs.index(row[b])] += row["hours"]
    impossible = {frozenset(pair.items()) for pair in policy.impossible}
    # A small fleet has colours too; what is short of the minimum is told by the ink.
    full = max(float(hours.max()), policy.min_hours / 20)
    axes.imshow(np.sqrt(hours / full), cmap="Blues", aspect="auto", vmin=0, vmax=2.4)
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            expected = y in policy.values(a) and x in policy.values(b)
            never = frozenset({(a, y), (b, x)}) in impossible
            short = expected and not never and hours[i, j] < policy.min_hours
            text = "cannot be" if never else f"{hours[i, j]:.2g}" if hours[i, j] else "-"
            axes.text(
                j, i, text, ha="center", va="center", fontsize=9, color="#b02318" if short else "#222222"
            )
    axes.set_xticks(range(len(xs)), xs, rotation=30, ha="right")
    axes.set_yticks(range(len(ys)), ys)
    axes.set_xlabel(b)
    axes.set_ylabel(a)


def _shown(rows: list[dict[str, Any]], dimension: str, policy: CoveragePolicy) -> list[str]:
    """Expected values, then those that were met besides, "unknown" last and always."""
    expected = list(policy.values(dimension))
    others = sorted({row[dimension] for row in rows} - set(expected) - {UNKNOWN})
    return [*expected, *others, UNKNOWN]
