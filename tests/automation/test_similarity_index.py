"""The index over a small lake: what is written again, what is taken out, and where readers are pointed to.

Belongs here: similarity_index and index_maintenance with their checks. Does not belong here: the search itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.errors import AvError, EvidenceError
from av_assets.domain.evidence.claims import RECORD_FILE, Claim
from av_assets.domain.search.embedding import ClipEmbedding, unit, write_embeddings
from av_assets.gates import Gate
from av_assets.mining import embeddings as module
from av_assets.mining.embeddings import index_maintenance, similarity_index
from resources.lake import Lake
from resources.vector_pointer import pointer, served
from resources.vectors import vectors

CLIPS = 4


@dataclass
class Fleet:
    lake: Lake
    instance: dg.DagsterInstance
    folder: Path
    number: int = 0

    def _publish(self, asset: str, drive: str, table: pa.Table | None, name: str, note: str = "") -> None:
        self.number += 1
        out = self.folder / str(self.number)
        out.mkdir()
        if table is not None:
            pq.write_table(table, out / name)
        self.lake.publish(asset, drive, out, note=note)

    def embed(self, drive: str, seed: int = 0, model: str = "a" * 64) -> np.ndarray:
        rng = np.random.default_rng([seed, *drive.encode()])
        found = unit(rng.normal(size=(CLIPS, 16)).astype(np.float32))
        self.number += 1
        out = self.folder / str(self.number)
        out.mkdir()
        rows = [
            ClipEmbedding(f"{drive}/{i:05d}", "camera_front", model, "b" * 64, v) for i, v in enumerate(found)
        ]
        write_embeddings(rows, out / "embeddings.parquet")
        self.lake.publish("clip_embeddings", drive, out)
        return found

    def tell(self, drive: str, words: str) -> None:
        scene = {"drive": drive, "scene_id": "0", "clip_ids": [f"{drive}/00001"], "start_ns": 1, "kinds": ["cut_in"],
                 "tags": ["wet"], "description": words, "weather": "rain", "max_level": 2}  # fmt: skip
        self._publish("scenes", drive, pa.Table.from_pylist([scene]), "scenes.parquet")

    def film(self, drive: str) -> None:
        self.number += 1
        out = self.folder / str(self.number)
        (out / "clips").mkdir(parents=True)
        for i in range(CLIPS):
            data = bytes(cv2.imencode(".png", np.full((40, 64, 3), 60 * i, np.uint8))[1])
            frame = {"data": data, "encoding": "png", "sensor_ns": i, "valid": True}
            clip = pa.table({"clip_id": [f"{drive}/{i:05d}"], "camera_front": [frame]})
            pq.write_table(
                clip.replace_schema_metadata({"redacted": "true"}), out / "clips" / f"{i:05d}.parquet"
            )
        Gate("synced_shards_are_good", lambda _: [Claim("synced_shards_are_good", True)]).write_record(out)
        assert (out / RECORD_FILE).is_file()
        self.lake.publish("synced_shards", drive, out)

    def make(self, *assets: dg.AssetsDefinition) -> dict[str, bool]:
        checks = [
            module.similarity_index_finds_what_is_near,
            module.similarity_index_holds_every_clip,
            module.index_maintenance_loses_nothing,
        ]
        chosen = assets or (similarity_index,)
        names = {a.key for a in chosen}
        result = dg.materialize(
            [*chosen, *(c for c in checks if {k.asset_key for k in c.check_keys} <= names)],
            resources={"lake": self.lake}, instance=self.instance,
        )  # fmt: skip
        assert result.success
        return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}

    def report(self, asset: str = "similarity_index") -> dict[str, object]:
        return dict(json.loads(self.lake.read_bytes(self.lake.require(asset, "all"), "report.json")))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "made").mkdir()
    lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Fleet(lake, instance, tmp_path / "made")


def test_only_changed_drives_are_written_again(fleet: Fleet) -> None:
    for drive in ("d1", "d2", "d3"):
        fleet.embed(drive)
        fleet.film(drive)
    assert all(fleet.make().values())
    assert fleet.report()["written"] == 3
    first = pointer(fleet.lake)
    assert all(fleet.make().values())
    assert pointer(fleet.lake) == first  # nothing changed: nothing written, not even a version
    fleet.tell("d2", "A cut-in at night in heavy rain.")
    assert all(fleet.make().values())
    assert (fleet.report()["written"], fleet.report()["rows"]) == (1, 3 * CLIPS)
    [found] = served(fleet.lake).matching("heavy rain", 5)
    assert (found["clip_id"], found["weather"], found["kinds"]) == ("d2/00001", "rain", ["cut_in"])
    assert served(fleet.lake).matching("sunshine", 5) == []


def test_vector_that_was_remade_replaces_the_old_one(fleet: Fleet) -> None:
    old = fleet.embed("d1")
    fleet.make()
    new = fleet.embed("d1", seed=1)
    assert all(fleet.make().values())
    index = served(fleet.lake)
    assert index.count() == CLIPS
    assert index.near(new[2], 1)[0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert index.near(old[2], 1)[0]["similarity"] < 0.99


def test_drive_that_is_gone_is_not_found_any_more(fleet: Fleet) -> None:
    gone = fleet.embed("d1")
    fleet.embed("d2")
    fleet.make()
    fleet.lake.store.delete("manifests/clip_embeddings/d1/current.json")
    assert all(fleet.make().values())
    assert {row["drive"] for row in served(fleet.lake).near(gone[0], 50)} == {"d2"}


def test_drive_without_a_camera_is_no_member(fleet: Fleet) -> None:
    fleet.embed("d1")
    fleet._publish("clip_embeddings", "d2", None, "", note="no camera in this drive: nothing to embed")
    assert all(fleet.make().values())
    assert served(fleet.lake).count() == CLIPS


def test_no_clip_at_all_is_said(fleet: Fleet) -> None:
    assert all(fleet.make().values())
    assert fleet.lake.require("similarity_index", "all").note == "no clip has a vector"
    with pytest.raises(AvError) as caught:
        served(fleet.lake)
    assert caught.value.code == "no_index"


def test_readers_move_to_another_model_when_most_drives_have(fleet: Fleet) -> None:
    for drive in ("d1", "d2", "d3"):
        fleet.embed(drive)
    fleet.make()
    old = pointer(fleet.lake)
    assert old is not None
    fleet.embed("d1", model="c" * 64)
    assert not fleet.make()["similarity_index_holds_every_clip"]  # one drive is of another model
    assert served(fleet.lake).name == old.table
    assert served(fleet.lake).count() == 3 * CLIPS  # whole as it was
    fleet.embed("d2", model="c" * 64)
    fleet.make()
    assert served(fleet.lake).name != old.table
    fleet.embed("d3", model="c" * 64)
    assert all(fleet.make(similarity_index, index_maintenance).values())
    assert vectors(fleet.lake).names() == [served(fleet.lake).name]  # the old model's table is dropped


def test_lost_index_is_said_and_made_again(fleet: Fleet) -> None:
    fleet.embed("d1")
    fleet.make()
    vectors(fleet.lake).drop(served(fleet.lake).name)
    with pytest.raises(EvidenceError) as caught:
        served(fleet.lake)
    assert caught.value.code == "index_lost"
    assert all(fleet.make().values())
    assert served(fleet.lake).count() == CLIPS


def test_maintenance_keeps_every_row_and_points_readers_to_the_tended_version(fleet: Fleet) -> None:
    for number in range(6):  # one file of rows each
        fleet.embed(f"d{number}")
        fleet.make()
    before = pointer(fleet.lake)
    assert all(fleet.make(similarity_index, index_maintenance).values())
    after = pointer(fleet.lake)
    assert before is not None
    assert after is not None
    assert after.version > before.version
    report = fleet.report("index_maintenance")
    assert report["before"]["fragments"] > report["after"]["fragments"]  # type: ignore[index]
    assert report["before"]["rows"] == report["after"]["rows"] == 6 * CLIPS  # type: ignore[index]
    fleet.embed("d9")  # newer than the maintenance: readers follow similarity_index again
    fleet.make()
    assert served(fleet.lake).count() == 7 * CLIPS


def test_pictures_are_of_redacted_frames_that_passed(fleet: Fleet) -> None:
    fleet.embed("d1")
    fleet.embed("d2")
    fleet.film("d1")
    fleet.make()
    manifest = fleet.lake.require("similarity_index", "all")
    for name in ("neighbours.png", "projection.png"):
        picture = cv2.imdecode(np.frombuffer(fleet.lake.read_bytes(manifest, name), np.uint8), 1)
        assert picture is not None
        assert picture.size
    assert len(fleet.report()["sheet"]) == 6  # type: ignore[arg-type]


def test_clips_are_asked_for_by_word_look_and_facts(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from av_assets.cli import lake as cli_lake
    from av_assets.cli.search import search, similar

    found = fleet.embed("d1")
    fleet.embed("d2")
    fleet.tell("d2", "A cut-in at night in heavy rain.")
    fleet._publish("pretrained_models", "all", None, "")
    fleet.make()
    monkeypatch.setattr(cli_lake, "open_lake", lambda: fleet.lake)
    run = CliRunner()
    said = json.loads(run.invoke(similar, ["d1/00002", "--limit", "3", "--json"]).stdout)
    exact = [i for i in np.argsort(-(found @ found[2])) if i != 2]
    assert [r["clip_id"] for r in said["results"] if r["drive"] == "d1"] == [
        f"d1/{i:05d}" for i in exact if f"d1/{i:05d}" in {r["clip_id"] for r in said["results"]}
    ]
    said = json.loads(run.invoke(search, ["night rain", "--like", "d1/00000", "--json"]).stdout)
    assert said["results"][0]["clip_id"] == "d2/00001"  # in both lists
    assert said["results"][0]["parts"].keys() == {"text", "like"}
    assert "descriptions only" in " ".join(said["remarks"])  # the model has no text half
    shown = run.invoke(search, ["rain", "--sql", "max_level > 7"])
    assert "emptied by filter max_level > 7" in shown.stdout
    with pytest.raises(AvError, match="no column"):
        run.invoke(search, ["rain", "--sql", "secret = 'x'"], catch_exceptions=False)
