"""Figures of training and evaluation as PNG bytes; the same numbers give the same bytes.

Belongs here: drawing. Road pictures come in as `RedactedFrame` only. Does not belong here: computing what is
drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import RedactionError
from av_assets.domain.metrics.boxes import Boxes
from av_assets.domain.privacy.frames import RedactedFrame

COLOURS: Final = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)  # Okabe and Ito, colour-blind safe


def figure_of(width_in: float, height_in: float) -> Any:
    """An empty figure of 100 dots per inch."""
    # Figure without pyplot: no global state, no backend, safe in threads.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Any) -> bytes:
    """Its bytes, without the version of who drew it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def training_curves(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss parts and val mAP50 over epochs."""
    figure = figure_of(9, 3.5)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] + 1 for row in history]
    for name, colour in zip(("loss", "heatmap", "box", "drivable"), COLOURS, strict=False):
        left.plot(epochs, [row.get(name, np.nan) for row in history], label=name, color=colour)
    right.plot(
        epochs,
        [np.nan if row["val_map50"] is None else row["val_map50"] for row in history],
        color=COLOURS[0],
    )
    left.set(xlabel="epoch", ylabel="training loss", yscale="log" if history else "linear")
    right.set(xlabel="epoch", ylabel="val mAP50", ylim=(0, 1))
    if history:
        left.legend()
    return png_of(figure)


def pr_curves(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], float | None]]) -> bytes:
    """Precision over recall at IoU 0.5: class name -> (recall, precision, AP50)."""
    figure = figure_of(5, 4)
    axes = figure.subplots()
    for (name, (recall, precision, ap)), colour in zip(curves.items(), COLOURS * 9, strict=False):
        label = f"{name} (no objects)" if ap is None else f"{name}, AP50 {ap:.3f}"
        start = [0.0] if len(recall) else []  # a class of which nothing was found has no curve
        axes.plot(np.r_[start, recall], np.r_[precision[:1], precision], label=label, color=colour)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    if curves:
        axes.legend(loc="lower left")
    return png_of(figure)


def reliability_diagram(bins: Sequence[Mapping[str, Any]], ece: float | None) -> bytes:
    """Share of correct detections over their score; bins as `calibration.reliability_bins` gives them."""
    figure = figure_of(5, 4)
    axes = figure.subplots()
    filled = [b for b in bins if b["count"]]
    width = 1 / max(1, len(bins))
    axes.bar(
        [b["low"] for b in filled], [b["accuracy"] for b in filled], width, align="edge", color=COLOURS[5]
    )
    axes.plot([b["confidence"] for b in filled], [b["accuracy"] for b in filled], "o-", color=COLOURS[0])
    axes.plot([0, 1], [0, 1], "--", color="#555555")
    title = "no detections" if ece is None else f"expected calibration error {ece:.3f}"
    axes.set(xlabel="score", ylabel="share correct", xlim=(0, 1), ylim=(0, 1), title=title)
    return png_of(figure)


@dataclass(frozen=True)
class Example:
    """One frame with what was there and what was found."""

    frame: RedactedFrame
    title: str
    truth: Boxes
    found: Boxes


def example_sheet(examples: Sequence[Example], classes: Sequence[str], columns: int = 3) -> bytes:
    """Frames in a grid: truth as thin white boxes, detections in the colour of their class with the score.

    Raises:
        RedactionError: a picture that is not a RedactedFrame.
    """
    rows = max(1, -(-len(examples) // columns))
    figure = figure_of(4.2 * columns, 2.8 * rows)
    for axes, example in zip(
        figure.subplots(rows, columns, squeeze=False).flat, [*examples, *[None] * 99], strict=False
    ):
        axes.set_axis_off()
        if example is not None:
            _draw_example(axes, example, classes)
    return png_of(figure)


def _draw_example(axes: Any, example: Example, classes: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    if not isinstance(example.frame, RedactedFrame):
        raise RedactionError("evaluation pictures take redacted frames only", code="unredacted_frame")
    axes.imshow(example.frame.pixels(), interpolation="nearest")
    axes.set_title(example.title, fontsize=8)
    for x1, y1, x2, y2 in example.truth.xyxy:
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=0.8))
    found = example.found
    for (x1, y1, x2, y2), cls, score in zip(found.xyxy, found.cls, found.score, strict=True):
        colour = COLOURS[int(cls) % len(COLOURS)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.2))
        axes.text(x1, y1 - 2, f"{classes[int(cls)]} {score:.2f}", fontsize=5, color=colour)
