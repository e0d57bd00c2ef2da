"""The drift report as a picture. Belongs here: drawing. Does not belong here: judging."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av_assets.domain.monitoring.drift import DriftReport

_COLOURS = {"ok": "#4c956c", "moderate": "#e9a23b", "alarm": "#c8553d", "insufficient": "#9aa0a6"}


def drift_png(report: DriftReport) -> bytes:
    """PNG: PSI of every feature with its size limit, and the shares per bin of the worst ones. Same
    report, same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [f for f in report.features if f.psi is not None]
    worst = shown[:3]
    figure = Figure(figsize=(10, 2.2 + 0.28 * len(shown) + (2.4 if worst else 0)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2 if worst else 1, max(len(worst), 1), height_ratios=[2, 1.2] if worst else None
    )
    axes = figure.add_subplot(grid[0, :])
    names = [f.feature for f in shown][::-1]
    axes.barh(names, [f.psi or 0 for f in shown][::-1], color=[_COLOURS[f.state] for f in shown][::-1])
    axes.scatter(
        [f.psi_limit or 0 for f in shown][::-1], names, marker="|", s=120, color="black", label="size limit"
    )
    axes.set_xlabel("population stability index")
    axes.set_title(
        f"drift: {report.state} ({report.drives_current} drives against {report.drives_reference})"
    )
    if shown:
        axes.legend(loc="lower right")
    for column, feature in enumerate(worst):
        _bins(
            figure.add_subplot(grid[1, column]),
            feature.feature,
            feature.reference_shares,
            feature.current_shares,
        )
    out = BytesIO()
    figure.savefig(out, format="png", dpi=90, metadata={"Software": None})
    return out.getvalue()


def _bins(axes: Any, name: str, reference: tuple[float, ...], current: tuple[float, ...]) -> None:
    places = range(len(reference))
    axes.bar([p - 0.2 for p in places], reference, 0.4, color="#9aa0a6", label="baseline")
    axes.bar([p + 0.2 for p in places], current, 0.4, color="#33658a", label="current")
    axes.set_title(name, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.set_xticks([0, len(reference) - 2, len(reference) - 1], ["low", "high", "none"])
    axes.legend(fontsize=7)
