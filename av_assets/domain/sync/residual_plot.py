"""The picture of synchronization: histograms of residuals of streams and of pairs of streams.

Belongs here: drawing a sync_report.json. Does not belong here: figures (report).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# The picture of residuals, in pixels.
_WIDTH, _TITLE, _ROW = 820, 40, 130
_LEFT, _RIGHT, _ABOVE, _PLOT = 150, 785, 22, 74
_BLUE, _RED, _GREY, _BLACK = "#3b6ea5", "#b8402f", "#777777", "#222222"


def residual_png(report: Mapping[str, Any]) -> bytes:
    """Histograms of the signed residuals of a sync_report.json, one row per stream and
    per pair of streams: PNG bytes, the same
    every time. Drawn by hand, because a plotting library took longer than all other writing of a short
    drive."""
    from PIL import Image, ImageDraw, ImageFont

    streams = [*sorted(report["streams"].items()), *sorted(report["pairs"].items())]
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
    draw.multiline_text((_LEFT - 8, top + _PLOT / 2), role.replace("-", "\n"), _BLACK, anchor="rm")
    for tick_ns in (first_ns, -tolerance_ns, 0, tolerance_ns, edges_ns[-1]):
        draw.line((column(tick_ns), bottom, column(tick_ns), bottom + 4), _BLACK)
        draw.text((column(tick_ns), bottom + 17), f"{tick_ns / 1e6:g} ms", _BLACK, anchor="ms")
