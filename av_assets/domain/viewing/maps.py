"""Maps as pictures: the way of a drive with its events, and cells with counts, on the roads that are known there.

Drawn with Cartopy in a transverse Mercator projection about the middle of what is shown, where a metre is a metre.
Nothing is fetched: the roads are those of the map that the platform holds.
Belongs here: drawing. Does not belong here: what is drawn (roads, catalog, coverage).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Line = Sequence[tuple[float, float]]
"""Longitude, latitude in degrees."""

_MARGIN = 0.08
_LEAST_M = 60.0
_LEAST_OF_CELLS_M = 600.0
_COLUMNS = 3
_DARK = 0.55  # share of the scale from which black letters cannot be read
_MARK_PT = 8.0
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito


@dataclass(frozen=True)
class RouteMap:
    """What a map of one drive shows.

    Attributes:
        latitude_deg, longitude_deg: (N,) positions, NaN where unknown.
        colour: (N,) value that colours the way, with its name in `colour_name`.
        roads: polylines of the road graph.
        events: (longitude, latitude, kind).
    """

    latitude_deg: NDArray[np.float64]
    longitude_deg: NDArray[np.float64]
    colour: NDArray[np.float64] | None = None
    colour_name: str = ""
    roads: Sequence[Line] = ()
    events: Sequence[tuple[float, float, str]] = ()
    title: str = ""


@dataclass(frozen=True)
class CellMap:
    """H3 cells (any resolution) with a value each, e.g. events or alerts per hour."""

    cells: Mapping[str, float]
    value_name: str
    roads: Sequence[Line] = field(default=())
    title: str = ""


def route_png(route: RouteMap) -> bytes | None:
    """PNG of a drive's way; None without a single position."""
    known = np.isfinite(route.latitude_deg) & np.isfinite(route.longitude_deg)
    if not known.any():
        return None
    lon, lat = route.longitude_deg[known], route.latitude_deg[known]
    figure = _figure(7.5, 6.0)
    axes, plain = _axes(figure, (1, 1, 1), lon, lat, route.title, _LEAST_M)
    _roads(axes, route.roads, plain)
    shade = route.colour[known] if route.colour is not None else None
    if shade is None:
        axes.scatter(lon, lat, s=10, transform=plain, zorder=3, color=_COLOURS[1])
    else:
        drawn = axes.scatter(lon, lat, c=shade, s=10, transform=plain, zorder=3, cmap="viridis")
        figure.colorbar(drawn, ax=axes, shrink=0.7, label=route.colour_name)
    for number, kind in enumerate(sorted({kind for _, _, kind in route.events})):
        places = np.array([(x, y) for x, y, k in route.events if k == kind])
        colour = _COLOURS[number % len(_COLOURS)]
        axes.scatter(
            places[:, 0], places[:, 1], s=70, marker="v", transform=_raised(figure, axes, plain, number), zorder=4,
            color=colour, edgecolor="white", label=kind,
        )  # fmt: skip
    if route.events:
        axes.legend(loc="upper left", fontsize=8)
    return _png(figure)


def _raised(figure: Any, axes: Any, plain: Any, row: int) -> Any:
    """A row of marks above the way for each kind: kinds that happen at one place would hide each other."""
    from matplotlib.transforms import ScaledTranslation

    points = _MARK_PT * (row + 0.5)
    return plain._as_mpl_transform(axes) + ScaledTranslation(0.0, points / 72, figure.dpi_scale_trans)


def cells_png(places: Sequence[CellMap]) -> bytes | None:
    """PNG of coloured H3 cells, a panel for each place, all in one scale; None where there is no cell."""
    shown = [place for place in places if place.cells]
    if not shown:
        return None
    from matplotlib.colors import Normalize

    values = [value for place in shown for value in place.cells.values()]
    scale = Normalize(min(0.0, *values), max(values))
    columns = min(len(shown), _COLUMNS)
    rows = -(-len(shown) // columns)
    figure = _figure(1.5 + 4.5 * columns, 4.2 * rows)
    drawn = [
        _cells(figure, (rows, columns, number), place, scale) for number, place in enumerate(shown, start=1)
    ]
    figure.colorbar(drawn[0], ax=figure.axes, shrink=0.7, label=shown[0].value_name)
    return _png(figure)


def _cells(figure: Any, position: tuple[int, int, int], place: CellMap, scale: Any) -> Any:
    import h3
    from matplotlib.collections import PolyCollection

    rings = [[(lon, lat) for lat, lon in h3.cell_to_boundary(cell)] for cell in sorted(place.cells)]
    corners = np.concatenate([np.asarray(ring) for ring in rings])
    axes, plain = _axes(figure, position, corners[:, 0], corners[:, 1], place.title, _LEAST_OF_CELLS_M)
    _roads(axes, place.roads, plain)
    projected = [axes.projection.transform_points(plain, *np.asarray(ring).T)[:, :2] for ring in rings]
    values = np.array([place.cells[cell] for cell in sorted(place.cells)])
    drawn = PolyCollection(
        projected, array=values, norm=scale, cmap="magma_r", alpha=0.75, edgecolor="white", zorder=3
    )
    axes.add_collection(drawn)
    for ring, value in zip(projected, values, strict=True):
        ink = "white" if scale(value) > _DARK else "black"
        axes.text(*ring.mean(axis=0), f"{value:g}", ha="center", va="center", fontsize=8, zorder=5, color=ink)
    return drawn


def _figure(width_in: float, height_in: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), dpi=110, layout="constrained")


def _axes(
    figure: Any,
    position: tuple[int, int, int],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    title: str,
    least_m: float,
) -> tuple[Any, Any]:
    import cartopy.crs as ccrs

    middle_lon, middle_lat = _middle(lon), float((lat.min() + lat.max()) / 2)
    projection = ccrs.TransverseMercator(central_longitude=middle_lon, central_latitude=middle_lat)
    plain = ccrs.PlateCarree()
    axes: Any = figure.add_subplot(*position, projection=projection)
    points = projection.transform_points(plain, lon, lat)[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    reach = max(float((high - low).max()) / 2 * (1 + _MARGIN), least_m)
    middle = (low + high) / 2
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_facecolor("#F4F2EC")
    lines = axes.gridlines(draw_labels=["left", "bottom"], color="#D0CDC4", linewidth=0.6)
    lines.xlabel_style = lines.ylabel_style = {"size": 7}
    if title:
        axes.set_title(title, fontsize=10)
    _scale_bar(axes, middle - reach * 0.9, reach)
    return axes, plain


def _middle(lon: NDArray[np.float64]) -> float:
    """Middle longitude; a drive across the antimeridian is short, not around the world."""
    turn = np.exp(1j * np.deg2rad(lon)).mean()
    return float(np.rad2deg(np.angle(turn)))


def _scale_bar(axes: Any, corner: NDArray[np.float64], reach: float) -> None:
    length = 10.0 ** np.floor(np.log10(reach))
    length *= next(step for step in (5.0, 2.0, 1.0) if length * step <= reach or step == 1.0)
    axes.plot([corner[0], corner[0] + length], [corner[1]] * 2, color="black", linewidth=2.5, zorder=5)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.text(corner[0] + length / 2, corner[1] + reach * 0.03, text, ha="center", fontsize=8, zorder=5)


def _roads(axes: Any, roads: Sequence[Line], plain: Any) -> None:
    from matplotlib.collections import LineCollection

    if not roads:
        return
    flat = [axes.projection.transform_points(plain, *np.asarray(road, float).T)[:, :2] for road in roads]
    for width, colour, order in ((4.0, "#B9B4A7", 1), (2.6, "white", 2)):
        axes.add_collection(LineCollection(flat, colors=colour, linewidths=width, zorder=order))


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    # No date and no version of the library inside: equal maps are equal bytes.
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
