"""The coverage ledger: how long the fleet drove in which part of its operational domain, and what pairs it never met.

A cell is one value of each dimension; a value that is not known is the value "unknown" and covers nothing.
Belongs here: exposure, pairs, gaps. Does not belong here: specs for the gaps (gap_specs), pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from av_assets.domain.mining.columns import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.policies.coverage import CoveragePolicy

DIMENSIONS: Final = ("road_class", "light", "weather", "density", "speed_band")
MEASURED: Final = {"density": "road_users", "speed_band": "mean_speed_mps"}
"""Dimensions of bands -> the column that is measured."""
CELLS: Final = pa.schema(
    [
        *((name, pa.string()) for name in DIMENSIONS),
        *((name, pa.int64()) for name in ("clips", "events")),
        *((name, pa.float64()) for name in ("hours", "km", "hours_without_distance")),
    ]
)
_SUMS: Final = ("clips", "events", "hours", "km", "hours_without_distance")


@dataclass(frozen=True)
class Pair:
    """Exposure of two values of two dimensions together; `seen` is whether it is enough."""

    dimension_a: str
    value_a: str
    dimension_b: str
    value_b: str
    clips: int
    events: int
    hours: float
    km: float
    seen: bool

    @property
    def values(self) -> dict[str, str]:
        return {self.dimension_a: self.value_a, self.dimension_b: self.value_b}


@dataclass(frozen=True)
class Gap:
    """A pair that training has too little of. `remedy`: "mine" where the fleet has clips of it, else "collect"."""

    values: Mapping[str, str]
    hours: float
    fleet_hours: float
    fleet_clips: int
    min_hours: float
    remedy: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"values": dict(self.values)}


def cell_of(row: Mapping[str, Any], policy: CoveragePolicy) -> tuple[str, ...]:
    """The cell of a clip row (columns.clip_rows). A class that the policy does not expect keeps its name."""
    return tuple(
        _band(row[MEASURED[name]], policy, name) if name in MEASURED else str(row[name] or UNKNOWN)
        for name in DIMENSIONS
    )


def ledger(rows: pa.Table, events: Mapping[str, int], policy: CoveragePolicy) -> pa.Table:
    """CELLS of the clips, sorted; only cells with a clip.

    Hours are those of the clips (their last frame lasts as long as the mean one); kilometres are mean speed times
    hours, and hours whose speed is not known are counted apart.

    Args:
        rows: `columns.clip_rows`.
        events: clip -> events that begin in it.
    """
    cells: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows.to_pylist():
        cell = cells.setdefault(cell_of(row, policy), dict.fromkeys(_SUMS, 0.0))
        hours, speed = _hours(row), row["mean_speed_mps"]
        cell["clips"] += 1
        cell["events"] += events.get(row["clip_id"], 0)
        cell["hours"] += hours
        cell["km"] += 0.0 if speed is None else speed * 3.6 * hours
        cell["hours_without_distance"] += hours if speed is None else 0.0
    found = [
        dict(zip(DIMENSIONS, key, strict=True))
        | {name: int(v) if name in ("clips", "events") else round(v, 9) for name, v in cells[key].items()}
        for key in sorted(cells)
    ]
    return pa.Table.from_pylist(found, schema=CELLS)


def pairs(cells: pa.Table, policy: CoveragePolicy) -> list[Pair]:
    """Every pair of expected values of two dimensions that can meet, with its exposure over all cells."""
    rows = cells.to_pylist()
    impossible = {frozenset(pair.items()) for pair in policy.impossible}
    found = []
    for a, b in combinations(DIMENSIONS, 2):
        sums: dict[tuple[str, str], dict[str, float]] = {}
        for row in rows:
            total = sums.setdefault((row[a], row[b]), dict.fromkeys(_SUMS, 0.0))
            for name in _SUMS:
                total[name] += row[name]
        for x in policy.values(a):
            for y in policy.values(b):
                if frozenset({(a, x), (b, y)}) not in impossible:
                    found.append(_pair(a, x, b, y, sums.get((x, y)), policy.min_hours))
    return found


def share_seen(found: Sequence[Pair]) -> float:
    """Pairwise coverage in 0..1: pairs with enough exposure over pairs that can meet."""
    return sum(pair.seen for pair in found) / len(found) if found else 0.0


def gaps(training: Sequence[Pair], fleet: Sequence[Pair], min_hours: float) -> list[Gap]:
    """Pairs that training has too little of: first those that the fleet can give, the least trained and then the
    most driven ones before; behind them those that nobody has driven yet.
    """
    driven = {tuple(sorted(pair.values.items())): pair for pair in fleet}
    found = []
    for pair in training:
        there = driven[tuple(sorted(pair.values.items()))]
        if not pair.seen:
            remedy = "mine" if there.clips > pair.clips else "collect"
            found.append(Gap(pair.values, pair.hours, there.hours, there.clips, min_hours, remedy))
    return sorted(
        found, key=lambda g: (g.remedy != "mine", g.hours, -g.fleet_hours, sorted(g.values.items()))
    )


def _band(value: float | None, policy: CoveragePolicy, dimension: str) -> str:
    if value is None or value != value:
        return UNKNOWN
    bands = policy.bands(dimension)
    return next(band.name for band in bands if band.below is None or value < band.below)


def _hours(row: Mapping[str, Any]) -> float:
    span, frames = (row["end_ns"] - row["start_ns"]) / 3.6e12, row["frames"] or 0
    return float(span * frames / (frames - 1)) if frames > 1 else float(span)


def _pair(a: str, x: str, b: str, y: str, sums: Mapping[str, float] | None, min_hours: float) -> Pair:
    held = sums or dict.fromkeys(_SUMS, 0.0)
    clips, events = int(held["clips"]), int(held["events"])
    return Pair(a, x, b, y, clips, events, held["hours"], held["km"], held["hours"] >= min_hours)
