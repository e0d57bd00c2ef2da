"""Maps: nothing without a position, the same bytes for the same map, a short way across the antimeridian."""

from __future__ import annotations

import io
from types import SimpleNamespace

import h3
import numpy as np
import pyarrow as pa
from PIL import Image

from av_assets.domain.viewing.drives import event_cells_png, events_png, matched_png, roads_near
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
    assert cells_png([CellMap({}, "events")]) is None


def test_unknown_positions_are_left_out() -> None:
    holes = WAY.copy()
    holes[::2] = np.nan
    assert coloured(route_png(RouteMap(53.5 + holes, 10 + holes))) > 300


def test_the_same_map_is_the_same_picture() -> None:
    cells = {cell: float(i) for i, cell in enumerate(sorted(h3.grid_disk(h3.latlng_to_cell(53.5, 10, 9), 1)))}
    shown = CellMap(cells, "events per hour", ROADS, "events")
    assert cells_png([shown]) == cells_png([shown])
    route = RouteMap(53.5 + WAY, 10 + WAY, 10 * WAY, "speed, m/s")
    assert route_png(route) == route_png(route)


def test_one_position_and_a_way_across_the_antimeridian_have_maps() -> None:
    assert route_png(RouteMap(np.array([53.5]), np.array([10.0])))
    east = np.concatenate([179.999 + WAY[:9] / 4, -179.999 + WAY[:9] / 4])
    across = route_png(RouteMap(np.full(18, 10.0), east))
    assert coloured(across) > 150  # a way around the world would be a few dots far apart


def points(lat: np.ndarray, lon: np.ndarray) -> pa.Table:
    times = pa.array(np.arange(len(lat), dtype=np.int64) * 100_000_000)
    return pa.table(
        {"ref_ns": times, "latitude_deg": lat, "longitude_deg": lon, "distance_m": np.full(len(lat), 2.0)}
    )


def test_events_stand_where_they_began() -> None:
    table = points(53.5 + WAY, 10 + WAY)
    begin, end = ({"kind": "turn", "start_ns": ns} for ns in (0, 39 * 100_000_000))
    assert events_png(table, [begin], "a") != events_png(table, [end], "a")
    nowhere = np.full(3, np.nan)
    assert events_png(points(nowhere, nowhere), [begin], "a") is None
    assert matched_png(points(nowhere, nowhere), None, "a") is None


def test_roads_far_from_the_way_are_left_out() -> None:
    near, far = [(9.99, 53.5), (10.01, 53.5)], [(11.0, 54.0), (11.1, 54.0)]
    graph = SimpleNamespace(
        segments=2,
        shape_at=np.array([0, 2, 4]),
        shape_lon_deg=np.array([p[0] for p in near + far]),
        shape_lat_deg=np.array([p[1] for p in near + far]),
    )
    assert roads_near(graph, (9.995, 10.005, 53.499, 53.501)) == [near]  # type: ignore[arg-type]
    assert matched_png(points(53.5 + WAY / 9, 10 + WAY), graph, "a") is not None  # type: ignore[arg-type]


def test_cells_of_the_place_with_most_events_are_shown() -> None:
    here, there = h3.latlng_to_cell(53.5, 10, 9), h3.latlng_to_cell(48.1, 11.5, 9)
    clips = pa.table({"clip_id": ["a", "b", "c", "d"], "h3_cell": [here, here, there, None]})
    both = event_cells_png(clips, {"a": 2, "b": 1, "c": 1, "d": 9})
    assert coloured(both) > 1000
    assert event_cells_png(clips, {"d": 3}) is None
    assert event_cells_png(clips, {"a": 3}) != both  # one place less
