"""When a golden dataset is frozen: name the release that will learn from it."""

import dagster as dg

from partitions.releases import release_id, releases
from resources.environment import environment


@dg.asset_sensor(
    asset_key=dg.AssetKey("golden_slices"),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def frozen_datasets(context: dg.SensorEvaluationContext, asset_event: dg.EventLogEntry) -> dg.SensorResult:
    """Adds a release per week and content; declarative automation makes the rest."""
    event = asset_event.asset_materialization
    content = dg.DataVersion((event.tags or {})["dagster/data_version"]).value if event else ""
    release = release_id(str(event.partition), content) if event else ""
    known = context.instance.has_dynamic_partition(releases.name or "", release)
    return dg.SensorResult(
        dynamic_partitions_requests=[] if known or not release else [releases.build_add_request([release])]
    )
