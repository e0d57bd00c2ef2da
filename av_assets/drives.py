"""Where each drive stands, read from the lake, the quarantine and Dagster's runs.

Belongs here: the state of drives and of the chain they pass. Does not belong here: printing it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg

from partitions.drives import drives, keys_of_run
from resources import quarantine
from resources.lake import Lake
from resources.landing import Landing

STAGES = (
    "raw_logs",
    "log_reports",
    "redacted_clips",
    "synced_shards",
    "drive_catalog",
    "enriched_clips",
    "event_windows",
    "clip_embeddings",
    "auto_labels",
    "scenes",
    "label_tasks",
    "label_submissions",
    "verified_labels",
)
RUNS_LOOKED_AT = 1000
_GOING_ON = {
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
}


@dataclass(frozen=True)
class DriveState:
    """One drive: complete, running, quarantined, failed or pending, and which stages are done.

    Attributes:
        stages: asset -> "done", "missing", or the note of a bundle that is there but says why it is empty.
    """

    id: str
    state: str
    reason: str
    stages: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def drive_states(
    instance: dg.DagsterInstance, lake: Lake, landing: Landing, only: str | None = None
) -> list[DriveState]:
    """The state of every drive that was landed or ingested, sorted by id."""
    keys = list(instance.get_dynamic_partitions(drives.name or ""))
    rows = {row["drive"]: row for row in quarantine.listing(lake)}
    folders = {a.name: a for a in landing.arrivals(time.time()) if landing.problem(a) is None}
    names = sorted({only} if only else {*keys, *rows, *folders})
    done = {asset: set(lake.partitions(asset)) for asset in STAGES}
    runs = _latest_runs(instance, keys)
    found = []
    for name in names:
        stages = {a: _stage(lake, a, name) if name in done[a] else "missing" for a in STAGES}
        state, reason = _judge(stages, rows.get(name), runs.get(name), folders.get(name))
        if only is None or name in {*keys, *rows, *folders}:
            found.append(DriveState(name, state, reason, stages))
    return found


def _stage(lake: Lake, asset: str, drive: str) -> str:
    manifest = lake.manifest(asset, drive)
    return (manifest.note or "done") if manifest else "missing"


def _judge(
    stages: Mapping[str, str], row: Mapping[str, Any] | None, run: dg.DagsterRun | None, folder: Any
) -> tuple[str, str]:
    if row is not None:
        where = f" ({row['file']})" if row["file"] else ""
        return "quarantined", f"{row['code']}: {row['reason']}{where}"
    if run is not None and run.status in _GOING_ON:
        return "running", f"run {run.run_id[:8]}"
    missing = [asset for asset, state in stages.items() if state == "missing"]
    if not missing:
        return "complete", "; ".join(sorted({s for s in stages.values() if s != "done"}))
    if run is not None and run.status == dg.DagsterRunStatus.FAILURE:
        return "failed", f"run {run.run_id[:8]} failed before {missing[0]}"
    if folder is not None and not folder.complete:
        return "pending", "waits for its completion marker"
    return "pending", f"waits for {missing[0]}"


def _latest_runs(instance: dg.DagsterInstance, keys: list[str]) -> dict[str, dg.DagsterRun]:
    """drive -> the newest run that had it, going on before finished."""
    latest: dict[str, dg.DagsterRun] = {}
    for run in instance.get_runs(limit=RUNS_LOOKED_AT):  # newest first
        for key in keys_of_run(run.tags, keys):
            if key not in latest or (run.status in _GOING_ON and latest[key].status not in _GOING_ON):
                latest[key] = run
    return latest
