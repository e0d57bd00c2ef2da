"""When a drive retires from automation: a partition set that only grows makes every look of the daemon longer.

An archived drive keeps its bundles, its rows and its lineage; `av backfill` brings it back. Archived is what the lake
holds and the partition set does not: there is no list to go stale.
"""

from __future__ import annotations

from itertools import islice

import dagster as dg

from av_assets.drives import STAGES
from av_assets.policies.landing import LandingPolicy
from partitions.drives import drives
from resources import quarantine
from resources.lake import Lake

BATCH = 500
INTERVAL_S = 3600


@dg.sensor(minimum_interval_seconds=INTERVAL_S, default_status=dg.DefaultSensorStatus.RUNNING)
def old_drives(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Takes the oldest finished drives beyond the bound of the landing policy out of the partition set."""
    keys = list(context.instance.get_dynamic_partitions(drives.name or ""))  # in order of registration
    surplus = len(keys) - LandingPolicy.load().max_live_drives
    if surplus <= 0:
        return dg.SkipReason(f"{len(keys)} live drives: within the bound")
    held = {row["drive"] for row in quarantine.listing(lake)}
    finished = (key for key in keys if key not in held and _is_finished(lake, key))
    retiring = list(islice(finished, min(surplus, BATCH)))
    if not retiring:
        return dg.SkipReason(f"{surplus} drives beyond the bound, none of them finished")
    context.log.info(
        f"{len(retiring)} finished drives leave the partition set; {surplus} were beyond the bound"
    )
    return dg.SensorResult(dynamic_partitions_requests=[drives.build_delete_request(retiring)])


def _is_finished(lake: Lake, drive: str) -> bool:
    return all(lake.manifest(asset, drive) is not None for asset in STAGES)
