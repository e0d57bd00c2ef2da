"""What Dagster showed of a drive is gone from its files; what it showed of others is there."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as db

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
        _fill(made)
        yield made


def _fill(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("drive", list(NAMES))
    for name in NAMES:
        assert dg.materialize([shown], partition_key=name, instance=instance).success
    assert dg.materialize([fleet], instance=instance).success


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The address of a database of a server of its own."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not installed:
        pytest.skip("PostgreSQL is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    who: dict[str, str] = {}
    if os.geteuid() == 0:  # it does not run as root
        shutil.chown(folder, "postgres")
        who = {"user": "postgres", "group": "postgres"}
    said = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"

    def control(*arguments: str) -> None:
        command = [str(installed[-1]), "-D", str(folder / "data"), "-s", "-w", *arguments]
        subprocess.run(command, check=True, cwd=folder, timeout=60, **who)  # type: ignore[call-overload]

    try:
        control("initdb", "-o", "-U av -A trust -E UTF8 --no-sync")
        control("-l", str(folder / "log"), "-o", said, "start")
        try:
            yield f"postgresql+psycopg2://av@127.0.0.1:{port}/postgres"
        finally:
            control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


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


def test_events_of_a_drive_leave_every_table_of_postgresql(postgres: str, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{postgres}'}}}}")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        _fill(instance)
        assert mark("veh1-a").decode() in _rows(postgres)
        forgotten = Forgotten(frozenset({"veh1-a"}), {"fleet": {"all"}})
        events.forget(instance, forgotten)
        assert mark("veh1-a").decode() not in _rows(postgres)
        assert mark("veh1-ab").decode() in _rows(postgres)
        assert events.count(instance, forgotten) == 0
        assert instance.get_materialized_partitions(dg.AssetKey("shown")) == {"veh1-ab"}
        assert instance.get_latest_materialization_event(dg.AssetKey("fleet")) is None
        events.forget(instance, forgotten)


def _rows(postgres: str) -> str:
    """All rows of all tables, as text."""
    engine = db.create_engine(postgres)
    try:
        with engine.connect() as connection:
            names = db.inspect(engine).get_table_names()
            return "".join(str(connection.execute(db.text(f'SELECT * FROM "{n}"')).fetchall()) for n in names)
    finally:
        engine.dispose()


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
