"""What Dagster showed of a drive is gone from its files; what it showed of others is there."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from av_assets.domain.errors import TransientError
from av_assets.erasure import events
from av_assets.erasure.events import Forgotten
from av_assets.erasure.execution import execute, make_plan
from av_assets.erasure.extent import Installation
from partitions.drives import drives
from resources import tombstones
from resources.lake import Lake
from tests.resources.erasure_lakes import add_drive, asking, installation, mark, publish

NAMES = ("veh1-a", "veh1-ab")


@dg.asset(partitions_def=drives)
def shown(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    said = mark(context.partition_key).decode()
    context.log.info(f"a line about {said}")
    return dg.MaterializeResult(metadata={"picture": said * 100})


@dg.asset
def fleet(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"picture": "".join(mark(name).decode() for name in NAMES)})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        made.add_dynamic_partitions("drive", list(NAMES))
        for name in NAMES:
            assert dg.materialize([shown], partition_key=name, instance=made).success
        assert dg.materialize([fleet], instance=made).success
        yield made


def _bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_events_of_a_drive_leave_the_files_of_sqlite(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    folder = tmp_path / "dagster"
    assert mark("veh1-a") in _bytes(folder)
    forgotten = Forgotten(frozenset({"veh1-a"}), {"fleet": {"all"}})
    assert events.count(instance, forgotten) > 0
    events.forget(instance, forgotten)
    assert mark("veh1-a") not in _bytes(folder)
    assert mark("veh1-ab") in _bytes(folder)
    assert events.count(instance, forgotten) == 0
    assert instance.get_dynamic_partitions("drive") == ["veh1-ab"]
    assert instance.get_materialized_partitions(dg.AssetKey("shown")) == {"veh1-ab"}
    left = instance.get_latest_materialization_event(dg.AssetKey("shown"))
    assert left is not None
    assert left.asset_materialization.partition == "veh1-ab"  # type: ignore[union-attr]
    assert instance.get_latest_materialization_event(dg.AssetKey("fleet")) is None
    events.forget(instance, forgotten)


def test_a_run_that_has_the_drive_keeps_it_from_being_erased(
    instance: dg.DagsterInstance, folder_lake: Lake, tmp_path: Path
) -> None:
    labels = [add_drive(folder_lake, tmp_path, name) for name in NAMES]
    publish(folder_lake, "fleet", "all", {"sheet.png": b"of both"}, *labels)
    made = installation(folder_lake, tmp_path)
    place = Installation(folder_lake, made.policy, made.places, instance)
    run = instance.create_run_for_job(
        dg.Definitions(assets=[shown]).resolve_implicit_global_asset_job_def(),
        tags={"dagster/partition": "veh1-a"},
        status=dg.DagsterRunStatus.STARTED,
    )
    plan = make_plan(place, asking("veh1-a"), 1)
    with pytest.raises(TransientError) as error:
        execute(place, plan.id, 2)
    assert error.value.code == "drive_is_busy"
    assert tombstones.listing(folder_lake) == set()
    assert folder_lake.verify(folder_lake.require("raw_logs", "veh1-a")) == []
    instance.report_run_canceled(run)
    receipt = execute(place, plan.id, 3)
    assert receipt.drives == ("veh1-a",)
    assert receipt.removed["events"] > 0
    assert mark("veh1-a") not in _bytes(tmp_path / "dagster")
