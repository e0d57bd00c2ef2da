"""What contradicts in a policy: numbers that cannot both be meant, and places that want two numbers at once.

Belongs here: refusing. Does not belong here: versions (`versions`), or which numbers hold for a drive (`rollout`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, Final

import yaml

from av_assets.domain.errors import PolicyError
from av_assets.domain.triggers.areas import area_of, areas_overlap
from av_assets.domain.triggers.versions import flat
from av_assets.policies.triggers import GeofencesPolicy

# (lesser, greater) by the names of keys; rules about keys that are not there, or hold no number, are idle.
STRICTLY: Final = (
    ("cut_in.inside_m", "cut_in.outside_m"),
    ("cut_in.critical_ttc_s", "cut_in.conflict_ttc_s"),
    ("cut_in.min_inside_s", "cut_in.enter_within_s"),
    ("conflict.critical_ttc_s", "conflict.ttc_s"),
    ("conflict.critical_pet_s", "conflict.pet_s"),
    ("lane_change.min_offset_m", "lane_change.max_offset_m"),
    ("lane_change.min_duration_s", "lane_change.max_duration_s"),
    ("lane_change.heading_return_rad", "lane_change.max_heading_rad"),
)
AT_MOST: Final = (
    ("max_gap_s", "cut_in.enter_within_s"),  # a hole inside an event is not longer than its beginning may be
    ("median_s", "brake.min_duration_s"),  # the median against spikes would take out what is looked for
    ("rss.brake_min_mps2", "rss.brake_max_mps2"),
    ("cut_in.afgbv_standing_decel_mps2", "cut_in.afgbv_decel_mps2"),
)


def refuse_contradictions(data: Mapping[str, Any]) -> None:
    """Refuse numbers that contradict each other.

    Levels (keys that begin with `levels_`) must go strictly one way: up, or down for `levels_*_s` of times to
    collision, which are the worse the shorter. An event must not leave above the threshold at which it entered.

    Raises:
        PolicyError: contradiction, naming both keys and their values.
    """
    values = flat(data)
    numbers = {key: value for key, value in values.items() if _is_number(value)}
    for key, value in values.items():
        levels = list(value) if _many(value) else [value]
        if any(isinstance(n, float) and not math.isfinite(n) for n in levels):
            raise _contradiction(key, value, key, "a finite number")
        if key.rpartition(".")[2].startswith("levels_") and all(_is_number(n) for n in levels):
            _refuse_levels(key, levels, numbers.get("exit_share"))
    for less, more in STRICTLY:
        if less in numbers and more in numbers and not numbers[less] < numbers[more]:
            raise _contradiction(less, numbers[less], more, numbers[more])
    for less, more in AT_MOST:
        if less in numbers and more in numbers and not numbers[less] <= numbers[more]:
            raise _contradiction(less, numbers[less], more, numbers[more])


def _refuse_levels(key: str, levels: list[float], exit_share: float | None) -> None:
    falling = key.endswith("_s")
    for number, (one, other) in enumerate(pairwise(levels)):
        if not (other < one if falling else one < other):
            raise _contradiction(f"{key}[{number}]", one, f"{key}[{number + 1}]", other)
    if exit_share is not None and not 0 < exit_share <= 1:
        raise _contradiction("exit_share", exit_share, key, levels[0])


def refuse_duplicate_keys(text: str) -> None:
    """Refuse YAML that writes a key twice: readers take the last one, and whoever reads the file may see the first.

    Raises:
        PolicyError: duplicate_key, naming both lines.
    """
    open_nodes, seen = [yaml.compose(text, Loader=yaml.SafeLoader)], set()
    while open_nodes:
        node = open_nodes.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))  # aliases may lead round in circles
        if isinstance(node, yaml.SequenceNode):
            open_nodes += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise PolicyError(
                    f"{name} is written in line {lines[name]} and again in line {line}",
                    code="duplicate_key",
                    remedy="keep one of them",
                )
            lines[name] = line
            open_nodes.append(value)


def refuse_overlaps(policy: GeofencesPolicy) -> None:
    """Refuse two regions that share ground and want different numbers for the same key.

    Raises:
        PolicyError: overlapping_regions, naming both keys; bad_region for cells that are none.
    """
    for one, other in conflicting(policy):
        first, second = policy.regions[one[0]], policy.regions[other[0]]
        raise PolicyError(
            f"regions.{first.name}.{one[1]} = {first.overrides[one[1]]} and regions.{second.name}.{other[1]} = "
            f"{second.overrides[other[1]]} hold on the same ground",
            code="overlapping_regions",
            remedy="give both the same number, or draw them apart",
        )


def overlapping(policy: GeofencesPolicy) -> list[tuple[int, int]]:
    """Pairs of numbers of regions that share ground."""
    areas = [area_of(region) for region in policy.regions]
    return [(i, j) for i, j in combinations(range(len(areas)), 2) if areas_overlap(areas[i], areas[j])]


def conflicting(policy: GeofencesPolicy) -> Iterable[tuple[tuple[int, str], tuple[int, str]]]:
    """Pairs of (number of a region, key) that overlap and differ, in order."""
    for i, j in overlapping(policy):
        one, other = policy.regions[i].overrides, policy.regions[j].overrides
        for key in sorted(one.keys() & other.keys()):
            if one[key] != other[key]:
                yield (i, key), (j, key)


def refuse_unknown_keys(overrides: Mapping[str, Any], base: Mapping[str, Any], where: str) -> None:
    """Overrides may change thresholds that are there, and nothing else.

    Raises:
        PolicyError: unknown_threshold.
    """
    known = flat(base)
    for key, value in overrides.items():
        held = known.get(key)
        if key == "version" or key not in known or isinstance(held, str) or _many(held) != _many(value):
            raise PolicyError(
                f"{where}.{key} is no threshold of the policy that it changes",
                code="unknown_threshold",
                remedy="write the dotted name as in cut_in.inside_m, and as many numbers as there are",
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _many(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _contradiction(one: str, first: object, other: str, second: object) -> PolicyError:
    return PolicyError(
        f"{one} = {first} contradicts {other} = {second}",
        code="contradiction",
        remedy=f"correct {one} or {other}",
    )
