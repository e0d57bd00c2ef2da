"""What clips say of their road."""

from __future__ import annotations

import numpy as np
import pytest

from av_assets.domain.errors import PoisonError
from av_assets.domain.roads.facts import (
    POINTS,
    ROAD_COLUMNS,
    ClipTrack,
    match_clips,
    matched_points,
    road_context,
)
from av_assets.domain.roads.graph import build_graph
from av_assets.policies.roads import RoadsPolicy
from tests.domain.roads.road_worlds import World, drive

POLICY = RoadsPolicy.load()


def clips(world: World, times_ns: np.ndarray, xy: np.ndarray, length: int = 50) -> list[ClipTrack]:
    lat, lon = world.place(xy)
    return [
        ClipTrack(f"d/{i // length:05d}", times_ns[i : i + length], lat[i : i + length], lon[i : i + length])
        for i in range(0, len(times_ns), length)
    ]


def circle(radius_m: float) -> list[tuple[float, float]]:
    angles = np.linspace(-np.pi / 2, np.pi / 2, 60)
    return [(round(float(radius_m * np.cos(a)), 3), round(float(radius_m * np.sin(a)), 3)) for a in angles]


def test_every_clip_has_every_column_and_points_tell_each_position() -> None:
    world = World()
    world.road((0, 0), (400, 0), highway="primary", maxspeed="70")
    world.road((400, 0), (800, 0), highway="motorway_link")
    world.road((400, 0), (400, 300))
    track = clips(world, *drive([(5, 0), (780, 0)], speed_mps=15, rate_hz=10))
    graph = build_graph(world.features, POLICY)
    found = match_clips(track, graph, POLICY)
    rows = road_context(track, graph, POLICY, found)
    assert all(tuple(row) == ("clip_id", *ROAD_COLUMNS) for row in rows)
    assert [row["road_class"] for row in rows] == ["primary"] * 5 + ["motorway_link"] * 6
    first, last = rows[0], rows[-1]
    assert first["speed_limit_mps"] == pytest.approx(70 / 3.6)
    assert (first["speed_limit_source"], last["speed_limit_source"]) == ("tag", "default:motorway_link")
    assert first["snapped_share"] == 1.0
    assert first["offset_p95_m"] < 0.1
    assert first["curvature_1pm"] == pytest.approx(0.0, abs=1e-6)
    # the clip ends at 5 + 4.9 s * 15 m/s, the junction lies at 400 m
    assert first["junction_distance_m"] == pytest.approx(400 - 5 - 4.9 * 15, abs=1.0)
    assert last["junction_distance_m"] is None  # the road ends
    assert all(row["road_reason"] is None for row in rows)
    points = matched_points(track, graph, POLICY, found)
    assert points.schema == POINTS
    assert points.num_rows == sum(len(clip.times_ns) for clip in track)
    assert set(points["way_id"].to_pylist()) == {1, 2}
    assert points["reason"].null_count == points.num_rows
    assert points == matched_points(track, graph, POLICY)


def test_limits_differ_by_direction() -> None:
    world = World()
    world.road((0, 0), (900, 0), maxspeed__forward="70", maxspeed__backward="50")
    graph = build_graph(world.features, POLICY)
    there = road_context(clips(world, *drive([(5, 0), (400, 0)])), graph, POLICY)
    back = road_context(clips(world, *drive([(400, 0), (5, 0)])), graph, POLICY)
    assert there[0]["speed_limit_mps"] == pytest.approx(70 / 3.6)
    assert back[0]["speed_limit_mps"] == pytest.approx(50 / 3.6)


@pytest.mark.parametrize("radius_m", [80.0, 150.0, 400.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_curvature_of_a_circle(radius_m: float, mirrored: bool) -> None:
    world = World()
    line = [(x, -y if mirrored else y) for x, y in circle(radius_m)]
    world.road(*line)
    row = road_context(
        clips(world, *drive(line, noise_m=2.0), length=10_000), build_graph(world.features, POLICY), POLICY
    )
    assert row[0]["curvature_1pm"] == pytest.approx(1 / radius_m, rel=0.12)


def test_the_next_junction_is_looked_for_beyond_bends_and_ends_of_ways() -> None:
    world = World()
    world.road((0, 0), (100, 0))
    world.road((100, 0), (200, 0), maxspeed="30")
    world.road((200, 0), (200, 100))
    world.road((200, 100), (300, 100))
    world.road((200, 100), (100, 100))
    track = clips(world, *drive([(5, 0), (60, 0)], speed_mps=10, rate_hz=10), length=1000)
    [row] = road_context(track, build_graph(world.features, POLICY), POLICY)
    assert row["junction_distance_m"] == pytest.approx(40 + 100 + 100, abs=2.0)


def test_unknown_is_null_and_says_why() -> None:
    world = World()
    world.road((0, 0), (900, 0), maxspeed="none", highway="motorway")
    graph = build_graph(world.features, POLICY)
    times = np.arange(30) * 100_000_000
    nowhere = ClipTrack("d/0", times, np.full(30, np.nan), np.full(30, np.nan))
    lat, lon = world.place(np.stack([np.linspace(10, 60, 30), np.full(30, 1.0)], axis=1))
    road = ClipTrack("d/1", times + 3_000_000_000, lat, lon)
    far = ClipTrack("d/2", times + 900_000_000_000, lat + 1.0, lon)
    rows = road_context([nowhere, road, far], graph, POLICY)
    assert [row["road_reason"] for row in rows] == [
        "no position",
        "no speed limit applies",
        "outside the map",
    ]
    known = {"clip_id", "road_reason", "snapped_share"}
    for row in (rows[0], rows[2]):
        assert all(row[name] is None for name in ROAD_COLUMNS if name not in known)
    assert (rows[0]["snapped_share"], rows[2]["snapped_share"]) == (None, 0.0)
    assert (rows[1]["speed_limit_mps"], rows[1]["speed_limit_source"]) == (None, "tag")
    assert [row["road_reason"] for row in road_context([nowhere, road], None, POLICY)] == [
        "no position",
        "no map",
    ]
    assert (
        matched_points([nowhere, road], None, POLICY)["reason"].to_pylist()
        == ["no position"] * 30 + ["no map"] * 30
    )
    assert road_context([], graph, POLICY) == []
    assert matched_points([], graph, POLICY).num_rows == 0


def test_a_clip_with_a_few_positions_on_a_road_has_no_road() -> None:
    world = World()
    world.road((0, 0), (900, 0))
    times = np.arange(20) * 2_000_000_000
    xy = np.stack([np.linspace(10, 200, 20), np.where(np.arange(20) < 5, 0.0, 90.0)], axis=1)
    [row] = road_context(clips(world, times, xy), build_graph(world.features, POLICY), POLICY)
    assert row["way_id"] is None
    assert row["snapped_share"] == 0.25
    assert row["road_reason"] == "no road within reach"


def test_arrays_of_other_lengths_are_refused() -> None:
    with pytest.raises(PoisonError) as caught:
        match_clips([ClipTrack("d/0", np.arange(3), np.zeros(2), np.zeros(3))], None, POLICY)
    assert caught.value.code == "bad_track"
