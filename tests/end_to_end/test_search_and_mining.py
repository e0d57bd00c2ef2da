"""Once drives are in: what is known of them is asked by SQL, sequence, likeness and set, and shown; all by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from av_assets.domain.simulation.roadmap import main_way_id, sample_map
from av_assets.domain.simulation.samples import short_drive
from av_assets.domain.simulation.weather_table import write_sample_weather
from av_assets.drives import STAGES
from av_assets.platform import request_run
from av_assets.production import ALL
from tests.end_to_end.conftest import Running
from tests.end_to_end.test_loop import drop
from tests.end_to_end.test_views import CHROMIUM, _pictures, _shown
from tests.end_to_end.test_views import page as page
from tests.end_to_end.test_views import shots as shots

DAY = "2026-03-04"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
with_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def drives(running: Running, recorded: Path) -> list[str]:
    """Finished drives: those that are there, or else those that land now."""
    names = sorted(p.name for p in (recorded / "landing").iterdir())
    for drive in names:
        if not (Path(running.here.landing) / drive).exists():
            drop(running, recorded, drive)
    running.wait(lambda: all(running.lake.manifest(a, d) for a in STAGES for d in names), 400)
    return names


@pytest.fixture(scope="module")
def surrounded(running: Running, drives: list[str]) -> list[str]:
    """The same drives after somebody brought a map and a weather table, and nobody asked for anything."""
    scripts = [short_drive(drive) for drive in drives]
    running.here.map.mkdir(exist_ok=True)
    (running.here.map / "sample.osm").write_text(sample_map(scripts), "utf-8")
    write_sample_weather(running.here.weather, scripts)
    running.wait(lambda: _known(running, "road_class") and _known(running, "weather"), 200)
    return drives


def _known(running: Running, column: str) -> bool:
    rows = running.lake.tables.read("clip_context")
    return rows is not None and rows.num_rows > 0 and rows[column].null_count == 0


@pytest.fixture(scope="module")
def mined(running: Running, surrounded: list[str]) -> list[str]:
    run_id = request_run(running.platform.url, ["coverage_ledgers", "scenario_candidates"], DAY)
    running.wait(lambda: running.instance.get_run_by_id(run_id).is_finished, 120)  # type: ignore[union-attr]
    run = running.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.SUCCESS
    return surrounded


def av(*words: str) -> Any:
    """What a command prints as JSON, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "av_assets.cli", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout)


def test_a_map_and_weather_that_come_later_reach_every_drive_by_themselves(
    running: Running, surrounded: list[str]
) -> None:
    rows = running.lake.tables.read("clip_context").to_pylist()
    assert sorted({row["drive"] for row in rows}) == surrounded
    region = short_drive(surrounded[0]).region
    assert {row["way_id"] for row in rows} == {main_way_id(region)}
    for drive in surrounded:
        asked = running.instance.get_runs(
            dg.RunsFilter(tags={"dagster/partition": drive, "dagster/sensor_name": "changed_surroundings"})
        )
        assert {run.asset_selection for run in asked} == {frozenset({dg.AssetKey("enriched_clips")})}


def test_the_tables_answer(mined: list[str], tmp_path: Path) -> None:
    clip = f"{mined[0]}/00000"
    found = av("sql", "SELECT drive, road_class FROM drives JOIN clip_context USING (drive) ORDER BY drive")
    assert found["rows"] == [{"drive": drive, "road_class": "secondary"} for drive in mined]
    assert av("find", "clip while day")["total"] >= len(mined)
    nothing = av("find", "clip during snow")
    assert (nothing["total"], "'snow'" in nothing["emptied_by"]) == (0, True)
    report = av("coverage")
    assert report["day"] == DAY
    assert report["hours"]["fleet"] > 0
    answers = av("why-not", mined[0], "--in", "scenario_candidates")
    assert {answer["subject"] for answer in answers} == {mined[0]}
    assert all(answer["inside"] or answer["sentence"] for answer in answers)
    shown = av("view", clip, "--out", str(tmp_path))
    assert Path(shown["rerun"]).read_bytes()[:4] == b"RRF2"
    assert Path(shown["mcap"]).read_bytes()[:5] == b"\x89MCAP"
    assert shown["messages"] > 0


def test_what_a_change_would_remake_is_told_before_it_happens(mined: list[str]) -> None:
    assets = {row["asset"]: row for row in av("impact", "code", "enriched_clips")["assets"]}
    assert assets["enriched_clips"]["certain"] == len(mined)
    assert assets["scenes"]["possible"] == len(mined)
    assert assets["scenario_candidates"]["frozen"] == 1
    assert assets["enriched_clips"]["p50_s"] > 0


def test_the_index_follows_the_drives(running: Running, surrounded: list[str]) -> None:
    def members() -> dict[str, Any]:
        made = running.lake.manifest("similarity_index", ALL)
        return json.loads(running.lake.read_bytes(made, "members.json")) if made else {}

    running.wait(lambda: set(surrounded) <= set(members()), 240)
    clip = f"{surrounded[0]}/00000"
    near = [row["clip_id"] for row in av("similar", clip, "--limit", "3")["results"]]
    assert len(near) == 3
    assert clip not in near
    key = dg.AssetKey("similarity_index")
    event = running.instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    assert {"neighbours", "projection"} <= set(event.asset_materialization.metadata)


@with_browser
@pytest.mark.browser
def test_the_catalog_shows_the_way_of_a_drive_on_its_map(
    page: object, running: Running, surrounded: list[str], shots: Path
) -> None:
    path = f"/assets/enriched_clips?view=partitions&partition={surrounded[0]}"
    body = _shown(page, running, path, "snapped_share", "enriched_clips", shots)
    assert "secondary" in body
    assert _pictures(page, 1)[0] > 400


@with_browser
@pytest.mark.browser
def test_the_catalog_shows_what_is_to_be_labelled_next(
    page: object, running: Running, mined: list[str], shots: Path
) -> None:
    path = f"/assets/scenario_candidates?view=partitions&partition={DAY}"
    body = _shown(page, running, path, "funnel", "scenario_candidates", shots)
    assert {"candidates", "funnel", "empty"} <= set(body.split())
