"""Observations of the weather as one table, whatever they came from, and which values are believed.

Belongs here: its columns, distances, plausibility, repeated rows. Does not belong here: layouts of files
(weather_layouts), meaning of codes (weather_codes), nearness (weather).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from av_assets.domain.geometry.transforms import Array
    from av_assets.policies.context import PlausiblePolicy

QUANTITIES = (
    "temperature_c", "precipitation_mmph", "snowfall_mmph", "visibility_m", "wind_mps", "humidity", "cloud_share",
)  # fmt: skip
"""Measured values: degC, mm of water per hour (snowfall too), m, m/s, and shares of 1."""

OBSERVATIONS = pa.schema(
    [
        ("source", pa.string()),  # meteostat, synop or era5: says what `code` means
        ("station", pa.string()),
        ("latitude_deg", pa.float64()),
        ("longitude_deg", pa.float64()),
        ("valid_ns", pa.int64()),
        ("code", pa.int32()),
        *((name, pa.float64()) for name in QUANTITIES),
    ]
)
GRID_SOURCES = ("era5",)
EARTH_RADIUS_M = 6_371_008.8  # mean radius of the GRS 80 ellipsoid (IUGG)


class Judged(NamedTuple):
    """Rows that may be used, and what was taken out.

    Attributes:
        rows: OBSERVATIONS, sorted by source, station and time, each of these once.
        implausible: column -> values outside their range, null in `rows`.
        misplaced: rows whose position is not on earth; dropped.
        repeated: rows of a place and time that came again; the last one counts.
    """

    rows: pa.Table
    implausible: Counter[str]
    misplaced: int
    repeated: int


def judged(rows: pa.Table, policy: PlausiblePolicy) -> Judged:
    """Take implausible values, misplaced rows and repetitions out of OBSERVATIONS, and count them."""
    latitude, longitude = (values_of(rows, f"{axis}_deg") for axis in ("latitude", "longitude"))
    placed = (np.abs(latitude) <= 90) & (np.abs(longitude) <= 180)
    misplaced = int((~placed).sum())
    rows = rows.filter(pa.array(placed))
    implausible: Counter[str] = Counter()
    for name in QUANTITIES:
        values, (least, most) = values_of(rows, name), getattr(policy, name)
        beyond = (values < least) | (values > most)
        if beyond.any():
            implausible[name] = int(beyond.sum())
            values = np.where(beyond, np.nan, values)
            column = pa.array(values, pa.float64(), from_pandas=True)
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    unique = _last_of_each(rows)
    return Judged(unique, implausible, misplaced, rows.num_rows - unique.num_rows)


def _last_of_each(rows: pa.Table) -> pa.Table:
    numbered = rows.append_column("_row", pa.array(np.arange(rows.num_rows)))
    keys = ["source", "station", "valid_ns"]
    last = numbered.group_by(keys).aggregate([("_row", "max")])["_row_max"]
    return rows.take(last).sort_by([(key, "ascending") for key in keys]).combine_chunks()


def distances_m(
    latitude_deg: Array, longitude_deg: Array, latitudes_deg: Array, longitudes_deg: Array
) -> Array:
    """Great-circle distances (N, P) by the haversine formula (Sinnott 1984): exact at poles and across 180 degrees."""
    la, las = np.radians(latitude_deg)[:, None], np.radians(latitudes_deg)[None, :]
    half_lo = np.radians(longitudes_deg[None, :] - longitude_deg[:, None]) / 2
    square = np.sin((las - la) / 2) ** 2 + np.cos(la) * np.cos(las) * np.sin(half_lo) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(square, 0.0, 1.0))))


def values_of(rows: pa.Table, name: str) -> Array:
    """A column (N,) as float64, null as NaN."""
    column = pc.cast(rows[name], pa.float64())
    return np.asarray(column.to_numpy(), dtype=np.float64)
