"""A fleet of 50,000 drives: what a look of the sensors, a query and a backfill cost when that many are registered.

Every drive has all its materializations, so that automation has everything to compare and nothing to ask for. They
are written straight into Dagster's event log, copied from one that Dagster wrote itself: reporting half a million
one by one would take an hour. `fleet` takes minutes.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, Say, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

    from resources.lake import Lake
    from resources.landing import Landing

DRIVES = 50_000
REPEATS = 3
FIRST = "veh000-20260101t000000z"
TARGETS_S = {"landing tick": 30.0, "automation tick": 60.0, "catalog query": 0.5, "backfill": 5.0}


def run(settings: Settings, say: Say) -> list[Figure]:
    """`fleet.*`: seconds of one look of the landing sensor and of automation, a query, and a backfill of all."""
    import dagster as dg

    from resources.lake import Lake
    from resources.landing import Landing

    names = [FIRST] + [f"veh{i % 500:03d}-2026{i:06d}t000000z" for i in range(1, DRIVES)]
    home = settings.work
    (home / "dagster").mkdir()
    lake = Lake(uri=(home / "lake").as_uri(), scratch=str(home / "scratch"))
    landing = Landing(path=str(home / "landing"))
    say(f"landing {DRIVES:,} drives")
    _land(home / "landing", names)
    _note_ingested(lake, landing)
    with dg.DagsterInstance.local_temp(str(home / "dagster")) as instance:
        say("registering them")
        instance.add_dynamic_partitions("drive", names)
        _materialize_all(instance, home / "dagster", names)
        times = settings.times(REPEATS)
        automation = _automation(instance)
        say("first look of automation")
        first_s = _timed(automation, 1)
        measured = {
            "landing tick": _timed(lambda: _landing_tick(instance, lake, landing), times),
            "automation tick": _timed(automation, times),
            "catalog query": _timed(lambda: _query(lake), 5 * times),
            "backfill": _timed(lambda: _backfill(instance, names), times),
        }
    note = {"automation tick": f"idle; the first look after everything changed took {first_s[0]:.1f} s"}
    return [
        Figure(
            f"fleet.{name.replace(' ', '_')}",
            f"{name} with {DRIVES:,} drives",
            median(values),
            "s",
            TARGETS_S[name],
            {"av_assets": values},
            note=note.get(name, ""),
        )
        for name, values in measured.items()
    ]


def _timed(work: Callable[[], Any], repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def _land(root: Path, names: list[str]) -> None:
    for name in names:
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "drive.mcap").write_bytes(b"x")
        (folder / "COMPLETE").touch()


def _note_ingested(lake: Lake, landing: Landing) -> None:
    """Rows of the ingestion log and of the catalog, in the one commit that a compacted table is."""
    import pyarrow as pa
    from deltalake import write_deltalake

    rows = [
        {
            "drive": a.name, "source": "", "fingerprint": a.fingerprint, "landed_ns": 1, "ingested_ns": 2,
            "queryable_ns": 3, "files": 1, "bytes": 1, "saved_bytes": 0, "saved_files": 0, "resumed_files": 0,
            "content": "0" * 64,
        }
        for a in landing.arrivals(time.time())
    ]  # fmt: skip
    write_deltalake(lake.tables.path("ingestions"), pa.Table.from_pylist(rows))
    catalog = [
        {
            "drive": row["drive"],
            "vehicle": row["drive"][:6],
            "light": ("day", "night")[i % 2],
            "distance_m": float(i),
        }
        for i, row in enumerate(rows)
    ]
    write_deltalake(lake.tables.path("drives"), pa.Table.from_pylist(catalog))


def _materialize_all(instance: dg.DagsterInstance, home: Path, names: list[str]) -> None:
    """One materialization of every per-drive asset for every drive, copied in the event log from the first drive's."""
    import dagster as dg

    from av_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    for key in sorted(graph.materializable_asset_keys):
        partitions = graph.get(key).partitions_def
        tags = {"dagster/data_version": "1" * 64}
        if partitions is None:
            instance.report_runless_asset_event(dg.AssetMaterialization(key, tags=tags))
        elif isinstance(partitions, dg.DynamicPartitionsDefinition) and partitions.name == "drive":
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=FIRST, tags=tags))
    database = next(home.rglob("index.db"))
    with sqlite3.connect(database) as connection:
        _copy_events(connection, names[1:])


def _copy_events(connection: sqlite3.Connection, names: list[str]) -> None:
    columns = [row[1] for row in connection.execute("PRAGMA table_info(event_logs)") if row[1] != "id"]
    listed = ", ".join(columns)
    templates = connection.execute(
        f"SELECT id, {listed} FROM event_logs WHERE partition = ?", (FIRST,)
    ).fetchall()
    number = connection.execute("SELECT max(id) FROM event_logs").fetchone()[0]
    holes = ", ".join("?" * (len(columns) + 1))
    tags = connection.execute(
        "SELECT event_id, asset_key, key, value, event_timestamp FROM asset_event_tags"
    ).fetchall()
    for source, *values in templates:
        event, partition = columns.index("event"), columns.index("partition")
        mine = [row[1:] for row in tags if row[0] == source]
        rows, tag_rows = [], []
        for name in names:
            number += 1
            copy = list(values)
            copy[event] = values[event].replace(json.dumps(FIRST), json.dumps(name))
            copy[partition] = name
            rows.append([number, *copy])
            tag_rows += [(number, *tag) for tag in mine]
        connection.executemany(f"INSERT INTO event_logs (id, {listed}) VALUES ({holes})", rows)
        connection.executemany(
            "INSERT INTO asset_event_tags (event_id, asset_key, key, value, event_timestamp) VALUES (?, ?, ?, ?, ?)",
            tag_rows,
        )


def _landing_tick(instance: dg.DagsterInstance, lake: Lake, landing: Landing) -> None:
    import dagster as dg

    from sensors.landing import landed_drives

    context = dg.build_sensor_context(instance=instance, resources={"landing": landing, "lake": lake})
    found = landed_drives(context)
    assert isinstance(found, dg.SkipReason), found


def _automation(instance: dg.DagsterInstance) -> Callable[[], Any]:
    """One look of the sensor `drive_automation`, as the daemon does it; each goes on from the one before."""
    import dagster as dg
    from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
    from dagster._core.definitions.automation_tick_evaluation_context import AutomationTickEvaluationContext

    from av_assets.definitions import defs
    from sensors.automation import PER_DRIVE

    graph = defs.resolve_asset_graph()
    held = [AssetDaemonCursor.empty()]

    def look() -> None:
        context = AutomationTickEvaluationContext(
            evaluation_id=held[0].evaluation_id + 1,
            instance=instance,
            asset_graph=graph,
            cursor=held[0],
            materialize_run_tags={},
            observe_run_tags={},
            auto_observe_asset_keys=set(),
            asset_selection=dg.AssetSelection.assets(*PER_DRIVE),
            logger=logging.getLogger("benchmarks.fleet"),
            emit_backfills=False,
        )
        requests, held[0], _ = context.evaluate()
        assert len(requests) < DRIVES, "automation asks for what is there"

    return look


def _query(lake: Lake) -> None:
    connection = lake.tables.connect("drives")
    rows = connection.sql(
        "SELECT vehicle, light, count(*), sum(distance_m) FROM drives GROUP BY ALL ORDER BY 4 DESC LIMIT 20"
    ).fetchall()
    assert len(rows) == 20
    connection.close()


def _backfill(instance: dg.DagsterInstance, names: list[str]) -> None:
    from av_assets.drives import STAGES
    from av_assets.platform import submit_backfill

    submit_backfill(instance, STAGES, names, "the whole fleet")
