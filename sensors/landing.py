"""When a drive arrives: register its partition and start its first run.

The landing area itself says what is new; the cursor only remembers how each folder looked when it was last started, so
that a folder which changes is looked at again and one which does not is left alone.
"""

import json
import time

import dagster as dg

from av_assets.domain.errors import LandingError
from av_assets.policies.landing import LandingPolicy
from partitions.drives import drives
from resources import quarantine
from resources.environment import environment
from resources.lake import Lake
from resources.landing import LandedFolder, Landing

BATCH = 20
FIRST_ASSETS = ("raw_logs",)


@dg.sensor(
    asset_selection=dg.AssetSelection.assets(*FIRST_ASSETS)
    | dg.AssetSelection.checks_for_assets(*(dg.AssetKey(a) for a in FIRST_ASSETS)),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def landed_drives(
    context: dg.SensorEvaluationContext, landing: Landing, lake: Lake
) -> dg.SensorResult | dg.SkipReason:
    """Starts raw_logs for every complete drive folder that is new or has changed."""
    started: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
    policy = LandingPolicy.load()
    todo, seen = [], {}
    for folder in landing.folders(time.time()):
        if started.get(folder.name) == folder.fingerprint or _refused(
            lake, landing, folder, policy, context.instance
        ):
            seen[folder.name] = folder.fingerprint
        elif folder.complete:
            todo.append(folder)
        # a folder that still grows is looked at again next time
    batch = todo[:BATCH]
    if not batch and seen == started:
        return dg.SkipReason("no new drive has landed")
    fresh = {f.name for f in batch} - set(context.instance.get_dynamic_partitions(drives.name or ""))
    return dg.SensorResult(
        dynamic_partitions_requests=[drives.build_add_request(sorted(fresh))] if fresh else [],
        run_requests=[
            dg.RunRequest(partition_key=f.name, run_key=f"{f.name}:{f.fingerprint}", tags={"drive": f.name})
            for f in batch
        ],
        cursor=json.dumps(seen | {f.name: f.fingerprint for f in batch}, sort_keys=True),
    )


def _refused(
    lake: Lake, landing: Landing, folder: LandedFolder, policy: LandingPolicy, instance: dg.DagsterInstance
) -> bool:
    """Quarantine what can never become a partition, or has been waiting for its marker for too long."""
    from av_assets.production import completeness

    error = landing.problem(folder)
    if error is None and not folder.complete and folder.quiet_s > policy.marker_timeout_s:
        error = LandingError(
            f"no completion marker, and nothing has changed for {policy.marker_timeout_s:.0f} s",
            code="missing_marker",
            file=folder.path,
            drive=folder.name,
            remedy="finish the copy, then put the empty file COMPLETE beside it",
        )
    if error is None:
        return False
    name = folder.name if landing.problem(folder) is None else landing.row_name(folder)
    quarantine.put(lake, name, "landing", error, run_id="", now_ns=time.time_ns())
    instance.report_runless_asset_event(completeness(lake))
    return True
