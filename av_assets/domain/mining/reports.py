"""What mining and the ledger hand out: rows of tables and plain reports.

Belongs here: their shape. Does not belong here: deciding or drawing anything; publishing.
"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from av_assets.domain.mining.coverage import CELLS, gaps, ledger, pairs, share_seen
from av_assets.domain.mining.explain import why_empty
from av_assets.domain.mining.gap_specs import specs_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from av_assets.domain.mining.pipeline import Mined
    from av_assets.policies.coverage import CoveragePolicy
    from av_assets.policies.mining import MiningSpec

CANDIDATES: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("day", "spec", "clip_id", "drive")),
        ("rank", pa.int32()),
        *((name, pa.float64()) for name in ("score", "gain", "diversity")),
        *((name, pa.float64()) for name in ("relevance", "rarity", "uncertainty", "disagreement")),
        ("slices", pa.list_(pa.string())),
        ("unknown", pa.list_(pa.string())),
    ]
)
"""One row per chosen clip and spec. `unknown` are the parts of the score whose weight went to the others."""
FLEET: Final = "fleet"
TRAINING: Final = "training"


def candidate_rows(mined: Mined, day: str) -> list[dict[str, Any]]:
    """Rows of CANDIDATES, best first."""
    return [{"day": day, "spec": mined.spec.name, **row} for row in mined.chosen]


def report_of(mined: Mined) -> dict[str, Any]:
    """Plain JSON: the spec, the funnel's counts, the weights in effect, and why nothing is left where nothing is."""
    return {
        "name": mined.spec.name,
        "spec": mined.spec.model_dump(mode="json"),
        "weights": dict(mined.weights),
        "stages": [stage.to_json() for stage in mined.funnel.stages],
        "chosen": len(mined.chosen),
        "unknown": dict(Counter(part for row in mined.chosen for part in row["unknown"])),
        "empty": "" if mined.chosen else why_empty(mined.funnel.stages),
    }


def first_in_turn(lists: Sequence[Sequence[str]], most: int) -> list[str]:
    """The firsts of all lists, then the seconds, each item once, at most `most`."""
    turns = [item for turn in zip_longest(*lists) for item in turn if item is not None]
    return list(dict.fromkeys(turns))[:most]


def events_per_clip(events: pa.Table | None) -> dict[str, int]:
    """clip -> events that belong to it."""
    return {} if events is None else dict(Counter(c for c in events["clip_id"].to_pylist() if c is not None))


def ledgers(
    rows: pa.Table, events: Mapping[str, int], training: Collection[str], policy: CoveragePolicy
) -> dict[str, pa.Table]:
    """CELLS of all clips ("fleet") and of those of the drives that training holds ("training")."""
    inside = np.array([drive in training for drive in rows["drive"].to_pylist()], np.bool_)
    return {
        FLEET: ledger(rows, events, policy),
        TRAINING: ledger(rows.filter(pa.array(inside)), events, policy),
    }


def scoped(cells: Mapping[str, pa.Table]) -> pa.Table:
    """All ledgers as one table with the column `scope`."""
    schema = CELLS.insert(0, pa.field("scope", pa.string()))
    parts = [
        t.add_column(0, schema.field(0), pa.array([s] * t.num_rows, pa.string())) for s, t in cells.items()
    ]
    return pa.concat_tables([schema.empty_table(), *parts])


def coverage_report(
    cells: Mapping[str, pa.Table], policy: CoveragePolicy
) -> tuple[dict[str, Any], list[MiningSpec]]:
    """Pairwise coverage, the gaps of training, and specs for them. Without any training data all pairs are gaps."""
    found = {scope: pairs(counted, policy) for scope, counted in cells.items()}
    missing = gaps(found[TRAINING], found[FLEET], policy.min_hours)
    report = {
        "policy": policy.model_dump(mode="json"),
        "pairwise": {scope: round(share_seen(seen), 6) for scope, seen in found.items()},
        "hours": {scope: round(sum(c["hours"].to_pylist()), 6) for scope, c in cells.items()},
        "km": {scope: round(sum(c["km"].to_pylist()), 6) for scope, c in cells.items()},
        "gaps_of": TRAINING,
        "gaps": [gap.to_json() for gap in missing],
    }
    return report, specs_of(missing, policy)
