"""The picture of a drive's messages: one row a topic, dark where messages are, red where they are missing.

Belongs here: drawing a LogReport. Does not belong here: measuring it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av_assets.domain.logs.integrity.report import LogReport

NANOSECONDS = 1_000_000_000


def timeline_png(report: LogReport) -> bytes:
    """PNG of the per-topic message timeline with its holes; the same report gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    topics = report.timeline["topics"]
    names = sorted(topics)
    figure = Figure(figsize=(10, 1.1 + 0.32 * max(1, len(names))), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    start_ns, span_s = report.start_ns, max(1e-3, (report.end_ns - report.start_ns) / NANOSECONDS)
    if names:
        counts = np.array([topics[name]["counts"] for name in names], dtype=np.float64)
        typical = np.array([np.median(row[row > 0]) if row.any() else 1.0 for row in counts])
        shade = np.clip(counts / typical[:, None], 0, 1)
        extent = (0.0, span_s, len(names) - 0.5, -0.5)
        axes.imshow(
            shade, aspect="auto", cmap="Blues", vmin=0, vmax=1.4, extent=extent, interpolation="nearest"
        )
    for row, name in enumerate(names):
        for first, last in topics[name]["holes"]:
            left = (first - start_ns) / NANOSECONDS
            axes.barh(row, (last - first) / NANOSECONDS, left=left, height=0.8, color="#d62728", alpha=0.75)
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color="white", linewidth=3)
    axes.set_yticks(range(len(names)), [_label(name) for name in names], fontsize=8)
    axes.set_xlim(0, span_s)
    axes.set_xlabel("seconds since the first message")
    title = f"{report.drive or 'log'}: {report.verdict}, {report.messages:,} messages"
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _label(topic: str) -> str:
    """Dollar signs would start mathematics."""
    text = topic.replace("$", r"\$")
    return text if len(text) <= 44 else f"{text[:20]}...{text[-21:]}"
