"""One code location from a list of modules: the group is the module's package, the owner is the group's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from types import ModuleType

import dagster as dg

from resources.dvc import Archives
from resources.environment import environment
from resources.labeling import Annotators
from resources.lake import Lake
from resources.landing import Landing
from resources.maps import Maps
from resources.tracking import Tracking
from resources.weather import Weather

OWNERS = {
    "foundations": "team:data-engineering",
    "mining": "team:perception-data",
    "training": "team:machine-learning",
    "promotion": "team:validation",
    "monitoring": "team:model-operations",
    "reliability": "team:platform",
}


@cache
def resources() -> dict[str, object]:
    """The same objects for every location, since merging wants them identical."""
    here = environment()
    return {
        "lake": Lake(uri=here.lake, scratch=str(here.scratch), endpoint=here.s3_endpoint),
        "landing": Landing(path=here.landing, endpoint=here.s3_endpoint),
        "maps": Maps(path=str(here.map)),
        "weather": Weather(path=str(here.weather)),
        "annotators": Annotators(truth=str(here.truth), labels=str(here.labels)),
        "archives": Archives(remote=here.dvc_remote, endpoint=here.s3_endpoint),
        "tracking": Tracking(folder=str(here.home / "wandb")),
        "pipes": dg.PipesSubprocessClient(),
    }


def code_location(modules: Sequence[ModuleType], sensors: Sequence[dg.SensorDefinition]) -> dg.Definitions:
    groups: dict[str, list[ModuleType]] = {}
    for module in modules:
        groups.setdefault(module.__name__.split(".")[1], []).append(module)
    return dg.Definitions(
        assets=[
            asset
            for group, members in groups.items()
            for asset in dg.map_asset_specs(
                partial(dg.AssetSpec.replace_attributes, owners=[OWNERS[group]]),
                dg.load_assets_from_modules(members, group_name=group),
            )
        ],
        asset_checks=dg.load_asset_checks_from_modules(modules),
        sensors=sensors,
        resources=resources(),
        executor=dg.in_process_executor,  # a step of its own process costs two seconds, more than most steps
    )
