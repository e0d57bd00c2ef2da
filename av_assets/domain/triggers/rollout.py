"""Which numbers hold for a drive: the base policy, changed by the geofences that the drive keeps within.

Belongs here: resolving, as a pure function. Does not belong here: what is active (resources.policies).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from av_assets.domain.errors import PolicyError
from av_assets.domain.evidence.digests import sha256_bytes
from av_assets.domain.triggers.areas import Bbox, area_of, covers
from av_assets.domain.triggers.conflicts import (
    overlapping,
    refuse_contradictions,
    refuse_overlaps,
    refuse_unknown_keys,
)

if TYPE_CHECKING:
    from av_assets.policies.events import EventsPolicy
    from av_assets.policies.triggers import Cohort, GeofencesPolicy, Region


def in_cohort(vehicle: str, cohort: Cohort) -> bool:
    """Whether the vehicle takes part. A larger share with the same salt keeps every vehicle that took part before."""
    return int(sha256_bytes(f"{cohort.salt}/{vehicle}".encode())[:13], 16) / 16**13 < cohort.share


def areas_of(policy: GeofencesPolicy) -> dict[str, Any]:
    """The ground of each region by its name, to be worked out once for many drives."""
    return {region.name: area_of(region) for region in policy.regions}


def resolve(
    policy: GeofencesPolicy,
    base: EventsPolicy,
    vehicle: str | None,
    bbox: Bbox | None,
    areas: Mapping[str, Any] | None = None,
) -> EventsPolicy:
    """The numbers for one drive; `base` itself where nothing changes them.

    A region holds for drives whose bbox lies within it: a drive that leaves a region, or whose positions are not known,
    is judged by the numbers of all places. A vehicle that is not known takes part only where all do.

    Args:
        areas: what `areas_of(policy)` gave, where many drives are resolved.
    """
    if policy.base != base.digest:
        return base
    if not (policy.cohort.share == 1.0 or (vehicle is not None and in_cohort(vehicle, policy.cohort))):
        return base
    overrides = dict(policy.overrides)
    for region in policy.regions:
        if bbox is not None and covers(areas[region.name] if areas else area_of(region), bbox):
            overrides |= region.overrides
    return overridden(base, overrides) if overrides else base


def overridden(base: EventsPolicy, overrides: Mapping[str, Any]) -> EventsPolicy:
    """`base` with other numbers, validated by its model.

    Raises:
        PolicyError: policy_invalid, unknown_threshold.
    """
    data = base.model_dump(mode="json")
    refuse_unknown_keys(overrides, data, "overrides")
    for key, value in overrides.items():
        *path, last = key.split(".")
        part = data
        for name in path:
            part = part[name]
        part[last] = list(value) if isinstance(value, tuple) else value
    try:
        return type(base).model_validate(data)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise PolicyError(where, code="policy_invalid") from error


def refuse_bad_geofences(policy: GeofencesPolicy, base: EventsPolicy) -> None:
    """Everything that can be known to be wrong before any drive comes.

    Raises:
        PolicyError: base_not_active, unknown_threshold, policy_invalid, contradiction, overlapping_regions, bad_region.
    """
    if policy.base != base.digest:
        raise PolicyError(
            f"base is {policy.base[:12]}, but the active {base.name} policy is {base.digest[:12]}",
            code="base_not_active",
            remedy=f"write base: {base.digest}",
        )
    data = base.model_dump(mode="json")
    refuse_unknown_keys(policy.overrides, data, "overrides")
    refuse_contradictions(overridden(base, policy.overrides).model_dump(mode="json"))
    for region in policy.regions:
        refuse_unknown_keys(region.overrides, data, f"regions.{region.name}")
        _refuse_together(policy, base, region)
    refuse_overlaps(policy)
    for one, other in overlapping(policy):  # every contradiction is one of two keys, so pairs tell all
        _refuse_together(policy, base, policy.regions[one], policy.regions[other])


def _refuse_together(policy: GeofencesPolicy, base: EventsPolicy, *regions: Region) -> None:
    overrides = dict(policy.overrides)
    for region in regions:
        overrides |= region.overrides
    try:
        refuse_contradictions(overridden(base, overrides).model_dump(mode="json"))
    except PolicyError as error:
        where = " and ".join(f"regions.{region.name}" for region in regions)
        raise PolicyError(f"{where}: {error.reason}", code=error.code, remedy=error.remedy) from error
