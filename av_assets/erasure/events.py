"""What Dagster remembers of erased drives: events show pictures and rows, and SQLite keeps what is deleted.

Of a run that had the drive stay the steps of its life (started, succeeded) with the drive's id, which is a pseudonym.
What events say otherwise goes: metadata, log lines, check results. Dagster has no call for this on its own storages, so
that its tables are named here; they are those of dagster 1.x (`event_logs`, `asset_keys`, `asset_check_executions`).
Belongs here: Dagster's storages. Does not belong here: which drives and bundles.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import sqlalchemy as db
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)

from av_assets.domain.erasure.naming import names_of
from av_assets.domain.errors import AvError, TransientError
from partitions.drives import drives as drive_partitions
from partitions.drives import keys_of_run

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

PARTITIONS = drive_partitions.name or "drive"
_LIFE = ("PIPELINE_", "RUN_", "STEP_START", "STEP_SUCCESS", "STEP_SKIPPED", "ASSET_MATERIALIZATION_PLANNED",
         "ASSET_CHECK_EVALUATION_PLANNED")  # fmt: skip
_BATCH = 500
_OVER = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_EVENTS = SqlEventLogStorageTable.c


@dataclass(frozen=True)
class Forgotten:
    """What is forgotten: the drives, and the partitions of other assets that showed them.

    Attributes:
        bundles: asset -> its partitions whose events go; `all` stands for an asset without partitions.
    """

    drives: AbstractSet[str]
    bundles: Mapping[str, AbstractSet[str]]

    @cached_property
    def _said(self) -> re.Pattern[str]:
        return names_of(self.drives)

    def shows(self, asset: str | None, partition: str | None, event: str) -> bool:
        """Whether an event of a run shows a drive."""
        if partition in self.drives or self._said.search(event):
            return True
        return (partition or "all") in self.bundles.get(_name(asset), ())


def busy(instance: dg.DagsterInstance, forgotten: Forgotten) -> list[str]:
    """Runs that are not over and may have one of the drives, or an asset that contains them; their ids."""
    keys = list(instance.get_dynamic_partitions(PARTITIONS))
    going = [s for s in dg.DagsterRunStatus if s not in _OVER]
    found = []
    for run in instance.get_runs(dg.RunsFilter(statuses=going)):
        had = set(keys_of_run(run.tags, keys))
        assets = {key.path[-1] for key in run.asset_selection or ()}
        if had & forgotten.drives or (assets & forgotten.bundles.keys()) or not (had or assets):
            found.append(run.run_id)
    return found


def oldest_going(instance: dg.DagsterInstance) -> float | None:
    """When the oldest run that is not over was created, in seconds since the epoch; None where none is going on."""
    going = [s for s in dg.DagsterRunStatus if s not in _OVER]
    records = instance.get_run_records(dg.RunsFilter(statuses=going))
    return min((record.create_timestamp.timestamp() for record in records), default=None)


def count(instance: dg.DagsterInstance, forgotten: Forgotten) -> int:
    """Entries of the central log that show the drives."""
    with _index(instance) as connection:
        return sum(1 for _ in _doomed(connection, forgotten, None))


def forget(instance: dg.DagsterInstance, forgotten: Forgotten) -> None:
    """Remove the events, from each run's log and the central one, and the drives from the partition set.

    Raises:
        TransientError: event_log_busy. AvError: unknown_event_log, the storage is none of SQL.
    """
    _require_sql(instance)
    try:
        for run in _runs(instance, forgotten):
            with instance.event_log_storage.run_connection(run) as connection:  # type: ignore[attr-defined]
                _delete_events(connection, forgotten, run)
            _drop_printed(instance, run)
        with _index(instance) as connection:
            _delete_events(connection, forgotten, None)
        _clean_assets(instance, forgotten)
    except db.exc.OperationalError as error:
        raise TransientError("the event log is busy", code="event_log_busy") from error
    for drive in sorted(forgotten.drives):
        if instance.has_dynamic_partition(PARTITIONS, drive):
            instance.delete_dynamic_partition(PARTITIONS, drive)
    _squeeze(instance, forgotten)


def _runs(instance: dg.DagsterInstance, forgotten: Forgotten) -> list[str]:
    """Runs whose own log may show a drive: by the central log, and by their tags."""
    with _index(instance) as connection:
        said = {run for _, run in _doomed(connection, forgotten, None) if run}
    tagged = [{"dagster/partition": drive} for drive in forgotten.drives]
    tagged += [{"drive": drive} for drive in forgotten.drives]
    for tags in tagged:
        said |= {run.run_id for run in instance.get_runs(dg.RunsFilter(tags=tags))}
    known = {run.run_id for run in instance.get_runs(dg.RunsFilter(run_ids=sorted(said)))} if said else set()
    return sorted(known)


def _doomed(connection: Any, forgotten: Forgotten, run: str | None) -> Iterator[tuple[int, str]]:
    """(id, run) of each event that goes, read in batches."""
    last = 0
    while True:
        query = (
            db.select(_EVENTS.id, _EVENTS.run_id, _EVENTS.dagster_event_type, _EVENTS.asset_key,
                      _EVENTS.partition, _EVENTS.event)
            .where(_EVENTS.id > last)
            .order_by(_EVENTS.id)
            .limit(_BATCH)
        )  # fmt: skip
        rows = connection.execute(query if run is None else query.where(_EVENTS.run_id == run)).fetchall()
        if not rows:
            return
        for row in rows:
            last = row[0]
            if not (row[2] or "").startswith(_LIFE) and _goes(forgotten, run, row):
                yield row[0], row[1]


def _goes(forgotten: Forgotten, run: str | None, row: Any) -> bool:
    """In the log of a run that had a drive, what is not certainly another one's goes: log lines name no drive."""
    if forgotten.shows(row[3], row[4], row[5]):
        return True
    return run is not None and row[4] is None and row[3] is None


def _delete_events(connection: Any, forgotten: Forgotten, run: str | None) -> None:
    ids = [number for number, _ in _doomed(connection, forgotten, run)]
    for first in range(0, len(ids), _BATCH):
        chosen = ids[first : first + _BATCH]
        if run is None:
            tags = AssetEventTagsTable
            connection.execute(tags.delete().where(tags.c.event_id.in_(chosen)))
        connection.execute(SqlEventLogStorageTable.delete().where(_EVENTS.id.in_(chosen)))


def _clean_assets(instance: dg.DagsterInstance, forgotten: Forgotten) -> None:
    """The last event of each asset is kept a second time, and so are check results."""
    keys, checks = AssetKeyTable, AssetCheckExecutionsTable
    bare = []
    with _index(instance) as connection:
        for number, asset, last in connection.execute(
            db.select(keys.c.id, keys.c.asset_key, keys.c.last_materialization)
        ).fetchall():
            if not last or not forgotten.shows(asset, _partition_in(last), last):
                continue
            newest = _newest_of(connection, asset)
            bare += [] if newest else [asset]
            values = {"last_materialization": newest, "cached_status_data": None}
            connection.execute(keys.update().values(**values).where(keys.c.id == number))
        said = db.select(checks.c.id, checks.c.asset_key, checks.c.evaluation_event)
        rows = connection.execute(said.where(checks.c.evaluation_event.isnot(None))).fetchall()
        gone = [row[0] for row in rows if forgotten.shows(row[1], _partition_in(row[2]), row[2])]
        for first in range(0, len(gone), _BATCH):
            connection.execute(checks.delete().where(checks.c.id.in_(gone[first : first + _BATCH])))
    for asset in bare:
        instance.event_log_storage.wipe_asset(dg.AssetKey.from_db_string(asset))  # type: ignore[arg-type]


def _newest_of(connection: Any, asset: str) -> str | None:
    """The newest materialization that is left, as the table of assets keeps it."""
    from dagster._core.event_api import EventLogRecord
    from dagster._serdes import deserialize_value, serialize_value

    query = db.select(_EVENTS.id, _EVENTS.event).where(
        _EVENTS.asset_key == asset, _EVENTS.dagster_event_type == "ASSET_MATERIALIZATION"
    )
    row = connection.execute(query.order_by(_EVENTS.id.desc()).limit(1)).fetchone()
    if row is None:
        return None
    entry = deserialize_value(row[1], dg.EventLogEntry)
    return serialize_value(EventLogRecord(storage_id=row[0], event_log_entry=entry))


def _partition_in(event: str) -> str | None:
    """The partition that a stored event is about; None where it says none."""
    from dagster._core.event_api import EventLogRecord
    from dagster._serdes import deserialize_value

    try:
        found: Any = deserialize_value(event)
        entry = found.event_log_entry if isinstance(found, EventLogRecord) else found
        event_of: Any = entry.dagster_event
        return str(event_of.partition) if event_of.partition else None
    except Exception:  # noqa: BLE001 - an event that an older release wrote is judged by its text alone
        return None


def _drop_printed(instance: dg.DagsterInstance, run: str) -> None:
    """What the run's processes printed, where that lies in a folder; elsewhere the store's own rules hold."""
    base = getattr(instance.compute_log_manager, "_base_dir", None)
    folder = Path(base) / run if base else None
    if folder is not None and folder.is_dir():
        shutil.rmtree(folder)


def _squeeze(instance: dg.DagsterInstance, forgotten: Forgotten) -> None:
    """Free pages of SQLite and its write-ahead logs still hold what was deleted; other databases do this themselves."""
    folder = getattr(instance.event_log_storage, "_base_dir", None)
    for file in sorted(Path(folder).glob("*.db")) if folder else ():
        engine = db.create_engine(f"sqlite:///{file}", connect_args={"timeout": 60})
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                if connection.execute(db.text("PRAGMA freelist_count")).scalar() or _has_log(file):
                    connection.execute(db.text("VACUUM"))
                    connection.execute(db.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        except db.exc.OperationalError as error:
            raise TransientError("the event log is busy", code="event_log_busy", file=file) from error
        finally:
            engine.dispose()


def _has_log(file: Path) -> bool:
    log = file.with_name(f"{file.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _require_sql(instance: dg.DagsterInstance) -> None:
    if not hasattr(instance.event_log_storage, "run_connection"):
        raise AvError(
            "the event log is none that this release knows how to clean",
            code="unknown_event_log",
            remedy="use SQLite, PostgreSQL or MySQL, or wipe the assets by hand",
        )


def _index(instance: dg.DagsterInstance) -> Any:
    return instance.event_log_storage.index_connection()  # type: ignore[attr-defined]


def _name(asset: str | None) -> str:
    key = dg.AssetKey.from_db_string(asset) if asset else None
    return key.path[-1] if key else ""


def bundles_of(names: Sequence[str]) -> dict[str, set[str]]:
    """`<asset>/<partition>` names as asset -> partitions."""
    found: dict[str, set[str]] = {}
    for name in names:
        asset, _, partition = name.partition("/")
        found.setdefault(asset, set()).add(partition)
    return found
