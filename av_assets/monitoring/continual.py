"""Workflow 26: an alarm becomes one request to learn again, with its evidence."""

import json
import time

import dagster as dg

from av_assets.monitoring.drift import drift_reports
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from partitions.calendar import days
from resources.compute import LIGHT
from resources.lake import Lake
from sensors.conditions import on_failed_drift_check


@dg.asset(
    partitions_def=days,
    deps=[drift_reports],
    automation_condition=on_failed_drift_check,
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"json"},
)
def retraining_requests(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 26 of 36: takes drift_reports whose check failed, gives a request that names features and drives."""
    started, day = time.time_ns(), context.partition_key
    report = lake.require("drift_reports", day)
    made_from = lineage([report], code_version(context), [])
    made = produce(lake, "retraining_requests", day, made_from, {"drift_reports": report}, _request)
    request = json.loads(lake.read_bytes(made.manifest, "request.json"))
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | {"request": dg.MetadataValue.json(request)},
        data_version=dg.DataVersion(made.manifest.content),
    )


def _request(work: Work) -> str:
    report = json.loads((work.checkout("drift_reports") / "report.json").read_bytes())
    alarms = [f["feature"] for f in report["features"] if f["state"] == "alarm"]
    request = {
        "state": "observed" if alarms else "withdrawn",
        "evidence": work.inputs["drift_reports"].digest,
        "features": alarms,
        "drives": report["current_drives"],
    }
    (work.out / "request.json").write_text(json.dumps(request, sort_keys=True))
    return "" if alarms else "the report raises no alarm"
