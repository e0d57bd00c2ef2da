"""The picture of a drive's clocks: log time minus sensor time of each topic, with its line and its steps.

Belongs here: drawing ClockFindings. Does not belong here: measuring them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.logs.clocks.forensics import ClockFinding

NANOSECONDS = 1_000_000_000
COLUMNS = 2
MAX_TOPICS = 24
_COLOURS = {"healthy": "#1f77b4", "late": "#1f77b4", "early": "#1f77b4"}


def clock_png(findings: Mapping[str, ClockFinding]) -> bytes:
    """PNG with one panel for each topic that has stamps: the band between low and high offset of windows, the
    fitted line, steps dashed; class, drift and its interval in the title. The same findings give the same bytes.

    Beyond MAX_TOPICS, clocks that are not healthy come first, and the title counts what is left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stamped = [topic for topic in sorted(findings) if findings[topic].series]
    shown = sorted(stamped, key=lambda topic: (findings[topic].classification in _COLOURS, topic))[
        :MAX_TOPICS
    ]
    rows = max(1, -(-len(shown) // COLUMNS))
    figure = Figure(figsize=(10, 0.8 + 1.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    start_ns = min((findings[topic].first_log_ns for topic in shown), default=0)
    for panel, topic in zip(panels, shown, strict=False):
        _draw(panel, topic, findings[topic], start_ns)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    left = f", {len(stamped) - len(shown)} not shown" if len(shown) < len(stamped) else ""
    figure.suptitle(
        f"log time minus sensor time, {len(stamped)} clocks{left}", fontsize=10, x=0.01, ha="left"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _draw(panel: Any, topic: str, found: ClockFinding, start_ns: int) -> None:
    log, low, high = (np.array(column, np.int64) for column in zip(*found.series, strict=True))
    # Years of offset would leave no digits for its changes: those are drawn, the rest is written.
    zero_ns = found.base_ns if abs(found.base_ns) > 10 * NANOSECONDS else 0
    seconds = (log - start_ns) / NANOSECONDS
    colour = _COLOURS.get(found.classification, "#d62728")
    low_ms, high_ms = ((values - zero_ns) / 1e6 for values in (low, high))
    panel.fill_between(seconds, low_ms, high_ms, color=colour, alpha=0.25, linewidth=0)
    panel.plot(seconds, low_ms, ".", color=colour, markersize=2.5)
    if found.levels:
        starts = np.array([start for start, _ in found.levels], np.int64)
        add = np.array([level for _, level in found.levels], np.int64)
        level = add[np.clip(np.searchsorted(starts, log, "right") - 1, 0, None)]
        slope = found.slope if found.drifts else 0.0
        line = (found.base_ns - zero_ns + level + slope * (log - found.first_log_ns)) / 1e6
        panel.plot(seconds, line, color="#333333", linewidth=0.9)
    for step in found.steps:
        panel.axvline((step.log_ns - start_ns) / NANOSECONDS, color="#d62728", linestyle="--", linewidth=0.9)
    panel.set_title(_title(topic, found, zero_ns), fontsize=7.5, loc="left")
    panel.set_ylabel("ms", fontsize=7)
    panel.set_xlabel("s", fontsize=7)
    panel.tick_params(labelsize=7, length=2)
    panel.ticklabel_format(axis="y", useOffset=False)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _title(topic: str, found: ClockFinding, zero_ns: int) -> str:
    name = topic.replace("$", r"\$")  # dollar signs would start mathematics
    name = name if len(name) <= 36 else f"{name[:16]}...{name[-17:]}"
    drift = ""
    if found.drift_low_ppm is not None and found.drift_high_ppm is not None:
        drift = f", {found.drift_ppm:+.1f} ppm ({found.drift_low_ppm:+.1f} to {found.drift_high_ppm:+.1f})"
    count = len(found.steps)
    steps = f", {count} step{'s' if count > 1 else ''}" if count else ""
    zero = f", 0 is {zero_ns / NANOSECONDS:.0f} s" if zero_ns else ""
    return f"{name}: {found.classification}{drift}{steps}{zero}"
