"""Which drives the production model looks at next: new drives, drives that were synchronized anew, and, when another
model goes into production, one drive after another.

What is outdated is derived from the lake: predictions say which model and which shards they were made from. The cursor
holds how far a look has come, and which drives were asked for and are not there yet: a run that fails waits for a
person, or for other shards or another model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import dagster as dg

from av_assets.domain.evidence.digests import sha256_json
from av_assets.domain.evidence.manifest import Manifest
from av_assets.policies.inference import InferencePolicy
from partitions.drives import drives
from resources.environment import environment
from resources.lake import Lake
from resources.production_models import facts_of, production_model

PREDICTIONS, SHARDS = "pool_predictions", "synced_shards"
LOOKED_AT = 200
"""Drives that one look compares: two small files each."""
BEHIND = {"dagster/priority": "-1"}
"""Another model makes all drives due at once: drives that land meanwhile need not wait for them."""


@dg.sensor(
    asset_selection=dg.AssetSelection.assets(PREDICTIONS)
    | dg.AssetSelection.checks_for_assets(dg.AssetKey(PREDICTIONS)),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def unpredicted_drives(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Starts pool_predictions of the drives that the production model has not seen as they are now, a few at a time."""
    model = production_model(lake)
    if model is None:
        return dg.SkipReason("no model was packed yet")
    cursor = {"after": "", "asked": {}, "number": time.time_ns()} | json.loads(context.cursor or "{}")
    live = sorted(context.instance.get_dynamic_partitions(drives.name or ""))
    asked = {drive: basis for drive, basis in cursor["asked"].items() if drive in set(live)}
    looked, requests = list(islice((d for d in live if d > cursor["after"]), LOOKED_AT)), []
    after = looked[-1] if len(looked) == LOOKED_AT else ""
    for drive, basis in _due(lake, looked, model, asked):
        if len(requests) == InferencePolicy.load().drives_per_tick:
            after = requests[-1].partition_key or ""
            break
        asked[drive] = basis
        cursor["number"] += 1
        requests.append(
            dg.RunRequest(
                partition_key=drive,
                run_key=f"{PREDICTIONS}:{drive}:{cursor['number']}",
                asset_selection=[dg.AssetKey(PREDICTIONS)],
                tags={"drive": drive, "release": model.partition, **BEHIND},
            )
        )
    skipped = None if requests else dg.SkipReason(f"{model.partition} has seen these drives as they are")
    kept = json.dumps({"after": after, "asked": asked, "number": cursor["number"]})
    return dg.SensorResult(run_requests=requests, skip_reason=skipped, cursor=kept)


def _due(lake: Lake, names: list[str], model: Manifest, asked: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Drives that would be predicted from something else now, with what that is; those that are done leave `asked`."""
    wanted: list[dict[str, Any]] = facts_of(model)
    for drive in names:
        shards, made = lake.manifest(SHARDS, drive), lake.manifest(PREDICTIONS, drive)
        if shards is None:
            continue
        basis = sha256_json([wanted, shards.digest])
        if made is not None and _is_of(made, shards, wanted):
            asked.pop(drive, None)
        elif asked.get(drive) != basis:
            yield drive, basis


def _is_of(made: Manifest, shards: Manifest, model: list[dict[str, Any]]) -> bool:
    """A partial bundle is of them too: its bad shards stay bad until somebody repairs them."""
    return (
        made.made_from.rows.get("production_model") == sha256_json(model)
        and made.made_from.inputs.get(f"{SHARDS}/{made.partition}") == shards.digest
    )
