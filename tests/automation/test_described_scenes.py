"""The asset `scenes`: four bundles of a drive in, one table out; and what `av find` says of it.

Belongs here: reading, publishing, the check, the command. Does not belong here: what a scene says (domain/scenes).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from av_assets.cli.sequences import find
from av_assets.domain.errors import AvError
from av_assets.mining.described_scenes import READS, scenes, scenes_cover_every_drive_once
from partitions.drives import drives
from resources.lake import Lake

NS = 1_000_000_000
START = 1_750_000_000 * NS
DRIVES = ("veh001-20250601t080000z", "veh001-20250601t090000z")


def clips(drive: str) -> pa.Table:
    rows = [
        {
            **{"drive": drive, "clip_id": f"{drive}/{n:05d}", "start_ns": START + 5 * n * NS},
            **{"end_ns": START + 5 * (n + 1) * NS - NS // 10, "mean_speed_mps": 10.0, "light": "night"},
        }
        for n in range(6)
    ]
    return pa.Table.from_pylist(rows)


def events(drive: str) -> pa.Table:
    rows = [
        {"kind": "cut_in", "level": 1, "start_ns": START + 6 * NS, "end_ns": START + 8 * NS},
        {"kind": "harsh_brake", "level": 2, "start_ns": START + 9 * NS, "end_ns": START + 98 * NS // 10},
    ]
    fixed = {
        "drive": drive,
        "clip_id": f"{drive}/00001",
        "peak": 1.0,
        "evidence": '{"side": "left"}',
        "tags": [],
    }
    return pa.Table.from_pylist([fixed | row for row in rows]).cast(
        pa.schema(
            [
                *(("drive", pa.string()), ("clip_id", pa.string()), ("peak", pa.float64())),
                *(("evidence", pa.string()), ("tags", pa.list_(pa.string())), ("kind", pa.string())),
                *(("level", pa.int32()), ("start_ns", pa.int64()), ("end_ns", pa.int64())),
            ]
        )
    )


def bundles(drive: str) -> dict[str, dict[str, pa.Table]]:
    context = pa.table(
        {"drive": [drive], "clip_id": [f"{drive}/00001"], "weather": ["rain"], "road_class": ["service"]}
    )
    steps = range(100)
    points = pa.table(
        {
            "ref_ns": [START + step * NS // 10 for step in steps],
            "latitude_deg": [48.1 + step * 1e-5 for step in steps],
            "longitude_deg": [11.5] * len(steps),
        }
    )
    labels = {"clip_id": pa.string(), "ref_ns": pa.int64(), "camera": pa.string(), "cls": pa.string()}
    labels |= dict.fromkeys(("x1", "y1", "x2", "y2", "occlusion", "distance_m"), pa.float32())
    masks = pa.table({"ref_ns": [START], "camera": ["camera_front"]})
    return {
        "event_windows": {"events": events(drive)},
        "enriched_clips": {"clip_context": context, "matched": points},
        "drive_catalog": {"drives": pa.table({"drive": [drive], "weather": ["fog"]}), "clips": clips(drive)},
        "auto_labels": {"labels": pa.schema(labels).empty_table(), "drivable": masks},
    }


def publish(lake: Lake, drive: str) -> None:
    for asset, tables in bundles(drive).items():
        with lake.workdir() as folder:
            for name, rows in tables.items():
                pq.write_table(rows, folder / f"{name}.parquet")
            lake.publish(asset, drive, folder)
        for name, rows in tables.items():
            if asset != "auto_labels" and name != "matched":
                lake.tables.replace(name, rows, key="drive", value=drive)


def run(lake: Lake, instance: dg.DagsterInstance, drive: str) -> dg.ExecuteInProcessResult:
    above = [dg.AssetSpec(asset, partitions_def=drives) for asset in READS]
    defs = dg.Definitions(
        [*above, scenes], asset_checks=[scenes_cover_every_drive_once], resources={"lake": lake}
    )
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, partition_key=drive)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AV_LAKE", (tmp_path / "lake").as_uri())
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as held:
        held.add_dynamic_partitions("drive", list(DRIVES))
        yield held


def test_scenes_of_a_drive_are_published_tabled_checked_and_described(
    lake: Lake, instance: dg.DagsterInstance
) -> None:
    publish(lake, DRIVES[0])
    result = run(lake, instance, DRIVES[0])
    assert result.success
    [evaluation] = result.get_asset_check_evaluations()
    assert evaluation.passed
    assert evaluation.metadata["drives"].value == 1
    table = lake.tables.read("scenes")
    assert table is not None
    rows = sorted(table.to_pylist(), key=lambda r: r["start_ns"])
    assert [r["kinds"] for r in rows] == [[], ["cut_in", "harsh_brake"], []]
    assert rows[1]["description"] == (
        "Night, rain, service road at 36 km/h: a vehicle cuts in from the left, then harsh braking of level 2."
    )
    assert (rows[0]["weather"], rows[0]["weather_from"], rows[0]["vehicles"]) == ("fog", "declared", 0)
    assert rows[1]["vehicles"] is None
    assert {r["run_id"] for r in rows} == {result.run_id}
    [event] = result.asset_materializations_for_node("scenes")
    assert event.metadata["dagster/row_count"].value == 3
    assert event.metadata["tags"].value["event:cut_in"] == 1


def test_same_bundles_give_the_same_bytes(lake: Lake, instance: dg.DagsterInstance) -> None:
    contents = []
    for _ in range(2):
        publish(lake, DRIVES[0])
        assert run(lake, instance, DRIVES[0]).success
        contents.append(lake.require("scenes", DRIVES[0]).content)
        lake.store.delete(f"manifests/scenes/{DRIVES[0]}/current.json")
    assert contents[0] == contents[1]


def test_check_finds_scenes_that_miss_a_part(
    lake: Lake, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    publish(lake, DRIVES[0])
    assert run(lake, instance, DRIVES[0]).success
    kept = pq.read_table(
        pa.BufferReader(lake.read_bytes(lake.require("scenes", DRIVES[0]), "scenes.parquet"))
    )
    with lake.workdir() as folder:
        pq.write_table(kept.slice(0, 2), folder / "scenes.parquet")
        lake.publish("scenes", DRIVES[0], folder)
    above = [dg.AssetSpec(asset, partitions_def=drives) for asset in (*READS, "scenes")]
    defs = dg.Definitions(above, asset_checks=[scenes_cover_every_drive_once], resources={"lake": lake})
    job = dg.define_asset_job("look", dg.AssetSelection.checks(scenes_cover_every_drive_once))
    tags = {"dagster/partition": DRIVES[0]}
    defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    result = defs.resolve_job_def("look").execute_in_process(instance=instance, tags=tags)
    [evaluation] = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.metadata["wrong_s"].value == {DRIVES[0]: 18.1}


class TestFind:
    @pytest.fixture
    def made(self, lake: Lake, instance: dg.DagsterInstance) -> Lake:
        for drive in DRIVES:
            publish(lake, drive)
            assert run(lake, instance, drive).success
        return lake

    def say(self, *words: str) -> Any:
        return CliRunner().invoke(find, list(words), catch_exceptions=False)

    def test_prints_matches_with_their_proof(self, made: Lake) -> None:
        shown = self.say("cut_in then harsh_brake within 5 s during rain", "--limit", "1")
        assert shown.exit_code == 0
        assert f"{DRIVES[0]}  2025-06-15 15:06:46.000000000  3.8 s" in shown.output
        assert "    harsh_brake                  15:06:49.000000000 - 15:06:49.800000000" in shown.output

    def test_limit_is_said_and_json_is_whole(self, made: Lake) -> None:
        sentence = 'cut_in during scene(tags has "event:harsh_brake")'
        assert "showing 1 of 2" in self.say(sentence, "--limit", "1").output
        found = json.loads(self.say(sentence, "--json").output)
        assert [m["drive"] for m in found["matches"]] == list(DRIVES)
        assert [p["kind"] for p in found["matches"][0]["proof"]] == ["cut_in", "scene"]
        assert (found["total"], found["limited"]) == (2, False)

    def test_no_match_tells_what_emptied_it(self, made: Lake) -> None:
        shown = self.say("cut_in then harsh_brake within 500 ms").output
        assert "no match: line 1, column 8: 'then within 0.5 s' gives nothing" in shown
        assert "2  cut_in  (line 1, column 1)" in shown

    def test_similar_reads_the_embeddings_of_the_lake(self, made: Lake) -> None:
        vectors = {
            f"{DRIVES[0]}/00000": [1.0, 0.0],
            f"{DRIVES[0]}/00001": [0.8, 0.6],
            f"{DRIVES[0]}/00002": [0.0, 1.0],
        }
        rows = [
            {
                "clip_id": c,
                "camera": "camera_front",
                "model_digest": "m",
                "preproc_digest": "p",
                "embedding": v,
            }
            for c, v in vectors.items()
        ]
        with made.workdir() as folder:
            pq.write_table(pa.Table.from_pylist(rows), folder / "embeddings.parquet")
            made.publish("clip_embeddings", DRIVES[0], folder)
        shown = self.say(f"cut_in while similar to {DRIVES[0]}/00000 above 0.7").output
        assert "1 match" in shown
        assert f"{DRIVES[0]}/00001" in shown
        assert "no match" in self.say(f"cut_in while similar to {DRIVES[0]}/00002 above 0.7").output
        with pytest.raises(AvError, match="nothing is known of what is similar"):
            self.say(f"cut_in while similar to {DRIVES[1]}/00000 above 0.7")
