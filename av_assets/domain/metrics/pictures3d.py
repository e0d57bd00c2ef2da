"""Figures of 3D detection as PNG bytes; the same numbers give the same bytes.

Belongs here: drawing from above, curves by distance. Does not belong here: pictures of cameras (`pictures`), computing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.metrics.boxes3d import Boxes3d, footprints
from av_assets.domain.metrics.nuscenes import DISTANCES_M, RECALL_POINTS, Curve, average_precision
from av_assets.domain.metrics.pictures import COLOURS, figure_of, png_of

MOST_POINTS: Final = 4000
AHEAD_M, BEHIND_M, SIDE_M = 55.0, 5.0, 25.0


@dataclass(frozen=True)
class Example3d:
    """One frame from above: points (n, >=2) in the ego frame or None, what was there and what was found."""

    title: str
    points_ego: NDArray[np.floating] | None
    truth: Boxes3d
    found: Boxes3d


def pr_curves_3d(curves: Mapping[str, Sequence[Curve | None]]) -> bytes:
    """Precision over recall: class name -> a curve for each of DISTANCES_M; None where nothing was found."""
    figure = figure_of(4 * max(1, len(curves)), 3.6)
    axes = figure.subplots(1, max(1, len(curves)), squeeze=False)[0]
    for at, (name, by_distance) in zip(axes, curves.items(), strict=False):
        for limit_m, curve, colour in zip(DISTANCES_M, by_distance, COLOURS, strict=False):
            label = f"{limit_m:g} m, AP {average_precision(curve):.3f}"
            shown = np.full(len(RECALL_POINTS), np.nan) if curve is None else curve.precision
            at.plot(RECALL_POINTS, shown, label=label, color=colour)
        at.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=name)
        at.legend(loc="lower left", fontsize=7)
    return png_of(figure)


def bev_sheet(examples: Sequence[Example3d], classes: Sequence[str], columns: int = 3) -> bytes:
    """Frames from above, in metres: lidar points grey, truth black, detections in the colour of their class.

    A line runs from the middle of each cuboid to its front.
    """
    rows = max(1, -(-len(examples) // columns))
    figure = figure_of(3.4 * columns, 4.2 * rows)
    places = figure.subplots(rows, columns, squeeze=False).flat
    for at, example in zip(places, [*examples, *[None] * 99], strict=False):
        if example is None:
            at.set_axis_off()
        else:
            _draw(at, example, classes)
    figure.supxlabel("m to the right", fontsize=8)
    figure.supylabel("m ahead", fontsize=8)
    return png_of(figure)


def _draw(at: Any, example: Example3d, classes: Sequence[str]) -> None:
    if example.points_ego is not None and len(example.points_ego):
        points = example.points_ego[:: -(-len(example.points_ego) // MOST_POINTS)]
        at.scatter(-points[:, 1], points[:, 0], s=0.6, color="#999999", linewidths=0)
    _draw_boxes(at, example.truth, ["black"] * len(example.truth), 1.4)
    _draw_boxes(at, example.found, [COLOURS[int(c) % len(COLOURS)] for c in example.found.cls], 1.0)
    for cls in sorted(set(example.found.cls.tolist())):
        at.plot([], [], color=COLOURS[cls % len(COLOURS)], label=classes[cls])
    at.plot([], [], color="black", label="what is there")
    at.plot([0], [0], "^", color="black", markersize=5)
    at.set(xlim=(-SIDE_M, SIDE_M), ylim=(-BEHIND_M, AHEAD_M), aspect="equal")
    at.tick_params(labelsize=6, length=2)
    at.set_title(example.title, fontsize=7)
    if len(example.found) or len(example.truth):
        at.legend(loc="lower right", fontsize=6)


def _draw_boxes(at: Any, boxes: Boxes3d, colours: Sequence[str], width: float) -> None:
    from matplotlib.collections import LineCollection

    corners = footprints(boxes.box)
    outlines = np.concatenate([corners, corners[:, :1]], 1)
    front = np.stack([boxes.box[:, :2], corners[:, :2].mean(1)], 1)
    for lines in (outlines, front):
        shown = [line[:, ::-1] * (-1, 1) for line in lines]  # left is left: y to the left, x up
        at.add_collection(LineCollection(shown, colors=colours, linewidths=width))
