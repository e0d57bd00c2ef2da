"""Drives retire: the oldest finished ones beyond the bound, never one in quarantine or on its way."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from av_assets.domain.errors import LogError
from av_assets.domain.evidence.manifest import MadeFrom
from av_assets.drives import STAGES
from av_assets.policies.landing import LandingPolicy
from resources import quarantine
from resources.lake import Lake
from sensors import archive

NAMES = [f"veh001-{number}" for number in range(6)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=(tmp_path / "lake").as_uri(), scratch=str(tmp_path / "scratch"))


@pytest.fixture
def instance() -> dg.DagsterInstance:
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("drive", NAMES)
    return instance


@pytest.fixture(autouse=True)
def _two_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = LandingPolicy.load().model_copy(update={"max_live_drives": 2})
    monkeypatch.setattr(archive.LandingPolicy, "load", lambda: policy)


def finish(lake: Lake, drive: str, stages: tuple[str, ...] = STAGES) -> None:
    for asset in stages:
        with lake.workdir() as folder:
            (folder / "data.txt").write_text(drive)
            lake.publish(asset, drive, folder, note="", made_from=MadeFrom())


def retiring(instance: dg.DagsterInstance, lake: Lake) -> list[str]:
    found = archive.old_drives(dg.build_sensor_context(instance=instance, resources={"lake": lake}))
    if isinstance(found, dg.SkipReason):
        return []
    (request,) = found.dynamic_partitions_requests
    assert isinstance(request, dg.DeleteDynamicPartitionsRequest)
    return list(request.partition_keys)


def test_the_oldest_finished_drives_beyond_the_bound_retire(instance: dg.DagsterInstance, lake: Lake) -> None:
    for name in NAMES:
        finish(lake, name)
    assert retiring(instance, lake) == NAMES[:4]


def test_a_drive_on_its_way_or_in_quarantine_stays(instance: dg.DagsterInstance, lake: Lake) -> None:
    finish(lake, NAMES[0], STAGES[:3])
    for name in NAMES[1:4]:
        finish(lake, name)
    quarantine.put(lake, NAMES[2], "synced_shards", LogError("bad", code="bad"), run_id="r", now_ns=1)
    assert retiring(instance, lake) == [NAMES[1], NAMES[3]]


def test_within_the_bound_nobody_retires(instance: dg.DagsterInstance, lake: Lake) -> None:
    for name in NAMES:
        finish(lake, name)
    for name in NAMES[:4]:
        instance.delete_dynamic_partition("drive", name)
    assert retiring(instance, lake) == []


def test_an_archived_drive_is_still_in_the_lake(instance: dg.DagsterInstance, lake: Lake) -> None:
    finish(lake, NAMES[0])
    instance.delete_dynamic_partition("drive", NAMES[0])
    assert lake.partitions("raw_logs") == [NAMES[0]]
