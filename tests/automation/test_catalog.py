"""The catalog of a recorded drive: rows that agree with the bundles that they name, found again by SQL.

Belongs here: drive_catalog with its metadata, `av sql`, `av tables`. Does not belong here: single columns.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import h3
import pyarrow.parquet as pq
import pytest
import shapely
from click.testing import CliRunner

from av_assets.cli import catalog as cli_catalog
from av_assets.domain.catalog.schemas import CLIPS, DRIVES
from av_assets.domain.evidence.claims import Claim
from av_assets.domain.logs.drive_spec import SPEC_FILE, read_drive_spec
from av_assets.domain.logs.integrity.check import check_log
from av_assets.domain.logs.reader import LogReader
from av_assets.domain.sync.synchronize import synchronize_drive
from av_assets.foundations.cataloging import TABLES, drive_catalog
from av_assets.gates import Gate
from av_assets.policies.integrity import IntegrityPolicy
from av_assets.policies.sync import SyncPolicy
from resources.lake import Lake
from resources.sql import query

PASSED = Gate("it_is_good", lambda _: [Claim("it_is_good", True)])


@pytest.fixture(scope="module")
def lake(short_drive_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with all that the catalog of the short drive is made from; its cameras are left out."""
    folder = tmp_path_factory.mktemp("catalog")
    made = Lake(uri=(folder / "lake").as_uri(), scratch=str(folder / "scratch"))
    spec, drive = read_drive_spec(short_drive_folder / SPEC_FILE), short_drive_folder.name
    report, shards = folder / "report", folder / "shards"
    report.mkdir()
    shards.mkdir()
    with LogReader(short_drive_folder) as reader:
        found = check_log(reader, spec, IntegrityPolicy.load(), drive_dir=short_drive_folder)
        policy = SyncPolicy.load().model_copy(update={"clip_s": 1.0})
        synchronize_drive(reader, spec, None, policy, shards, None, short_drive_folder)
    (report / "report.json").write_text(json.dumps(found.to_dict()))
    raw = folder / "raw"
    raw.mkdir()
    (raw / SPEC_FILE).write_bytes((short_drive_folder / SPEC_FILE).read_bytes())
    for asset, out in (("raw_logs", raw), ("log_reports", report), ("synced_shards", shards)):
        PASSED.write_record(out)
        made.publish(asset, drive, out)
    return made


@pytest.fixture(scope="module")
def run(lake: Lake, short_drive_folder: Path) -> Iterator[dg.ExecuteInProcessResult]:
    with dg.DagsterInstance.ephemeral() as instance:
        drive = short_drive_folder.name
        instance.add_dynamic_partitions("drive", [drive])
        yield dg.materialize(
            [drive_catalog], resources={"lake": lake}, instance=instance, partition_key=drive
        )


@pytest.mark.usefixtures("run")
def test_every_table_is_there_and_says_what_it_was_made_from(
    lake: Lake, run: dg.ExecuteInProcessResult
) -> None:
    assert set(lake.tables.names()) == set(TABLES)
    for name in ("drives", "clips", "streams"):
        for row in query(lake.tables, f"select drive, made_from, run_id from {name}").rows.to_pylist():
            assert row["run_id"] == run.run_id
            for asset, content in json.loads(row["made_from"]).items():
                assert lake.require(asset, row["drive"]).content == content


@pytest.mark.usefixtures("run")
def test_a_row_leads_to_its_clip_and_the_times_agree(lake: Lake, tmp_path: Path) -> None:
    rows = query(
        lake.tables, "select drive, clip_id, start_ns, end_ns, frames from clips order by clip_id"
    ).rows
    assert rows.num_rows == 3
    for number, row in enumerate(rows.to_pylist()):
        manifest = lake.require("synced_shards", row["drive"])
        (tmp_path / str(number)).mkdir()
        lake.checkout(manifest, tmp_path / str(number), f"clips/{row['clip_id'].rpartition('/')[2]}.parquet")
        [path] = (tmp_path / str(number)).rglob("*.parquet")
        clip = pq.read_table(path, columns=["clip_id", "ref_ns"])
        assert clip["clip_id"][0].as_py() == row["clip_id"]
        ref_ns = clip["ref_ns"].to_pylist()
        assert (ref_ns[0], ref_ns[-1], len(ref_ns)) == (row["start_ns"], row["end_ns"], row["frames"])


@pytest.mark.usefixtures("run")
def test_the_drive_lies_where_its_positions_are(lake: Lake) -> None:
    [row] = query(lake.tables, "select * from drives").rows.to_pylist()
    line = shapely.from_wkb(row["geometry_wkb"])
    west, south, east, north = line.bounds
    assert row["min_longitude_deg"] <= west <= east <= row["max_longitude_deg"]
    assert row["min_latitude_deg"] <= south <= north <= row["max_latitude_deg"]
    assert set(query(lake.tables, "select distinct h3_cell from clips").rows["h3_cell"].to_pylist()) <= {
        near for cell in row["h3_cells"] for near in h3.grid_disk(cell, 1)
    }
    assert (row["position_reason"], row["light_reason"]) == (None, None)
    assert 0 < row["distance_m"] < row["max_speed_mps"] * row["duration_s"]
    assert (row["sensor_health"], row["health_reason"]) == (1.0, None)


@pytest.mark.usefixtures("run")
def test_a_query_through_cells_and_scenes(lake: Lake) -> None:
    import pyarrow as pa

    [drive] = query(lake.tables, "select drive from drives").rows["drive"].to_pylist()
    scene = pa.table({"drive": [drive], "scene_id": ["s0"], "description": ["cut-in of a van by day"]})
    lake.tables.replace("scenes", scene, key="drive", value=drive)
    found = query(
        lake.tables,
        "select s.scene_id from scenes s join drives d using (drive) join clips c using (drive) "
        "where list_contains(d.h3_cells, c.h3_cell) and s.description ilike '%van%' limit 1",
    )
    assert found.rows.to_pylist() == [{"scene_id": "s0"}]
    lake.tables.remove("scenes", key="drive", value=drive)
    assert query(lake.tables, "from scenes").rows.num_rows == 0


def test_the_catalog_shows_columns_and_where_they_come_from(
    run: dg.ExecuteInProcessResult, lake: Lake
) -> None:
    [event] = run.asset_materializations_for_node("drive_catalog")
    schema = event.metadata["dagster/column_schema"].schema  # type: ignore[union-attr]
    said = {column.name: column.description for column in schema.columns}
    assert set(DRIVES.names) | {"made_from", "run_id"} == set(said)
    assert all(said.values())
    lineage = event.metadata["dagster/column_lineage"].column_lineage.deps_by_column  # type: ignore[union-attr]
    assert lineage["distance_m"][0].asset_key == dg.AssetKey("synced_shards")
    assert event.metadata["dagster/row_count"].value == 1
    assert event.metadata["dagster/uri"].value == lake.tables.path("drives")


@pytest.fixture
def av(run: dg.ExecuteInProcessResult, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    assert run.success
    monkeypatch.setattr(cli_catalog, "_tables", lambda: lake.tables)
    return CliRunner()


def test_av_sql_prints_rows_and_why_there_are_none(av: CliRunner) -> None:
    sql = cli_catalog.sql
    assert "| 3" in av.invoke(sql, ["select count(*) as n from clips"]).output.replace("│", "|")
    found = json.loads(av.invoke(sql, ["select geometry_wkb, light from drives", "--json"]).output)
    assert (found["columns"], found["cut"], found["rows"][0]["light"]) == (
        ["geometry_wkb", "light"],
        False,
        "day",
    )
    none = av.invoke(sql, ["select drive from clips where light = 'night' and frames > 0"]).output
    assert "nothing is left after (light = 'night')" in none
    assert "more rows" in av.invoke(sql, ["from clips", "--limit", "1"]).output
    assert "ARROW" in av.invoke(sql, ["explain from clips"]).output
    emptied = json.loads(av.invoke(sql, ["from clips where frames = 0", "--json"]).output)["emptied"]
    assert [kept["without"] for kept in emptied] == [3]


def test_av_tables_tells_columns_and_meaning(av: CliRunner) -> None:
    found = {
        row["name"]: row for row in json.loads(av.invoke(cli_catalog.tables, ["--json"]).output)["tables"]
    }
    assert found["clips"]["rows"] == 3
    told = {column["name"]: column for column in found["clips"]["columns"]}
    assert told["light"]["type"] == "string"
    assert all(told[name]["meaning"] for name in CLIPS.names)
    shown = av.invoke(cli_catalog.tables, ["clips"], terminal_width=200).output
    assert "clips: 3 rows" in shown
    assert av.invoke(cli_catalog.tables, ["clip"]).exception.code == "no_such_table"  # type: ignore[union-attr]
