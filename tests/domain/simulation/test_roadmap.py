"""The sample world's map: sound, deterministic, and where the synthetic drives are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from av_assets.domain.logs.reader import LogReader
from av_assets.domain.roads.facts import ClipTrack, match_clips, road_context
from av_assets.domain.roads.graph import RoadGraph
from av_assets.domain.roads.lint import lint
from av_assets.domain.roads.osm import read_extract, read_graph
from av_assets.domain.simulation.roadmap import main_way_id, sample_map
from av_assets.domain.simulation.samples import sample_drives, short_drive
from av_assets.domain.simulation.script import DriveScript
from av_assets.domain.simulation.signals import gnss
from av_assets.domain.simulation.world import build_world
from av_assets.policies.roads import RoadsPolicy

POLICY = RoadsPolicy.load()
SCRIPTS = (*sample_drives(), short_drive())


@pytest.fixture(scope="module")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("map") / "sample.osm"
    path.write_text(sample_map(SCRIPTS), "utf-8")
    return path


@pytest.fixture(scope="module")
def graph(sample_file: Path) -> RoadGraph:
    return read_graph(sample_file, POLICY)


def on_own_way(track: ClipTrack, graph: RoadGraph, region: str) -> float:
    matched = match_clips([track], graph, POLICY).matched
    assert matched is not None
    on_road = matched.segment >= 0
    return float((graph.way_id[matched.segment[on_road]] == main_way_id(region)).sum() / len(on_road))


def test_the_map_is_sound_and_the_same_whatever_the_order(sample_file: Path) -> None:
    extract = read_extract(sample_file, POLICY)
    assert lint(extract.features, POLICY) == []
    assert extract.missing_nodes == {}
    assert (
        sample_map(reversed(SCRIPTS)) == sample_map([*SCRIPTS, SCRIPTS[0]]) == sample_file.read_text("utf-8")
    )
    classes = {f.tag("highway") for f in extract.features}
    assert {"secondary", "residential", "living_street", "tertiary", "motorway", "motorway_link"} == classes


def test_another_region_changes_nothing_in_this_one() -> None:
    harbour = [script for script in SCRIPTS if script.region == "harbour"]
    lines = set(sample_map(harbour).splitlines())
    assert lines <= set(sample_map(SCRIPTS).splitlines())


def test_a_recorded_drive_is_on_its_own_way(short_drive_folder: Path, graph: RoadGraph) -> None:
    with LogReader(short_drive_folder) as reader:
        fixes = [(raw.log_ns, reader.deserialize(raw)) for raw in reader.messages({"/gnss/fix"})]
    assert len(fixes) > 20
    track = ClipTrack(
        "short",
        np.array([t for t, _ in fixes], np.int64),
        np.array([fix.latitude for _, fix in fixes]),
        np.array([fix.longitude for _, fix in fixes]),
    )
    assert on_own_way(track, graph, short_drive().region) >= 0.95


@pytest.mark.parametrize("script", sample_drives(), ids=lambda s: s.drive)
def test_every_sample_drive_is_on_its_own_way(script: DriveScript, graph: RoadGraph) -> None:
    world, rng = build_world(script), np.random.default_rng(script.seed)
    seconds = np.arange(0.0, script.seconds, 0.1)
    positions = np.array([gnss(world, t, rng)[:2] for t in seconds.tolist()])
    times_ns = script.start_ns + (seconds * 1e9).astype(np.int64)
    track = ClipTrack(script.drive, times_ns, positions[:, 0], positions[:, 1])
    assert on_own_way(track, graph, script.region) >= 0.95
    [row] = road_context([track], graph, POLICY)
    assert (row["road_class"], row["speed_limit_source"], row["road_reason"]) == ("secondary", "tag", None)
    assert row["speed_limit_mps"] == pytest.approx(50 / 3.6)
    assert row["offset_p95_m"] < 20.0
    assert row["curvature_1pm"] < 1 / 300
