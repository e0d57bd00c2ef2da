"""What an observation says the weather was: clear, cloudy, rain, snow, fog, storm, or nothing, and then why.

Belongs here: codes and derived classes by policy. Does not belong here: which observation speaks for a clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from av_assets.domain.context.observations import GRID_SOURCES, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from av_assets.policies.context import Codes, ContextPolicy, DerivedPolicy

    Flags = NDArray[np.bool_]
    Meaning = tuple[str | None, str]
    """A class of weather and why it is missing; one of the two is empty."""

SCHEMES: Final = {"meteostat": "coco", "synop": "ww"}
NO_CODE: Final = "the observation has no weather code"


def meanings(rows: pa.Table, policy: ContextPolicy) -> list[Meaning]:
    """For each row of OBSERVATIONS what the weather was, or why it does not say."""
    cloud, derived = values_of(rows, "cloud_share"), _derived(rows, policy.derived)
    tables = {scheme: _by_code(getattr(policy.codes, scheme)) for scheme in SCHEMES.values()}
    found = []
    for number, (source, code) in enumerate(
        zip(rows["source"].to_pylist(), rows["code"].to_pylist(), strict=True)
    ):
        if source in GRID_SOURCES:
            found.append(derived[number])
        else:
            found.append(
                _meaning(tables.get(SCHEMES.get(source, ""), {}), code, float(cloud[number]), policy)
            )
    return found


def _by_code(classes: Mapping[Any, Codes]) -> dict[int, str]:
    return {
        c: name for name, pairs in classes.items() for first, last in pairs for c in range(first, last + 1)
    }


def _meaning(table: Mapping[int, str], code: int | None, cloud: float, policy: ContextPolicy) -> Meaning:
    if code is None:
        return None, NO_CODE
    meant = table.get(code)
    if meant is None:
        return None, f"unknown code {code}"
    if meant != "sky":
        return meant, ""
    if np.isnan(cloud):
        return None, f"code {code} does not tell the sky, and no cloud cover was observed"
    return ("clear" if cloud <= policy.derived.clear_cloud_share else "cloudy"), ""


def _derived(rows: pa.Table, policy: DerivedPolicy) -> list[Meaning]:
    """The weather by quantities. Without precipitation or cloud cover nothing is told: they could hide anything."""
    rain, snow, cloud = (values_of(rows, n) for n in ("precipitation_mmph", "snowfall_mmph", "cloud_share"))
    seen, warm = values_of(rows, "visibility_m"), values_of(rows, "temperature_c")
    wet = rain >= policy.min_precipitation_mmph
    frozen = np.where(np.isnan(snow), warm <= policy.snow_below_c, snow >= policy.snow_share * rain)
    cases: list[tuple[Flags, Meaning]] = [
        (np.isnan(rain), (None, "the grid gives no precipitation")),
        (wet & np.isnan(snow) & np.isnan(warm), (None, "the grid gives neither snowfall nor temperature")),
        (wet & frozen, ("snow", "")),
        (wet, ("rain", "")),
        (seen < policy.fog_below_m, ("fog", "")),
        (np.isnan(cloud), (None, "the grid gives no cloud cover")),
        (cloud <= policy.clear_cloud_share, ("clear", "")),
        (np.ones(len(rain), np.bool_), ("cloudy", "")),
    ]
    first = np.argmax([case for case, _ in cases], axis=0)
    return [cases[number][1] for number in first.tolist()]
