"""What codes and quantities mean."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from av_assets.domain.context.weather import observations_from
from av_assets.domain.context.weather_codes import meanings
from av_assets.policies.context import CodePolicy, ContextPolicy

POLICY = ContextPolicy.load()
# Meteostat, "Weather condition codes", in the order 1..27.
COCO = [
    *["clear"] * 2, *["cloudy"] * 2, *["fog"] * 2, *["rain"] * 5, *["snow"] * 5, *["rain"] * 2, *["snow"] * 4,
    *["storm"] * 5,
]  # fmt: skip


def meaning(**cells: Any) -> tuple[str | None, str]:
    [found] = meanings(observations_from([{"source": "meteostat", "station": "a", **cells}]), POLICY)
    return found


@pytest.mark.parametrize(("code", "weather"), list(enumerate(COCO, start=1)))
def test_meteostat_codes(code: int, weather: str) -> None:
    assert meaning(code=code) == (weather, "")


@pytest.mark.parametrize("code", [0, 28, 99, -1])
def test_code_that_meteostat_does_not_have(code: int) -> None:
    assert meaning(code=code) == (None, f"unknown code {code}")


@pytest.mark.parametrize(
    ("code", "weather"),
    [  # WMO-No. 306, code table 4677
        (11, "fog"), (17, "storm"), (38, "snow"), (41, "fog"), (45, "fog"), (49, "fog"), (50, "rain"), (56, "rain"),
        (61, "rain"), (66, "rain"), (68, "snow"), (71, "snow"), (76, "snow"), (80, "rain"), (83, "snow"),
        (85, "snow"), (89, "storm"), (91, "rain"), (93, "snow"), (95, "storm"), (99, "storm"),
    ],
)  # fmt: skip
def test_present_weather(code: int, weather: str) -> None:
    assert meaning(source="synop", code=code) == (weather, "")


@pytest.mark.parametrize("code", [4, 5, 7, 9, 30, 35, 100])
def test_haze_dust_and_what_is_no_code_belong_to_no_class(code: int) -> None:
    assert meaning(source="synop", code=code) == (None, f"unknown code {code}")


@pytest.mark.parametrize("code", [0, 2, 3, 10, 15, 21, 29, 40])
def test_change_of_the_sky_and_weather_that_is_over_tell_nothing_without_cloud_cover(code: int) -> None:
    weather, why = meaning(source="synop", code=code)
    assert weather is None
    assert "cloud cover" in why
    assert meaning(source="synop", code=code, cloud_share=0.1) == ("clear", "")
    assert meaning(source="synop", code=code, cloud_share=0.9) == ("cloudy", "")


@pytest.mark.parametrize(
    ("cells", "weather"),
    [
        ({"precipitation_mmph": 0.0, "cloud_share": 0.1}, "clear"),
        ({"precipitation_mmph": 0.0, "cloud_share": 0.9}, "cloudy"),
        ({"precipitation_mmph": 0.05, "cloud_share": 0.9}, "cloudy"),
        ({"precipitation_mmph": 1.0, "snowfall_mmph": 0.0, "cloud_share": 0.1}, "rain"),
        ({"precipitation_mmph": 1.0, "snowfall_mmph": 0.6, "temperature_c": 3.0}, "snow"),
        ({"precipitation_mmph": 1.0, "temperature_c": -3.0}, "snow"),
        ({"precipitation_mmph": 1.0, "temperature_c": 3.0}, "rain"),
        ({"precipitation_mmph": 0.0, "visibility_m": 400.0, "cloud_share": 0.1}, "fog"),
    ],
)
def test_quantities_of_a_grid(cells: dict[str, float], weather: str) -> None:
    assert meaning(source="era5", **cells) == (weather, "")


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"cloud_share": 0.0}, "the grid gives no precipitation"),
        ({"precipitation_mmph": 0.0}, "the grid gives no cloud cover"),
        ({"precipitation_mmph": 2.0}, "the grid gives neither snowfall nor temperature"),
        ({}, "the grid gives no precipitation"),
    ],
)
def test_grid_that_lacks_a_quantity_is_never_clear(cells: dict[str, float], why: str) -> None:
    assert meaning(source="era5", **cells) == (None, why)


def test_source_of_unknown_codes_says_nothing() -> None:
    assert meaning(source="somebody", code=1) == (None, "unknown code 1")


@pytest.mark.parametrize(
    "coco",
    [{"rain": [[1, 5]], "snow": [[5, 6]]}, {"rain": [[5, 1]]}, {"rain": [[0, 10**12]]}, {"hail": [[1, 2]]}],
)
def test_policy_refuses_codes_with_two_meanings_or_none(coco: Any) -> None:
    with pytest.raises(ValidationError):
        CodePolicy.model_validate({"coco": coco, "ww": {}})
