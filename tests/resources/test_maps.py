"""Extracts of a folder, and tiles of the lake by digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import sha256_bytes, sha256_json
from av_assets.domain.roads.features import Feature
from av_assets.domain.roads.tiles import Bounds, cut, tile_rows
from av_assets.policies.roads import RoadsPolicy
from resources.lake import Lake, object_key
from resources.maps import NO_MAP, Maps, extract_rows, graph_of, is_delta, map_version, tiles_near

POLICY = RoadsPolicy.load()
ROAD = Feature(
    7, 0, (1, 2), (110_000_000, 110_100_000), (480_000_000, 480_000_000), (("highway", "primary"),)
)
HERE, ELSEWHERE = Bounds(48.0, 48.001, 11.0, 11.001), Bounds(50.0, 50.1, 9.0, 9.1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))


def keep(lake: Lake, features: list[Feature]) -> None:
    """What the asset map_tiles does with a map."""
    import pyarrow as pa

    from av_assets.domain.roads.map_version import MAP_TILES

    tiles = cut(features, POLICY)
    for tile in tiles.values():
        lake.store.put(object_key(sha256_bytes(tile)), tile)
    rows = [row | {"map": "all"} for row in tile_rows(tiles, POLICY)]
    lake.tables.replace("map_tiles", pa.Table.from_pylist(rows, schema=MAP_TILES), key="map", value="all")


def test_extracts_are_found_by_name_below_the_folder(tmp_path: Path) -> None:
    maps = Maps(path=str(tmp_path / "map"))
    assert maps.files() == []
    assert map_version(maps) == sha256_json([])
    (tmp_path / "map" / "de").mkdir(parents=True)
    (tmp_path / "map" / ".copying").mkdir()
    files = {
        "de/b.osm.pbf": b"b",
        "a.osm": b"a",
        ".hidden.osm": b"h",
        ".copying/c.osm": b"c",
        "notes.txt": b"n",
        "works.delta.json": b"d",
    }
    for name, data in files.items():
        (tmp_path / "map" / name).write_bytes(data)
    found = maps.files()
    assert [(m.file, m.sha256) for m in found] == [
        ("a.osm", sha256_bytes(b"a")),
        ("de/b.osm.pbf", sha256_bytes(b"b")),
        ("works.delta.json", sha256_bytes(b"d")),
    ]
    assert [is_delta(m) for m in found] == [False, False, True]
    assert map_version(maps) == sha256_json(extract_rows(found))
    one = Maps(path=str(tmp_path / "map" / "a.osm"))
    assert [m.file for m in one.files()] == ["a.osm"]


def test_another_content_is_another_version(tmp_path: Path) -> None:
    path = tmp_path / "a.osm"
    path.write_bytes(b"one")
    maps = Maps(path=str(tmp_path))
    first = map_version(maps)
    assert map_version(maps) == first
    path.write_bytes(b"three")
    second = map_version(maps)
    path.write_bytes(b"one")
    assert second != first == map_version(maps)


def test_no_map_is_not_a_map_without_roads_near(lake: Lake) -> None:
    assert tiles_near(lake, HERE, POLICY) == [NO_MAP]
    assert graph_of(lake, [NO_MAP], POLICY) is None
    keep(lake, [])
    assert tiles_near(lake, HERE, POLICY) == [NO_MAP]
    keep(lake, [ROAD])
    assert tiles_near(lake, ELSEWHERE, POLICY) == []
    outside = graph_of(lake, [], POLICY)
    assert outside is not None
    assert outside.segments == 0
    assert tiles_near(lake, None, POLICY) == []


def test_tiles_are_taken_by_digest_even_when_the_map_moved_on(lake: Lake) -> None:
    keep(lake, [ROAD])
    rows = tiles_near(lake, HERE, POLICY)
    keep(lake, [])
    graph = graph_of(lake, rows, POLICY)
    assert graph is not None
    assert set(graph.way_id.tolist()) == {7}
    with pytest.raises(EvidenceError) as caught:
        graph_of(lake, [{"cell": "x", "digest": "0" * 64}], POLICY)
    assert caught.value.code == "damaged_object"
