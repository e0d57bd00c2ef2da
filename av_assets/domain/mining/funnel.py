"""The funnel: what every stage of mining let through, what it took out, and the numbers why.

Belongs here: keeping account. Does not belong here: the stages (pipeline), sentences (explain).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CHOSEN: Final = "chosen"
FUNNEL: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("spec", "clip_id", "drive", "stage")),
        ("order", pa.int32()),
        ("kept", pa.bool_()),
        ("numbers", pa.string()),
    ]
)
"""One row per clip and spec: the stage that decided. `order` is the stage's place, `numbers` is JSON."""


@dataclass(frozen=True)
class Stage:
    """Counts of one stage: `entered` = `removed` + what the next one enters with."""

    name: str
    entered: int
    removed: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"stage": self.name, "entered": self.entered, "removed": self.removed, "note": self.note}


@dataclass
class Funnel:
    """Takes clips away stage by stage and remembers why.

    Attributes:
        left: ids of the clips that are still in, in their order.
        decided: clip -> (stage, its place, numbers) of those that are not, and at last of those chosen.
    """

    spec: str
    left: list[str]
    stages: list[Stage] = field(default_factory=list)
    decided: dict[str, tuple[str, int, Mapping[str, Any]]] = field(default_factory=dict)

    def remove(self, stage: str, numbers: Mapping[str, Mapping[str, Any]], note: str = "") -> None:
        """Take out the clips that `numbers` names, each with what explains it; others than those in are no matter."""
        entered = self.left
        gone = {clip: numbers[clip] for clip in entered if clip in numbers}
        self.left = [clip for clip in entered if clip not in gone]
        self.stages.append(Stage(stage, len(entered), len(gone), note))
        place = len(self.stages) - 1
        self.decided.update({clip: (stage, place, why) for clip, why in gone.items()})

    def keep(self, numbers: Mapping[str, Mapping[str, Any]]) -> None:
        """Those that are left are chosen, in the order of `numbers`."""
        self.left = [clip for clip in numbers if clip in set(self.left)]
        place = len(self.stages)
        self.decided.update({clip: (CHOSEN, place, numbers[clip]) for clip in self.left})

    def to_table(self, drives: Mapping[str, str]) -> pa.Table:
        """FUNNEL rows sorted by clip. `drives`: clip -> drive."""
        rows = [
            {
                "spec": self.spec,
                "clip_id": clip,
                "drive": drives[clip],
                "stage": stage,
                "order": place,
                "kept": stage == CHOSEN,
                "numbers": json.dumps(numbers, sort_keys=True, ensure_ascii=False),
            }
            for clip, (stage, place, numbers) in sorted(self.decided.items())
        ]
        return pa.Table.from_pylist(rows, schema=FUNNEL)


def emptied_by(stages: Sequence[Stage]) -> Stage | None:
    """The stage after which nothing was left; None where something was, or nothing ever entered."""
    return next((s for s in stages if s.entered and s.entered == s.removed), None)


def counts(decided: Iterable[str]) -> dict[str, int]:
    """Stage -> clips that it decided, most first."""
    return dict(sorted(Counter(decided).items(), key=lambda item: (-item[1], item[0])))
