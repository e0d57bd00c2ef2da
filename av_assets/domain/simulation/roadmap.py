"""The sample world's own roads as an OpenStreetMap extract that fits the positions of the synthetic drives.

Every drive has a centreline of its own, and those of one region run within about 15 m of each other through the same
place. They are mapped as one street, their mean. As a street each they would cross each other every hundred metres
without a junction, closer than two lanes are wide, and no method could tell which one a vehicle is on; one layer per
drive would be no map. A street that is off by some metres, on the other hand, is what real maps look like: a
vehicle in the right lane is 5 m beside the centreline anyway.

Around the street lie what matching is confused by: side streets, a parallel street, a motorway with its ramp.
Belongs here: geometry and tags of the sample map. Does not belong here: reading maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import numpy as np

from av_assets.domain.simulation.road import Array, Road
from av_assets.domain.simulation.signals import REGIONS_DEG, geodetic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from av_assets.domain.simulation.script import DriveScript

IDS_A_REGION = 1_000_000
MAIN_WAY, LAST_X_M, STEP_M = 1, 1000.0, 20.0
NAMES = {"harbour": "Kaistraße", "old_town": "Sendlinger Straße", "airport": "Airportring"}
PARALLEL_Y_M, NORTH_Y_M, MOTORWAY_Y_M = -90.0, 120.0, (300.0, 320.0)
SIDE_STREETS: dict[float, dict[str, str]] = {
    100.0: {"highway": "tertiary", "maxspeed": "DE:urban"},
    300.0: {"highway": "residential", "maxspeed": "DE:zone:30"},
    480.0: {"highway": "residential"},
    700.0: {"highway": "living_street", "maxspeed": "walk"},
    900.0: {"highway": "residential", "maxspeed": "20 mph", "oneway": "yes"},
}
Tags = dict[str, str]


def main_way_id(region: str) -> int:
    """Id of the street that the drives of `region` are on."""
    return _base(region) + MAIN_WAY


def sample_map(scripts: Iterable[DriveScript]) -> str:
    """An .osm file (XML) of the regions of `scripts`; the same scripts in any order give the same text."""
    seeds: dict[str, set[int]] = {}
    for script in scripts:
        seeds.setdefault(_known(script.region), set()).add(script.seed)
    sheets = [_region(region, sorted(seeds[region])) for region in sorted(seeds)]
    lines = [line for sheet in sheets for line in sheet.nodes]
    lines += [line for sheet in sheets for line in sheet.ways]
    body = "\n".join(lines)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6" generator="sample world">\n{body}\n</osm>\n'


def _known(region: str) -> str:
    return region if region in REGIONS_DEG else "harbour"  # as positions do


def _base(region: str) -> int:
    return (list(REGIONS_DEG).index(_known(region)) + 1) * IDS_A_REGION


class _Sheet:
    """XML of one region; points of the world frame become nodes once each."""

    def __init__(self, region: str) -> None:
        self._region, self._ids = region, dict[tuple[float, float], int]()
        self.nodes: list[str] = []
        self.ways: list[str] = []

    def way(self, points: Sequence[tuple[float, float]], tags: Tags) -> None:
        refs = "".join(f'<nd ref="{self._node(x, y)}"/>' for x, y in points)
        pairs = "".join(f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in sorted(tags.items()))
        self.ways.append(
            f'<way id="{_base(self._region) + len(self.ways) + 1}" version="1">{refs}{pairs}</way>'
        )

    def _node(self, x_m: float, y_m: float) -> int:
        key = round(x_m, 2), round(y_m, 2)
        if key not in self._ids:
            self._ids[key] = _base(self._region) + len(self._ids) + 1
            lat, lon = geodetic(self._region, *key)
            self.nodes.append(f'<node id="{self._ids[key]}" version="1" lat="{lat:.7f}" lon="{lon:.7f}"/>')
        return self._ids[key]


def _region(region: str, seeds: Sequence[int]) -> _Sheet:
    sheet = _Sheet(region)
    x: Array = np.arange(0.0, LAST_X_M + STEP_M / 2, STEP_M)
    y = _mean_centreline(x, seeds)
    main = list(zip(x.tolist(), y.tolist(), strict=True))
    sheet.way(main, {"highway": "secondary", "name": NAMES[region], "maxspeed": "50", "lanes": "4"})
    _side_streets(sheet, dict(main))
    _motorway(sheet, main[-1])
    return sheet


def _mean_centreline(x_m: Array, seeds: Sequence[int]) -> Array:
    """y of the mean of the drives' centrelines at `x_m`, world frame."""
    roads = [Road.make(seed) for seed in seeds]
    return np.asarray(np.mean([np.interp(x_m, road.x_m, road.y_m) for road in roads], axis=0))


def _side_streets(sheet: _Sheet, main: dict[float, float]) -> None:
    """Across the main street, and a street parallel to it that joins their southern ends."""
    for x, tags in SIDE_STREETS.items():
        line = [(x, PARALLEL_Y_M), (x, PARALLEL_Y_M / 2), (x, main[x]), (x, NORTH_Y_M / 2), (x, NORTH_Y_M)]
        sheet.way(line, {"name": f"Querstraße {x / 100:.0f}", **tags})
    sheet.way([(x, PARALLEL_Y_M) for x in SIDE_STREETS], {"highway": "residential", "name": "Parallelstraße"})


def _motorway(sheet: _Sheet, end: tuple[float, float]) -> None:
    """Two carriageways north of everything, a ramp from the main street's end, and where they turn round."""
    south, north = MOTORWAY_Y_M
    stops = [0.0, 600.0, 1200.0, 1500.0, 1800.0]
    sheet.way([(x, south) for x in stops], {"highway": "motorway", "ref": "A 7", "maxspeed": "none"})
    sheet.way([(x, north) for x in stops[::-1]], {"highway": "motorway", "ref": "A 7", "maxspeed": "120"})
    link = {"highway": "motorway_link", "oneway": "yes"}
    sheet.way([end, (1150.0, 80.0), (1300.0, 250.0), (1500.0, south)], {**link, "maxspeed": "60"})
    sheet.way([(1800.0, south), (1830.0, (south + north) / 2), (1800.0, north)], link)
    sheet.way([(600.0, south), (660.0, 260.0), (700.0, NORTH_Y_M)], link)
