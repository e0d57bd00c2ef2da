"""The sun against published positions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from av_assets.domain.catalog.sun import light, sun_elevation_deg


def _ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def test_example_of_the_solar_position_algorithm() -> None:
    # NREL SPA (Reda, Andreas 2004), section A.5: zenith 50.11162 degrees, refraction included (about
    # 0.01 degree).
    elevation = sun_elevation_deg(_ns("2003-10-17T19:30:30"), 39.742476, -105.1786)
    assert elevation == pytest.approx(90 - 50.11162, abs=0.05)


def test_noon_at_the_equator_at_the_equinox_is_overhead() -> None:
    assert sun_elevation_deg(_ns("2025-03-20T12:07:00"), 0.0, 0.0) > 89.0


@pytest.mark.parametrize(
    ("elevation", "name"), [(10.0, "day"), (-0.1, "twilight"), (-6.0, "twilight"), (-6.1, "night")]
)
def test_light_has_three_words(elevation: float, name: str) -> None:
    assert light(elevation) == name
