"""Gaps of the coverage become mining specs: the ledger writes what is to be looked for next.

Belongs here: that translation. Does not belong here: finding gaps (coverage).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_assets.domain.mining.coverage import MEASURED
from av_assets.policies.mining import MiningSpec, Predicate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.mining.coverage import Gap
    from av_assets.policies.coverage import CoveragePolicy


def specs_of(gaps: Sequence[Gap], policy: CoveragePolicy) -> list[MiningSpec]:
    """One spec per gap, in their order, at most `max_specs`: it selects exactly the clips of the gap's cells."""
    return [_spec(gap, policy) for gap in gaps[: policy.max_specs]]


def _spec(gap: Gap, policy: CoveragePolicy) -> MiningSpec:
    parts = [f"{name}-{value}" for name, value in gap.values.items()]
    return MiningSpec(
        name=f"gap-{'-'.join(parts)}".lower(),
        why=f"{gap.hours:.3g} of {gap.min_hours:g} h in training, {gap.fleet_hours:.3g} h driven: {gap.remedy}",
        where={
            MEASURED.get(name, name): _predicate(name, value, policy) for name, value in gap.values.items()
        },
        budget=policy.gap_budget,
    )


def _predicate(dimension: str, value: str, policy: CoveragePolicy) -> Predicate:
    if dimension not in MEASURED:
        return Predicate(any_of=(value,))
    bands = policy.bands(dimension)
    place = [band.name for band in bands].index(value)
    low = bands[place - 1].below if place else None
    if low is None and bands[place].below is None:
        return Predicate(known=True)
    return Predicate(min=low, below=bands[place].below)
