"""What synchronization says about itself: per stream what matched, and how far off its expected time it was.

Belongs here: figures and the picture of sync_report.json. Does not belong here: matching.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.sync.grid import Ns, period_of
from av_assets.domain.sync.match import Match, pair_offsets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from av_assets.domain.sync.streams import Stamps

PERCENTILES = (50, 95, 99)
_PIXELS_PER_INCH = 110


def percentiles(values_ns: NDArray) -> dict[str, int | None]:
    """p50, p95, p99 as whole ns (None without values), by the nearest rank so that each is a value that
    occurred."""
    if not len(values_ns):
        return {f"p{p}": None for p in PERCENTILES}
    ranks = np.percentile(values_ns, PERCENTILES, method="inverted_cdf")
    return {f"p{p}": int(v) for p, v in zip(PERCENTILES, ranks, strict=True)}


def stream_report(
    ref_ns: Ns, stamps: Stamps, match: Match, phase_ns: int, tolerance_ns: int, bins: int
) -> dict[str, Any]:
    """Counts and residuals of one stream.

    `residual_ns` are distances to the expected phase over all frames that the slower side could have
    paired, before
    any tolerance: a dropped frame shows as a residual of a period, where matched pairs alone would
    always look good.
    `expected` is how many rows a stream of this rate can fill, `missing` how many of those stayed empty.
    """
    used = match.sample[match.sample >= 0]
    distinct = len(np.unique(used))
    offsets_ns = pair_offsets(ref_ns, stamps.used_ns, phase_ns)
    residual_ns = np.abs(offsets_ns)
    expected = _expected(ref_ns, stamps.used_ns)
    within = float((residual_ns <= tolerance_ns).mean()) if len(residual_ns) else 0.0
    summary = percentiles(residual_ns)
    return {
        "samples": len(stamps.used_ns),
        "matched": len(used),
        "expected": expected,
        "missing": max(0, expected - len(used)),
        "empty_rows": len(ref_ns) - len(used),
        "orphans": len(stamps.used_ns) - distinct,
        "duplicates": len(stamps.used_ns) - len(np.unique(stamps.used_ns)),
        "reused": len(used) - distinct,
        "period_ns": period_of(np.sort(stamps.used_ns)),
        "phase_ns": phase_ns,
        "tolerance_ns": tolerance_ns,
        "residual_ns": summary,
        "within_tolerance": round(within, 6),
        "residual_ok": summary["p95"] is not None and summary["p95"] <= tolerance_ns,
        "latency_ns": percentiles(stamps.log_ns - stamps.sensor_ns),
        "time_source": stamps.source,
        "histogram": _histogram(offsets_ns, tolerance_ns, bins),
    }


def _expected(ref_ns: Ns, stamps_ns: Ns) -> int:
    """Rows that a stream of this period fills over the whole grid."""
    period_ns, grid_ns = period_of(np.sort(stamps_ns)), period_of(ref_ns)
    if not period_ns or not grid_ns:
        return len(ref_ns)
    return round(len(ref_ns) * min(1.0, grid_ns / period_ns))


def _histogram(offsets_ns: Ns, tolerance_ns: int, bins: int) -> dict[str, list[int]]:
    """Signed residuals; the outermost bins also hold what lies beyond twice the tolerance."""
    edges = np.linspace(-2 * tolerance_ns, 2 * tolerance_ns, bins + 1)
    clipped = np.clip(offsets_ns, edges[0], edges[-1])
    counts, _ = np.histogram(clipped, edges)
    return {"edges_ns": np.rint(edges).astype(np.int64).tolist(), "counts": counts.tolist()}


def residual_png(report: Mapping[str, Any]) -> bytes:
    """Histograms of the signed residuals of a sync_report.json, one row per stream: PNG bytes, the same
    every time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    streams = sorted(report["streams"].items())
    height_in = 0.7 + 1.3 * max(len(streams), 1)
    figure = Figure(figsize=(7.5, height_in), dpi=_PIXELS_PER_INCH)
    # Fixed margins: an automatic layout draws everything twice.
    figure.subplots_adjust(
        left=0.17, right=0.98, top=1 - 0.55 / height_in, bottom=0.45 / height_in, hspace=0.6
    )
    FigureCanvasAgg(figure)
    figure.suptitle(f"{report['drive']}: residual to the expected phase", fontsize=10)
    axes: Any = figure.subplots(max(len(streams), 1), 1, squeeze=False)[:, 0]
    if not streams:
        axes[0].text(0.5, 0.5, "no stream with payload", ha="center", va="center")
        axes[0].set_axis_off()
    for axis, (role, stream) in zip(axes, streams, strict=False):
        _draw(axis, role, stream)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axis: Any, role: str, stream: Mapping[str, Any]) -> None:
    edges_ms = np.array(stream["histogram"]["edges_ns"]) / 1e6
    counts = np.array(stream["histogram"]["counts"])
    axis.stairs(counts, edges_ms, fill=True, color="#3b6ea5" if stream["residual_ok"] else "#b8402f")
    for side in (-1, 1):
        axis.axvline(side * stream["tolerance_ns"] / 1e6, color="#777777", linewidth=0.8, linestyle="--")
    p95 = stream["residual_ns"]["p95"]
    told = "no pairs" if p95 is None else f"p95 {p95 / 1e6:.2f} ms"
    axis.set_ylabel(role, rotation=0, ha="right", va="center", fontsize=8)
    axis.set_title(f"{told}, tolerance {stream['tolerance_ns'] / 1e6:.0f} ms", fontsize=7, loc="right", pad=2)
    axis.tick_params(labelsize=7)
    axis.set_yticks([])
    axis.set_xlabel("ms", fontsize=7, labelpad=1)
