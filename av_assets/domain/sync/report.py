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
# The picture of residuals, in pixels.
_WIDTH, _TITLE, _ROW = 820, 40, 130
_LEFT, _RIGHT, _ABOVE, _PLOT = 150, 785, 22, 74
_BLUE, _RED, _GREY, _BLACK = "#3b6ea5", "#b8402f", "#777777", "#222222"


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
    every time. Drawn by hand, because a plotting library took longer than all other writing of a short
    drive."""
    from PIL import Image, ImageDraw, ImageFont

    streams = sorted(report["streams"].items())
    picture = Image.new("RGB", (_WIDTH, _TITLE + _ROW * max(len(streams), 1)), "white")
    draw = ImageDraw.Draw(picture)
    draw.font = ImageFont.load_default(13)
    title = f"{report['drive']}: residual to the expected phase"
    draw.text((_WIDTH / 2, _TITLE / 2), title, _BLACK, anchor="mm")
    if not streams:
        draw.text((_WIDTH / 2, _TITLE + _ROW / 2), "no stream with payload", _BLACK, anchor="mm")
    for row, (role, stream) in enumerate(streams):
        _draw(draw, _TITLE + _ROW * row + _ABOVE, role, stream)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)  # large white areas: small all the same
    return buffer.getvalue()


def _draw(draw: Any, top: int, role: str, stream: Mapping[str, Any]) -> None:
    """One histogram with its top edge at pixel row `top`; dashed lines stand at the tolerance."""
    edges_ns, counts = stream["histogram"]["edges_ns"], stream["histogram"]["counts"]
    first_ns, span_ns, bottom = edges_ns[0], max(edges_ns[-1] - edges_ns[0], 1), top + _PLOT

    def column(offset_ns: int) -> int:
        return int(_LEFT + (offset_ns - first_ns) / span_ns * (_RIGHT - _LEFT) + 0.5)

    highest, colour = max(*counts, 1), _BLUE if stream["residual_ok"] else _RED
    for left_ns, right_ns, count in zip(edges_ns[:-1], edges_ns[1:], counts, strict=True):
        if count:  # at least two pixels high: a single outlier must show
            height = max(2, round(count / highest * (_PLOT - 4)))
            draw.rectangle((column(left_ns), bottom - height, column(right_ns) - 1, bottom), colour)
    tolerance_ns, p95 = stream["tolerance_ns"], stream["residual_ns"]["p95"]
    for at in (column(-tolerance_ns), column(tolerance_ns)):
        for dash in range(top, bottom, 8):
            draw.line((at, dash, at, dash + 4), _GREY)
    draw.rectangle((_LEFT, top, _RIGHT, bottom), outline=_BLACK)
    told = "no pairs" if p95 is None else f"p95 {p95 / 1e6:.2f} ms"
    draw.text((_RIGHT, top - 4), f"{told}, tolerance {tolerance_ns / 1e6:.0f} ms", _BLACK, anchor="rs")
    draw.text((_LEFT - 8, top + _PLOT / 2), role, _BLACK, anchor="rm")
    for tick_ns in (first_ns, -tolerance_ns, 0, tolerance_ns, edges_ns[-1]):
        draw.line((column(tick_ns), bottom, column(tick_ns), bottom + 4), _BLACK)
        draw.text((column(tick_ns), bottom + 17), f"{tick_ns / 1e6:g} ms", _BLACK, anchor="ms")
