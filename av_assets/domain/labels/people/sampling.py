"""How many frames a second person has to see: samples that measure an error share, and plans that accept a lot.

Belongs here: sizes and draws. Does not belong here: what a frame is worth (priority), handing frames out (tasks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

_LETTERS: Final = "ABCDEFGHJKLMNPQ"
_LARGEST_LOT: Final = (
    8, 15, 25, 50, 90, 150, 280, 500, 1200, 3200, 10_000, 35_000, 150_000, 500_000,
)  # fmt: skip
_SIZES: Final = (2, 3, 5, 8, 13, 20, 32, 50, 80, 125, 200, 315, 500, 800, 1250)
_ACCEPTS: Final[Mapping[float, Mapping[str, int]]] = {
    1.0: {"E": 0, "H": 1, "J": 2, "K": 3, "L": 5, "M": 7, "N": 10, "P": 14, "Q": 21},
    2.5: {"C": 0, "F": 1, "G": 2, "H": 3, "J": 5, "K": 7, "L": 10, "M": 14, "N": 21},
    4.0: {"B": 0, "E": 1, "F": 2, "G": 3, "H": 5, "J": 7, "K": 10, "L": 14, "M": 21},
}
"""AQL in percent -> code letter -> acceptance number. A letter that is not named is an arrow of the norm's table."""
_UP: Final[Mapping[float, str]] = {1.0: "F", 2.5: "DPQ", 4.0: "CNPQ"}
"""Letters whose arrow points up, to the plan of the nearest letter before; the others' arrows point down."""


def sample_size(population: int, share: float, margin: float, z: float) -> int:
    """Frames to look at to know an error share within `margin`: z^2 p (1 - p) / e^2, with finite correction
    (Cochran, "Sampling Techniques", 1977).
    """
    if population <= 0:
        return 0
    n = z * z * share * (1 - share) / (margin * margin)
    return min(population, ceil(n / (1 + (n - 1) / population)))


def stratified_sample(
    strata: Mapping[str, Sequence[int]], share: float, margin: float, z: float, rng: np.random.Generator
) -> dict[str, list[int]]:
    """Members drawn at random from every stratum, as many as `sample_size` asks of the stratum alone."""
    drawn = {}
    for name in sorted(strata):
        members = list(strata[name])
        size = sample_size(len(members), share, margin, z)
        drawn[name] = sorted(members[int(k)] for k in rng.permutation(len(members))[:size])
    return drawn


@dataclass(frozen=True)
class AcceptancePlan:
    """Inspect `sample` of `lot` items; at most `accept` bad ones, or the whole lot is refused."""

    lot: int
    letter: str
    sample: int
    accept: int


def acceptance_plan(lot: int, aql_percent: float) -> AcceptancePlan:
    """Single sampling, normal inspection, general level II, in the style of ISO 2859-1.

    The tables are those of the norm as remembered, for AQL 1.0, 2.5 and 4.0 only; who claims the norm has to check
    them against it. Where the sample is not smaller than the lot, every item is inspected.

    Raises:
        ValueError: another AQL.
    """
    if aql_percent not in _ACCEPTS:
        raise ValueError(f"no plan for AQL {aql_percent}; there are {sorted(_ACCEPTS)}")
    place = sum(lot > largest for largest in _LARGEST_LOT)
    plans, step = _ACCEPTS[aql_percent], -1 if _LETTERS[place] in _UP[aql_percent] else 1
    while _LETTERS[place] not in plans:
        place += step
    letter = _LETTERS[place]
    return AcceptancePlan(lot, letter, min(_SIZES[place], max(lot, 0)), plans[letter])
