"""Figures of a bundle as PNG bytes; the same numbers give the same bytes.

Belongs here: drawing. Does not belong here: computing what is drawn (`gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from av_assets.domain.metrics.pictures import COLOURS, figure_of, png_of


def precisions_png(report: Mapping[str, Any]) -> bytes:
    """mAP of each precision on each slice, side by side; slices that decide nothing are pale."""
    slices = report["slices"]
    shown = [
        (key, title)
        for key, title in (("map50", "mAP at IoU 0.5"), ("map3d", "mAP of cuboids"))
        if any(row[key]["fp32"] is not None for row in slices.values())
    ]
    names = [n for n, row in slices.items() if any(row[key]["fp32"] is not None for key, _ in shown)]
    figure = figure_of(max(6.0, 1.1 * len(names) + 2), 1.2 + 2.6 * max(1, len(shown)))
    panels = figure.subplots(max(1, len(shown)), sharex=True, squeeze=False)[:, 0]
    for axes, (key, title) in zip(panels, shown, strict=False):
        _bars(axes, report, names, key)
        axes.set_ylabel(title)
        axes.set_ylim(0, 1)
    precisions = len(report["bytes"])
    panels[-1].set_xticks(
        np.arange(len(names)) + 0.4 * (1 - 1 / precisions), names, rotation=30, ha="right", fontsize=8
    )
    panels[0].legend(
        fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=precisions
    )
    return png_of(figure)


def _bars(axes: Any, report: Mapping[str, Any], names: Sequence[str], key: str) -> None:
    slices, precisions = report["slices"], list(report["bytes"])
    at, width = np.arange(len(names)), 0.8 / len(precisions)
    for number, (precision, colour) in enumerate(zip(precisions, COLOURS, strict=False)):
        for place, name in zip(at, names, strict=True):
            value = slices[name][key][precision] or 0.0
            alpha = 1.0 if slices[name]["decides"] else 0.35
            label = _label(precision, report) if place == 0 else None
            axes.bar(place + number * width, value, width, color=colour, alpha=alpha, label=label)


def _label(precision: str, report: Mapping[str, Any]) -> str:
    size = f"{precision}, {report['bytes'][precision] / 1e6:.1f} MB"
    return size if precision in report["usable"] else f"{size}, not shipped"
