"""Speed limits out of OpenStreetMap's `maxspeed`: a number, or why there is none.

Syntax: https://wiki.openstreetmap.org/wiki/Key:maxspeed.
Belongs here: reading the tag, stated defaults. Does not belong here: the defaults themselves (policy).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.policies.roads import SpeedDefaults

_MPS = {"km/h": 1 / 3.6, "kmh": 1 / 3.6, "kph": 1 / 3.6, "mph": 0.44704, "knots": 1852 / 3600}
_NUMBER = re.compile(r"^([0-9]{1,3}(?:\.[0-9]{1,2})?)\s*(km/h|kmh|kph|mph|knots)?$")


@dataclass(frozen=True)
class SpeedLimit:
    """A limit in m/s with its source (`tag` or `default:<class>`), or None with a reason."""

    mps: float | None
    source: str | None
    reason: str | None = None


def speed_limit(tags: Mapping[str, str], forward: bool, policy: SpeedDefaults) -> SpeedLimit:
    """The limit of a way for one direction of travel; the tag of the direction comes before the general one."""
    direction = "maxspeed:forward" if forward else "maxspeed:backward"
    tagged = tags.get(direction, tags.get("maxspeed"))
    if tagged is not None:
        return parse_maxspeed(tagged, policy)
    road_class = tags.get("highway", "")
    default = policy.defaults_kmh.get(road_class)
    if default is None:
        return SpeedLimit(None, None, f"no maxspeed, and no default is stated for {road_class or 'no class'}")
    return SpeedLimit(default / 3.6, f"default:{road_class}")


def parse_maxspeed(text: str, policy: SpeedDefaults) -> SpeedLimit:
    """One value of `maxspeed`. A tag that cannot be read gives no limit: a default would hide what it says."""
    value = text.strip()
    if value == "none":
        return SpeedLimit(None, "tag", "no speed limit applies")
    if value == "walk":
        return SpeedLimit(policy.walk_kmh / 3.6, "tag")
    if value in ("signals", "variable"):
        return SpeedLimit(None, "tag", "the speed limit is signalled")
    if value in policy.zones_kmh:
        return SpeedLimit(policy.zones_kmh[value] / 3.6, "tag")
    number = _NUMBER.match(value)
    if number is None or float(number[1]) == 0:
        return SpeedLimit(None, None, f"maxspeed cannot be read: {value[:40]!r}")
    return SpeedLimit(float(number[1]) * _MPS[number[2] or "km/h"], "tag")
