"""An instance, a cursor and a toy chain: what the stories of the conditions are told with.

Belongs here: setting a scene and looking. Does not belong here: what should be seen.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_TAG
from dagster._core.events import DagsterEvent, StepMaterializationData

from partitions.drives import drives
from sensors.conditions import on_changed_content

CHAIN = ("clips", "shards", "vectors")
ONE, TWO = "veh001-a", "veh001-b"


def chain(clips: str = "1", shards: str = "1", vectors: str = "1", content: str = "v1") -> dg.Definitions:
    """logs (landed from outside) -> clips -> shards -> vectors, every asset giving `content` as its data version."""

    @dg.asset(partitions_def=drives)
    def logs() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion(content))

    def link(name: str, upstream: str, code_version: str) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            partitions_def=drives,
            deps=[upstream],
            code_version=code_version,
            automation_condition=on_changed_content,
        )
        def made() -> dg.MaterializeResult:
            return dg.MaterializeResult(data_version=dg.DataVersion(content))

        return made

    links = [
        link("clips", "logs", clips),
        link("shards", "clips", shards),
        link("vectors", "shards", vectors),
    ]
    return dg.Definitions(assets=[logs, *links])


class Story:
    """An instance and a cursor; each `look` is one tick of the daemon."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: Any = None
        self.now = datetime(2026, 3, 4, 12, 0)

    def look(self, defs: dg.Definitions) -> set[tuple[str, str | None]]:
        """What the tick requests, as (asset, partition)."""
        self.now += timedelta(seconds=30)
        result = dg.evaluate_automation_conditions(
            defs, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        graph = defs.resolve_asset_graph()
        return {
            (key.to_user_string(), partition)
            for key in graph.get_all_asset_keys()
            for partition in _requested(result, key, graph)
        }

    def land(self, *names: str, content: str = "v1") -> None:
        self.instance.add_dynamic_partitions("drive", list(names))
        for name in names:
            self.made("logs", name, content)

    def made(self, asset: str, drive: str | None, content: str, code: str = "1") -> None:
        tags = {DATA_VERSION_TAG: content, CODE_VERSION_TAG: code}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=drive, tags=tags))

    def checked(self, passed: bool) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(dg.AssetKey("drift"), "inputs_do_not_drift", passed, {})
        )


def _requested(result: Any, key: dg.AssetKey, graph: Any) -> set[str | None]:
    if graph.get(key).partitions_def is None:
        return {None} if result.get_num_requested(key) else set()
    return set(result.get_requested_partitions(key))


def whole(drive: str) -> set[tuple[str, str | None]]:
    return {(asset, drive) for asset in CHAIN}


def materialize(defs: dg.Definitions, story: Story, names: tuple[str, ...], drive: str | None) -> bool:
    job = defs.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in names]
    result = job.execute_in_process(
        instance=story.instance, asset_selection=keys, partition_key=drive, raise_on_error=False
    )
    return bool(result.success)


def start(story: Story, defs: dg.Definitions, drive: str) -> dg.DagsterRun:
    """A run of the chain that a launcher has taken and that has not finished: steps planned, nothing made."""
    return story.instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def(),
        asset_selection=frozenset(dg.AssetKey(name) for name in CHAIN),
        tags={"dagster/partition": drive},
        status=dg.DagsterRunStatus.STARTED,
    )


def make(story: Story, run: dg.DagsterRun, drive: str, *assets: str) -> None:
    """Materializations with the run's id on them."""
    for asset in assets:
        made = dg.AssetMaterialization(
            asset, partition=drive, tags={DATA_VERSION_TAG: "v1", CODE_VERSION_TAG: "1"}
        )
        event = DagsterEvent(
            "ASSET_MATERIALIZATION", run.job_name, event_specific_data=StepMaterializationData(made)
        )
        story.instance.report_dagster_event(event, run_id=run.run_id)


def end(story: Story, run: dg.DagsterRun, how: str = "PIPELINE_SUCCESS") -> None:
    story.instance.report_dagster_event(DagsterEvent(how, run.job_name), run_id=run.run_id)
