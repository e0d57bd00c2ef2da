"""Map matching against drives whose roads are known."""

from __future__ import annotations

import difflib
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.roads.graph import RoadGraph, build_graph
from av_assets.domain.roads.matching import OFF_ROAD, OUTSIDE, Matched, Matcher
from av_assets.domain.roads.plane import METRES_A_DEGREE
from av_assets.domain.roads.routes import Router
from av_assets.domain.roads.traces import JUMP, NO_POSITION, smoothed, thinned
from av_assets.domain.roads.viterbi import Chain, emission
from av_assets.policies.roads import RoadsPolicy
from tests.domain.roads.road_worlds import Point, World, drive, grid

POLICY = RoadsPolicy.load()


def matched(world: World, times_ns: np.ndarray, xy: np.ndarray) -> tuple[RoadGraph, Matched]:
    graph = build_graph(world.features, POLICY)
    return graph, Matcher(graph, POLICY).match(times_ns, *world.place(xy))


def ways(graph: RoadGraph, found: Matched) -> np.ndarray:
    """Way of every point, 0 where there is none."""
    return np.where(found.segment >= 0, graph.way_id[found.segment], 0)


def random_walk(size: int, steps: int, seed: int, step_m: float = 150.0) -> list[Point]:
    """Corners of a walk over a grid that never turns round."""
    rng = np.random.default_rng(seed)
    at, heading = np.array([size // 2, size // 2]), np.array([1, 0])
    points = [at]
    while len(points) <= steps:
        options = [np.array(o) for o in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        options = [
            o
            for o in options
            if (o != -heading).any() and ((at + o) >= 1).all() and ((at + o) < size - 1).all()
        ]
        heading = options[rng.integers(len(options))]
        at = at + heading
        points.append(at)
    return [(float(x) * step_m, float(y) * step_m) for x, y in points]


def driven(graph: RoadGraph, found: Matched) -> list[tuple[int, int]]:
    return [
        (int(graph.node_id[graph.begin[s]]), int(graph.node_id[graph.end[s]]))
        for r in found.routes
        for s in r
    ]


def in_common(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> int:
    return sum(
        block.size for block in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    )


@pytest.mark.parametrize("rate_hz", [1.0, 10.0])
def test_a_noisy_drive_of_half_an_hour_gives_its_segments(rate_hz: float) -> None:
    world = grid(24, 24)
    corners = random_walk(24, 140, seed=3)
    times_ns, xy = drive(corners, rate_hz=rate_hz, noise_m=5.0, seed=1)
    graph, found = matched(world, times_ns, xy)
    ids = {
        p: i for f in world.features for p, i in zip(zip(*f.degrees(), strict=True), f.node_ids, strict=True)
    }
    lat, lon = world.place(np.array(corners))
    nodes = [ids[round(x * 1e7) * 1e-7, round(y * 1e7) * 1e-7] for x, y in zip(lon, lat, strict=True)]
    truth, route = list(pairwise(nodes)), driven(graph, found)
    assert in_common(truth, route) >= 0.99 * max(len(truth), len(route))
    assert found.snapped_share == 1.0
    assert found.offset_p95_m is not None
    assert 7.0 < found.offset_p95_m < 12.0  # |N(0, 5)| has its 95th percentile at 9.8 m
    assert np.median(found.confidence) > 0.99


def test_posteriors_are_those_of_all_paths_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    sizes = [3, 2, 4, 3]
    chain = Chain(
        [rng.normal(size=n) for n in sizes],
        [np.where(rng.random((a, b)) < 0.2, -np.inf, rng.normal(size=(a, b))) for a, b in pairwise(sizes)],
    )
    weights = np.zeros(sizes)
    for path in np.ndindex(*sizes):
        score = sum(chain.emissions[t][k] for t, k in enumerate(path))
        score += sum(chain.transitions[t][path[t], path[t + 1]] for t in range(len(sizes) - 1))
        weights[path] = np.exp(score)
    assert tuple(chain.best_path()) == np.unravel_index(weights.argmax(), weights.shape)
    for step, posterior in enumerate(chain.posteriors()):
        others = tuple(axis for axis in range(len(sizes)) if axis != step)
        np.testing.assert_allclose(posterior, weights.sum(axis=others) / weights.sum(), atol=1e-12)


def test_emissions_are_normal() -> None:
    from scipy.stats import norm

    distance_m = np.linspace(0.0, 50.0, 11)
    truth = norm.logpdf(distance_m, scale=POLICY.matching.sigma_m)
    np.testing.assert_allclose(np.diff(emission(distance_m, POLICY.matching)), np.diff(truth))


@pytest.mark.parametrize(("gap_s", "routes"), [(60.0, 1), (60.001, 2)])
def test_a_tunnel_is_bridged_for_a_minute(gap_s: float, routes: int) -> None:
    world = World()
    world.road((0, 0), (300, 0))
    tunnel = world.road((300, 0), (900, 0), tunnel="yes")
    world.road((900, 0), (1500, 0))
    world.road((300, 0), (300, 200))
    world.road((900, 0), (900, 200))
    before, xy_before = drive([(20, 0), (290, 0)], speed_mps=10)
    after, xy_after = drive([(910, 0), (1400, 0)], speed_mps=10)
    after = after + before[-1] + round(gap_s * 1e9)
    graph, found = matched(world, np.concatenate([before, after]), np.concatenate([xy_before, xy_after]))
    assert len(found.routes) == routes
    assert (tunnel in {int(graph.way_id[s]) for r in found.routes for s in r}) == (routes == 1)
    assert found.snapped_share == 1.0


def test_a_street_15_m_beside_is_not_taken() -> None:
    world = World()
    world.road(*((x, 0.0) for x in range(0, 1601, 400)))
    world.road(*((x, 15.0) for x in range(0, 1601, 400)))
    for x in (0.0, 1600.0):
        world.road((x, 0.0), (x, 15.0))
    times_ns, xy = drive([(20, 0), (1580, 0)], noise_m=5.0, seed=5)
    xy[[0, -1], 1] = 10.0  # both ends look like the other street
    graph, found = matched(world, times_ns, xy)
    nearer = (np.abs(xy[:, 1] - 15.0) < np.abs(xy[:, 1])).mean()
    assert nearer > 0.02  # what snapping each point by itself would get wrong
    assert (ways(graph, found) == 1).mean() >= 0.99


def test_one_way_roads_are_driven_their_way_only() -> None:
    world = World()
    world.road((0, 0), (800, 0), oneway="yes")
    world.road((0, 12), (800, 12), oneway="-1")
    for x in (0.0, 800.0):
        world.road((x, 0), (x, 12))
    # right between both carriageways: only the direction tells which one
    for points, way in (([(20, 6), (780, 6)], 1), ([(780, 6), (20, 6)], 2)):
        times_ns, xy = drive(points)
        graph, found = matched(world, times_ns, xy)
        assert set(ways(graph, found)[1:-1]) == {way}
        assert (graph.reverse[found.segment[1:-1]] == -1).all()


def test_turning_round_in_the_middle_of_a_road() -> None:
    world = grid(2, 2, step_m=600.0)
    times_ns, xy = drive([(50, 0), (330, 0), (60, 0)])
    graph, found = matched(world, times_ns, xy)
    assert set(ways(graph, found)) == {1}
    first, last = int(found.segment[0]), int(found.segment[-1])
    assert graph.reverse[first] == last
    assert [list(route) for route in found.routes] == [[first, last]]
    turned = np.flatnonzero(np.diff(found.segment) != 0)
    assert len(turned) == 1
    assert abs(xy[turned[0], 0] - 330.0) < 25.0


def test_a_jump_of_the_receiver_is_left_out_and_the_drive_goes_on() -> None:
    world = grid(6, 6, step_m=300.0)
    times_ns, xy = drive([(20, 0), (1400, 0)])
    xy[40:43] += (300.0, 900.0)
    graph, found = matched(world, times_ns, xy)
    assert [found.reason[i] for i in range(40, 43)] == [JUMP] * 3
    rest = np.delete(np.arange(len(xy)), np.s_[40:43])
    assert set(ways(graph, found)[rest]) == {1}
    assert len(found.routes) == 1


def test_a_standing_vehicle_does_not_wander() -> None:
    world = grid(4, 4, step_m=300.0)
    start, to = drive([(20, 300), (450, 300)])
    noise = np.random.default_rng(2).normal(0.0, 5.0, (300, 2))
    standing = np.array([450.0, 300.0]) + noise
    end, away = drive([(450, 300), (880, 300)])
    times_ns = np.arange(len(to) + 300 + len(away)) * 1_000_000_000
    graph, found = matched(world, times_ns, np.concatenate([to, standing, away]))
    assert len(start) + len(end) + 300 == len(times_ns)
    assert set(ways(graph, found)) == {2}
    assert len(found.routes) == 1
    assert len(set(found.segment.tolist())) == len(found.routes[0]) == 3


def test_leaving_the_map_and_coming_back() -> None:
    world = World()
    world.road((0, 0), (2000, 0))
    times_ns, xy = drive([(10, 0), (500, 0), (500, 2500), (900, 2500), (900, 0), (1900, 0)], speed_mps=20)
    graph, found = matched(world, times_ns, xy)
    far, off = xy[:, 1] > 1100, (xy[:, 1] > 60) & (xy[:, 1] < 900)
    assert {found.reason[i] for i in np.flatnonzero(far)} == {OUTSIDE}
    assert {found.reason[i] for i in np.flatnonzero(off)} == {OFF_ROAD}
    assert set(ways(graph, found)[xy[:, 1] == 0]) == {1}
    assert len(found.routes) == 2


def test_where_there_is_nothing_to_match() -> None:
    world = grid(3, 3)
    nowhere = np.full((5, 2), np.nan)
    _, found = matched(world, np.arange(5), nowhere)
    assert set(found.reason) == {NO_POSITION}
    assert found.snapped_share is None
    assert found.offset_p95_m is None
    _, found = matched(World(), np.arange(2), np.zeros((2, 2)))
    assert set(found.reason) == {OUTSIDE}
    _, found = matched(world, np.zeros(0, np.int64), np.zeros((0, 2)))
    assert len(found.segment) == 0


def test_one_point_is_on_the_nearest_road_and_its_direction_is_open() -> None:
    graph, found = matched(grid(3, 3), np.array([7]), np.array([[70.0, 4.0]]))
    assert ways(graph, found).tolist() == [1]
    assert found.distance_m[0] == pytest.approx(4.0, abs=0.02)
    assert found.confidence[0] == pytest.approx(0.5, abs=1e-6)


def test_points_between_those_of_the_chain_are_as_sure_as_the_less_sure_neighbour() -> None:
    world = grid(5, 5)
    times_ns, xy = drive([(20, 150), (420, 150)], rate_hz=10.0)
    lat, lon = world.place(xy)
    _, found = matched(world, times_ns, xy)
    calm = [smoothed(times_ns, part, POLICY.matching) for part in (lon, lat)]
    chain = thinned(times_ns, *calm, POLICY.matching)
    assert len(np.unique(found.confidence[chain].round(6))) > 5
    for a, b in pairwise(chain.tolist()):
        assert (found.confidence[a + 1 : b] == found.confidence[[a, b]].min()).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 999), limit_m=st.floats(0.0, 900.0))
def test_routes_are_those_of_another_library(seed: int, limit_m: float) -> None:
    import networkx as nx

    rng, world = np.random.default_rng(seed), World()
    places = [(float(x), float(y)) for x, y in rng.integers(0, 500, (12, 2))]
    for _ in range(20):
        a, b = rng.choice(12, 2, replace=False)
        if places[a] != places[b]:
            world.road(places[a], places[b], oneway=str(rng.choice(["yes", "no"])))
    graph = build_graph(world.features, POLICY)
    router, other = Router(graph), nx.MultiDiGraph()
    for a, b, length in zip(graph.begin.tolist(), graph.end.tolist(), graph.length_m.tolist(), strict=True):
        other.add_edge(a, b, weight=length)
    nodes = np.arange(len(graph.node_id))
    for source in nodes.tolist():
        router.distances_m(source, nodes, 2000.0)  # a tree that reaches farther must not change the answer
        known = nx.single_source_dijkstra_path_length(other, source, cutoff=limit_m)
        answer = router.distances_m(source, nodes, limit_m)
        np.testing.assert_allclose(answer, [known.get(n, np.inf) for n in nodes.tolist()], rtol=1e-12)
        for target in known:
            path = router.path(source, target, limit_m)
            assert graph.length_m[path].sum() == pytest.approx(known[target])
            assert [int(graph.begin[s]) for s in path] + [target] == [source] + [
                int(graph.end[s]) for s in path
            ]


def test_times_out_of_order_are_matched_in_order() -> None:
    world = grid(5, 5)
    times_ns, xy = drive(random_walk(5, 12, seed=1), noise_m=3.0)
    _, straight = matched(world, times_ns, xy)
    order = np.random.default_rng(4).permutation(len(times_ns))
    _, mixed = matched(world, times_ns[order], xy[order])
    assert (mixed.segment == straight.segment[order]).all()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    turned_rad=st.floats(0.0, 6.28),
    lat=st.floats(-60.0, 60.0),
    lon=st.floats(-179.0, 179.0),
)
def test_turning_and_moving_the_world_changes_nothing(
    seed: int, turned_rad: float, lat: float, lon: float
) -> None:
    corners = random_walk(6, 12, seed)
    times_ns, xy = drive(corners, noise_m=4.0, seed=seed)
    here = grid(6, 6)
    there = World((lat, lon), turned_rad)
    for feature in here.features:
        east = (np.array(feature.lon_e7) * 1e-7 - 11.0) * METRES_A_DEGREE * np.cos(np.deg2rad(48.0))
        north = (np.array(feature.lat_e7) * 1e-7 - 48.0) * METRES_A_DEGREE
        there.road(*((round(x), round(y)) for x, y in zip(east.tolist(), north.tolist(), strict=True)))
    graph, found = matched(here, times_ns, xy)
    other_graph, other = matched(there, times_ns, xy)
    # coordinates are rounded to 1e-7 degrees and planes are not spheres: a tie at a junction may fall otherwise
    assert (ways(graph, found) == ways(other_graph, other)).mean() >= 0.95
    assert other.snapped_share == found.snapped_share == 1.0


@settings(max_examples=25)
@given(seed=st.integers(0, 999))
def test_the_order_of_ways_in_the_map_changes_nothing(seed: int) -> None:
    world = grid(5, 5)
    order = np.random.default_rng(seed).permutation(len(world.features))
    one = build_graph(world.features, POLICY)
    other = build_graph([world.features[i] for i in order], POLICY)
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(other, name)), name


def test_an_hour_on_fifty_thousand_segments_takes_seconds() -> None:
    world = grid(112, 112)
    graph = build_graph(world.features, POLICY)
    assert graph.segments > 49_000
    times_ns, xy = drive(random_walk(112, 340, seed=9), speed_mps=14.0, noise_m=5.0)
    assert len(times_ns) > 3600
    lat, lon = world.place(xy)
    matcher = Matcher(graph, POLICY)
    began = time.process_time()
    found = matcher.match(times_ns, lat, lon)
    assert time.process_time() - began < 10.0  # about 1 s on two cores that nobody else uses
    assert found.snapped_share == 1.0


def test_another_matcher_finds_the_same_streets() -> None:
    leuven = pytest.importorskip("leuvenmapmatching.matcher.distance")
    from leuvenmapmatching.map.inmem import InMemMap

    world = grid(6, 6)
    times_ns, xy = drive(random_walk(6, 10, seed=2), noise_m=4.0, seed=2)
    graph, found = matched(world, times_ns, xy)
    lat, lon = world.place(xy)
    theirs = InMemMap("roads", use_latlon=True, use_rtree=False, index_edges=True)
    for node, y, x in zip(
        graph.node_id.tolist(), graph.node_lat_deg.tolist(), graph.node_lon_deg.tolist(), strict=True
    ):
        theirs.add_node(node, (y, x))
    for a, b in zip(graph.node_id[graph.begin].tolist(), graph.node_id[graph.end].tolist(), strict=True):
        theirs.add_edge(a, b)
    matcher = leuven.DistanceMatcher(
        theirs, max_dist=50, obs_noise=5, non_emitting_states=False, max_lattice_width=16
    )
    states, last = matcher.match(list(zip(lat.tolist(), lon.tolist(), strict=True)))
    assert last == len(xy) - 1
    way_of = {(a, b): f.way_id for f in world.features for a, b in pairwise(f.node_ids)}
    way_of |= {(b, a): way for (a, b), way in way_of.items()}
    assert np.mean([way_of[tuple(s)] == w for s, w in zip(states, ways(graph, found), strict=True)]) >= 0.95


def test_a_real_minute_without_a_map_of_its_place_is_outside(real_data: Path) -> None:
    """Positions of a Californian highway on the streets of the tests."""
    from av_assets.domain.logs.reader import LogReader

    folder = real_data / "drives" / "comma2k19_rav4_drive"
    with LogReader(folder) as reader:
        topic = next(t for t, info in reader.topics.items() if info.msgtype.endswith("NavSatFix"))
        rows = [(raw.log_ns, reader.deserialize(raw)) for raw in reader.messages({topic})]
    times = np.array([t for t, _ in rows], np.int64)
    lat, lon = (np.array([getattr(fix, name) for _, fix in rows]) for name in ("latitude", "longitude"))
    assert len(rows) > 500
    graph = build_graph(grid(4, 4).features, POLICY)
    found = Matcher(graph, POLICY).match(times, lat, lon)
    assert set(found.reason) == {OUTSIDE}
