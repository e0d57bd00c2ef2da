"""Roads and weather come to the clips, and only drives near a change are remade.

Belongs here: weather_observations and enriched_clips on a small world. Does not belong here: matching itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.context.rows import CLIP_CONTEXT, GROUPS
from av_assets.domain.evidence.claims import RECORD_FILE, Claim, Record
from av_assets.domain.simulation.road import Road
from av_assets.domain.simulation.roadmap import main_way_id, sample_map
from av_assets.domain.simulation.samples import short_drive
from av_assets.domain.simulation.script import DriveScript
from av_assets.domain.simulation.signals import geodetic
from av_assets.domain.simulation.weather_table import HOURS, STATIONS, write_sample_weather
from av_assets.domain.sync.shards import clip_path, clip_table, signals_column, write_clip
from av_assets.foundations import enrichment
from av_assets.policies.context import ContextPolicy
from av_assets.policies.roads import RoadsPolicy
from av_assets.production import ALL
from av_assets.reliability import map_tiles
from partitions.drives import drives
from resources.lake import Lake
from resources.maps import Maps
from resources.weather import Weather

NEAR = short_drive(weather="rain")
FAR = short_drive("veh002-20250603t080000z", region="airport", seed=7)
ROWS = 50


@dataclass
class World:
    """A lake with shards, a map, weather tables, and runs over them."""

    lake: Lake
    instance: dg.DagsterInstance
    folder: Path

    def shards(self, script: DriveScript, clips: int = 2, **signals: Any) -> None:
        """Clips that drive along the region's main street at 10 m/s, with the signals of the vehicle."""
        with self.lake.workdir() as folder:
            (folder / RECORD_FILE).write_text(Record((Claim("made_for_tests", True),)).to_json())
            for number in range(clips):
                seconds = (number * ROWS + np.arange(ROWS)) / 10
                x = 20.0 + 10.0 * seconds
                road = Road.make(script.seed)
                y = np.interp(x, road.x_m, road.y_m)
                places = np.array([geodetic(script.region, *at) for at in zip(x, y, strict=True)])
                values = {
                    "latitude_deg": places[:, 0],
                    "longitude_deg": places[:, 1],
                    "wiper_level": 0.0,
                } | signals
                full = {
                    n: np.broadcast_to(np.asarray(v, float), ROWS) for n, v in values.items() if v is not None
                }
                ref_ns = script.start_ns + (seconds * 1e9).astype(np.int64)
                columns = {"signals": signals_column(full)} if full else {}
                table = clip_table(
                    script.drive, number, number * ROWS, ref_ns, np.arange(ROWS) % 5 == 0, columns
                )
                write_clip(table, clip_path(folder, number), 3, 0, 1 << 26)
            self.lake.publish("synced_shards", script.drive, folder)

    def map(self, *scripts: DriveScript, without: str = "") -> None:
        """The map of these drives' regions; lines that hold `without` are left out."""
        text = sample_map(scripts)
        lines = [line for line in text.splitlines() if not without or without not in line]
        (self.folder / "map").mkdir(exist_ok=True)
        (self.folder / "map" / "sample.osm").write_text("\n".join(lines))

    def weather(self, *scripts: DriveScript) -> None:
        write_sample_weather(self.folder / "weather", scripts)

    def run(self, *assets: str, drive: str | None = None) -> dg.ExecuteInProcessResult:
        definitions = dg.Definitions(
            assets=dg.load_assets_from_modules([enrichment, map_tiles]),
            asset_checks=dg.load_asset_checks_from_modules([enrichment, map_tiles]),
            resources={
                "lake": self.lake,
                "maps": Maps(path=str(self.folder / "map")),
                "weather": Weather(path=str(self.folder / "weather")),
            },
        )
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, asset_selection=[dg.AssetKey(a) for a in assets], partition_key=drive
        )
        assert result.success
        return result

    def look(self) -> None:
        """Read map and weather as they are now."""
        self.run("map_tiles")
        self.run("weather_observations")

    def enrich(self, script: DriveScript) -> list[dict[str, Any]]:
        """The rows of a drive after a run, which are those of the table and explain what they lack."""
        result = self.run("enriched_clips", drive=script.drive)
        [check] = result.get_asset_check_evaluations()
        assert (check.check_name, check.passed) == ("enriched_clips_explain_what_is_missing", True)
        table = self.lake.tables.read("clip_context", [("drive", "=", script.drive)])
        assert table is not None
        assert table.column_names == [*CLIP_CONTEXT.names, "made_from", "run_id"]
        return sorted(table.to_pylist(), key=lambda row: row["clip_id"])

    def digest(self, script: DriveScript) -> str:
        return self.lake.require("enriched_clips", script.drive).digest

    def metadata(self, asset: str) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {k: v.value for k, v in event.asset_materialization.metadata.items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(drives.name or "", [NEAR.drive, FAR.drive])
        yield World(lake, instance, tmp_path)


@pytest.fixture
def full(world: World) -> World:
    """Two drives in two regions, with map and weather of both."""
    for script in (NEAR, FAR):
        world.shards(script, wiper_level=2.0 if script.weather == "rain" else 0.0)
    world.map(NEAR, FAR)
    world.weather(NEAR, FAR)
    world.look()
    return world


class TestEnrichedClips:
    def test_tell_road_weather_and_evidence(self, full: World) -> None:
        for row in full.enrich(NEAR):
            assert row["way_id"] == main_way_id(NEAR.region)
            assert (row["road_class"], row["snapped_share"]) == ("secondary", 1.0)
            assert row["speed_limit_mps"] == pytest.approx(50 / 3.6)
            assert row["offset_p95_m"] < 20.0
            assert (row["weather"], row["weather_code"]) == ("rain", HOURS["rain"].coco)
            assert row["weather_source"] == f"meteostat {STATIONS[NEAR.region]}"
            assert row["weather_distance_m"] == pytest.approx(3800, abs=200)
            assert (row["evidence_weather"], row["weather_conflict"]) == ("rain", False)
            assert row["evidence_reason"] == "no rain sensor signal; no camera"
        [first, second] = full.enrich(FAR)
        assert (first["weather"], second["weather"], first["evidence_weather"]) == ("clear", "clear", None)
        assert first["weather_conflict"] is None
        manifest = full.lake.require("enriched_clips", NEAR.drive)
        points = pq.read_table(pa.BufferReader(full.lake.read_bytes(manifest, "matched.parquet")))
        assert points.num_rows == 2 * ROWS
        assert manifest.note == ""
        shown = full.metadata("enriched_clips")
        assert shown["report"]["snapped_share"] == 1.0
        assert len(shown["clips"]) == 2

    def test_wipers_in_clear_weather_are_told_beside_it_and_not_instead(self, full: World) -> None:
        full.shards(FAR, wiper_level=1.0)
        row = full.enrich(FAR)[0]
        assert (row["weather"], row["evidence_weather"], row["weather_conflict"]) == ("clear", "rain", True)

    def test_same_world_is_not_worked_through_again(self, full: World) -> None:
        full.enrich(NEAR)
        before = full.digest(NEAR)
        full.look()
        full.enrich(NEAR)
        assert full.digest(NEAR) == before
        assert full.metadata("enriched_clips")["reused"] is True

    def test_positions_are_read_from_what_was_made_of_the_same_shards(
        self, full: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shards = {"synced_shards": full.lake.require("synced_shards", NEAR.drive)}
        policies = ContextPolicy.load(), RoadsPolicy.load()
        first = enrichment.surroundings(full.lake, *policies, NEAR.drive, shards)
        full.enrich(NEAR)
        monkeypatch.setattr(Lake, "checkout", lambda *_: pytest.fail("all clips were fetched"))
        assert enrichment.surroundings(full.lake, *policies, NEAR.drive, shards) == first
        assert all(first.values())


class TestOnlyWhatIsNear:
    def test_change_of_a_map_far_away_remakes_nothing(self, full: World) -> None:
        full.enrich(NEAR)
        before = full.digest(NEAR)
        tiles = full.lake.require("map_tiles", ALL).content
        full.map(NEAR)  # the other region is gone
        full.look()
        assert full.lake.require("map_tiles", ALL).content != tiles
        full.enrich(NEAR)
        assert full.digest(NEAR) == before
        assert full.metadata("enriched_clips")["reused"] is True

    def test_change_nearby_remakes_the_drive(self, full: World) -> None:
        full.enrich(NEAR)
        before = full.lake.require("enriched_clips", NEAR.drive)
        full.map(NEAR, FAR, without="Parallelstra")
        full.look()
        full.enrich(NEAR)
        after = full.lake.require("enriched_clips", NEAR.drive)
        assert after.made_from.rows["map_tiles"] != before.made_from.rows["map_tiles"]
        assert after.made_from.rows["weather"] == before.made_from.rows["weather"]

    def test_weather_that_comes_late_remakes_its_drives_only(self, world: World) -> None:
        for script in (NEAR, FAR):
            world.shards(script)
        world.map(NEAR, FAR)
        world.weather(FAR)
        world.look()
        assert {row["weather_reason"] for row in world.enrich(NEAR)} == {"no station within 50 km"}
        world.enrich(FAR)
        far = world.digest(FAR)
        world.weather(NEAR, FAR)
        world.look()
        assert {row["weather"] for row in world.enrich(NEAR)} == {"rain"}
        world.enrich(FAR)
        assert world.digest(FAR) == far

    def test_weather_of_another_day_is_not_of_interest(self, full: World) -> None:
        full.enrich(NEAR)
        before = full.digest(NEAR)
        full.weather(NEAR, FAR, short_drive("veh001-20250622t080000z", weather="fog"))
        full.look()
        full.enrich(NEAR)
        assert full.digest(NEAR) == before


class TestWhatIsMissing:
    def test_no_map_and_no_weather(self, world: World) -> None:
        world.shards(NEAR)
        world.look()
        assert world.lake.require("weather_observations", ALL).note == "no weather table was given"
        for row in world.enrich(NEAR):
            assert {row[name] for name in (*GROUPS["road"][:-1], *GROUPS["weather"][:-1])} == {None}
            assert (row["road_reason"], row["weather_reason"]) == ("no map", "no station within 50 km")
        note = world.lake.require("enriched_clips", NEAR.drive).note
        assert note == "no road known: no map; no weather known: no station within 50 km"

    def test_before_map_and_weather_were_ever_read(self, world: World) -> None:
        world.shards(NEAR)
        assert {row["road_reason"] for row in world.enrich(NEAR)} == {"no map"}

    @pytest.mark.parametrize("lost", [None, float("nan")])
    def test_no_positions(self, full: World, lost: float | None) -> None:
        full.shards(NEAR, latitude_deg=lost, longitude_deg=lost)
        for row in full.enrich(NEAR):
            assert (row["road_reason"], row["weather_reason"]) == ("no position", "no position")
        made_from = full.lake.require("enriched_clips", NEAR.drive).made_from
        full.weather(FAR)
        full.look()
        full.enrich(NEAR)
        assert full.lake.require("enriched_clips", NEAR.drive).made_from == made_from

    def test_station_that_was_silent_then(self, full: World) -> None:
        late = short_drive("veh001-20250622t080000z")
        full.instance.add_dynamic_partitions(drives.name or "", [late.drive])
        full.shards(late)
        assert {row["weather_reason"] for row in full.enrich(late)} == {"no observation within 30 min"}

    def test_drive_outside_the_map(self, full: World) -> None:
        full.shards(NEAR, latitude_deg=10.0, longitude_deg=10.0)
        assert {row["road_reason"] for row in full.enrich(NEAR)} == {"outside the map"}

    def test_drive_without_clips(self, full: World) -> None:
        full.shards(NEAR, clips=0)
        assert full.enrich(NEAR) == []
        assert full.lake.require("enriched_clips", NEAR.drive).note == "no clip in this drive"


class TestWeatherObservations:
    def test_damaged_tables_turn_the_check_red_and_lose_nothing_silently(self, world: World) -> None:
        world.weather(NEAR)
        (world.folder / "weather" / "SAP01.csv").write_text(
            "2025-06-01,8,-999,,,,,,,,,,3\n2025-06-01,9,cold,,,,,,,,,,3\n2025-06-01,8,5,,,,,,,,,,4\n"
        )
        result = world.run("weather_observations")
        [check] = result.get_asset_check_evaluations()
        assert (check.check_name, check.passed) == ("weather_rows_are_plausible", False)
        shown = {k: v.value for k, v in check.metadata.items()}
        assert shown["damaged"] == {"SAP01.csv": {"temp is no number": 1}}
        assert (shown["implausible"], shown["repeated"]) == ({"temperature_c": 1}, 1)
        rows = world.lake.tables.read("weather", [("station", "=", "SAP01")])
        assert rows is not None
        assert [row["temperature_c"] for row in rows.to_pylist()] == [5.0]

    def test_good_tables_are_listed_with_their_digests(self, full: World) -> None:
        made_from = full.lake.require("weather_observations", ALL).made_from
        assert list(made_from.rows) == ["weather_files"]
        shown = full.metadata("weather_observations")
        assert {row.data["layout"] for row in shown["tables"].records} == {"stations", "station hours"}
        rows = full.lake.tables.read("weather")
        assert rows is not None
        assert rows.num_rows == shown["dagster/row_count"]

    def test_unknown_table_fails_by_name(self, world: World) -> None:
        world.weather(NEAR)
        (world.folder / "weather" / "readme.txt").write_text("hello")
        with pytest.raises(Exception, match=r"unknown_weather_layout.*readme\.txt"):
            world.run("weather_observations")
