"""What becomes of leaks: the policy says for every kind whether the dataset is refused, an item dropped or people told.

Belongs here: that decision and how it is written down. Does not belong here: finding leaks (leakage).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from av_assets.domain.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av_assets.domain.datasets.leakage import Found, Leak, LeakKind
    from av_assets.policies.golden import GoldenPolicy

NAMED = 5


@dataclass(frozen=True)
class Verdict:
    """What was found, and which items (clips, or whole drives) are not frozen because of it."""

    found: Mapping[LeakKind, Found]
    actions: Mapping[str, str]
    dropped: Mapping[str, Leak]
    most_listed: int

    def to_json(self) -> dict[str, Any]:
        """The content of `leaks.json`: all counts, every dropped item, and the first leaks of every kind."""
        return {
            "kinds": {
                kind: {
                    "action": self.actions[kind],
                    "pairs": found.pairs,
                    "items": len({leak.a for leak in found.leaks}),
                    "first": [asdict(leak) for leak in found.leaks[: self.most_listed]],
                }
                for kind, found in sorted(self.found.items())
            },
            "dropped": {item: asdict(leak) for item, leak in sorted(self.dropped.items())},
        }


def judge(found: Mapping[LeakKind, Found], policy: GoldenPolicy) -> Verdict:
    """Which items to drop; of two alike ones it is that of the earlier split, so that what is tested on stays.

    Raises:
        DatasetError: dataset_leaks, with the pairs, where the policy refuses their kind.
    """
    actions = policy.leaks.model_dump()
    refused = [leak for kind in found for leak in found[kind].leaks if actions[kind] == "refuse"]
    if refused:
        raise _refusal(refused)
    dropped: dict[str, Leak] = {}
    for kind in sorted(found):
        for leak in found[kind].leaks if actions[kind] == "drop" else ():
            dropped.setdefault(leak.a, leak)
    return Verdict(found, actions, dropped, policy.max_leaks_listed)


def reason_of(leak: Leak) -> str:
    """One leak in words."""
    measure = {
        "near_duplicate": f", cosine {leak.measure}",
        "near_duplicate_frame": f", {leak.measure or 0:.0f} bits differ",
    }.get(leak.kind, "")
    place = f" at {leak.at}" if leak.at else ""
    return f"{leak.kind}: {leak.a} ({leak.split_a}) and {leak.b} ({leak.split_b}){measure}{place}"


def _refusal(leaks: list[Leak]) -> DatasetError:
    counts = Counter(leak.kind for leak in leaks)
    many = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
    listed = "; ".join(reason_of(leak) for leak in leaks[:NAMED])
    more = f"; and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
    return DatasetError(
        f"what is tested on leaks into what is learned from: {many}: {listed}{more}",
        code="dataset_leaks",
        remedy="take one of each pair out (av forget, or quarantine it), split by geo_cell, or let golden.yaml drop "
        f"the learned side (leaks.{leaks[0].kind}: drop)",
    )
