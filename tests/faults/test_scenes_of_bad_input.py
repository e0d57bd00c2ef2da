"""Drives that lack or distort what scenes, maps, weather and searches need: told, never guessed, and alone with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from av_assets.cli.main import main
from av_assets.domain.simulation.roadmap import sample_map
from av_assets.domain.simulation.samples import short_drive
from av_assets.domain.simulation.weather_table import write_sample_weather
from av_assets.foundations import cataloging, enrichment
from av_assets.mining import described_scenes, embeddings, scenarios, scenes
from av_assets.policies.events import EventsPolicy
from av_assets.production import ALL
from av_assets.reliability import map_tiles
from resources import quarantine
from resources.lake import Lake
from resources.landing import Landing
from resources.maps import Maps
from resources.weather import Weather
from tests.faults.conftest import Installation, install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DAY = "2026-03-04"
GOOD = short_drive().drive
PER_DRIVE = ("drive_catalog", "enriched_clips", "event_windows", "clip_embeddings", "scenes")
COPIED = ("raw_logs", "log_reports", "synced_shards", "auto_labels")

Spoil = Callable[[pa.Table], pa.Table]


def signals(**changes: Callable[[np.ndarray], np.ndarray] | None) -> Spoil:
    """Changes signals of a clip by name; None takes the signal away, `every` stands for all of them."""

    def spoil(clip: pa.Table) -> pa.Table:
        held = clip["signals"].combine_chunks()
        named = {f.name: held.field(f.name).to_numpy(zero_copy_only=False) for f in held.type}
        wanted = dict.fromkeys(named, changes["every"]) if "every" in changes else changes
        kept = {n: np.asarray(c(v)) if (c := wanted.get(n, same)) else None for n, v in named.items()}
        arrays = {n: pa.array(v) for n, v in kept.items() if v is not None}
        return put(clip, "signals", pa.StructArray.from_arrays(list(arrays.values()), list(arrays)))

    return spoil


def same(values: np.ndarray) -> np.ndarray:
    return values


def later(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """In the last third of the clip."""
    return lambda values: np.where(3 * np.arange(len(values)) < 2 * len(values), values, change(values))


def constant(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.full(len(values), value)


def put(clip: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return clip.set_column(clip.schema.get_field_index(name), name, column).replace_schema_metadata(
        clip.schema.metadata
    )


def blind(clip: pa.Table) -> pa.Table:
    """No frame of any camera arrived."""
    for name in [n for n in clip.column_names if n.startswith("camera")]:
        kind = clip.schema.field(name).type
        none = {f.name: None for f in kind} | {"valid": False, "encoding": ""}
        clip = put(clip, name, pa.array([none] * clip.num_rows, kind))
    return clip


def without_cameras(clip: pa.Table) -> pa.Table:
    return clip.drop_columns([name for name in clip.column_names if name.startswith("camera")])


def wild_tracks(clip: pa.Table) -> pa.Table:
    """A radar whose places and speeds are no numbers, or without end, for a part of its tracks."""
    rows = clip["radar_front"].to_pylist()
    for number, row in enumerate(rows):
        for track in row["tracks"] or []:
            track["x_m"] = (float("nan"), float("inf"), track["x_m"])[number % 3]
            track["vx_mps"] = (track["vx_mps"], float("-inf"), float("nan"))[number % 3]
    return put(clip, "radar_front", pa.array(rows, clip.schema.field("radar_front").type))


def stamped_twice(clip: pa.Table) -> pa.Table:
    stamps = clip["ref_ns"].to_numpy().copy()
    stamps[7] = stamps[8]
    return put(clip, "ref_ns", pa.array(stamps))


NAN = constant(float("nan"))
BAD: dict[str, Spoil | None] = {
    "no_gnss": signals(latitude_deg=None, longitude_deg=None),
    "lost_gnss": signals(latitude_deg=NAN, longitude_deg=NAN),
    "gnss_jump": signals(latitude_deg=later(lambda v: v + 0.05)),
    "null_island": signals(latitude_deg=later(constant(0.0)), longitude_deg=later(constant(0.0))),
    "off_earth": signals(latitude_deg=later(constant(190.0))),
    "outside": signals(latitude_deg=constant(10.0), longitude_deg=constant(10.0)),
    "nan_signals": signals(every=NAN),
    "infinite": signals(speed_mps=later(constant(np.inf)), accel_mps2=later(constant(-np.inf))),
    "wild_tracks": wild_tracks,
    "no_signals": lambda clip: clip.drop_columns(["signals"]),
    "no_camera": without_cameras,
    "blind": blind,
    "no_row": lambda clip: clip.slice(0, 0),
    "no_clip": None,
    "poison": stamped_twice,
}
DRIVE = {name: f"veh001-20250601t0810{number:02d}z" for number, name in enumerate(BAD)}
EVERY = [GOOD, *DRIVE.values()]


@dataclass
class Place:
    """One lake with a good drive and what became of the bad ones."""

    home: Path
    instance: dg.DagsterInstance
    first_note: str
    results: dict[str, dg.ExecuteInProcessResult] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return Installation(self.home).lake

    def write_map(self, text: str) -> None:
        (self.home / "map").mkdir(exist_ok=True)
        (self.home / "map" / "sample.osm").write_text(text, "utf-8")

    def rows(self, table: str, name: str) -> list[dict[str, Any]]:
        """Rows of a bad drive by its name, or of the good one by ""."""
        found = self.lake.tables.read(table, [("drive", "=", DRIVE.get(name, GOOD))])
        assert found is not None
        return sorted(found.to_pylist(), key=lambda row: (row.get("clip_id") or "", row.get("start_ns") or 0))

    def run(
        self, *assets: str, drives: list[str] | None = None, day: str | None = None
    ) -> dg.ExecuteInProcessResult:
        modules = [cataloging, enrichment, map_tiles, scenes, embeddings, described_scenes, scenarios]
        defs = dg.Definitions(
            assets=dg.load_assets_from_modules(modules),
            asset_checks=dg.load_asset_checks_from_modules(modules),
            resources={
                "lake": self.lake,
                "landing": Landing(path=str(self.home / "landing")),
                "maps": Maps(path=str(self.home / "map")),
                "weather": Weather(path=str(self.home / "weather")),
            },
        )
        span = {}
        if drives:
            self.instance.add_dynamic_partitions("drive", drives)
            span = {
                "dagster/asset_partition_range_start": drives[0],
                "dagster/asset_partition_range_end": drives[-1],
            }
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(a) for a in assets],
            partition_key=day,
            tags=span,
            raise_on_error=False,
        )


def renamed(path: Path, drive: str) -> None:
    """The file as one of another drive."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path)
        for name in ("drive", "clip_id"):
            if name in rows.column_names:
                held = [value.replace(GOOD, drive) for value in rows[name].to_pylist()]
                rows = put(rows, name, pa.array(held, pa.string()))
        pq.write_table(rows.replace_schema_metadata(_of(rows.schema.metadata, drive)), path)
    elif path.suffix in (".json", ".yaml"):
        path.write_text(path.read_text("utf-8").replace(GOOD, drive), "utf-8")


def _of(metadata: dict[bytes, bytes] | None, drive: str) -> dict[bytes, bytes]:
    return {key: value.replace(GOOD.encode(), drive.encode()) for key, value in (metadata or {}).items()}


def copy(lake: Lake, drive: str, spoil: Spoil | None) -> None:
    """What is above scenes in the graph, of the good drive under another id and with spoiled clips."""
    for asset in COPIED:
        with lake.workdir() as folder:
            out = lake.checkout(lake.require(asset, GOOD), folder / "held", "*.json", "*.yaml", "*.parquet")
            shutil.copytree(out, folder / "made", symlinks=False)
            for path in [p for p in (folder / "made").rglob("*") if p.is_file()]:
                path.chmod(0o644)
                renamed(path, drive)
                if asset == "synced_shards" and path.suffix == ".parquet":
                    path.unlink() if spoil is None else pq.write_table(spoil(pq.read_table(path)), path)
                elif asset == "auto_labels" and path.suffix == ".parquet" and spoil is None:
                    pq.write_table(pq.read_table(path).slice(0, 0), path)
            lake.publish(asset, drive, folder / "made")


@pytest.fixture(scope="module")
def place(
    equipped: Path, short_drive_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A drive that came before map and weather, then all the others in one range, then what gathers them."""
    home = tmp_path_factory.mktemp("scenes") / "home"
    installation = install(home, equipped)
    installation.av("land", str(short_drive_folder), "--here", "--json")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("AV_HOME", str(home))
        made = Place(home, instance, installation.lake.require("enriched_clips", GOOD).note)
        for name, spoil in BAD.items():
            copy(made.lake, DRIVE[name], spoil)
        made.write_map(sample_map([short_drive()]))
        write_sample_weather(home / "weather", [short_drive()])
        assert made.run("map_tiles", "weather_observations").success
        made.results["drives"] = made.run(*PER_DRIVE, drives=EVERY)
        made.results["index"] = made.run("similarity_index")
        for asset in ("coverage_ledgers", "scenario_candidates"):
            made.results[asset] = made.run(asset, day=DAY)
        yield made


class TestDrives:
    def test_the_range_and_all_that_gathers_it_succeed(self, place: Place) -> None:
        for name, result in place.results.items():
            assert result.success, f"{name}: {failure(result)}"
            assert [e.check_name for e in result.get_asset_check_evaluations() if not e.passed] == []

    def test_the_poisoned_drive_alone_is_set_aside(self, place: Place) -> None:
        [row] = quarantine.listing(place.lake)
        assert (row["drive"], row["stage"], row["code"]) == (
            DRIVE["poison"],
            "event_windows",
            "duplicate_stamps",
        )
        made = {d: {a for a in PER_DRIVE if place.lake.manifest(a, d) is not None} for d in EVERY}
        assert made.pop(DRIVE["poison"]) == {"drive_catalog", "enriched_clips", "clip_embeddings"}
        assert all(held == set(PER_DRIVE) for held in made.values())

    def test_before_map_and_weather_came_that_was_the_reason(self, place: Place) -> None:
        assert place.first_note == "no road known: no map; no weather known: no station within 50 km"
        assert place.lake.require("enriched_clips", GOOD).note == ""

    @pytest.mark.parametrize("name", ["no_gnss", "lost_gnss", "nan_signals", "no_signals"])
    def test_without_positions_everything_that_needs_one_is_null_with_a_reason(
        self, place: Place, name: str
    ) -> None:
        [drive] = place.rows("drives", name)
        assert drive["position_reason"] == "no GNSS position"
        assert {drive[c] for c in ("route_id", "geometry_wkb", "min_latitude_deg", "light")} == {None}
        for clip in place.rows("clips", name):
            assert (clip["h3_cell"], clip["light"], clip["light_reason"]) == (None, None, "no GNSS position")
        for row in place.rows("clip_context", name):
            assert (row["road_class"], row["weather"], row["speed_limit_mps"]) == (None, None, None)
            assert (row["road_reason"], row["weather_reason"]) == ("no position", "no position")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("gnss_jump", "positions dropped as GNSS jumps"),
            ("null_island", "positions without a fix (off the earth or at 0, 0)"),
            ("off_earth", "positions without a fix (off the earth or at 0, 0)"),
        ],
    )
    def test_wrong_positions_are_told_and_decide_nothing(self, place: Place, name: str, reason: str) -> None:
        [drive], [good] = place.rows("drives", name), place.rows("drives", "")
        assert reason in drive["position_reason"]
        assert drive["h3_cells"] == good["h3_cells"]
        assert drive["max_latitude_deg"] <= good["max_latitude_deg"]
        for row, right in zip(place.rows("clip_context", name), place.rows("clip_context", ""), strict=True):
            for column in ("way_id", "road_class", "snapped_share", "weather", "weather_lag_s"):
                assert row[column] == right[column], column

    def test_a_drive_outside_the_map_has_no_road_and_its_events(self, place: Place) -> None:
        for row in place.rows("clip_context", "outside"):
            assert (row["road_class"], row["road_reason"]) == (None, "outside the map")
            assert (row["weather"], row["weather_reason"]) == (None, "no station within 50 km")
        assert kinds(place, "outside") == kinds(place, "") != []

    def test_signals_that_are_no_numbers_make_no_event_and_no_speed(self, place: Place) -> None:
        for name in ("nan_signals", "no_signals"):
            assert place.rows("events", name) == []
            assert place.lake.require("event_windows", DRIVE[name]).note == "no event found"
            assert {clip["mean_speed_mps"] for clip in place.rows("clips", name)} == {None}
        for clip in place.rows("clips", "infinite"):
            assert np.isfinite(clip["mean_speed_mps"])
            assert np.isfinite(clip["max_decel_mps2"])
        for name in ("infinite", "wild_tracks"):
            assert all(np.isfinite(row["peak"]) for row in place.rows("events", name))

    def test_without_pictures_a_drive_is_found_by_words_only(self, place: Place) -> None:
        for name in ("no_camera", "blind"):
            made = place.lake.require("clip_embeddings", DRIVE[name])
            assert made.note == "no camera in this drive: nothing to embed"
            assert place.rows("scenes", name)
        members = json.loads(
            place.lake.read_bytes(place.lake.require("similarity_index", ALL), "members.json")
        )
        assert {d for d, m in members.items() if m["rows"]} == {
            d for d in EVERY if d not in {DRIVE[n] for n in ("no_camera", "blind", "no_row", "no_clip")}
        }

    @pytest.mark.parametrize("name", ["no_row", "no_clip"])
    def test_empty_clips_are_no_scene(self, place: Place, name: str) -> None:
        assert place.lake.require("scenes", DRIVE[name]).note == "no clip in this drive: no scene"
        assert place.rows("scenes", name) == place.rows("clips", name) == []
        [drive] = place.rows("drives", name)
        assert (drive["frames"], drive["mean_speed_mps"]) == (0, None)

    def test_what_is_not_known_is_in_no_cell_of_the_ledger(self, place: Place) -> None:
        cells = [c for c in place.lake.tables.read("coverage").to_pylist() if c["scope"] == "fleet"]
        clips = place.lake.tables.read("clips").num_rows
        assert sum(c["clips"] for c in cells) == clips
        assert all(np.isfinite(c["km"]) and np.isfinite(c["hours"]) for c in cells)

    def test_every_spec_that_chose_nothing_says_what_emptied_it(self, place: Place) -> None:
        made = place.lake.require("scenario_candidates", DAY)
        for spec in json.loads(place.lake.read_bytes(made, "specs.json")):
            assert (spec["chosen"] == 0) == bool(spec["empty"]), spec["name"]
            assert not spec["empty"] or " removed the last " in spec["empty"]


class TestWorld:
    def test_a_damaged_map_is_refused_by_name_and_the_drives_keep_theirs(self, place: Place) -> None:
        before = place.lake.require("map_tiles", ALL), place.lake.require("enriched_clips", GOOD)
        place.write_map(sample_map([short_drive()])[:-30])
        failed = place.run("map_tiles")
        assert not failed.success
        assert "[bad_map]" in failure(failed)
        assert "sample.osm" in failure(failed)
        assert place.run("enriched_clips", drives=[GOOD]).success
        assert (place.lake.require("map_tiles", ALL), place.lake.require("enriched_clips", GOOD)) == before
        place.write_map(sample_map([short_drive()]))

    def test_a_damaged_weather_table_is_told_and_the_drives_go_on(self, place: Place) -> None:
        before = place.lake.require("enriched_clips", GOOD)
        spoiled = place.home / "weather" / "SAP01.csv"
        held = spoiled.read_bytes() if spoiled.exists() else None
        spoiled.write_text("2025-06-01,8,warm,,,,,,,,,,3\n\x00\x01,,,\n")
        red = place.run("weather_observations")
        [check] = red.get_asset_check_evaluations()
        assert (red.success, check.passed) == (True, False)
        assert "SAP01.csv" in check.metadata["damaged"].value  # type: ignore[operator]
        assert place.run("enriched_clips", drives=[GOOD]).success
        assert place.lake.require("enriched_clips", GOOD).digest == before.digest
        unknown = place.home / "weather" / "picture.csv"
        unknown.write_bytes(b"\x89PNG" + bytes(100))
        failed = place.run("weather_observations")
        assert not failed.success
        assert "picture.csv" in failure(failed)
        assert place.run("enriched_clips", drives=[GOOD]).success
        unknown.unlink()
        spoiled.unlink() if held is None else spoiled.write_bytes(held)
        assert place.run("weather_observations").success


class TestQuestions:
    @pytest.mark.parametrize(
        "sql",
        [
            "DROP TABLE drives",
            "INSERT INTO drives SELECT * FROM drives",
            "WITH x AS (DELETE FROM drives RETURNING *) SELECT * FROM x",
            "SELECT 1; DELETE FROM drives",
            "COPY drives TO '{home}/out.csv'",
            "ATTACH '{home}/out.db'",
            "SELECT * FROM read_csv('{home}/secret.csv')",
            "SELECT * FROM '{home}/secret.csv'",
            "SELECT * FROM delta_scan('{home}/lake/tables/drives')",
            "SELECT getenv('HOME')",
            "SET threads = 1",
            "INSTALL httpfs",
            "PRAGMA database_list",
        ],
    )
    def test_sql_that_writes_or_escapes_is_refused(self, place: Place, sql: str) -> None:
        (place.home / "secret.csv").write_text("key,value\n1,2\n")
        before = place.lake.tables.version("drives")
        done = ask("sql", sql.format(home=place.home))
        assert done.exit_code == 1
        assert "[sql_refused]" in done.output
        assert place.lake.tables.version("drives") == before
        assert not list(place.home.glob("out.*"))

    def test_a_query_without_rows_names_the_filter(self, place: Place) -> None:
        query = "SELECT clip_id FROM clips WHERE light = 'night' AND mean_speed_mps > 3"
        found = json.loads(ask("sql", query, "--json").output)
        assert found["rows"] == []
        [night, fast] = found["emptied"]
        assert (night["predicate"], night["without"] > 0) == ("(light = 'night')", True)
        assert fast["without"] == 0
        assert "nothing is left after (light = 'night')" in ask("sql", query).output

    def test_a_sequence_without_a_match_names_the_part(self, place: Place) -> None:
        found = json.loads(ask("find", "conflict during snow", "--json").output)
        assert (found["total"], found["matches"]) == (0, [])
        assert "'snow' gives nothing" in found["emptied_by"]
        assert "[sequence_syntax]" in ask("find", "conflict then").output

    def test_a_spec_without_a_clip_names_the_filter(self, place: Place, tmp_path: Path) -> None:
        spec = {"name": "night", "where": {"light": ["night"], "events": ["conflict"]}, "budget": 3}
        file = tmp_path / "specs.yaml"
        file.write_text(yaml.safe_dump({"specs": [spec]}))
        [found] = json.loads(ask("mine", str(file), "--json").output)
        assert (found["chosen"], found["candidates"]) == (0, [])
        assert found["empty"].startswith("where.light removed the last ")

    def test_a_clip_that_cannot_be_shown_is_named(self, place: Place, tmp_path: Path) -> None:
        for clip in ("veh404-x/00000", f"{GOOD}/99999", f"{DRIVE['no_clip']}/00000", "../../etc/passwd"):
            done = ask("view", clip, "--out", str(tmp_path))
            assert done.exit_code == 1
            assert "[no_such_clip]" in done.output
        assert list(tmp_path.iterdir()) == []
        blind = json.loads(
            ask("view", f"{DRIVE['no_camera']}/00000", "--out", str(tmp_path), "--json").output
        )
        assert Path(blind["rerun"]).stat().st_size > 0

    def test_why_not_tells_of_a_drive_without_anything(self, place: Place) -> None:
        [answer] = json.loads(
            ask("why-not", DRIVE["nan_signals"], "--in", "people-in-the-way", "--json").output
        )
        assert (answer["inside"], answer["stage"]) == (False, "where.events")
        done = ask("why-not", DRIVE["no_clip"], "--in", "people-in-the-way")
        assert "[no_such_subject]" in done.output


class TestPolicies:
    @pytest.mark.parametrize(
        ("edit", "code", "told"),
        [
            ("cut_in: {inside_m: 3.0, outside_m: 2.2}", "contradiction", "cut_in.inside_m = 3.0"),
            ("brake: {levels_mps2: [6.0, 4.0, 3.0]}", "contradiction", "brake.levels_mps2[0] = 6.0"),
            ("brake: {levels_mps2: [3.0, 4.0, 6.0]}\nbrake: {}", "duplicate_key", "brake"),
        ],
    )
    def test_a_file_that_contradicts_itself_is_refused_and_nothing_is_decided_by_it(
        self, place: Place, tmp_path: Path, edit: str, code: str, told: str
    ) -> None:
        data = EventsPolicy.load().model_dump(mode="json") | {"version": "9.0.0"}
        changed = yaml.safe_load(edit.split("\n")[0])
        for section, numbers in changed.items():
            data[section] |= numbers
        file = tmp_path / "events.yaml"
        file.write_text(yaml.safe_dump(data) + "".join(f"{line}\n" for line in edit.split("\n")[1:]))
        before = place.lake.require("event_windows", GOOD)
        done = ask("policy", "propose", str(file), "--by", "ann")
        assert done.exit_code == 1
        assert f"[{code}]" in done.output
        assert told in done.output
        assert place.lake.partitions("policy_proposals") == []
        assert place.run("event_windows", drives=[GOOD]).success
        assert place.lake.require("event_windows", GOOD) == before


def kinds(place: Place, name: str) -> list[str]:
    return sorted(row["kind"] for row in place.rows("events", name))


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The errors of the steps that failed, with what caused them."""
    errors = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
    return "\n".join(error.to_string() for error in errors if error is not None)


def ask(*words: str) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done
