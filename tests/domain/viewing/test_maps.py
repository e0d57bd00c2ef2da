"""Maps: nothing without a position, the same bytes for the same map, a short way across the antimeridian."""

from __future__ import annotations

import io

import h3
import numpy as np
from PIL import Image

from av_assets.domain.viewing.maps import CellMap, RouteMap, cells_png, route_png

WAY = np.linspace(0, 0.004, 40)
ROADS = [[(9.999, 53.5), (10.006, 53.502)]]


def pixels(png: bytes | None) -> np.ndarray:
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(png: bytes | None) -> int:
    """Pixels that are no grey: the way, the marks."""
    shown = pixels(png)
    return int((np.ptp(shown, axis=2) > 60).sum())


def test_a_way_is_drawn_and_its_events_on_it() -> None:
    bare = route_png(RouteMap(53.5 + WAY / 4, 10 + WAY, roads=ROADS))
    marked = route_png(RouteMap(53.5 + WAY / 4, 10 + WAY, roads=ROADS, events=[(10.002, 53.5005, "cut_in")]))
    assert coloured(bare) > 500
    assert coloured(marked) != coloured(bare)


def test_without_a_position_there_is_no_map() -> None:
    nothing = np.full(5, np.nan)
    assert route_png(RouteMap(nothing, nothing)) is None
    assert cells_png(CellMap({}, "events")) is None


def test_unknown_positions_are_left_out() -> None:
    holes = WAY.copy()
    holes[::2] = np.nan
    assert coloured(route_png(RouteMap(53.5 + holes, 10 + holes))) > 300


def test_the_same_map_is_the_same_picture() -> None:
    cells = {cell: float(i) for i, cell in enumerate(sorted(h3.grid_disk(h3.latlng_to_cell(53.5, 10, 9), 1)))}
    shown = CellMap(cells, "events per hour", ROADS, "events")
    assert cells_png(shown) == cells_png(shown)
    route = RouteMap(53.5 + WAY, 10 + WAY, 10 * WAY, "speed, m/s")
    assert route_png(route) == route_png(route)


def test_one_position_and_a_way_across_the_antimeridian_have_maps() -> None:
    assert route_png(RouteMap(np.array([53.5]), np.array([10.0])))
    east = np.concatenate([179.999 + WAY[:9] / 4, -179.999 + WAY[:9] / 4])
    across = route_png(RouteMap(np.full(18, 10.0), east))
    assert coloured(across) > 150  # a way around the world would be a few dots far apart
