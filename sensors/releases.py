"""From frozen datasets to candidate models.

Belongs here: when a release is named. Does not belong here: what makes it (declarative automation).
"""

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from partitions.releases import release_id, releases
from resources.environment import environment

DATASETS = dg.AssetKey("golden_slices")
EVENTS = 200
"""Materializations that one tick looks at; the next goes on where it stopped."""


@dg.sensor(
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def frozen_datasets(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Adds a release per week and content; declarative automation makes the rest.

    An asset sensor would see only the newest of several datasets that were frozen between two ticks.
    """
    since = dg.AssetRecordsFilter(asset_key=DATASETS, after_storage_id=int(context.cursor or 0))
    records = context.instance.fetch_materializations(since, limit=EVENTS, ascending=True).records
    contents = [
        (record.partition_key, (event.tags or {}).get(DATA_VERSION_TAG))
        for record in records
        if (event := record.asset_materialization) is not None
    ]
    named = dict.fromkeys(release_id(week, content) for week, content in contents if week and content)
    new = [name for name in named if not context.instance.has_dynamic_partition(releases.name or "", name)]
    return dg.SensorResult(
        dynamic_partitions_requests=[releases.build_add_request(new)] if new else [],
        cursor=str(records[-1].storage_id) if records else context.cursor,
    )
