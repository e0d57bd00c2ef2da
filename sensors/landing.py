"""When a drive arrives: register its partition and start its first run.

What is new is derived from the catalogue at each look: a drive that lies in the landing area, complete, in a state that
the ingestion log does not know and that no run has dealt with. There is no cursor to lose; a run that vanished is asked
for again, and a partition without a bundle is found as well.
"""

import time
from collections.abc import Iterator

import dagster as dg

from av_assets.domain.errors import AvError, LandingError
from av_assets.policies.landing import LandingPolicy
from partitions.drives import drives
from resources import ingestions, quarantine, tombstones
from resources.environment import environment
from resources.lake import Lake
from resources.landing import Arrival, Landing

FIRST_ASSETS = ("raw_logs",)
FINGERPRINT = "landing/fingerprint"
_OVER = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


@dg.sensor(
    asset_selection=dg.AssetSelection.assets(*FIRST_ASSETS)
    | dg.AssetSelection.checks_for_assets(*(dg.AssetKey(a) for a in FIRST_ASSETS)),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def landed_drives(
    context: dg.SensorEvaluationContext, landing: Landing, lake: Lake
) -> dg.SensorResult | dg.SkipReason:
    """Starts raw_logs for every complete drive of the landing area that is new or has changed."""
    policy = LandingPolicy.load()
    requests = []
    for request in _due(context.instance, landing, lake, policy):
        requests.append(request)
        if len(requests) == policy.sensor_batch:
            break
    if not requests:
        return dg.SkipReason("no new drive has landed")
    known = set(context.instance.get_dynamic_partitions(drives.name or ""))
    fresh = sorted({request.partition_key or "" for request in requests} - known)
    return dg.SensorResult(
        dynamic_partitions_requests=[drives.build_add_request(fresh)] if fresh else [], run_requests=requests
    )


def _due(
    instance: dg.DagsterInstance, landing: Landing, lake: Lake, policy: LandingPolicy
) -> Iterator[dg.RunRequest]:
    """A request for each arrival whose state nobody has dealt with."""
    ingested = {drive: row.fingerprint for drive, row in ingestions.listing(lake).items()}
    held = {row["drive"]: row for row in quarantine.listing(lake)}
    erased = tombstones.listing(lake)
    for arrival in landing.arrivals(time.time()):
        error = _problem(landing, arrival, policy)
        if error is None and arrival.name in erased:
            error = tombstones.refusal(arrival.name)
        if error is not None:
            name = arrival.name if landing.problem(arrival) is None else landing.row_name(arrival)
            if held.get(name, {}).get("code") != error.code:
                _refuse(lake, instance, name, error)
        elif arrival.complete and ingested.get(arrival.name) != arrival.fingerprint:
            attempts = _attempts(instance, arrival, policy.sensor_attempts)
            if attempts is not None:
                yield dg.RunRequest(
                    partition_key=arrival.name,
                    run_key=f"{arrival.name}:{arrival.fingerprint}:{attempts}",
                    tags={"drive": arrival.name, FINGERPRINT: arrival.fingerprint},
                )


def _attempts(instance: dg.DagsterInstance, arrival: Arrival, limit: int) -> int | None:
    """Runs that this state of the drive has had and that came to nothing; None where no more is due.

    A run that succeeded without a row in the ingestion log has put the drive into quarantine: only a change of the
    landed files helps. One that failed is tried again, up to the limit.
    """
    mine = dg.RunsFilter(tags={"drive": arrival.name, FINGERPRINT: arrival.fingerprint})
    statuses = [run.status for run in instance.get_runs(mine, limit=limit)]
    if len(statuses) >= limit or any(
        status not in _OVER or status == dg.DagsterRunStatus.SUCCESS for status in statuses
    ):
        return None
    return len(statuses)


def _problem(landing: Landing, arrival: Arrival, policy: LandingPolicy) -> AvError | None:
    """What can never become a partition, or has been waiting for its marker for too long."""
    error = landing.problem(arrival)
    if error is None and not arrival.complete and arrival.quiet_s > policy.marker_timeout_s:
        return LandingError(
            f"no completion marker, and nothing has changed for {policy.marker_timeout_s:.0f} s",
            code="missing_marker",
            file=arrival.where,
            drive=arrival.name,
            remedy="finish the copy, then put the empty file COMPLETE beside it",
        )
    return error


def _refuse(lake: Lake, instance: dg.DagsterInstance, name: str, error: AvError) -> None:
    from av_assets.setting_aside import completeness

    quarantine.put(lake, name, "landing", error, run_id="", now_ns=time.time_ns())
    instance.report_runless_asset_event(completeness(lake))
