"""Lines, cells and names of routes."""

from __future__ import annotations

from pathlib import Path

import h3
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from av_assets.domain.catalog.positions import Positions, clean_positions, distance_m
from av_assets.domain.catalog.route import cell_of, route_of
from av_assets.policies.catalog import CatalogPolicy

POLICY = CatalogPolicy.load()
M_PER_DEG = 111_195.08


def driven(seed: int, n: int = 3000, noise_m: float = 0.0, noise_seed: int = 0) -> Positions:
    """A winding drive of 15 m/s at 10 Hz, with white noise."""
    rng = np.random.default_rng(seed)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.01, n))
    north, east = (np.cumsum(1.5 * f(heading)) for f in (np.cos, np.sin))
    noise = np.random.default_rng(noise_seed).normal(0, 1, (2, n)) * noise_m
    ns = np.arange(n, dtype=np.int64) * 100_000_000
    latitude = 48 + rng.uniform(-0.5, 0.5) + (north + noise[0]) / M_PER_DEG
    longitude = 11 + rng.uniform(-0.5, 0.5) + (east + noise[1]) / M_PER_DEG / np.cos(np.deg2rad(48))
    return Positions(ns, latitude, longitude, "")


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_line_stays_within_its_tolerance_and_ends_where_the_drive_does(seed: int) -> None:
    positions = driven(seed, 600)
    wkb = route_of(positions, POLICY).geometry_wkb
    assert wkb is not None
    line = shapely.from_wkb(wkb)
    assert line.geom_type == "LineString"
    assert line.coords[0] == pytest.approx((positions.longitude_deg[0], positions.latitude_deg[0]), abs=1e-7)
    assert line.coords[-1] == pytest.approx(
        (positions.longitude_deg[-1], positions.latitude_deg[-1]), abs=1e-7
    )
    far_deg = shapely.distance(line, shapely.points(positions.longitude_deg, positions.latitude_deg)).max()
    assert far_deg * M_PER_DEG <= POLICY.simplify_m * 1.6  # degrees of longitude are shorter


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_cells_are_those_of_the_positions(seed: int) -> None:
    positions = driven(seed, 600)
    cells = route_of(positions, POLICY).cells
    exact = [
        h3.latlng_to_cell(a, b, 9)
        for a, b in zip(positions.latitude_deg, positions.longitude_deg, strict=True)
    ]
    assert len(cells) == len(set(cells))
    often = {cell for cell in exact if exact.count(cell) >= 20}  # 30 m: more than a step along the line
    assert often <= set(cells)
    assert all(h3.get_resolution(cell) == 9 for cell in cells)
    near = {other for cell in exact for other in h3.grid_disk(cell, 1)}
    assert set(cells) <= near


def test_noise_seldom_changes_the_name_of_a_route() -> None:
    kept = sum(
        route_of(driven(seed), POLICY).route_id
        == route_of(driven(seed, noise_m=2, noise_seed=n), POLICY).route_id
        for seed in range(20)
        for n in (1, 2)
    )
    assert kept >= 38  # of 40


def test_other_routes_have_other_names_and_the_way_back_too() -> None:
    names = {route_of(driven(seed), POLICY).route_id for seed in range(20)}
    assert len(names) == 20
    there = driven(3)
    back = Positions(there.ns, there.latitude_deg[::-1], there.longitude_deg[::-1], "")
    start, end, _ = str(route_of(there, POLICY).route_id).split("-")
    assert str(route_of(back, POLICY).route_id).split("-")[:2] == [end, start]


def test_cells_and_points_are_bounded() -> None:
    policy = POLICY.model_copy(update={"max_cells": 5, "max_line_points": 4})
    route = route_of(driven(1), policy)
    assert len(route.cells) == 5
    assert "cells are listed" in route.reason
    assert route.geometry_wkb is not None
    assert len(shapely.from_wkb(route.geometry_wkb).coords) <= 4


def test_one_position_is_a_cell_and_no_line() -> None:
    one = Positions(np.array([1]), np.array([48.0]), np.array([11.0]), "")
    route = route_of(one, POLICY)
    assert (route.geometry_wkb, route.cells) == (None, [h3.latlng_to_cell(48, 11, 9)])
    assert route.reason == "only one position: no line"
    assert route.route_id


def test_standing_still_is_a_line_without_length() -> None:
    still = Positions(np.arange(10) * 10**8, np.full(10, 48.0), np.full(10, 11.0), "")
    assert len(route_of(still, POLICY).cells) == 1


def test_cells_beyond_the_antimeridian() -> None:
    assert cell_of(10.0, 180.5) == h3.latlng_to_cell(10.0, -179.5, 9)


def test_a_real_minute_agrees_with_its_localization(real_data: Path) -> None:
    """579 receiver fixes give a line of the length that the reference poses give, and cells that contain them."""
    from av_assets.domain.logs.reader import LogReader

    with LogReader(real_data / "drives" / "comma2k19_rav4_drive") as reader:
        raw = list(reader.messages({"/gnss/fix"}))
        fixes = [reader.deserialize(message) for message in raw]
        poses = [
            reader.deserialize(message).pose.position
            for message in reader.messages({"/localization/ecef_pose"})
        ]
    ns = np.array([message.log_ns for message in raw], np.int64)
    latitude, longitude = (
        np.array([getattr(fix, axis) for fix in fixes]) for axis in ("latitude", "longitude")
    )
    positions = clean_positions(ns, latitude, longitude, POLICY)
    assert len(positions) == len(fixes)
    route = route_of(positions, POLICY)
    assert route.geometry_wkb is not None
    line = np.array(shapely.from_wkb(route.geometry_wkb).coords)
    length_m = distance_m(line[:-1, 1], line[:-1, 0], line[1:, 1], line[1:, 0]).sum()
    path = np.array([(p.x, p.y, p.z) for p in poses])
    assert length_m == pytest.approx(np.linalg.norm(np.diff(path, axis=0), axis=1).sum(), rel=0.03)
    exact = [h3.latlng_to_cell(a, b, 9) for a, b in zip(latitude, longitude, strict=True)]
    assert {cell for cell in exact if exact.count(cell) >= 5} <= set(route.cells)
