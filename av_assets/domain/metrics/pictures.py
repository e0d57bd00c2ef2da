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

_LOSSES: Final = {
    "loss": "sum",
    "heatmap": "where (picture)",
    "box": "boxes (picture)",
    "drivable": "drivable area",
    "bev_heatmap": "where (ground)",
    "bev_box": "cuboids (ground)",
}
_SCORES: Final = {"val_map50": "mAP50 (boxes)", "val_map3d": "mAP (cuboids)"}


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
    """The loss and its weighted parts, and what the val split says, over epochs; only what the network learns."""
    figure = figure_of(10, 3.8)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] + 1 for row in history]
    left.set(xlabel="epoch", ylabel="training loss (weighted parts)", yscale="log" if history else "linear")
    right.set(xlabel="epoch", ylabel="score on the val split", ylim=(0, 1))
    for axes, names in ((left, _LOSSES), (right, _SCORES)):
        for (name, label), colour in zip(names.items(), COLOURS, strict=False):
            values = [np.nan if row.get(name) is None else row[name] for row in history]
            if not np.isnan(values).all():
                axes.plot(epochs, values, marker="o", markersize=3, label=label, color=colour)
        if axes.lines:
            axes.xaxis.get_major_locator().set_params(integer=True)
            above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3}  # curves lie anywhere
            axes.legend(fontsize=8, frameon=False, **above)
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
    """Frames in a grid: truth as white boxes, detections in the colour of their class with the score.

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
            _draw_example(axes, example)
    shown = sorted({int(cls) for example in examples for cls in example.found.cls})
    says = [(COLOURS[cls % len(COLOURS)], f"{classes[cls]}, with score") for cls in shown]
    _legend_below(figure, [("white", "what is there"), *says])
    return png_of(figure)


def _legend_below(figure: Any, entries: Sequence[tuple[str, str]]) -> None:
    """Outlines by colour; on grey, since paper is as white as the truth."""
    from matplotlib.patches import Patch

    handles = [Patch(fill=False, edgecolor=colour, linewidth=2, label=says) for colour, says in entries]
    place = {"loc": "outside lower center", "ncols": len(handles)}
    figure.legend(handles=handles, facecolor="#555555", labelcolor="white", framealpha=1, fontsize=9, **place)


def _draw_example(axes: Any, example: Example) -> None:
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
        says = f"{score:.2f}".removeprefix("0")
        ground = {"facecolor": colour, "linewidth": 0, "pad": 0.6}
        axes.text(x1, y1 - 2, says, fontsize=6, color="white", bbox=ground, clip_on=True)
