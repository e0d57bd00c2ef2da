"""Where alerts come and go: cells of H3 on longitude and latitude, coloured by the difference.

Belongs here: the picture. Does not belong here: counting.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_CELLS = 5000  # the largest differences are drawn; the table holds all


def heat_png(cells: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG of proposed minus active alerts per cell; says so where no alert has a position."""
    import h3
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    counts: dict[str, list[int]] = {}
    for row in cells:
        if row["h3_cell"]:
            both = counts.setdefault(row["h3_cell"], [0, 0])
            both[0] += row["active"]
            both[1] += row["proposed"]
    shown = sorted(counts, key=lambda c: (-abs(counts[c][1] - counts[c][0]), c))[:MAX_CELLS]
    figure = Figure(figsize=(8, 6))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title("alerts of the proposed version minus the active one, by H3 cell")
    if not shown:
        axes.text(0.5, 0.5, "no alert has a position", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return _png(figure)
    rings = [[(lng, lat) for lat, lng in h3.cell_to_boundary(cell)] for cell in shown]
    gained = [counts[cell][1] - counts[cell][0] for cell in shown]
    limit = max(1, *(abs(g) for g in gained))
    drawn = PolyCollection(rings, array=gained, cmap="RdBu_r", clim=(-limit, limit), edgecolors="0.4")
    axes.add_collection(drawn)
    for cell, ring in zip(shown[:60], rings, strict=False):
        x, y = (sum(p[axis] for p in ring) / len(ring) for axis in (0, 1))
        axes.text(x, y, f"{counts[cell][0]}→{counts[cell][1]}", ha="center", va="center", fontsize=6)
    axes.autoscale_view()
    axes.set_aspect(1 / max(0.1, math.cos(math.radians(sum(axes.get_ylim()) / 2))))
    axes.set_xlabel("longitude [deg]")
    axes.set_ylabel("latitude [deg]")
    figure.colorbar(drawn, ax=axes, label="alerts more (red) or fewer (blue)")
    return _png(figure)


def _png(figure: Any) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110, metadata={"Software": None})
    return held.getvalue()
