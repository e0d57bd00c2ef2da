"""Figures of a bundle as PNG bytes; the same numbers give the same bytes.

Belongs here: drawing. Does not belong here: computing what is drawn (`gate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from av_assets.domain.metrics.pictures import COLOURS, figure_of, png_of


def precisions_png(report: Mapping[str, Any]) -> bytes:
    """mAP of each precision on each slice, side by side; slices that decide nothing are pale."""
    slices = report["slices"]
    names = [name for name, row in slices.items() if row["map50"]["fp32"] is not None]
    precisions = list(report["bytes"])
    figure = figure_of(max(6.0, 1.1 * len(names) + 2), 3.6)
    axes = figure.subplots()
    at, width = np.arange(len(names)), 0.8 / len(precisions)
    for number, (precision, colour) in enumerate(zip(precisions, COLOURS, strict=False)):
        for place, name in zip(at, names, strict=True):
            value = slices[name]["map50"][precision] or 0.0
            alpha = 1.0 if slices[name]["decides"] else 0.35
            label = _label(precision, report) if place == 0 else None
            axes.bar(place + number * width, value, width, color=colour, alpha=alpha, label=label)
    axes.set_xticks(at + 0.4 - width / 2, names, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("mAP at IoU 0.5")
    axes.set_ylim(0, 1)
    axes.legend(
        fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(precisions)
    )
    return png_of(figure)


def _label(precision: str, report: Mapping[str, Any]) -> str:
    size = f"{precision}, {report['bytes'][precision] / 1e6:.1f} MB"
    return size if precision in report["usable"] else f"{size}, not shipped"
