"""Numbers that contradict each other, regions that want two numbers on one ground, and who gets which."""

from __future__ import annotations

import copy
from typing import Any

import h3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from av_assets.domain.errors import PolicyError
from av_assets.domain.triggers.conflicts import (
    STRICTLY,
    conflicting,
    refuse_contradictions,
    refuse_duplicate_keys,
    refuse_overlaps,
)
from av_assets.domain.triggers.rollout import in_cohort, refuse_bad_geofences, resolve
from av_assets.domain.triggers.versions import flat
from av_assets.policies.events import EventsPolicy
from av_assets.policies.triggers import BoundingBox, Cohort, GeofencesPolicy, Region, TriggersPolicy

SHIPPED = EventsPolicy.load()
DATA = SHIPPED.model_dump(mode="json")


def changed(key: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(DATA)
    *path, last = key.split(".")
    part = data
    for name in path:
        part = part[name]
    part[last] = value
    return data


def geofences(*regions: Region, **more: Any) -> GeofencesPolicy:
    return GeofencesPolicy(version="1.0.0", changes="events", base=SHIPPED.digest, regions=regions, **more)


def region(name: str, box: tuple[float, float, float, float], **overrides: Any) -> Region:
    west, south, east, north = box
    bbox = BoundingBox(west_deg=west, south_deg=south, east_deg=east, north_deg=north)
    return Region(name=name, bbox=bbox, overrides={k.replace("__", "."): v for k, v in overrides.items()})


def test_the_shipped_numbers_do_not_contradict_each_other() -> None:
    refuse_contradictions(DATA)


def test_the_sections_of_the_backtest_are_those_of_the_policy() -> None:
    sections = {name for name, value in DATA.items() if isinstance(value, dict)}
    assert set(TriggersPolicy.load().sections) <= sections


@pytest.mark.parametrize("pair", [p for p in STRICTLY if {*p} <= flat(DATA).keys()], ids="<".join)
def test_two_keys_the_wrong_way_round_are_both_named(pair: tuple[str, str]) -> None:
    less, more = pair
    with pytest.raises(PolicyError) as error:
        refuse_contradictions(changed(less, flat(DATA)[more]))
    assert error.value.code == "contradiction"
    assert less in error.value.reason
    assert more in error.value.reason


@given(st.permutations([3.0, 5.0, 6.4]))
def test_levels_go_up_or_are_refused(levels: list[float]) -> None:
    if levels == sorted(levels):
        refuse_contradictions(changed("brake.levels_mps2", levels))
    else:
        with pytest.raises(
            PolicyError, match=r"brake\.levels_mps2\[\d\] = .* contradicts brake\.levels_mps2\[\d\]"
        ):
            refuse_contradictions(changed("brake.levels_mps2", levels))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(PolicyError, match="finite"):
        refuse_contradictions(changed("hazard.max_gap_m", value))
    with pytest.raises(PolicyError, match="exit_share"):
        refuse_contradictions(changed("exit_share", 1.5))


def test_a_key_that_is_written_twice_is_refused_with_both_lines() -> None:
    refuse_duplicate_keys("a: 1\nb: {a: 2}\nc: [{a: 1}, {a: 2}]\n")
    refuse_duplicate_keys("a: &x {b: 1}\nc: *x\n")
    refuse_duplicate_keys("a: &x [*x]\n")
    with pytest.raises(PolicyError, match="inside_m is written in line 2 and again in line 3"):
        refuse_duplicate_keys("cut_in:\n  inside_m: 1.8\n  inside_m: 2.1\n")


sides = st.tuples(st.integers(0, 5), st.integers(1, 3))
boxes = st.tuples(sides, sides).map(
    lambda b: (b[0][0], b[1][0], b[0][0] + b[0][1], b[1][0] + b[1][1])  # west, south, east, north
)


@settings(max_examples=60)
@given(st.lists(st.tuples(boxes, st.sampled_from([1.5, 1.6])), min_size=1, max_size=6))
def test_overlaps_are_those_that_unit_squares_show(
    drawn: list[tuple[tuple[int, int, int, int], float]],
) -> None:
    """Brute force: boxes on whole degrees overlap if they have a unit square in common."""
    policy = geofences(*(region(f"r{i}", b, cut_in__inside_m=v) for i, (b, v) in enumerate(drawn)))

    def squares(box: tuple[int, int, int, int]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = {
        (i, j)
        for i in range(len(drawn))
        for j in range(i + 1, len(drawn))
        if drawn[i][1] != drawn[j][1] and squares(drawn[i][0]) & squares(drawn[j][0])
    }
    assert {(one[0], other[0]) for one, other in conflicting(policy)} == expected
    if expected:
        with pytest.raises(
            PolicyError, match=r"regions\.r\d\.cut_in\.inside_m .* regions\.r\d\.cut_in\.inside_m"
        ):
            refuse_overlaps(policy)
    else:
        refuse_overlaps(policy)


def test_cells_overlap_themselves_and_their_boxes_but_not_their_neighbours() -> None:
    cell = h3.latlng_to_cell(48.1, 11.5, 9)
    neighbour = next(c for c in h3.grid_disk(cell, 1) if c != cell)

    def of(name: str, where: str, value: float) -> Region:
        return Region(name=name, h3_cells=(where,), overrides={"cut_in.inside_m": value})

    assert not list(conflicting(geofences(of("a", cell, 1.5), of("b", neighbour, 1.6))))
    assert list(conflicting(geofences(of("a", cell, 1.5), of("b", cell, 1.6))))
    around = region("b", (11.4, 48.0, 11.6, 48.2), cut_in__inside_m=1.6)
    assert list(conflicting(geofences(of("a", cell, 1.5), around)))
    with pytest.raises(PolicyError, match="no H3 cell"):
        refuse_overlaps(geofences(of("a", "zz", 1.5), of("b", cell, 1.6)))


def test_a_region_holds_for_drives_that_stay_within_it() -> None:
    policy = geofences(
        region("town", (10, 40, 12, 42), cut_in__inside_m=1.5), overrides={"hazard.standing_s": 3.0}
    )
    inside = resolve(policy, SHIPPED, "v1", (10.5, 40.5, 11.0, 41.0))
    assert (inside.cut_in.inside_m, inside.hazard.standing_s) == (1.5, 3.0)
    for bbox in ((9.0, 40.5, 11.0, 41.0), (50.0, 0.0, 51.0, 1.0), None):
        out = resolve(policy, SHIPPED, "v1", bbox)
        assert (out.cut_in.inside_m, out.hazard.standing_s) == (SHIPPED.cut_in.inside_m, 3.0)
    point = resolve(policy, SHIPPED, None, (11.0, 41.0, 11.0, 41.0))
    assert point.cut_in.inside_m == 1.5
    other = SHIPPED.model_copy(update={"version": "9.0.0"})
    assert resolve(policy, other, "v1", (10.5, 40.5, 11.0, 41.0)) is other


@given(st.text(max_size=12), st.floats(0, 1), st.floats(0, 1), st.text(max_size=5))
def test_a_larger_cohort_keeps_those_who_took_part(vehicle: str, one: float, other: float, salt: str) -> None:
    small, large = sorted([one, other])
    if in_cohort(vehicle, Cohort(share=small, salt=salt)):
        assert in_cohort(vehicle, Cohort(share=large, salt=salt))
    assert in_cohort(vehicle, Cohort(share=1.0, salt=salt))
    assert not in_cohort(vehicle, Cohort(share=0.0, salt=salt))


def test_a_cohort_is_about_as_large_as_its_share_and_needs_a_known_vehicle() -> None:
    taken = sum(in_cohort(f"veh{n:05d}", Cohort(share=0.1, salt="s")) for n in range(10_000))
    assert abs(taken - 1000) < 4 * (10_000 * 0.1 * 0.9) ** 0.5
    policy = geofences(overrides={"hazard.standing_s": 3.0}, cohort=Cohort(share=0.999, salt=""))
    assert resolve(policy, SHIPPED, None, None) is SHIPPED


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"version": 2.0}, "unknown_threshold"),
        ({"cut_in.inside": 1.0}, "unknown_threshold"),
        ({"cut_in": 1.0}, "unknown_threshold"),
        ({"brake.levels_mps2": 1.0}, "unknown_threshold"),
        ({"cut_in.inside_m": (1.0, 2.0)}, "unknown_threshold"),
        ({"cut_in.inside_m": -1.0}, "policy_invalid"),
        ({"cut_in.inside_m": 9.0}, "contradiction"),
    ],
)
def test_overrides_that_cannot_be_meant_are_refused(overrides: dict[str, Any], code: str) -> None:
    where = region("a", (0, 0, 1, 1), cut_in__inside_m=1.5).model_copy(update={"overrides": overrides})
    for policy in (geofences(where), geofences(overrides=overrides)):
        with pytest.raises(PolicyError) as error:
            refuse_bad_geofences(policy, SHIPPED)
        assert error.value.code == code


def test_two_regions_that_contradict_only_together_are_refused() -> None:
    one = region("a", (0, 0, 2, 2), cut_in__inside_m=2.1)
    other = region("b", (1, 1, 3, 3), cut_in__outside_m=1.9)
    refuse_bad_geofences(geofences(one), SHIPPED)
    refuse_bad_geofences(geofences(other), SHIPPED)
    with pytest.raises(PolicyError, match=r"regions\.a and regions\.b"):
        refuse_bad_geofences(geofences(one, other), SHIPPED)
    apart = region("b", (2, 2, 3, 3), cut_in__outside_m=1.9)
    refuse_bad_geofences(geofences(one, apart), SHIPPED)


@pytest.mark.parametrize("key", ["_brake", "__class__", "brake._x", "Brake", "brake.", ""])
def test_private_names_are_no_keys(key: str) -> None:
    with pytest.raises(ValidationError):
        geofences(overrides={key: 1.0})


def test_regions_are_somewhere_once_and_have_names_of_their_own() -> None:
    box = BoundingBox(west_deg=0, south_deg=0, east_deg=1, north_deg=1)
    for bad in ({"bbox": None}, {"bbox": box, "h3_cells": ("8928308280fffff",)}):
        with pytest.raises(ValidationError):
            Region(name="a", overrides={"a.b": 1.0}, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="west < east"):
        BoundingBox(west_deg=179, south_deg=0, east_deg=-179, north_deg=1)
    twice = region("a", (0, 0, 1, 1), cut_in__inside_m=1.5)
    with pytest.raises(ValidationError, match="same name"):
        geofences(twice, twice)
