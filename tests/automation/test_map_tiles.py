"""Versions of the map as an asset: made, left alone, compared with the version before, judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from av_assets.domain.errors import PoisonError
from av_assets.domain.roads.delta import delta, to_json
from av_assets.domain.roads.osm import read_extract
from av_assets.domain.roads.tiles import Bounds
from av_assets.domain.simulation.roadmap import main_way_id, sample_map
from av_assets.domain.simulation.samples import sample_drives
from av_assets.policies.roads import RoadsPolicy
from av_assets.reliability.map_tiles import map_tiles, map_tiles_keep_their_topology
from resources.lake import Lake
from resources.maps import Maps, graph_of, map_version, tiles_near

POLICY = RoadsPolicy.load()
HARBOUR = Bounds(53.541, 53.542, 9.985, 9.99)
TEXT = sample_map(sample_drives())


class Place:
    """A lake and a folder of maps."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(uri=(folder / "lake").as_uri(), scratch=str(folder / "lake" / ".scratch"))
        self.file = folder / "map" / "sample.osm"
        self.file.parent.mkdir(parents=True)
        self.maps = Maps(path=str(self.file.parent))

    def run(self) -> dg.ExecuteInProcessResult:
        made = dg.materialize(
            [map_tiles, map_tiles_keep_their_topology], resources={"lake": self.lake, "maps": self.maps}
        )
        assert made.success
        return made

    def metadata(self, made: dg.ExecuteInProcessResult) -> dict[str, Any]:
        [event] = made.asset_materializations_for_node("map_tiles")
        return {name: value.value for name, value in event.metadata.items()}

    def report(self, name: str) -> Any:
        return json.loads(self.lake.read_bytes(self.lake.require("map_tiles", "all"), name))

    def cells(self) -> dict[str, str]:
        rows = self.lake.tables.read("map_tiles")
        assert rows is not None
        return dict(zip(rows["cell"].to_pylist(), rows["digest"].to_pylist(), strict=True))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_no_map_is_an_empty_table_and_says_so(place: Place) -> None:
    shown = place.metadata(place.run())
    assert (shown["note"], shown["tiles"]) == ("no map was given", 0)
    assert place.cells() == {}
    assert place.lake.require("map_tiles", "all").made_from.rows["map_extract"] == map_version(place.maps)


def test_a_map_becomes_tiles_that_a_drive_can_read(place: Place) -> None:
    place.file.write_text(TEXT, "utf-8")
    made = place.run()
    shown = place.metadata(made)
    assert shown["tiles"] == shown["dagster/row_count"] == len(place.cells()) > 3
    manifest = place.lake.require("map_tiles", "all")
    assert manifest.made_from.rows["map_extract"] == map_version(place.maps)
    assert {f.path: f.sha256 for f in manifest.matching("tiles/*")} == {
        f"tiles/{cell}.json.zst": digest for cell, digest in place.cells().items()
    }
    graph = graph_of(place.lake, tiles_near(place.lake, HARBOUR, POLICY), POLICY)
    assert graph is not None
    assert main_way_id("harbour") in graph.way_id
    assert main_way_id("airport") not in graph.way_id
    [check] = made.get_asset_check_evaluations()
    assert check.passed


def test_the_same_roads_make_the_same_tiles_and_an_empty_delta(place: Place) -> None:
    place.file.write_text(TEXT, "utf-8")
    place.run()
    first, version = place.cells(), map_version(place.maps)
    assert place.metadata(place.run())["reused"] is True
    # other bytes, the same roads: a comment, and a tag that no tile keeps
    place.file.write_text(
        TEXT.replace("<osm ", "<!-- edited --><osm ").replace(
            'v="secondary"/>', 'v="secondary"/><tag k="note" v="x"/>'
        )
    )
    assert map_version(place.maps) != version
    shown = place.metadata(place.run())
    assert (shown["reused"], shown["changed_cells"]) == (False, 0)
    assert (place.cells(), place.report("delta.json")["edits"]) == (first, [])


def test_an_edit_changes_the_tiles_around_it_and_is_listed(place: Place) -> None:
    place.file.write_text(TEXT, "utf-8")
    place.run()
    before = place.cells()
    near = {b: tiles_near(place.lake, b, POLICY) for b in (HARBOUR, Bounds(48.137, 48.138, 11.58, 11.585))}
    way = next(line for line in TEXT.splitlines() if line.startswith('<way id="1000001"'))
    place.file.write_text(TEXT.replace(way, way.replace('k="maxspeed" v="50"', 'k="maxspeed" v="30"')))
    shown = place.metadata(place.run())
    changed = {row["cell"] for row in place.report("changed_cells.json")}
    assert changed == {cell for cell, digest in place.cells().items() if before[cell] != digest}
    assert 0 < len(changed) < len(before)
    assert (shown["modified"], shown["added"], shown["deleted"]) == (1, 0, 0)
    [edit] = place.report("delta.json")["edits"]
    assert (edit["way"], edit["source"]) == (main_way_id("harbour"), "sample.osm")
    told = [tiles_near(place.lake, b, POLICY) != rows for b, rows in near.items()]
    assert told == [True, False]  # only a drive near the change is made from something else


def test_broken_topology_turns_the_check_red(place: Place) -> None:
    way = next(line for line in TEXT.splitlines() if line.startswith('<way id="1000001"'))
    twice = way.replace('<way id="1000001"', '<way id="1000999"')
    place.file.write_text(TEXT.replace("</osm>", twice + "</osm>"))
    [check] = place.run().get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["errors"].value == 1


def test_a_file_that_is_no_map_fails_and_leaves_the_version_before(place: Place) -> None:
    place.file.write_text(TEXT, "utf-8")
    place.run()
    before = place.lake.require("map_tiles", "all"), place.cells()
    place.file.write_text(TEXT[:-30])
    with pytest.raises(PoisonError) as caught:
        place.run()
    assert caught.value.code == "bad_map"
    assert (place.lake.require("map_tiles", "all"), place.cells()) == before


def test_road_works_arrive_as_a_delta_and_are_taken_up_by_the_next_extract(
    place: Place, tmp_path: Path
) -> None:
    place.file.write_text(TEXT, "utf-8")
    place.run()
    [road] = [f for f in read_extract(place.file, POLICY).features if f.way_id == main_way_id("airport")]
    slow = dict(road.tags) | {"maxspeed": "30"}
    works = replace(road, tags=tuple(sorted(slow.items())))
    edits = delta([road], [works], "road works office")
    (place.file.parent / "works.delta.json").write_text(json.dumps(to_json(edits)), "utf-8")
    shown = place.metadata(place.run())
    assert (shown["modified"], shown["added"], shown["deleted"]) == (1, 0, 0)
    with_works = place.cells()
    way = next(line for line in TEXT.splitlines() if line.startswith(f'<way id="{road.way_id}"'))
    place.file.write_text(TEXT.replace(way, way.replace('k="maxspeed" v="50"', 'k="maxspeed" v="30"')))
    assert place.metadata(place.run())["changed_cells"] == 0
    assert place.cells() == with_works
    assert place.report("lint.json") == []
    # another extract has closed the road: the edit was made for something else, is left out and shown
    place.file.write_text(TEXT.replace(way + "\n", ""))
    shown = place.metadata(place.run())
    assert shown["deleted"] == 1
    assert [f["way_id"] for f in place.report("lint.json") if f["rule"] == "conflict"] == [road.way_id]
