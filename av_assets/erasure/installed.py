"""The installation of this process, as an erasure sees it.

Belongs here: putting its parts together by configuration. Does not belong here: the parts, arguments of commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_assets.erasure.extent import Installation
from av_assets.erasure.places import places
from av_assets.policies.retention import RetentionPolicy
from resources import dvc, label_studio
from resources.environment import environment
from resources.landing import Landing

if TYPE_CHECKING:
    import dagster as dg

    from av_assets.erasure.execution import Remake
    from resources.lake import Lake


def installed(lake: Lake, instance: dg.DagsterInstance) -> Installation:
    """All that an erasure reaches here.

    Raises:
        AvError: label_studio_refused, an address that is none.
    """
    here = environment()
    landing = Landing(path=here.landing, endpoint=here.s3_endpoint)
    return Installation(
        lake,
        RetentionPolicy.load(),
        places(here, landing),
        instance,
        here.scene_index,
        dvc.forget,
        label_studio.configured(),
    )


def remaker(place: Installation) -> Remake:
    """Materializes in this process; the next look of the automation would do it too, at its own time."""

    def make(asset: str, partition: str) -> str:
        import dagster as dg

        from av_assets.definitions import defs

        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
            instance=place.instance,
            partition_key=None if partition == "all" else partition,
            asset_selection=[dg.AssetKey(asset)],
            raise_on_error=False,
        )
        return "" if result.success else f"run {result.run_id} failed"

    return make
