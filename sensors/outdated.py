"""When something changes that covers the whole world: a map, the weather, a policy. Few drives are concerned by it, and
these sensors name them.

What is outdated is derived from the lake: a bundle says what it was made from, and whoever made it says what it would
be made from now. Cursors only remember how far a look has come, so that each look is short whatever the fleet.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import dagster as dg

from av_assets.domain.errors import EvidenceError
from av_assets.domain.evidence.digests import sha256_json
from av_assets.production import ALL
from partitions.drives import drives
from resources.environment import environment
from resources.lake import Lake
from resources.maps import Maps, map_version
from resources.weather import Weather, weather_version

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest

LOOKED_AT = 100
"""Drives that one look compares: reading the positions of one takes a hundredth of a second."""


@dg.sensor(
    asset_selection=dg.AssetSelection.assets("map_tiles", "weather_observations")
    | dg.AssetSelection.checks_for_assets(dg.AssetKey("map_tiles"), dg.AssetKey("weather_observations")),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def changed_sources(
    context: dg.SensorEvaluationContext, lake: Lake, maps: Maps, weather: Weather
) -> dg.SensorResult | dg.SkipReason:
    """Remakes the map and the weather when their files are others than those they were made from."""
    now = {
        "map_tiles": ("map_extract", map_version(maps)),
        "weather_observations": ("weather_files", sha256_json(weather_version(weather))),
    }
    asked = json.loads(context.cursor or "{}")
    due = {
        asset: digest
        for asset, (source, digest) in now.items()
        if (made := lake.manifest(asset, ALL))
        and made.made_from.rows.get(source) != digest
        and asked.get(asset) != digest  # once per change: a run that fails waits for a person
    }
    if not due:
        return dg.SkipReason("maps and weather are as they were")
    requests = [dg.RunRequest(asset_selection=[dg.AssetKey(asset)]) for asset in due]
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(asked | due))


@dg.sensor(
    asset_selection=dg.AssetSelection.assets("enriched_clips")
    | dg.AssetSelection.checks_for_assets(dg.AssetKey("enriched_clips")),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def changed_surroundings(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Remakes the context of the drives whose roads or weather changed, and of no other drive."""
    world = [lake.manifest(asset, ALL) for asset in ("map_tiles", "weather_observations")]
    state = sha256_json([made.content if made else "" for made in world])

    def outdated(names: Sequence[str]) -> Iterator[str]:
        return (name for name in names if _elsewhere(lake, lake.require("enriched_clips", name)))

    return _look(context, lake, "enriched_clips", state, outdated)


@dg.sensor(
    asset_selection=dg.AssetSelection.assets("event_windows")
    | dg.AssetSelection.checks_for_assets(dg.AssetKey("event_windows")),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def activated_policies(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Remakes the events of the drives for which other thresholds hold than they were found with."""
    from resources.policies import outdated_drives, rollout

    now = rollout(lake)

    def outdated(names: Sequence[str]) -> Iterator[str]:
        return iter(outdated_drives(lake, "event_windows", now, list(names)))

    return _look(context, lake, "event_windows", sha256_json(now.digests), outdated)


@dg.sensor(
    asset_selection=dg.AssetSelection.assets("auto_labels")
    | dg.AssetSelection.checks_for_assets(dg.AssetKey("auto_labels")),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def activated_label_fusion(
    context: dg.SensorEvaluationContext, lake: Lake
) -> dg.SensorResult | dg.SkipReason:
    """Remakes the auto-labels of the drives that were labelled under another version of label_fusion."""
    from av_assets.policies.label_fusion import LabelFusionPolicy
    from resources.policies import active

    wanted = active(lake, LabelFusionPolicy).digest

    def outdated(names: Sequence[str]) -> Iterator[str]:
        made = (lake.require("auto_labels", name) for name in names)
        return (m.partition for m in made if m.made_from.policies.get(LabelFusionPolicy.name) != wanted)

    return _look(context, lake, "auto_labels", wanted, outdated)


def _look(
    context: dg.SensorEvaluationContext,
    lake: Lake,
    asset: str,
    state: str,
    outdated: Callable[[Sequence[str]], Iterator[str]],
) -> dg.SensorResult | dg.SkipReason:
    """Compare the next drives; nothing where the world is as it was when all had been compared.

    The cursor holds that state, the last drive compared under it, and a number: the world may come back to a state that
    it had before. Numbers begin at the clock, since a run key that comes again starts nothing: who resets the cursor
    wants runs. A drive that is made while a look goes on is made from the new world.
    """
    cursor = json.loads(context.cursor or "{}")
    changed = cursor.get("state") != state
    after, number = "" if changed else cursor["after"], cursor.get("number", time.time_ns()) + changed
    if after is None:
        return dg.SkipReason("nothing changed that drives depend on")
    live = set(context.instance.get_dynamic_partitions(drives.name or ""))
    names = list(islice((name for name in lake.partitions(asset) if name > after), LOOKED_AT))
    requests = [
        dg.RunRequest(
            partition_key=name, run_key=f"{asset}:{name}:{number}", asset_selection=[dg.AssetKey(asset)]
        )
        for name in outdated(names)
        if name in live
    ]
    done = len(names) < LOOKED_AT
    cursor = {"state": state, "after": None if done else names[-1], "number": number}
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(cursor))


def _elsewhere(lake: Lake, made: Manifest) -> bool:
    """Whether the drive would now be made from other tiles or other weather; its run says what cannot be read of it."""
    from av_assets.foundations.enrichment import surroundings
    from av_assets.policies.context import ContextPolicy
    from av_assets.policies.roads import RoadsPolicy

    policies = ContextPolicy.load(), RoadsPolicy.load()
    try:
        shards = lake.require("synced_shards", made.partition)
        rows = surroundings(lake, *policies, made.partition, {"synced_shards": shards})
    except EvidenceError:
        return True
    return any(made.made_from.rows.get(name) != sha256_json(list(read)) for name, read in rows.items())
