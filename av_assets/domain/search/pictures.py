"""Pictures of what the vectors say: neighbours side by side, and all clips as a map of two axes.

Belongs here: drawing. Road pictures come in as `RedactedFrame` only. Does not belong here: finding neighbours.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from av_assets.domain.errors import RedactionError
from av_assets.domain.metrics.pictures import COLOURS, figure_of, png_of
from av_assets.domain.privacy.frames import RedactedFrame


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet; without a frame the place stays empty."""

    title: str
    frame: RedactedFrame | None


def contact_sheet(rows: Sequence[Sequence[Tile]], width_px: int = 320) -> bytes:
    """PNG with one row per query: the clip asked with, then its neighbours.

    Raises:
        RedactionError: a picture that is not a RedactedFrame.
    """
    columns = max((len(row) for row in rows), default=1)
    figure = figure_of(2.4 * columns, 1.7 * max(1, len(rows)))
    grid = figure.subplots(max(1, len(rows)), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, row in zip(grid, rows, strict=False):
        for axes, tile in zip(line, row, strict=False):
            axes.set_title(tile.title, fontsize=6)
            if tile.frame is not None:
                axes.imshow(_small(tile.frame, width_px), interpolation="antialiased")
    return _few_colours(png_of(figure))


def _few_colours(png: bytes) -> bytes:
    """The picture with at most 128 colours: a quarter of the bytes, which the catalog keeps for every build."""
    from PIL import Image

    held, out = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    held.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def _small(frame: RedactedFrame, width_px: int) -> np.ndarray:
    if not isinstance(frame, RedactedFrame):
        raise RedactionError("contact sheets take redacted frames only", code="unredacted_frame")
    pixels = frame.pixels()
    return pixels[:: max(1, pixels.shape[1] // width_px), :: max(1, pixels.shape[1] // width_px)]


def principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) -> (N, 2) coordinates along the two axes of the largest variance, and their shares of it (2,).

    Principal components by the singular values of the centred vectors (Pearson 1901). Each axis points to where its
    largest component is positive, so that the same vectors give the same picture.
    """
    if not len(vectors):
        return np.zeros((0, 2)), np.zeros(2)
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    # The small side decides: D x D or N x N.
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    places, shares = np.zeros((len(vectors), 2)), np.zeros(2)
    places[:, : len(axes)] = centred @ axes.T
    total = float((singular**2).sum())
    if total > 0:
        shares[: len(axes)] = singular[:2] ** 2 / total
    return places, shares


def projection(vectors: np.ndarray, facts: Mapping[str, Sequence[str | None]]) -> bytes:
    """PNG: the clips on the principal axes, once for each fact, coloured by its values.

    Args:
        vectors: (N, D).
        facts: name -> one value per vector, None where it is not known.
    """
    places, shares = principal_axes(vectors)
    figure = figure_of(5.2 * max(1, len(facts)), 4.4)
    for axes, (name, values) in zip(
        figure.subplots(1, max(1, len(facts)), squeeze=False)[0], facts.items(), strict=True
    ):
        _scatter(axes, places, name, values)
        axes.set(xlabel=f"axis 1 ({shares[0]:.0%} of the variance)", ylabel=f"axis 2 ({shares[1]:.0%})")
    return png_of(figure)


def _scatter(axes: Any, places: np.ndarray, name: str, values: Sequence[str | None]) -> None:
    known = sorted({value for value in values if value is not None})
    for number, value in enumerate([None, *known]):
        at = np.array([v == value for v in values], bool)
        if at.any():
            colour = "#bbbbbb" if value is None else COLOURS[(number - 1) % len(COLOURS)]
            axes.scatter(places[at, 0], places[at, 1], s=8, color=colour, label=value or "not known")
    axes.set_title(f"clips by {name}", fontsize=9)
    if len(places):
        axes.legend(fontsize=7)
