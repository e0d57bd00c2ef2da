"""Which observation speaks for a clip: against a search through all pairs, across 180 degrees, at the poles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_assets.domain.context.areas import areas, areas_near, by_area_and_month, files_near
from av_assets.domain.context.observations import OBSERVATIONS, distances_m, judged
from av_assets.domain.context.weather import Moments, observations_from, places_of, usable, weather_at
from av_assets.policies.context import ContextPolicy

POLICY = ContextPolicy.load()
HOUR_NS = 3_600_000_000_000
NOON_NS = 1_748_865_600_000_000_000  # 2025-06-02T12:00:00Z


def seen(
    station: str, latitude: float, longitude: float, at_ns: int = NOON_NS, **cells: Any
) -> dict[str, Any]:
    place = {"source": "meteostat", "station": station, "latitude_deg": latitude, "longitude_deg": longitude}
    return place | {"valid_ns": at_ns, "code": 1, "temperature_c": 11.0, "precipitation_mmph": 0.0} | cells


def asked(*places: tuple[int, float, float]) -> Moments:
    times, latitudes, longitudes = zip(*places, strict=True)
    return Moments(np.array(times, np.int64), np.array(latitudes, float), np.array(longitudes, float))


def told(rows: list[dict[str, Any]], *places: tuple[int, float, float]) -> list[dict[str, Any]]:
    return weather_at(asked(*places), observations_from(rows), POLICY)


def vector_distance_m(la: float, lo: float, lb: float, lp: float) -> float:
    """Another formula for the same distance: the angle between two unit vectors by its sine and cosine."""
    a, b = (
        np.array([math.cos(x) * math.cos(y), math.cos(x) * math.sin(y), math.sin(x)])
        for x, y in ((math.radians(la), math.radians(lo)), (math.radians(lb), math.radians(lp)))
    )
    return 6_371_008.8 * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


anywhere = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
# Places that crowd where arithmetic of degrees goes wrong: the date line and the poles.
tricky = st.one_of(
    st.tuples(st.floats(-0.4, 0.4), st.one_of(st.floats(179.5, 180), st.floats(-180, -179.5))),
    st.tuples(st.floats(89.6, 90), st.floats(-180, 180)),
    st.tuples(st.floats(-90, -89.6), st.floats(-180, 180)),
)
lags = st.integers(-7_200, 7_200)


class TestDistance:
    @given(anywhere, anywhere)
    def test_agrees_with_unit_vectors(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        found = distances_m(*(np.array([v]) for v in (*a, *b)))[0, 0]
        # arcsin loses digits where two places are opposite each other, which no reach comes near.
        assert found == pytest.approx(vector_distance_m(*a, *b), abs=0.2, rel=1e-9)

    def test_quarter_of_the_globe(self) -> None:
        found = distances_m(np.array([0.0]), np.array([10.0]), np.array([90.0]), np.array([-70.0]))
        assert found[0, 0] == pytest.approx(6_371_008.8 * math.pi / 2)


class TestNearest:
    @given(
        st.lists(st.tuples(tricky, lags, st.sampled_from([1, 3, 8, None, 999])), max_size=12),
        st.lists(st.tuples(tricky, lags), min_size=1, max_size=5),
    )
    def test_agrees_with_a_search_through_all_pairs(self, held: list[Any], wanted: list[Any]) -> None:
        rows = [
            seen(f"s{n:02d}", la, lo, NOON_NS + lag * 10**9, code=code)
            for n, ((la, lo), lag, code) in enumerate(held)
        ]
        places = [(NOON_NS + lag * 10**9, la, lo) for (la, lo), lag in wanted]
        for answer, (at_ns, la, lo) in zip(told(rows, *places), places, strict=True):
            near = [
                (
                    row["code"] in (None, 999),
                    vector_distance_m(la, lo, row["latitude_deg"], row["longitude_deg"]),
                )
                for row in rows
                if vector_distance_m(la, lo, row["latitude_deg"], row["longitude_deg"]) <= 50_000
                and abs(at_ns - row["valid_ns"]) <= 1800 * 10**9
            ]
            if not near:
                assert (answer["weather"], answer["weather_source"]) == (None, None)
                continue
            silent, distance_m = min(near)
            assert answer["weather_distance_m"] == pytest.approx(distance_m, abs=0.2)
            assert (answer["weather"] is None) == silent

    def test_between_two_hours_the_nearer_one_speaks_and_the_lag_has_its_sign(self) -> None:
        rows = [seen("a", 50, 10, NOON_NS, code=1), seen("a", 50, 10, NOON_NS + HOUR_NS, code=8)]
        minutes = [(NOON_NS + m * 60 * 10**9, 50.0, 10.0) for m in (0, 10, 29, 30, 31, 60)]
        found = told(rows, *minutes)
        assert [f["weather"] for f in found] == ["clear", "clear", "clear", "clear", "rain", "rain"]
        assert [f["weather_lag_s"] for f in found] == [0.0, 600.0, 1740.0, 1800.0, -1740.0, 0.0]

    def test_across_the_date_line(self) -> None:
        [found] = told([seen("east", 0, 179.9), seen("west", 0, -179.95)], (NOON_NS, 0.0, 179.99))
        assert found["weather_source"] == "meteostat west"

    def test_over_the_pole(self) -> None:
        [found] = told([seen("beyond", 89.9, -170), seen("south", 89.4, 10)], (NOON_NS, 89.9, 10.0))
        assert found["weather_source"] == "meteostat beyond"

    def test_of_equal_distances_the_first_by_name(self) -> None:
        rows = [seen("b", 50, 10, code=8), seen("a", 50, 10, code=1)]
        assert told(rows, (NOON_NS, 50.0, 10.0))[0]["weather_source"] == "meteostat a"

    def test_grid_reaches_less_far_than_a_station(self) -> None:
        cells = {"source": "era5", "code": None, "cloud_share": 0.1}
        far = told([seen("53.27 10.00", 53.27, 10, **cells)], (NOON_NS, 53.0, 10.0))
        near = told([seen("53.20 10.00", 53.2, 10, **cells)], (NOON_NS, 53.0, 10.0))
        assert (far[0]["weather"], near[0]["weather"]) == (None, "clear")


class TestReasons:
    @pytest.mark.parametrize(
        ("row", "place", "reason"),
        [
            (seen("a", 50, 10), (NOON_NS, 51.0, 10.0), "no station within 50 km"),
            (seen("a", 50, 10), (NOON_NS + 2 * HOUR_NS, 50.0, 10.0), "no observation within 30 min"),
            (seen("a", 50, 10), (NOON_NS, math.nan, 10.0), "no position"),
            (seen("a", 50, 10, code=99), (NOON_NS, 50.0, 10.0), "unknown code 99"),
            (seen("a", 50, 10, code=None), (NOON_NS, 50.0, 10.0), "the observation has no weather code"),
        ],
    )
    def test_missing_weather_is_null_and_never_clear(
        self, row: dict[str, Any], place: tuple[int, float, float], reason: str
    ) -> None:
        [found] = told([row], place)
        assert (found["weather"], found["weather_reason"]) == (None, reason)

    def test_no_observation_at_all(self) -> None:
        [found] = told([], (NOON_NS, 50.0, 10.0))
        assert (found["weather"], found["weather_reason"]) == (None, "no station within 50 km")

    def test_silent_station_gives_way_to_one_that_tells(self) -> None:
        rows = [seen("near", 50, 10, code=None), seen("far", 50.2, 10, code=5)]
        [found] = told(rows, (NOON_NS, 50.0, 10.0))
        assert (found["weather"], found["weather_source"]) == ("fog", "meteostat far")
        assert found["weather_distance_m"] == pytest.approx(22_239, abs=5)

    def test_unknown_code_keeps_the_temperature(self) -> None:
        [found] = told([seen("a", 50, 10, code=99)], (NOON_NS, 50.0, 10.0))
        assert (found["temperature_c"], found["weather_code"]) == (11.0, 99)

    def test_missing_quantity_is_named_beside_a_known_weather(self) -> None:
        [found] = told([seen("a", 50, 10, temperature_c=None)], (NOON_NS, 50.0, 10.0))
        assert (found["weather"], found["weather_reason"]) == ("clear", "the observation has no temperature")


class TestUsable:
    @given(
        st.lists(st.tuples(tricky, lags), max_size=10, unique_by=lambda held: held),
        st.lists(st.tuples(tricky, lags), min_size=1, max_size=4),
    )
    def test_gives_the_same_answers_as_all_rows(self, held: list[Any], wanted: list[Any]) -> None:
        rows = observations_from(
            [seen(f"s{n}", la, lo, NOON_NS + lag * 10**9) for n, ((la, lo), lag) in enumerate(held)]
        )
        moments = asked(*((NOON_NS + lag * 10**9, la, lo) for (la, lo), lag in wanted))
        kept = usable(pa.concat_tables([places_of(rows), rows]), moments, POLICY.match)
        assert weather_at(moments, kept, POLICY) == weather_at(moments, rows, POLICY)
        assert kept.num_rows <= rows.num_rows

    @given(tricky, st.floats(-0.4, 0.4), st.floats(0, 360))
    def test_areas_near_hold_every_place_in_reach(
        self, place: tuple[float, float], up: float, around: float
    ) -> None:
        latitude = float(np.clip(place[0] + up, -90, 90))
        longitude = (place[1] + around + 180) % 360 - 180
        away_m = vector_distance_m(*place, latitude, longitude)
        near = areas_near(np.array([place[0]]), np.array([place[1]]), away_m + 1.0)
        assert set(areas(np.array([latitude]), np.array([longitude]))) <= near

    def test_files_of_other_months_and_places_are_left_alone(self) -> None:
        rows = observations_from([
            seen("a", 50, 10), seen("b", 50, 10, NOON_NS + 60 * 24 * HOUR_NS), seen("c", -50, 10),
        ])  # fmt: skip
        files = dict(by_area_and_month(rows))
        assert sorted(files) == [f"observations/{name}.parquet" for name in
                                 ("n50e010/2025-06", "n50e010/2025-08", "s50e010/2025-06")]  # fmt: skip
        assert sum(part.num_rows for part in files.values()) == 3
        near = files_near([*files, "report.json"], asked((NOON_NS, 49.9, 10.1)), POLICY.match)
        assert near == ["observations/n50e010/2025-06.parquet"]
        month_end = asked((1_751_327_990_000_000_000, 49.9, 10.1))  # 2025-06-30T23:59:50Z reaches into July
        july = ["observations/n50e010/2025-06.parquet", "observations/n50e010/2025-07.parquet"]
        assert files_near(july, month_end, POLICY.match) == july


class TestJudged:
    def test_values_out_of_range_become_null_and_are_counted(self) -> None:
        rows = [seen("a", 50, 10, temperature_c=-999.0), seen("b", 91, 10), seen("c", 50, 10, wind_mps=3.0)]
        found = judged(observations_from(rows), POLICY.plausible)
        assert found.rows["station"].to_pylist() == ["a", "c"]
        assert found.rows["temperature_c"].to_pylist() == [None, 11.0]
        assert (dict(found.implausible), found.misplaced, found.repeated) == ({"temperature_c": 1}, 1, 0)

    def test_of_rows_that_come_again_the_last_one_counts(self) -> None:
        found = judged(
            observations_from([seen("a", 50, 10, code=1), seen("a", 50, 10, code=8)]), POLICY.plausible
        )
        assert (found.rows["code"].to_pylist(), found.repeated) == ([8], 1)

    def test_nothing_stays_nothing(self) -> None:
        assert judged(OBSERVATIONS.empty_table(), POLICY.plausible).rows.num_rows == 0


def test_ten_thousand_clips_take_no_time_to_speak_of() -> None:
    """Vectorised: a search clip by clip would take minutes. Also the largest drive stays within memory."""
    import time

    rng = np.random.default_rng(5)
    times = NOON_NS + np.arange(240) * HOUR_NS
    rows = pa.table({
        "source": ["meteostat"] * 48_000, "station": np.repeat([f"s{n:03d}" for n in range(200)], 240),
        "latitude_deg": np.repeat(rng.uniform(49, 51, 200), 240),
        "longitude_deg": np.repeat(rng.uniform(9, 11, 200), 240), "valid_ns": np.tile(times, 200),
        "code": pa.array(rng.integers(1, 28, 48_000), pa.int32()), "temperature_c": np.full(48_000, 9.0),
        "precipitation_mmph": np.full(48_000, 0.0),
        **{n: pa.nulls(48_000, pa.float64()) for n in OBSERVATIONS.names[8:]},
    }).select(OBSERVATIONS.names)  # fmt: skip
    moments = Moments(
        NOON_NS + np.arange(10_000) * 5 * 10**9,
        rng.uniform(49.5, 50.5, 10_000),
        rng.uniform(9.5, 10.5, 10_000),
    )
    started = time.monotonic()
    found = weather_at(moments, rows, POLICY)
    assert all(row["weather"] for row in found)
    assert time.monotonic() - started < 10.0
