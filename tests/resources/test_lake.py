"""Bundles on a folder and on a bucket: the same promises on both.

Belongs here: what a reader may rely on. Does not belong here: tables, quarantine, failing disks.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from av_assets.domain.errors import AvError, EvidenceError, LandingError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.evidence.manifest import FileEntry, MadeFrom, Manifest
from resources import tombstones
from resources.lake import Lake, object_key
from resources.objects import FolderStore, open_store

FILES = {"report.json": b"{}", "clips/00000.parquet": b"first", "clips/00001.parquet": b"second"}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def publish(lake: Lake, folder: Path, files: dict[str, bytes] | None = None, **more: Any) -> Manifest:
    return lake.publish("shards", "veh001-a", write(folder, FILES if files is None else files), **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_was_published_is_what_is_checked_out(lake: Lake, tmp_path: Path) -> None:
    manifest = publish(lake, tmp_path / "work")
    assert lake.require("shards", "veh001-a") == manifest
    assert contents(lake.checkout(manifest, tmp_path / "out")) == FILES


def test_checkout_by_pattern_lays_out_only_what_matches(lake: Lake, tmp_path: Path) -> None:
    manifest = publish(lake, tmp_path / "work")
    assert set(contents(lake.checkout(manifest, tmp_path / "out", "clips/*.parquet"))) == {
        "clips/00000.parquet",
        "clips/00001.parquet",
    }


def test_read_bytes_gives_one_file(lake: Lake, tmp_path: Path) -> None:
    manifest = publish(lake, tmp_path / "work")
    assert lake.read_bytes(manifest, "clips/00001.parquet") == b"second"
    with pytest.raises(EvidenceError) as caught:
        lake.read_bytes(manifest, "clips/00002.parquet")
    assert caught.value.code == "missing_file"


def test_a_file_that_a_bundle_may_lack_is_nothing_where_it_is_missing(lake: Lake, tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1, 2], "word": ["a", "b"]}), tmp_path / "rows.parquet")
    files = {"report.json": b'{"n": 3}', "rows.parquet": (tmp_path / "rows.parquet").read_bytes()}
    manifest = publish(lake, tmp_path / "work", files)
    assert lake.json_of(manifest, "report.json") == {"n": 3}
    assert lake.rows_of(manifest, "rows.parquet") == [{"n": 1, "word": "a"}, {"n": 2, "word": "b"}]
    assert lake.rows_of(manifest, "rows.parquet", ["n"]) == [{"n": 1}, {"n": 2}]
    for bundle in (manifest, None):
        assert lake.json_of(bundle, "other.json") == {}
        assert lake.rows_of(bundle, "other.parquet") == []


def test_empty_bundle_with_a_note_is_a_bundle(lake: Lake, tmp_path: Path) -> None:
    publish(lake, tmp_path / "work", {}, note="no camera on this vehicle")
    assert lake.require("shards", "veh001-a").note == "no camera on this vehicle"


def test_link_refers_to_bytes_of_another_bundle(lake: Lake, tmp_path: Path) -> None:
    entry = publish(lake, tmp_path / "work").entry("clips/00000.parquet")
    link = FileEntry(path="drives/veh001-a/00000.parquet", bytes=entry.bytes, sha256=entry.sha256)
    golden = lake.publish(
        "golden", "2025-06-02", write(tmp_path / "golden", {"dataset.json": b"[]"}), links=[link]
    )
    assert contents(lake.checkout(golden, tmp_path / "out")) == {
        "dataset.json": b"[]",
        "drives/veh001-a/00000.parquet": b"first",
    }


def test_unfinished_bundle_is_asked_for_by_name(lake: Lake) -> None:
    assert lake.manifest("shards", "veh001-a") is None
    with pytest.raises(EvidenceError) as caught:
        lake.require("shards", "veh001-a")
    assert (caught.value.code, caught.value.drive) == ("missing_bundle", "veh001-a")
    assert "materialize shards" in caught.value.remedy


def test_publish_killed_before_the_manifest_is_invisible(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(lake.store), "put", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(lake, tmp_path / "work")
    assert lake.manifest("shards", "veh001-a") is None
    assert lake.partitions("shards") == []
    assert contents(lake.checkout(publish(lake, tmp_path / "again"), tmp_path / "out")) == FILES


def test_new_bundle_replaces_the_old_one_and_the_old_one_stays_readable(lake: Lake, tmp_path: Path) -> None:
    old = publish(lake, tmp_path / "work")
    new = publish(lake, tmp_path / "work2", {"report.json": b"{1}"})
    assert lake.require("shards", "veh001-a") == new
    assert contents(lake.checkout(old, tmp_path / "old")) == FILES
    kept = lake.store.get(f"manifests/shards/veh001-a/{old.digest}.json")
    assert kept is not None
    assert Manifest.from_json(kept, "kept") == old


def test_identical_bytes_are_stored_once(lake: Lake, tmp_path: Path) -> None:
    publish(lake, tmp_path / "work", {"a.bin": b"same", "b.bin": b"same"})
    lake.publish("other", "veh001-b", write(tmp_path / "other", {"c.bin": b"same"}))
    assert list(lake.store.keys("objects/")) == [object_key(sha256_bytes(b"same"))]


def test_same_files_from_other_inputs_have_the_same_content_and_another_digest(
    lake: Lake, tmp_path: Path
) -> None:
    first = publish(lake, tmp_path / "one", made_from=MadeFrom(code_version="1"))
    second = publish(lake, tmp_path / "two", made_from=MadeFrom(code_version="2"))
    assert first.content == second.content
    assert first.digest != second.digest


class TestWriteOnce:
    def test_same_content_again_is_welcome(self, lake: Lake, tmp_path: Path) -> None:
        first = publish(lake, tmp_path / "one", write_once=True)
        assert publish(lake, tmp_path / "two", write_once=True) == first

    def test_other_content_is_a_conflict_and_changes_nothing(self, lake: Lake, tmp_path: Path) -> None:
        first = publish(lake, tmp_path / "one", write_once=True)
        with pytest.raises(LandingError) as caught:
            publish(lake, tmp_path / "two", {"report.json": b"other"}, write_once=True)
        assert (caught.value.code, caught.value.drive) == ("content_conflict", "veh001-a")
        assert lake.require("shards", "veh001-a") == first

    def test_of_eight_threads_exactly_one_wins(self, lake: Lake) -> None:
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n: lake.store.put("race", b"%d" % n, create=True), range(8)))
        assert won.count(True) == 1
        assert lake.store.get("race") == b"%d" % won.index(True)

    def test_of_four_processes_exactly_one_wins(self, folder_lake: Lake) -> None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(4, mp_context=context) as pool:
            won = list(pool.map(_race, [folder_lake.uri] * 8, range(8)))
        assert won.count(True) == 1
        assert folder_lake.store.get("race") == b"%d" % won.index(True)
        assert list(folder_lake.store.keys("")) == ["race"]


def _race(uri: str, number: int) -> bool:
    return open_store(uri).put("race", b"%d" % number, create=True)


class TestDamage:
    def test_missing_object_is_named(self, lake: Lake, tmp_path: Path) -> None:
        manifest = publish(lake, tmp_path / "work")
        lake.store.delete(object_key(manifest.entry("report.json").sha256))
        with pytest.raises(EvidenceError) as caught:
            lake.checkout(manifest, tmp_path / "out")
        assert caught.value.code == "missing_object"
        with pytest.raises(EvidenceError):
            lake.read_bytes(manifest, "report.json")

    def test_shortened_object_is_refused_by_every_reader(self, lake: Lake, tmp_path: Path) -> None:
        manifest = publish(lake, tmp_path / "work")
        lake.store.put(object_key(manifest.entry("clips/00000.parquet").sha256), b"fir")
        with pytest.raises(EvidenceError) as caught:
            lake.checkout(manifest, tmp_path / "out")
        assert (caught.value.code, caught.value.file) == ("damaged_object", "clips/00000.parquet")
        with pytest.raises(EvidenceError):
            lake.read_bytes(manifest, "clips/00000.parquet")

    def test_flipped_byte_in_a_small_file_is_refused(self, lake: Lake, tmp_path: Path) -> None:
        manifest = publish(lake, tmp_path / "work")
        lake.store.put(object_key(manifest.entry("clips/00000.parquet").sha256), b"fIrst")
        with pytest.raises(EvidenceError) as caught:
            lake.read_bytes(manifest, "clips/00000.parquet")
        assert caught.value.code == "damaged_object"

    def test_verify_names_every_broken_path_and_no_other(self, lake: Lake, tmp_path: Path) -> None:
        manifest = publish(lake, tmp_path / "work")
        assert lake.verify(manifest) == []
        lake.store.put(object_key(manifest.entry("clips/00000.parquet").sha256), b"fIrst")
        lake.store.delete(object_key(manifest.entry("report.json").sha256))
        assert lake.verify(manifest) == ["clips/00000.parquet", "report.json"]

    def test_torn_manifest_is_refused(self, lake: Lake, tmp_path: Path) -> None:
        data = publish(lake, tmp_path / "work").to_json()
        lake.store.put("manifests/shards/veh001-a/current.json", data[: len(data) // 2])
        with pytest.raises(EvidenceError) as caught:
            lake.require("shards", "veh001-a")
        assert caught.value.code == "bad_manifest"


def test_partitions_lists_finished_ones_sorted_and_by_asset(lake: Lake, tmp_path: Path) -> None:
    for number, (asset, drive) in enumerate(
        [("shards", "veh002"), ("shards", "veh001"), ("shards_v2", "veh003")]
    ):
        lake.publish(asset, drive, write(tmp_path / str(number), {"a": b"%d" % number}))
    assert lake.partitions("shards") == ["veh001", "veh002"]
    assert lake.partitions("nothing") == []


def test_workdir_is_gone_however_the_block_ends(lake: Lake) -> None:
    seen: list[Path] = []

    def crash() -> None:
        with lake.workdir() as folder:
            seen.append(write(folder, FILES))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        crash()
    assert not seen[0].exists()


def test_checked_out_files_cannot_be_changed_by_a_reader(folder_lake: Lake, tmp_path: Path) -> None:
    manifest = publish(folder_lake, tmp_path / "work")
    out = folder_lake.checkout(manifest, tmp_path / "out")
    assert (out / "report.json").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("uri", ["gs://bucket/lake", "http://host/lake"])
def test_other_kinds_of_lake_are_refused(uri: str) -> None:
    with pytest.raises(AvError) as caught:
        open_store(uri)
    assert caught.value.code == "bad_lake_uri"


def test_folder_names_with_spaces_are_kept(tmp_path: Path) -> None:
    store = open_store((tmp_path / "my lake").as_uri())
    assert isinstance(store, FolderStore)
    store.put("a", b"1")
    assert (tmp_path / "my lake" / "a").read_bytes() == b"1"


def test_an_erased_partition_is_neither_published_nor_read(lake: Lake, tmp_path: Path) -> None:
    publish(lake, tmp_path / "before")
    tombstones.put(lake, "veh001-a", "plan", 1)
    objects = sorted(lake.store.keys("objects/"))
    with pytest.raises(EvidenceError) as writing:
        publish(lake, tmp_path / "again", {"new": b"other bytes"})
    with pytest.raises(EvidenceError) as reading:
        lake.require("labels", "veh001-a")
    assert (writing.value.code, reading.value.code, writing.value.drive) == ("erased", "erased", "veh001-a")
    assert sorted(lake.store.keys("objects/")) == objects
    assert lake.publish("shards", "veh001-ab", tmp_path / "again").partition == "veh001-ab"
