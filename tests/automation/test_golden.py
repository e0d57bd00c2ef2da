"""Freezing golden datasets: by reference, under one digest, without leaks; and the commands that check them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from av_assets.cli.datasets import COMMANDS
from av_assets.domain.datasets.splits import split_of
from av_assets.domain.errors import DatasetError
from av_assets.domain.models.golden import read_labels, read_spec
from av_assets.domain.search.keyframe_hashes import KeyframeHash, hash_rows, write_hashes
from av_assets.mining.freezing import freeze, verified_drives
from av_assets.mining.gathering import inputs_of
from av_assets.mining.golden import golden_slices, golden_slices_leak_nothing, in_two_splits
from av_assets.mining.versions import compare, files_of, rebuild, verify_version
from av_assets.policies.golden import GoldenPolicy
from av_assets.production import lineage, produce
from resources import datasets
from resources.lake import Lake
from tests.automation.small_fleet import FRAMES_EACH, WEEK, Drive, land, small_fleet

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.evidence.manifest import Manifest

POLICY = GoldenPolicy.load()
FLEET = small_fleet()


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that every test takes a copy of."""
    folder = tmp_path_factory.mktemp("landed")
    land(Lake(uri=(folder / "lake").as_uri(), scratch=str(folder / "scratch")), folder, FLEET)
    return folder / "lake"


@pytest.fixture
def lake(tmp_path: Path, landed: Path) -> Lake:
    shutil.copytree(landed, tmp_path / "lake")
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))


def frozen(lake: Lake, policy: GoldenPolicy = POLICY, week: str = WEEK) -> Manifest:
    inputs = inputs_of(lake, verified_drives(lake, week))
    made_from = lineage(list(inputs.values()), "3", [policy])
    made = produce(lake, "golden_slices", week, made_from, inputs, lambda work: freeze(work, policy))
    datasets.record(lake, "golden", made.manifest)
    return made.manifest


def with_(**changes: Any) -> GoldenPolicy:
    return GoldenPolicy.model_validate({**POLICY.model_dump(), **changes})


def leaks(**actions: str) -> dict[str, Any]:
    return {"leaks": {**POLICY.leaks.model_dump(), **actions}}


def index_of(lake: Lake, manifest: Manifest) -> pa.Table:
    return pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "index.parquet")))


def side(split: str) -> Drive:
    return next(d for d in FLEET if split_of(d.name, POLICY) == split)


def twin_of(drive: Drive, split: str) -> Drive:
    """A drive that looks like `drive` and falls into `split`."""
    names = (f"veh001-20250602t{n:06d}z" for n in range(1000))
    name = next(n for n in names if split_of(n, POLICY) == split)
    return Drive(name, drive.seed, place=(50.0, 9.0), start_ns=drive.start_ns + 7200 * 10**9)


def test_the_asset_freezes_by_reference_and_names_its_version(lake: Lake, tmp_path: Path) -> None:
    """Every large file is the object of its own bundle, readers find what they know, and the check passes."""
    with dg.DagsterInstance.ephemeral() as instance:
        for asset in ("verified_labels", "clip_embeddings"):
            instance.add_dynamic_partitions("drive", [d.name for d in FLEET])
            assert lake.partitions(asset)
        result = dg.materialize(
            [golden_slices, golden_slices_leak_nothing], instance=instance, partition_key=WEEK,
            resources={"lake": lake}, selection=[golden_slices],
        )  # fmt: skip
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    manifest = lake.require("golden_slices", WEEK)
    assert datasets.resolve(lake, "golden").version == manifest.content
    for drive in FLEET:
        shards, labels = (
            lake.require("synced_shards", drive.name),
            lake.require("verified_labels", drive.name),
        )
        for source, path in (
            (shards, "clips/00000.parquet"),
            (shards, "calibration.json"),
            (labels, "labels.parquet"),
            (labels, "cuboids.parquet"),
        ):
            assert manifest.entry(f"drives/{drive.name}/{path}").sha256 == source.entry(path).sha256
    folder = lake.checkout(manifest, tmp_path / "out")
    spec = read_spec(folder)
    assert sum(len(spec.drives(split)) for split in ("train", "val", "test")) == len(FLEET)
    assert len(read_labels(folder, FLEET[0].name, spec)) == 2 * FRAMES_EACH
    metadata = result.asset_materializations_for_node("golden_slices")[0].metadata
    assert {"slice_counts", "objects by class", "slices of the test split", "splits"} <= metadata.keys()


def test_slice_counts_are_those_of_sql(lake: Lake) -> None:
    """The index and the counts of dataset.json agree with SQL over the bundles' own tables."""
    frame_slices = {
        "fast_by_night": {"frames": "light = 'night' AND mean_speed_mps BETWEEN 7 AND 20",
                          "min_drives": 2, "min_objects": 1000},
        "occluded": {"frames": "occluded_vehicle + 0 > 0", "min_drives": 1, "min_objects": 1},
    }  # fmt: skip
    frame_slices["occluded"]["frames"] = "occluded_pedestrian > 0 OR road_class = 'residential'"
    manifest = frozen(lake, with_(slices={**POLICY.model_dump()["slices"], **frame_slices}))
    dataset = json.loads(lake.read_bytes(manifest, "dataset.json"))

    def every(asset: str, path: str) -> pa.Table:
        tables = [
            pq.read_table(pa.BufferReader(lake.read_bytes(lake.require(asset, d.name), path))) for d in FLEET
        ]
        return pa.concat_tables(tables, promote_options="permissive")

    with duckdb.connect() as sql:
        sql.register("clips", every("drive_catalog", "clips.parquet"))
        sql.register("labels", every("verified_labels", "labels.parquet"))
        sql.register("context", every("enriched_clips", "clip_context.parquet"))
        sql.register(
            "members",
            pa.Table.from_pylist([{k: m[k] for k in ("drive", "split")} for m in dataset["members"]]),
        )
        base = "labels l JOIN clips c USING (clip_id) JOIN context x USING (clip_id) "
        base += "JOIN members m ON m.drive = c.drive"
        wanted = {
            "fast_by_night": "c.light = 'night' AND c.mean_speed_mps >= 7 AND c.mean_speed_mps <= 20",
            "occluded": "x.road_class = 'residential' OR (cls = 'pedestrian' AND occlusion >= 0.5)",
            "rain": "x.weather = 'rain'",
        }
        for name, where in wanted.items():
            for split in ("train", "val", "test"):
                [row] = sql.execute(f"SELECT count(DISTINCT c.drive), count(DISTINCT (clip_id, ref_ns)), count(*) "
                                  f"FROM {base} WHERE m.split = '{split}' AND ({where})").fetchall()  # fmt: skip
                counts = dataset["slice_counts"][name][split]
                assert tuple(counts[k] for k in ("drives", "frames", "objects")) == row, (name, split)
            [[listed]] = sql.sql(
                f"SELECT count(DISTINCT (clip_id, ref_ns)) FROM {base} WHERE {where}"
            ).fetchall()
            index = index_of(lake, manifest)
            assert sum(name in names for names in index["slices"].to_pylist()) == listed > 0
    assert "of 1000 objects" in dataset["thin_slices"]["fast_by_night"]
    assert "fast_by_night" not in dataset["slices"]
    assert "fast_by_night" in dataset["frame_slices"]


def test_only_final_frames_are_frozen(lake: Lake, tmp_path: Path) -> None:
    waiting = Drive(**{**vars(FLEET[0]), "states": {0: "in_review", 5: "adjudication"}})
    land(lake, tmp_path / "again", [waiting])
    manifest = frozen(lake)
    index = index_of(lake, manifest).to_pylist()
    assert sum(r["drive"] == waiting.name for r in index) == 2 * FRAMES_EACH - 2
    folder = lake.checkout(manifest, tmp_path / "out")
    labels = pq.read_table(folder / "drives" / waiting.name / "labels.parquet")
    assert labels.num_rows == 2 * FRAMES_EACH - 2
    keys = labels.select(["clip_id", "ref_ns"]).to_pylist()
    for name in ("drivable", "cuboids"):
        rows = pq.read_table(folder / "drives" / waiting.name / f"{name}.parquet")
        assert rows.select(["clip_id", "ref_ns"]).to_pylist() == keys


def test_the_same_digest_on_another_machine_and_another_one_for_one_label(lake: Lake, tmp_path: Path) -> None:
    first = frozen(lake)
    elsewhere = tmp_path / "elsewhere" / "deep"
    shutil.copytree(
        tmp_path / "lake", elsewhere / "lake", ignore=shutil.ignore_patterns("golden_slices", "datasets")
    )
    other = Lake(uri=(elsewhere / "lake").as_uri(), scratch=str(elsewhere / "scratch"))
    assert frozen(other).content == first.content
    assert rebuild(lake, datasets.resolve(lake, "golden")).same
    land(lake, tmp_path / "again", [Drive(**{**vars(FLEET[1]), "box_x": 11.0})])
    second = frozen(lake)
    assert second.content != first.content
    assert rebuild(lake, datasets.resolve(lake, f"golden@{first.content[:8]}")).same
    assert frozen(lake).digest == second.digest


@pytest.mark.parametrize("path", ["clips/00001.parquet", "labels.parquet"])
def test_a_deleted_or_damaged_source_is_named(lake: Lake, tmp_path: Path, path: str) -> None:
    manifest = frozen(lake)
    name = f"drives/{FLEET[0].name}/{path}"
    version = datasets.resolve(lake, "golden")
    assert verify_version(lake, version) == []
    stored = tmp_path / "lake" / "objects" / (sha := manifest.entry(name).sha256)[:2] / sha
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    [damaged] = verify_version(lake, version)
    stored.unlink()
    [gone] = verify_version(lake, version)
    assert damaged == gone
    assert (gone.file, gone.source.partition("/")[2]) == (name, FLEET[0].name)


def test_a_leak_refuses_the_dataset_and_names_the_pair(lake: Lake, tmp_path: Path) -> None:
    twin = twin_of(side("train"), "test")
    land(lake, tmp_path / "twin", [twin])
    with pytest.raises(DatasetError) as caught:
        frozen(lake)
    assert caught.value.code == "dataset_leaks"
    for said in (twin.name, side("train").name, "near_duplicate", "near_duplicate_frame", "same_content"):
        assert said in caught.value.reason
    assert lake.manifest("golden_slices", WEEK) is None


def test_pictures_are_not_decoded_where_the_embedding_noted_their_hash(lake: Lake, tmp_path: Path) -> None:
    """A noted hash is believed for the very file it was made from, and for no other."""
    learned, judged = side("train"), side("test")
    for drive in (learned, judged):
        shards = lake.require("synced_shards", drive.name)
        rows = [
            row
            for n, sha256 in enumerate((shards.entry("clips/00000.parquet").sha256, "0" * 64))
            for row in hash_rows(
                f"{drive.name}/{n:05d}", "camera_front", sha256, 3, [KeyframeHash(1, 2**40 - 1, "e")]
            )
        ]
        folder = tmp_path / drive.name
        folder.mkdir()
        write_hashes(rows, folder / "hashes.parquet")
        held = lake.require("clip_embeddings", drive.name)
        lake.publish("clip_embeddings", drive.name, folder, links=held.files)
    with pytest.raises(DatasetError) as caught:
        frozen(lake)
    assert f"{learned.name}/00000" in caught.value.reason
    manifest = frozen(lake, with_(**leaks(near_duplicate_frame="warn", same_content="warn")))
    found = pq.read_table(pa.BufferReader(lake.read_bytes(manifest, "hashes.parquet"))).to_pylist()
    believed = {row["clip_id"] for row in found if row["picture_sha256"] == "e"}
    assert believed == {f"{learned.name}/00000", f"{judged.name}/00000"}
    assert all(row["dhash"] for row in found)


def test_a_dropped_leak_leaves_the_learned_side_out_and_says_so(lake: Lake, tmp_path: Path) -> None:
    learned, twin = side("train"), twin_of(side("train"), "test")
    land(lake, tmp_path / "twin", [twin])
    dropping = with_(**leaks(near_duplicate="drop", near_duplicate_frame="drop", same_content="drop"))
    manifest = frozen(lake, dropping)
    dataset = json.loads(lake.read_bytes(manifest, "dataset.json"))
    written = json.loads(lake.read_bytes(manifest, "leaks.json"))
    assert learned.name in dataset["left_out"]
    assert twin.name in dataset["left_out"][learned.name]
    assert set(written["dropped"]) == {f"{learned.name}/00000", f"{learned.name}/00001"}
    assert learned.name not in set(index_of(lake, manifest)["drive"].to_pylist())
    assert not any(f.path.startswith(f"drives/{learned.name}/") for f in manifest.files)
    assert twin.name in {m["drive"] for m in dataset["members"]}


def test_one_dropped_clip_leaves_the_rest_of_its_drive(lake: Lake, tmp_path: Path) -> None:
    learned, twin = side("train"), twin_of(side("train"), "test")
    land(lake, tmp_path / "twin", [twin])
    frames = with_(**leaks(near_duplicate="warn", near_duplicate_frame="warn", same_content="drop"))
    shards = lake.require("synced_shards", twin.name)
    lake.publish(
        "synced_shards", twin.name, links=[f for f in shards.files if f.path != "clips/00001.parquet"]
    )
    manifest = frozen(lake, frames)
    dataset = json.loads(lake.read_bytes(manifest, "dataset.json"))
    [member] = [m for m in dataset["members"] if m["drive"] == learned.name]
    assert (list(member["left_out"]), member["frames"]) == ([f"{learned.name}/00000"], FRAMES_EACH)
    [other] = [m for m in dataset["members"] if m["drive"] == twin.name]
    assert "no such clip" in other["left_out"][f"{twin.name}/00001"]
    files = {f.path for f in manifest.files}
    assert f"drives/{learned.name}/clips/00000.parquet" not in files
    assert f"drives/{learned.name}/clips/00001.parquet" in files
    labels = pq.read_table(
        pa.BufferReader(lake.read_bytes(manifest, f"drives/{learned.name}/labels.parquet"))
    )
    assert set(labels["clip_id"].to_pylist()) == {f"{learned.name}/00001"}


def test_one_place_on_one_day_is_told(lake: Lake, tmp_path: Path) -> None:
    train, test = side("train"), side("test")
    moved = Drive(**{**vars(test), "place": train.place, "start_ns": train.start_ns + 10**9})
    land(lake, tmp_path / "again", [moved])
    found = json.loads(lake.read_bytes(frozen(lake), "leaks.json"))["kinds"]["shared_place"]
    assert found["pairs"] == 1
    assert {found["first"][0]["a"], found["first"][0]["b"]} == {train.name, moved.name}


def test_what_selects_nothing_or_names_no_column_is_refused(lake: Lake) -> None:
    with pytest.raises(DatasetError) as caught:
        frozen(lake, with_(only="mean_speed_mps > 0 AND light = 'twilight'"))
    assert caught.value.code == "selects_nothing"
    assert "light = 'twilight'" in caught.value.reason
    with pytest.raises(DatasetError) as caught:
        frozen(lake, with_(only="speed > 3"))
    assert caught.value.code == "unknown_column"
    assert "mean_speed_mps" in caught.value.remedy


def test_only_some_frames_are_frozen_where_the_policy_asks(lake: Lake) -> None:
    manifest = frozen(
        lake, with_(only="light = 'night'", min_drives=1, min_test_drives=0, min_train_drives=0)
    )
    nights = {d.name for d in FLEET if d.light == "night"}
    assert set(index_of(lake, manifest)["drive"].to_pylist()) == nights
    dataset = json.loads(lake.read_bytes(manifest, "dataset.json"))
    assert set(dataset["left_out"]) == {d.name for d in FLEET} - nights


def test_splits_by_place_keep_a_place_whole(lake: Lake, tmp_path: Path) -> None:
    neighbours = [Drive(f"veh007-20250602t1{n}0000z", 50 + n, place=(48.0, 11.5)) for n in range(5)]
    land(lake, tmp_path / "more", neighbours)
    manifest = frozen(lake, with_(split_by="geo_cell", min_train_drives=0, min_test_drives=0))
    members = json.loads(lake.read_bytes(manifest, "dataset.json"))["members"]
    here = {m["split"] for m in members if m["drive"] in {*(n.name for n in neighbours), FLEET[0].name}}
    assert len(here) == 1
    assert all(m["geo_cell"] for m in members)


def test_a_difference_says_what_and_why(lake: Lake, tmp_path: Path) -> None:
    frozen(lake)
    datasets.tag(lake, "golden", "1.0.0", lake.require("golden_slices", WEEK).content, "ada")
    changed = Drive(**{**vars(FLEET[1]), "box_x": 12.0})
    land(lake, tmp_path / "again", [changed, Drive("veh009-20250602t100000z", 99, place=(52.0, 9.0))],
         {"annotation": "f" * 64})  # fmt: skip
    frozen(lake)
    found = compare(lake, datasets.resolve(lake, "golden@1.0.0"), datasets.resolve(lake, "golden"))
    assert found["members"]["added"] == ["veh009-20250602t100000z"]
    assert list(found["members"]["changed"]) == [changed.name]
    assert found["labels"] == {
        changed.name: {"same": 0, "moved": 8, "class_changed": 0, "added": 0, "removed": 0}
    }
    [step] = found["why"]["members"][changed.name]
    assert step["bundle"] == f"verified_labels/{changed.name}"
    assert step["because"] == ["policy annotation none -> ffffffffffff"]


def test_the_index_tells_what_stands_in_two_splits(lake: Lake) -> None:
    index = index_of(lake, frozen(lake))
    assert in_two_splits(index) == {}
    moved = index.slice(0, 1).set_column(1, index.schema.field(1), pa.array(["val2"]))
    assert set(in_two_splits(pa.concat_tables([index, moved]))) == {"drive", "shard_sha256", "clip_id"}


def test_files_of_a_slice_and_what_is_not_there(lake: Lake) -> None:
    frozen(lake)
    version = datasets.resolve(lake, "golden")
    drives = {row["path"].split("/")[1] for row in files_of(lake, version, None, "night")}
    assert drives == {d.name for d in FLEET if d.light == "night"}
    for split, name, code in (("tset", None, "unknown_split"), (None, "snow", "unknown_slice"),
                              ("val", "fog", "selects_nothing")):  # fmt: skip
        with pytest.raises(DatasetError) as caught:
            files_of(lake, version, split, name)
        assert caught.value.code == code


def test_the_commands_speak(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command on one story: freeze, tag, show, verify, rebuild, and compare with a later version."""
    monkeypatch.setenv("AV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AV_LAKE", lake.uri)
    group, diff = COMMANDS
    first = frozen(lake)
    land(lake, tmp_path / "again", [Drive(**{**vars(FLEET[2]), "cls": "vehicle"})])
    frozen(lake)

    def ask(command: Any, *words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(command, [*words, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.output)

    assert (
        ask(group, "tag", "golden", "1.0.0", "--version", first.content[:6], "--by", "ada")["version"]
        == first.content
    )
    assert [v["tags"] for v in ask(group, "list")["versions"]] == [["1.0.0"], []]
    assert ask(group, "show", "golden@1.0.0")["drives"] == len(FLEET)
    assert ask(group, "rebuild", "golden@1.0.0")["same"]
    assert ask(group, "files", "golden@1.0.0", "--split", "val")["files"]
    assert ask(diff, "golden@1.0.0", "golden")["labels"][FLEET[2].name]["class_changed"] == 8
    for words in (("list",), ("show", "golden"), ("show", "golden", "--datasheet"), ("files", "golden")):
        assert CliRunner().invoke(group, list(words)).exit_code == 0
    text = CliRunner().invoke(diff, ["golden@1.0.0", "golden", "--png", str(tmp_path / "diff.png")])
    assert text.exit_code == 0
    assert f"other bytes from the same inputs\n    of {FLEET[2].name}\n" in text.output
    assert (tmp_path / "diff.png").read_bytes().startswith(b"\x89PNG")
    stored = tmp_path / "lake" / "objects"
    sha = first.entry(f"drives/{FLEET[0].name}/clips/00000.parquet").sha256
    (stored / sha[:2] / sha).unlink()
    assert ask(group, "verify", "golden@1.0.0", code=1)["broken"][0]["file"].endswith("clips/00000.parquet")
