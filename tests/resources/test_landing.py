"""The landing area on a folder and in a bucket, the ingest of what lies there, and the sensor that finds it."""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from av_assets.domain.errors import AvError, LandingError
from av_assets.domain.logs.landing import landed_drive
from av_assets.foundations import ingestion
from av_assets.policies.landing import LandingPolicy
from resources import ingestions, quarantine
from resources.lake import Lake
from resources.landing import Landing
from sensors.landing import FINGERPRINT, landed_drives

DRIVE = "veh001-a"


@pytest.fixture(params=["file", "s3"])
def landing(request: pytest.FixtureRequest, tmp_path: Path) -> Landing:
    if request.param == "file":
        return Landing(path=str(tmp_path / "landing"))
    endpoint = request.getfixturevalue("s3_endpoint")
    return Landing(path=f"s3://lake/{uuid.uuid4().hex}", endpoint=endpoint)


@pytest.fixture
def source(short_drive_folder: Path, tmp_path: Path) -> Path:
    """A drive on a vehicle's disk: small, with declared checksums."""
    folder = tmp_path / "disk" / DRIVE
    (folder / "recording").mkdir(parents=True)
    log = next(short_drive_folder.rglob("*.mcap"))
    (folder / "recording" / "a.mcap").write_bytes(log.read_bytes()[:200_000])
    (folder / "recording" / "b.mcap").write_bytes(log.read_bytes()[:300_000])
    (folder / "drive.yaml").write_text(f"schema: 1\ndrive: {DRIVE}\n")
    digest = hashlib.sha256((folder / "recording" / "a.mcap").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  recording/a.mcap\n")
    return folder


def ingest(lake: Lake, landing: Landing, drive: str = DRIVE) -> Any:
    return ingestion._ingest(lake, landing, "1", drive)


def replace_object(landing: Landing, name: str, data: bytes) -> None:
    """As somebody with access to the area would."""
    if landing.bucket is not None:
        landing.bucket.put(f"{DRIVE}/{name}", data)
    else:
        (landing.root / DRIVE / name).write_bytes(data)


def delete_object(landing: Landing, name: str) -> None:
    if landing.bucket is not None:
        landing.bucket.delete(f"{DRIVE}/{name}")
    else:
        (landing.root / DRIVE / name).unlink()


class TestArea:
    def test_landed_drive_is_complete_and_passes(
        self, landing: Landing, source: Path, tmp_path: Path
    ) -> None:
        assert landing.land(source) == DRIVE
        [arrival] = landing.arrivals(time.time())
        assert (arrival.name, arrival.complete) == (DRIVE, True)
        found = landing.drive(DRIVE, tmp_path / "small")
        assert found is not None
        drive = landed_drive(found, LandingPolicy.load())
        assert [f.path for f in drive.files] == [
            "SHA256SUMS",
            "drive.yaml",
            "recording/a.mcap",
            "recording/b.mcap",
        ]
        assert drive.logs == ("recording/a.mcap", "recording/b.mcap")

    def test_fingerprint_changes_with_the_files_only(self, landing: Landing, source: Path) -> None:
        landing.land(source)
        first = landing.arrival(DRIVE, time.time())
        assert landing.arrival(DRIVE, time.time() + 60).fingerprint == first.fingerprint
        replace_object(landing, "recording/b.mcap", b"\x89MCAP0\r\n other")
        assert landing.arrival(DRIVE, time.time()).fingerprint != first.fingerprint

    @pytest.mark.parametrize(
        ("spoil", "code"),
        [
            (lambda area: delete_object(area, "COMPLETE"), "missing_marker"),
            (lambda area: delete_object(area, "drive.yaml"), "missing_drive_yaml"),
            (lambda area: replace_object(area, "drive.yaml", b"drive: other"), "id_mismatch"),
            (lambda area: delete_object(area, "recording/a.mcap"), "checksum_missing_file"),
            (
                lambda area: replace_object(area, "recording/a.mcap", b"\x89MCAP0\r\n other"),
                "checksum_mismatch",
            ),
        ],
    )
    def test_bad_drive_is_refused_with_its_code(
        self, landing: Landing, source: Path, folder_lake: Lake, spoil: Any, code: str
    ) -> None:
        landing.land(source)
        spoil(landing)
        with pytest.raises(LandingError) as caught:
            ingest(folder_lake, landing)
        assert caught.value.code == code
        assert folder_lake.manifest("raw_logs", DRIVE) is None

    def test_another_id_keeps_the_checksums_true(
        self, landing: Landing, source: Path, tmp_path: Path
    ) -> None:
        spec = (source / "drive.yaml").read_bytes()
        sums = (source / "SHA256SUMS").read_text() + f"{hashlib.sha256(spec).hexdigest()}  drive.yaml\n"
        (source / "SHA256SUMS").write_text(sums)
        for number, drive in enumerate((None, "veh001-b")):
            name = landing.land(source, drive)
            found = landing.drive(name, tmp_path / f"small{number}")
            assert found is not None
            held = {file.path: file.sha256 for file in landed_drive(found, LandingPolicy.load()).files}
            assert held["drive.yaml"] == hashlib.sha256(found.local("drive.yaml").read_bytes()).hexdigest()
        assert landing.drive(DRIVE, tmp_path / "again").local("drive.yaml").read_bytes() == spec  # type: ignore[union-attr]

    def test_single_file_brings_what_it_is_not_whole_without(self, landing: Landing, tmp_path: Path) -> None:
        for name in ("front.mp4", "front_timestamps.csv", "other.csv"):
            (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom")
        drive = landing.land(tmp_path / "front.mp4")
        found = landing.drive(drive, tmp_path / "small")
        assert found is not None
        assert set(found.sizes(drive, LandingPolicy.load())) == {
            "drive.yaml",
            "front.mp4",
            "front_timestamps.csv",
        }

    def test_nothing_there_is_nothing(self, landing: Landing, folder_lake: Lake, tmp_path: Path) -> None:
        assert list(landing.arrivals(time.time())) == []
        assert landing.drive(DRIVE, tmp_path) is None
        with pytest.raises(AvError, match="missing_bundle"):
            ingest(folder_lake, landing)

    def test_listing_goes_through_every_page(self, s3_endpoint: str) -> None:
        area = Landing(path=f"s3://lake/{uuid.uuid4().hex}", endpoint=s3_endpoint)
        assert area.bucket is not None
        for number in range(1005):  # a page of S3 holds a thousand keys
            area.bucket.put(f"veh-{number:04d}/COMPLETE", b"")
        assert len(list(area.arrivals(time.time()))) == 1005


class TestIngest:
    def test_files_and_their_digests_are_the_same_from_everywhere(
        self, landing: Landing, source: Path, lake: Lake
    ) -> None:
        landing.land(source)
        manifest = ingest(lake, landing).manifest
        for path in ("recording/a.mcap", "recording/b.mcap"):
            assert lake.read_bytes(manifest, path) == (source / path).read_bytes()
        row = ingestions.of(lake, DRIVE)
        assert row is not None
        assert (row.files, row.saved_bytes, row.resumed_files, row.latency_s) == (4, 0, 0, None)
        assert row.content == manifest.content
        assert row.landed_ns <= row.ingested_ns

    def test_interrupted_ingest_reads_finished_files_no_second_time(
        self, landing: Landing, source: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        landing.land(source)
        kind = type(landing.drive(DRIVE, tmp_path / "small"))
        copied, whole = [], kind.copy

        def copy(self: Any, path: str, *rest: Any) -> Any:
            if path == "recording/b.mcap" and len(copied) < 4:
                copied.append("died")
                raise KeyboardInterrupt
            copied.append(path)
            return whole(self, path, *rest)

        monkeypatch.setattr(kind, "copy", copy)
        with pytest.raises(KeyboardInterrupt):
            ingest(lake, landing)
        assert lake.manifest("raw_logs", DRIVE) is None
        manifest = ingest(lake, landing).manifest
        assert copied == ["SHA256SUMS", "drive.yaml", "recording/a.mcap", "died", "recording/b.mcap"]
        row = ingestions.of(lake, DRIVE)
        assert row is not None
        assert row.resumed_files == 3
        assert lake.verify(manifest) == []
        assert not list(lake.store.keys("segments/"))

    def test_content_that_the_lake_holds_is_stored_once_and_counted(
        self, landing: Landing, source: Path, lake: Lake
    ) -> None:
        landing.land(source)
        ingest(lake, landing)
        objects = len(list(lake.store.keys("objects/")))
        landing.land(source, "veh001-again")
        ingest(lake, landing, "veh001-again")
        row = ingestions.of(lake, "veh001-again")
        assert row is not None
        logs = sum((source / "recording" / name).stat().st_size for name in ("a.mcap", "b.mcap"))
        assert row.saved_bytes >= logs
        assert row.saved_files == 3  # both logs and the checksums; drive.yaml has another id
        assert len(list(lake.store.keys("objects/"))) == objects + 1

    def test_cleared_landing_area_keeps_what_was_ingested(
        self, landing: Landing, source: Path, lake: Lake
    ) -> None:
        landing.land(source)
        first = ingest(lake, landing).manifest
        for path in ("COMPLETE", "SHA256SUMS", "drive.yaml", "recording/a.mcap", "recording/b.mcap"):
            delete_object(landing, path)
        if landing.bucket is None:
            shutil.rmtree(landing.root / DRIVE)
        assert ingest(lake, landing).manifest == first


class TestSensor:
    @pytest.fixture
    def instance(self) -> Any:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance

    def look(self, instance: dg.DagsterInstance, landing: Landing, lake: Lake) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(instance=instance, resources={"landing": landing, "lake": lake})
        result = landed_drives(context)
        if isinstance(result, dg.SkipReason):
            return []
        for request in result.dynamic_partitions_requests or []:
            instance.add_dynamic_partitions("drive", list(request.partition_keys))
        return list(result.run_requests or [])

    def run(self, instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        run = dg.DagsterRun("job", run_id=str(uuid.uuid4()), status=status, tags=dict(request.tags))
        instance.add_run(run)

    def test_new_drive_is_asked_for_until_the_log_of_ingestions_knows_it(
        self, instance: Any, landing: Landing, source: Path, folder_lake: Lake
    ) -> None:
        landing.land(source)
        [request] = self.look(instance, landing, folder_lake)
        assert request.partition_key == DRIVE
        assert instance.has_dynamic_partition("drive", DRIVE)
        assert [r.run_key for r in self.look(instance, landing, folder_lake)] == [
            request.run_key
        ]  # Dagster drops it
        self.run(instance, request, dg.DagsterRunStatus.STARTED)
        assert self.look(instance, landing, folder_lake) == []
        ingest(folder_lake, landing)
        assert self.look(instance, landing, folder_lake) == []
        replace_object(landing, "recording/b.mcap", b"\x89MCAP0\r\n other")
        [again] = self.look(instance, landing, folder_lake)
        assert again.tags[FINGERPRINT] != request.tags[FINGERPRINT]

    def test_run_that_vanished_is_asked_for_again_but_not_for_ever(
        self, instance: Any, landing: Landing, source: Path, folder_lake: Lake
    ) -> None:
        landing.land(source)
        keys = []
        for _ in range(LandingPolicy.load().sensor_attempts):
            [request] = self.look(instance, landing, folder_lake)
            keys.append(request.run_key)
            self.run(instance, request, dg.DagsterRunStatus.FAILURE)
        assert len(set(keys)) == len(keys)
        assert self.look(instance, landing, folder_lake) == []

    def test_quarantined_drive_waits_for_other_files(
        self, instance: Any, landing: Landing, source: Path, folder_lake: Lake
    ) -> None:
        landing.land(source)
        [request] = self.look(instance, landing, folder_lake)
        self.run(instance, request, dg.DagsterRunStatus.SUCCESS)
        assert self.look(instance, landing, folder_lake) == []
        replace_object(landing, "recording/b.mcap", b"\x89MCAP0\r\n other")
        assert len(self.look(instance, landing, folder_lake)) == 1

    def test_batch_is_capped_and_the_rest_comes_next(
        self, instance: Any, source: Path, folder_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = LandingPolicy.load().model_copy(update={"sensor_batch": 2})
        monkeypatch.setattr(LandingPolicy, "load", classmethod(lambda cls: few))
        area = Landing(path=str(tmp_path / "landing"))
        for number in range(5):
            area.land(source, f"veh001-{number}")
        seen = []
        while batch := self.look(instance, area, folder_lake):
            assert len(batch) <= 2
            for request in batch:
                self.run(instance, request, dg.DagsterRunStatus.STARTED)
                seen.append(request.partition_key)
        assert seen == [f"veh001-{number}" for number in range(5)]

    def test_folder_that_waits_too_long_for_its_marker_is_quarantined_and_released_by_it(
        self,
        instance: Any,
        landing: Landing,
        source: Path,
        folder_lake: Lake,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        landing.land(source)
        delete_object(landing, "COMPLETE")
        assert self.look(instance, landing, folder_lake) == []
        assert quarantine.listing(folder_lake) == []
        impatient = LandingPolicy.load().model_copy(update={"marker_timeout_s": -1.0})
        monkeypatch.setattr(LandingPolicy, "load", classmethod(lambda cls: impatient))
        self.look(instance, landing, folder_lake)
        assert [row["code"] for row in quarantine.listing(folder_lake)] == ["missing_marker"]
        replace_object(landing, "COMPLETE", b"")
        assert len(self.look(instance, landing, folder_lake)) == 1
        ingest(folder_lake, landing)
        assert quarantine.listing(folder_lake) == []
