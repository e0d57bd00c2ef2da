"""A drive that was erased is refused wherever it comes back, with its reason, and others are not held up by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from av_assets.domain.errors import EvidenceError
from av_assets.foundations.ingestion import raw_logs, raw_logs_leave_no_drive_in_quarantine
from av_assets.production import Work, lineage, produce
from resources import quarantine, tombstones
from resources.lake import Lake
from resources.landing import Landing
from sensors.landing import landed_drives

ERASED, OTHER = "veh001-a", "veh001-b"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "lake" / ".scratch"))


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    """Both drives lie there, whole."""
    area = Landing(path=str(tmp_path / "landing"))
    for drive in (ERASED, OTHER):
        folder = tmp_path / "disk" / drive
        folder.mkdir(parents=True)
        (folder / "a.mcap").write_bytes(b"\x89MCAP0\r\n and what a vehicle wrote")
        (folder / "drive.yaml").write_text(f"schema: 1\ndrive: {drive}\n")
        area.land(folder)
    return area


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def look(instance: dg.DagsterInstance, landing: Landing, lake: Lake) -> list[str | None]:
    """Drives that a look of the sensor asks for."""
    context = dg.build_sensor_context(instance=instance, resources={"landing": landing, "lake": lake})
    found = landed_drives(context)
    return [] if isinstance(found, dg.SkipReason) else [r.partition_key for r in found.run_requests or []]


def reasons(lake: Lake) -> dict[str, tuple[str, str]]:
    return {row["drive"]: (row["stage"], row["code"]) for row in quarantine.listing(lake)}


def test_the_landing_area_is_told_once_and_the_drive_gets_no_partition(
    instance: dg.DagsterInstance, landing: Landing, lake: Lake
) -> None:
    assert sorted(map(str, look(instance, landing, lake))) == [ERASED, OTHER]
    tombstones.put(lake, ERASED, "plan", 1)
    assert look(instance, landing, lake) == [OTHER]
    assert reasons(lake) == {ERASED: ("landing", "erased_drive")}
    [row] = quarantine.listing(lake)
    assert "landing area" in row["remedy"]
    look(instance, landing, lake)
    assert quarantine.listing(lake) == [row]  # with its first time
    check = dg.AssetCheckKey(dg.AssetKey("raw_logs"), "raw_logs_leave_no_drive_in_quarantine")
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    assert len(history) == 1
    assert not instance.has_dynamic_partition("drive", ERASED)


def test_a_run_that_was_asked_for_before_takes_nothing_in(
    instance: dg.DagsterInstance, landing: Landing, lake: Lake
) -> None:
    tombstones.put(lake, ERASED, "plan", 1)
    instance.add_dynamic_partitions("drive", [ERASED, OTHER])
    for drive in (ERASED, OTHER):
        made = dg.materialize(
            [raw_logs, raw_logs_leave_no_drive_in_quarantine],
            partition_key=drive, instance=instance, resources={"lake": lake, "landing": landing},
        )  # fmt: skip
        assert made.success
        assert bool(made.asset_materializations_for_node("raw_logs")) == (drive == OTHER)
    assert lake.partitions("raw_logs") == [OTHER]
    assert reasons(lake) == {ERASED: ("raw_logs", "erased_drive")}
    assert lake.tables.read("ingestions")["drive"].to_pylist() == [OTHER]  # type: ignore[index]


def test_nothing_of_it_is_published_and_no_row_is_written(lake: Lake, tmp_path: Path) -> None:
    """By a run that began before the erasure and ends after it."""
    rows = pa.table({"drive": [ERASED], "said": ["something"]})

    def late(work: Work) -> str:
        tombstones.put(lake, ERASED, "plan", 1)
        work.write_table("notes", rows)
        return ""

    with pytest.raises(EvidenceError) as writing:
        produce(lake, "notes", ERASED, lineage([], "1", []), {}, late)
    assert (writing.value.code, writing.value.drive) == ("erased", ERASED)
    assert lake.tables.names() == []

    def silent(work: Work) -> str:
        (work.out / "a.bin").write_bytes(b"bytes of the drive")
        return ""

    with pytest.raises(EvidenceError) as publishing:
        produce(lake, "notes", ERASED, lineage([], "1", []), {}, silent)
    assert publishing.value.code == "erased"
    assert lake.manifest("notes", ERASED) is None
    assert [key for key in lake.store.keys("objects/") if lake.store.get(key) == b"bytes of the drive"] == []
    produce(lake, "notes", OTHER, lineage([], "1", []), {}, silent)
    assert lake.read_bytes(lake.require("notes", OTHER), "a.bin") == b"bytes of the drive"
