"""Tiles, deltas and lint: what changes with the map, and what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.errors import PoisonError
from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.roads.delta import apply, conflicts, delta, from_json, merged, to_json
from av_assets.domain.roads.features import Feature
from av_assets.domain.roads.graph import build_graph
from av_assets.domain.roads.lint import lint
from av_assets.domain.roads.map_version import map_version_of
from av_assets.domain.roads.matching import Matcher
from av_assets.domain.roads.tiles import Bounds, changed_cells, cut, load, rows_near, tile_rows, unpack
from av_assets.policies.roads import RoadsPolicy
from tests.domain.roads.road_worlds import World, drive, grid

POLICY = RoadsPolicy.load()


def with_tags(feature: Feature, **tags: str) -> Feature:
    return replace(feature, tags=tuple(sorted({**dict(feature.tags), **tags}.items())))


def city() -> World:
    """Streets of 9 km by 9 km, each 1.5 km long: many cells, and roads across their borders."""
    world = World()
    for r in range(7):
        for c in range(6):
            world.road((c * 1500.0, r * 1500.0), (c * 1500.0 + 1500.0, r * 1500.0), maxspeed="50")
            world.road((r * 1500.0, c * 1500.0), (r * 1500.0, c * 1500.0 + 1500.0))
    return world


CITY = city().features


class TestTiles:
    def test_all_tiles_together_are_the_map(self) -> None:
        tiles = cut(CITY, POLICY)
        assert len(tiles) > 10
        whole, again = build_graph(CITY, POLICY), load(tiles.values(), POLICY)
        for name, value in vars(whole).items():
            assert np.array_equal(value, getattr(again, name)), name

    @settings(max_examples=15)
    @given(seed=st.integers(0, 10_000))
    def test_order_changes_no_byte(self, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(CITY))
        assert cut([CITY[i] for i in order], POLICY) == cut(CITY, POLICY)

    @settings(max_examples=25)
    @given(which=st.integers(0, len(CITY) - 1))
    def test_one_changed_road_changes_the_tiles_that_hold_it_and_no_other(self, which: int) -> None:
        edited = [with_tags(f, maxspeed="30") if i == which else f for i, f in enumerate(CITY)]
        before, after = cut(CITY, POLICY), cut(edited, POLICY)
        changed = {row["cell"] for row in changed_cells(tile_rows(before, POLICY), tile_rows(after, POLICY))}
        holding = {c for c, t in before.items() if CITY[which].key in {f.key for f in unpack(t, POLICY)}}
        assert changed == holding
        assert holding

    def test_a_drive_near_borders_is_matched_with_its_tiles_as_with_the_whole_map(self) -> None:
        world = city()
        times_ns, xy = drive([(1400, 1500), (4500, 1500), (4500, 4400)], noise_m=5.0)
        lat, lon = world.place(xy)
        tiles = cut(CITY, POLICY)
        bounds = Bounds(lat.min(), lat.max(), lon.min(), lon.max())
        near = rows_near(tile_rows(tiles, POLICY), bounds, POLICY.tiles.margin_m)
        assert 3 < len(near) < len(tiles)
        part, whole = load((tiles[row["cell"]] for row in near), POLICY), build_graph(CITY, POLICY)
        with_part, with_whole = (Matcher(g, POLICY).match(times_ns, lat, lon) for g in (part, whole))
        assert (part.way_id[with_part.segment] == whole.way_id[with_whole.segment]).all()
        for name in ("offset_m", "distance_m", "confidence"):
            np.testing.assert_allclose(getattr(with_part, name), getattr(with_whole, name))

    def test_only_drives_near_a_change_depend_on_it(self) -> None:
        before, after = (
            tile_rows(cut(features, POLICY), POLICY)
            for features in (CITY, [with_tags(CITY[0], maxspeed="30"), *CITY[1:]])
        )
        lat, lon = World().place(np.array([[100.0, 0.0], [200.0, 10.0], [8800.0, 8900.0], [8900.0, 8990.0]]))
        here = Bounds(lat[:2].min(), lat[:2].max(), lon[:2].min(), lon[:2].max())
        there = Bounds(lat[2:].min(), lat[2:].max(), lon[2:].min(), lon[2:].max())
        margin = POLICY.tiles.margin_m
        assert rows_near(before, here, margin) != rows_near(after, here, margin)
        assert rows_near(before, there, margin) == rows_near(after, there, margin) != []

    def test_what_is_no_tile_is_refused(self) -> None:
        import zstandard

        tile = next(iter(cut(CITY, POLICY).values()))
        packed = zstandard.ZstdCompressor().compress
        bad = [
            b"",
            b"x" * 50,
            tile[:-10],
            packed(b"{}"),
            packed(b"[1]"),
            packed(b'{"schema":2}'),
            packed(b"[" * 99_999),
        ]
        bad.append(
            packed(
                canonical_json(
                    {
                        "schema": 1,
                        "features": [{"way": 1, "part": 0, "nodes": [1], "lon": [1], "lat": [1], "tags": {}}],
                    }
                )
            )
        )
        for data in bad:
            with pytest.raises(PoisonError) as caught:
                unpack(data, POLICY)
            assert caught.value.code == "bad_tile"
        tight = POLICY.model_copy(
            update={"reader": POLICY.reader.model_copy(update={"max_tile_bytes": 10_000})}
        )
        with pytest.raises(PoisonError, match="too large"):
            unpack(packed(b" " * 10_000_000), tight)


@st.composite
def edited_cities(draw: st.DrawFn) -> list[Feature]:
    features = []
    for feature in grid(3, 3).features:
        what = draw(st.sampled_from(["keep", "keep", "drop", "tag", "move"]))
        if what == "tag":
            features.append(with_tags(feature, maxspeed=draw(st.sampled_from(["30", "50", "none"]))))
        elif what == "move":
            features.append(replace(feature, lon_e7=tuple(x + 10 for x in feature.lon_e7)))
        elif what == "keep":
            features.append(feature)
    if draw(st.booleans()):
        features.append(replace(features[0], way_id=999) if features else grid(3, 3).features[0])
    return features


class TestDeltas:
    @settings(max_examples=60)
    @given(before=edited_cities(), after=edited_cities())
    def test_a_delta_leads_to_the_other_version_and_survives_its_file(
        self, before: list[Feature], after: list[Feature]
    ) -> None:
        edits = delta(before, after, "survey")
        assert from_json(json.dumps(to_json(edits)).encode(), "delta.json") == edits
        assert cut(apply(before, edits), POLICY) == cut(after, POLICY)
        assert (edits == []) == (cut(before, POLICY) == cut(after, POLICY))

    def test_kinds_sources_and_validity(self) -> None:
        a, b, c = grid(2, 2).features[:3]
        closed = replace(b, valid_from_ns=5, valid_until_ns=9)
        edits = delta([a, b], [closed, c], "road works office")
        assert [(e.change, e.key[0]) for e in edits] == [("delete", 1), ("modify", 2), ("add", 3)]
        assert (edits[1].source, edits[1].valid_from_ns, edits[1].valid_until_ns) == (
            "road works office",
            5,
            9,
        )
        with pytest.raises(PoisonError) as caught:
            apply([with_tags(a, oneway="yes"), b], edits)
        assert caught.value.code == "stale_map_edit"

    def test_two_edits_of_one_road_conflict_only_where_they_differ_at_one_time(self) -> None:
        [road] = grid(2, 1).features[:1]
        slow, slower = (
            replace(with_tags(road, maxspeed=v), valid_from_ns=0, valid_until_ns=10) for v in ("30", "20")
        )
        later = replace(slower, valid_from_ns=10, valid_until_ns=20)
        office, other, third = (
            delta([road], [new], name) for new, name in ((slow, "a"), (slower, "b"), (later, "c"))
        )
        assert [(c.key, c.sources) for c in conflicts([office, other])] == [((1, 0), ("a", "b"))]
        assert conflicts([office, third]) == []
        assert conflicts([office, delta([road], [slow], "d")]) == []
        features, differing = merged([("x.osm", [slow]), ("y.osm", [slower]), ("z.osm", [slow])])
        assert features == [slow]
        assert [c.sources for c in differing] == [("x.osm", "y.osm")]

    @pytest.mark.parametrize(
        "change",
        [
            {"schema": 2},
            {"edits": [{}]},
            {"edits": 5},
            {"edits": [{"change": "add", "way": 1, "part": 0, "before": None, "after": None, "source": "x",
                        "valid_from_ns": None, "valid_until_ns": None}]},
        ],
    )  # fmt: skip
    def test_what_is_no_delta_is_refused(self, change: dict) -> None:
        with pytest.raises(PoisonError) as caught:
            from_json(json.dumps({"schema": 1, "edits": [], **change}).encode(), "delta.json")
        assert (caught.value.code, caught.value.file) == ("bad_map_delta", "delta.json")


class TestLint:
    def rules(self, world: World) -> list[tuple[str, int]]:
        return [(f.rule, f.way_id) for f in lint(world.features, POLICY)]

    def test_a_clean_map_has_no_findings(self) -> None:
        assert self.rules(grid(4, 4)) == []

    def test_an_end_that_all_but_meets_a_road(self) -> None:
        world = World()
        world.road((0, 0), (600, 0))
        world.road((300, 1.0), (300, 400))
        world.road((100, 5.0), (100, 700))
        # both side streets are networks of their own; only one of them is so close that it must be a mistake
        assert ("dangling_end", 2) in self.rules(world)
        assert ("dangling_end", 3) not in self.rules(world)
        assert ("island", 2) in self.rules(world)
        assert ("island", 3) not in self.rules(world)

    def test_lines_without_length_and_lines_drawn_twice(self) -> None:
        world = grid(2, 2)
        world.road((0, 0), (150, 0), way=50)
        world.road((150, 150), (150, 0), way=51)
        still = replace(world.features[0], way_id=60, lon_e7=(1, 1), lat_e7=(2, 2), node_ids=(900, 901))
        world.features.append(still)
        found = self.rules(world)
        assert [r for r in found if r[0] == "duplicate_way"] == [("duplicate_way", 50), ("duplicate_way", 51)]
        assert ("zero_length", 60) in found

    def test_a_road_that_replaces_another_is_no_duplicate(self) -> None:
        world = grid(2, 2)
        old = replace(world.features[0], valid_until_ns=100)
        new = replace(with_tags(old, oneway="yes"), way_id=70, valid_from_ns=100, valid_until_ns=None)
        assert lint([old, new, *world.features[1:]], POLICY) == []

    def test_contradictions(self) -> None:
        world = grid(3, 3)
        world.road((0, 0), (150, 0), (150, 150), way=80, oneway="yes", maxspeed="30")
        world.road((150, 0), (150, 150), (300, 150), way=81, maxspeed="50")
        world.road((0, 300), (0, 450), way=82, oneway="perhaps")
        world.road((300, 300), (300, 450), way=83, maxspeed="fast")
        world.road(
            (150, 300), (150, 450), way=84, maxspeed="50", maxspeed__forward="30", maxspeed__backward="70"
        )
        found = set(self.rules(world))
        assert {("contradictory_oneway", 80), ("contradictory_oneway", 82)} <= found
        assert {("contradictory_maxspeed", w) for w in (83, 84)} <= found
        assert ("contradictory_maxspeed", 81) not in found  # the first way of that piece states no limit

    def test_the_policy_says_what_fails(self) -> None:
        world = grid(2, 2)
        world.road((0, 0), (150, 0), way=50)
        strict = POLICY.model_copy(update={"lint": POLICY.lint.model_copy(update={"errors": ()})})
        assert [f.error for f in lint(world.features, POLICY)] == [True]
        assert [f.error for f in lint(world.features, strict)] == [False]


def test_a_version_of_no_map_and_of_broken_maps(tmp_path: Path) -> None:
    version = map_version_of([], None, POLICY)
    assert (version.tiles, version.rows, version.changed, version.edits) == ({}, [], [], [])
    bad = tmp_path / "bad.osm"
    bad.write_text("no map")
    with pytest.raises(PoisonError):
        map_version_of([("bad.osm", bad)], None, POLICY)


def test_a_road_that_one_extract_cuts_off_is_whole_in_the_next(tmp_path: Path) -> None:
    nodes = {1: 11.0, 2: 11.001, 3: 11.002, 4: 11.003}
    files = []
    for name, held in (("a.osm", (1, 2, 3)), ("b.osm", (1, 2, 3, 4)), ("c.osm", (2, 3, 4))):
        inside = "".join(f'<node id="{n}" lat="48" lon="{nodes[n]}"/>' for n in held)
        for way, refs in ((7, (1, 2, 3, 4)), (8, (4, 3, 99))):
            along = "".join(f'<nd ref="{n}"/>' for n in refs)
            inside += f'<way id="{way}">{along}<tag k="highway" v="primary"/></way>'
        (tmp_path / name).write_text(f'<osm version="0.6">{inside}</osm>')
        files.append((name, tmp_path / name))
    version = map_version_of(files, None, POLICY)
    [road, *_] = sorted(
        {f for tile in version.tiles.values() for f in unpack(tile, POLICY)}, key=lambda f: f.key
    )
    assert (road.key, road.node_ids) == ((7, 0), (1, 2, 3, 4))
    assert [(f.rule, f.way_id) for f in version.findings] == [("missing_nodes", 8)]
