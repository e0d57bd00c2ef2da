"""The path of a drive: a circle in closed form, noise, and what is not measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from exported_folder import METRES_A_DEGREE, ORIGIN, SPEED_MPS, YAW_RATE, ego_at
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.datasets.exports.poses import EgoPath, ego_path

START_NS, STEP_NS, COUNT = 1_748_900_000_000_000_000, 100_000_000, 200
TIMES = [START_NS + n * STEP_NS for n in range(COUNT)]


def _path(noise_m: float = 0.0, known: slice = slice(None)) -> EgoPath | None:
    rng = np.random.default_rng(7)
    places = np.array([ego_at(n * STEP_NS / 1e9)[:2] for n in range(COUNT)])
    places += rng.normal(0, noise_m, places.shape) if noise_m else 0
    lat = ORIGIN[0] + places[:, 1] / METRES_A_DEGREE
    lon = ORIGIN[1] + places[:, 0] / METRES_A_DEGREE / math.cos(math.radians(ORIGIN[0]))
    seen = np.zeros(COUNT, bool)
    seen[known] = True
    some = [[float(v) if s else None for v, s in zip(column, seen, strict=True)] for column in (lat, lon)]
    return ego_path(TIMES, [SPEED_MPS] * COUNT, [YAW_RATE] * COUNT, *some)


@given(st.integers(0, (COUNT - 1) * STEP_NS))
def test_at_any_time_the_vehicle_is_where_it_was(offset_ns: int) -> None:
    path = _path()
    assert path is not None
    assert path.at(START_NS + offset_ns) == pytest.approx(ego_at(offset_ns / 1e9), abs=0.02)


def test_a_little_before_and_after_it_goes_on_as_it_went() -> None:
    path = _path()
    assert path is not None
    for seconds in (-0.05, (COUNT - 1) * 0.1 + 0.05):
        assert path.at(START_NS + round(seconds * 1e9)) == pytest.approx(ego_at(seconds), abs=0.03)


def test_noise_of_positions_moves_the_path_and_bends_it_not() -> None:
    path = _path(noise_m=2.0)
    assert path is not None
    assert path.turned
    errors = [np.subtract(path.at(t), ego_at((t - START_NS) / 1e9)) for t in TIMES]
    shift = np.array([ego_at(0)[0] - path.at(START_NS)[0], ego_at(0)[1] - path.at(START_NS)[1]])
    assert max(abs(e[2]) for e in errors) < math.radians(1)
    assert np.ptp(np.array(errors)[:, :2] + shift, axis=0).max() < 2.0


def test_without_positions_the_path_begins_at_the_origin() -> None:
    path = _path(known=slice(0, 0))
    assert path is not None
    assert (path.origin, path.turned, path.at(START_NS)) == (None, False, (0.0, 0.0, 0.0))


def test_standing_still_tells_no_direction() -> None:
    count = len(TIMES)
    path = ego_path(TIMES, [0.0] * count, [0.0] * count, [53.5] * count, [10.0] * count)
    assert path is not None
    assert (path.turned, path.origin) == (False, (53.5, 10.0))
    assert path.at(TIMES[5]) == pytest.approx((0, 0, 0))


def test_what_was_not_measured_is_not_made_up() -> None:
    count = len(TIMES)
    assert ego_path(TIMES, [None] * count, [0.0] * count, [53.5] * count, [10.0] * count) is None
    assert ego_path([], [], [], [], []) is None
