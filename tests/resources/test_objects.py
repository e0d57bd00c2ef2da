"""What a store does when the disk or the bucket fails under it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import obstore.exceptions
import pytest

from av_assets.domain.errors import AvError, EvidenceError, TransientError
from resources.lake import Lake
from resources.objects import BucketStore, FolderStore


def full(*_: Any) -> None:
    raise OSError(28, os.strerror(28))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.objects.os.fsync", full)


def everything(store: FolderStore) -> list[str]:
    return [p.name for p in store.root.rglob("*") if p.is_file()]


@pytest.mark.usefixtures("full_disk")
class TestFullDisk:
    def test_put_leaves_nothing_and_says_what_to_do(self, store: FolderStore) -> None:
        with pytest.raises(TransientError) as caught:
            store.put("manifests/current", b"1")
        assert (caught.value.code, caught.value.remedy) == ("disk_full", "free space and rerun")
        assert everything(store) == []

    def test_put_file_leaves_nothing(self, store: FolderStore, tmp_path: Path) -> None:
        (tmp_path / "clip").write_bytes(b"bytes")
        with pytest.raises(TransientError) as caught:
            store.put_file("objects/ab", tmp_path / "clip", consume=False)
        assert caught.value.code == "disk_full"
        assert everything(store) == []
        assert (tmp_path / "clip").read_bytes() == b"bytes"

    def test_publish_leaves_the_former_bundle_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake = Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "scratch"))
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "a").write_bytes(b"new")
        with monkeypatch.context() as patch:
            patch.setattr("resources.objects.os.fsync", lambda _: None)
            old = lake.publish("shards", "veh001", note="old")
        with pytest.raises(TransientError):
            lake.publish("shards", "veh001", tmp_path / "work")
        assert lake.require("shards", "veh001") == old


def test_any_other_failing_write_is_transient_too(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("resources.objects.os.fsync", broken)
    with pytest.raises(TransientError) as caught:
        store.put("a", b"1")
    assert caught.value.code == "write_failed"


def test_failed_put_keeps_the_older_bytes(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"old")
    monkeypatch.setattr("resources.objects.os.fsync", full)
    with pytest.raises(TransientError):
        store.put("a", b"new")
    assert store.get("a") == b"old"


def test_half_written_file_is_not_listed(store: FolderStore) -> None:
    store.put("manifests/a/current.json", b"1")
    (store.root / "manifests" / "a" / ".current.json.1234").write_bytes(b"half")
    assert list(store.keys("manifests/")) == ["manifests/a/current.json"]


def test_object_that_is_not_there(store: FolderStore, tmp_path: Path) -> None:
    assert (store.get("a"), store.size("a"), list(store.keys("a"))) == (None, None, [])
    with pytest.raises(EvidenceError):
        store.fetch("a", tmp_path / "out")


def test_consumed_file_is_gone_and_an_unconsumed_one_is_not(store: FolderStore, tmp_path: Path) -> None:
    for name in ("moved", "copied"):
        (tmp_path / name).write_bytes(name.encode())
        store.put_file(name, tmp_path / name, consume=name == "moved")
        assert store.get(name) == name.encode()
    assert not (tmp_path / "moved").exists()
    assert (tmp_path / "copied").exists()


class TestFailingBucket:
    def test_missing_bucket_is_a_setting_to_correct(self, s3_endpoint: str) -> None:
        with pytest.raises(AvError) as caught:
            BucketStore("there-is-no-such-bucket", "", s3_endpoint).put("a", b"1")
        assert caught.value.code == "missing_bucket"

    @pytest.mark.parametrize(
        ("failure", "kind", "code"),
        [
            ("GenericError", TransientError, "store_failed"),
            ("PermissionDeniedError", AvError, "store_refused"),
        ],
    )
    def test_every_verb_says_it_in_our_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, kind: type[AvError], code: str
    ) -> None:
        monkeypatch.setattr(
            BucketStore, "_store", _Failing(getattr(obstore.exceptions, failure)("no answer"))
        )
        store = BucketStore("lake", "", None)
        (tmp_path / "in").write_bytes(b"1")
        for verb in (
            lambda: store.get("a"),
            lambda: store.size("a"),
            lambda: store.put("a", b"1"),
            lambda: store.put_file("a", tmp_path / "in", consume=True),
            lambda: store.fetch("a", tmp_path / "out"),
            lambda: store.delete("a"),
            lambda: list(store.keys("a")),
        ):
            with pytest.raises(kind) as caught:
                verb()
            assert caught.value.code == code
        assert (tmp_path / "in").exists()

    def test_full_local_disk_leaves_no_half_fetched_file(
        self, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = BucketStore("lake", "full-disk", s3_endpoint)
        store.put("a", b"1")

        class Full(io.BytesIO):
            def write(self, data: object) -> int:
                raise OSError(28, os.strerror(28))

        monkeypatch.setattr(Path, "open", lambda *_: Full())
        with pytest.raises(TransientError) as caught:
            store.fetch("a", tmp_path / "out")
        assert caught.value.code == "disk_full"


class _Failing:
    """An S3 client all of whose calls raise."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            raise self._error

        return call
