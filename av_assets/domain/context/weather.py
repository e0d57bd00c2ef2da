"""Which observation speaks for a clip: the nearest in space, and of that place the nearest in time.

An observation that does not tell the weather gives way to a farther one in reach that does; where none does, the
nearest one still gives temperature and precipitation. Nothing is ever assumed: no weather is null with a reason.
Belongs here: nearness on the sphere and in time. Does not belong here: codes (weather_codes), files, clips' signals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from av_assets.domain.context.observations import GRID_SOURCES, OBSERVATIONS, distances_m, values_of
from av_assets.domain.context.weather_codes import meanings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from av_assets.domain.geometry.transforms import Array
    from av_assets.policies.context import ContextPolicy, MatchPolicy

    Ints = NDArray[np.int64]

NS_PER_S: Final = 1e9
BLOCK: Final = 1 << 22  # distances that are held at once
COLUMNS: Final = (
    "weather", "weather_code", "weather_source", "weather_lag_s", "weather_distance_m", "temperature_c",
    "precipitation_mmph", "weather_reason",
)  # fmt: skip


@dataclass(frozen=True)
class Moments:
    """Where and when the weather is asked for: arrays (N,); NaN where a position is not known."""

    time_ns: Ints
    latitude_deg: Array
    longitude_deg: Array

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True)
class _Found:
    """Per moment (N,): the row of the observation or -1, how far and how old it is."""

    row: Ints
    distance_m: Array
    lag_ns: Ints


def usable(rows: pa.Table, moments: Moments, policy: MatchPolicy) -> pa.Table:
    """Those OBSERVATIONS that could speak for one of the moments: in reach of one in space, and of one in time.

    A place in reach without such an observation keeps one row without a time, if `rows` has one: that it is there, and
    silent, is what the reason for a missing weather tells.
    """
    placed = np.isfinite(moments.latitude_deg) & np.isfinite(moments.longitude_deg)
    if not rows.num_rows or not placed.any():
        return rows.slice(0, 0)
    times, tolerance_ns = moments.time_ns[placed], policy.time_tolerance_ns
    valid = rows["valid_ns"]
    inside = pc.and_(
        pc.greater_equal(valid, int(times.min()) - tolerance_ns),
        pc.less_equal(valid, int(times.max()) + tolerance_ns),
    )
    rows = rows.filter(pc.or_(pc.is_null(valid), pc.fill_null(inside, False)))
    if not rows.num_rows:
        return rows
    places = _Places(rows, policy)
    near = np.zeros(len(places.reach_m), np.bool_)
    for part in _parts(np.flatnonzero(placed), len(near)):
        near |= (places.distances_m(moments, part) <= places.reach_m).any(axis=0)
    timeless = np.asarray(pc.is_null(rows["valid_ns"]).to_numpy(), np.bool_)
    speaking = np.zeros(len(near), np.bool_)
    speaking[places.of_row[~timeless]] = True
    return rows.filter(pa.array(near[places.of_row] & ~(timeless & speaking[places.of_row])))


def places_of(rows: pa.Table) -> pa.Table:
    """One row without a time for each place of OBSERVATIONS, by source and station."""
    names = ["source", "station", "latitude_deg", "longitude_deg"]
    found = rows.select(names).group_by(names).aggregate([]).sort_by([(name, "ascending") for name in names])
    absent = [field for field in OBSERVATIONS if field.name not in names]
    for field in absent:
        found = found.append_column(field, pa.nulls(found.num_rows, field.type))
    return found.select(OBSERVATIONS.names).cast(OBSERVATIONS)


def weather_at(moments: Moments, rows: pa.Table, policy: ContextPolicy) -> list[dict[str, Any]]:
    """COLUMNS for each moment.

    weather_lag_s is the time of the moment minus that of the observation: positive where that is older.
    `weather_reason` gives a reason for every null in the row, and is null where there is none.

    Args:
        rows: OBSERVATIONS, each place and time at most once; rows without a time only tell that a place is there.
    """
    any_place = _any_place(moments, rows, policy.match)
    rows = rows.filter(pc.is_valid(rows["valid_ns"]))
    told = meanings(rows, policy)
    speaks = np.array([weather is not None for weather, _ in told], np.bool_)
    best = _nearest(moments, rows.filter(pa.array(speaks)), policy.match)
    other = _nearest(moments, rows, policy.match)
    speaking = best.row >= 0
    row = np.where(speaking, np.append(np.flatnonzero(speaks), -1)[best.row], other.row)
    distance_m = np.where(speaking, best.distance_m, other.distance_m)
    lag_ns = np.where(speaking, best.lag_ns, other.lag_ns)
    found = rows.take(pa.array(row[row >= 0]))
    cells = iter(
        found.select(["source", "station", "code", "temperature_c", "precipitation_mmph"]).to_pylist()
    )
    return [
        _told(next(cells), told[row[n]], float(lag_ns[n]) / NS_PER_S, float(distance_m[n]))
        if row[n] >= 0
        else dict.fromkeys(COLUMNS) | {"weather_reason": _nothing(moments, n, bool(any_place[n]), policy)}
        for n in range(len(moments))
    ]


def _told(
    cell: dict[str, Any], told: tuple[str | None, str], lag_s: float, distance_m: float
) -> dict[str, Any]:
    weather, why = told
    reasons = [why] if why else []
    if cell["code"] is None and cell["source"] in GRID_SOURCES:
        reasons.append("a grid gives no weather code")
    elif cell["code"] is None and weather is not None:
        reasons.append("the observation has no weather code")
    for name, words in (("temperature_c", "temperature"), ("precipitation_mmph", "precipitation")):
        reasons += [f"the observation has no {words}"] if cell[name] is None else []
    return {
        "weather": weather,
        "weather_code": cell["code"],
        "weather_source": f"{cell['source']} {cell['station']}",
        "weather_lag_s": lag_s,
        "weather_distance_m": distance_m,
        "temperature_c": cell["temperature_c"],
        "precipitation_mmph": cell["precipitation_mmph"],
        "weather_reason": "; ".join(reasons) or None,
    }


def _nothing(moments: Moments, number: int, any_place: bool, policy: ContextPolicy) -> str:
    if not np.isfinite([moments.latitude_deg[number], moments.longitude_deg[number]]).all():
        return "no position"
    if not any_place:
        return f"no station within {policy.match.max_station_distance_m / 1000:g} km"
    return f"no observation within {policy.match.time_tolerance_s / 60:g} min"


class _Places:
    """The distinct places of OBSERVATIONS, in the order of source and station.

    Attributes:
        of_row: (M,) number of the place of each observation.
        reach_m: (P,) how far each place may be asked from.
    """

    def __init__(self, rows: pa.Table, policy: MatchPolicy) -> None:
        names = ["source", "station", "latitude_deg", "longitude_deg"]
        keyed = rows.select(names).append_column("_row", pa.array(np.arange(rows.num_rows)))
        first = keyed.group_by(names).aggregate([("_row", "min")]).sort_by([(n, "ascending") for n in names])
        self._latitude_deg, self._longitude_deg = (
            values_of(first, "latitude_deg"),
            values_of(first, "longitude_deg"),
        )
        grid = np.array([source in GRID_SOURCES for source in first["source"].to_pylist()], np.bool_)
        self.reach_m = np.where(grid, policy.max_grid_distance_m, policy.max_station_distance_m)
        numbers = {tuple(cell.values()): n for n, cell in enumerate(first.select(names).to_pylist())}
        self.of_row = np.array([numbers[tuple(c.values())] for c in rows.select(names).to_pylist()], np.int64)

    def distances_m(self, moments: Moments, part: Ints) -> Array:
        return distances_m(
            moments.latitude_deg[part], moments.longitude_deg[part], self._latitude_deg, self._longitude_deg
        )


def _nearest(moments: Moments, rows: pa.Table, policy: MatchPolicy) -> _Found:
    """The nearest place with an observation in time; among equals the first by name, of equal times the earlier."""
    size = len(moments)
    row, lag_ns = np.full(size, -1, np.int64), np.zeros(size, np.int64)
    distance_m = np.full(size, np.nan)
    if not rows.num_rows:
        return _Found(row, distance_m, lag_ns)
    places, valid_ns = _Places(rows, policy), rows["valid_ns"].to_numpy()
    closest, lags = _by_time(moments.time_ns, valid_ns, places)
    placed = np.flatnonzero(np.isfinite(moments.latitude_deg) & np.isfinite(moments.longitude_deg))
    for part in _parts(placed, len(places.reach_m)):
        away_m = places.distances_m(moments, part)
        in_reach = (away_m <= places.reach_m) & (np.abs(lags[part]) <= policy.time_tolerance_ns)
        ranked = np.where(in_reach, away_m, np.inf)
        chosen = ranked.argmin(axis=1)
        hit = np.isfinite(ranked[np.arange(len(part)), chosen])
        hits, place = part[hit], chosen[hit]
        row[hits], lag_ns[hits] = closest[hits, place], lags[hits, place]
        distance_m[hits] = ranked[hit, place]
    return _Found(row, distance_m, lag_ns)


def _any_place(moments: Moments, rows: pa.Table, policy: MatchPolicy) -> NDArray[np.bool_]:
    """(N,) whether any place is in reach, whenever it observed."""
    found = np.zeros(len(moments), np.bool_)
    if rows.num_rows:
        places = _Places(rows, policy)
        placed = np.flatnonzero(np.isfinite(moments.latitude_deg) & np.isfinite(moments.longitude_deg))
        for part in _parts(placed, len(places.reach_m)):
            found[part] = (places.distances_m(moments, part) <= places.reach_m).any(axis=1)
    return found


def _by_time(time_ns: Ints, valid_ns: Ints, places: _Places) -> tuple[Ints, Ints]:
    """(N, P) the observation of each place that is nearest in time, and its lag."""
    closest = np.zeros((len(time_ns), len(places.reach_m)), np.int64)
    lags = np.zeros_like(closest)
    for place in range(len(places.reach_m)):
        mine = np.flatnonzero(places.of_row == place)
        mine = mine[np.argsort(valid_ns[mine], kind="stable")]
        times = valid_ns[mine]
        after = np.searchsorted(times, time_ns).clip(0, len(times) - 1)
        before = (after - 1).clip(0)
        later = np.abs(times[after] - time_ns) < np.abs(times[before] - time_ns)
        pick = np.where(later, after, before)
        closest[:, place], lags[:, place] = mine[pick], time_ns - times[pick]
    return closest, lags


def _parts(numbers: Ints, width: int) -> list[Ints]:
    step = max(1, BLOCK // max(width, 1))
    return [numbers[start : start + step] for start in range(0, len(numbers), step)]


def observations_from(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """OBSERVATIONS out of plain rows."""
    return pa.Table.from_pylist(list(rows), schema=OBSERVATIONS)
