"""Why a clip or drive is not in a set, in sentences with the numbers that decided.

Belongs here: from funnel rows to answers. Does not belong here: deciding (pipeline), frozen datasets (membership).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from av_assets.domain.mining.funnel import CHOSEN, Stage, counts, emptied_by


@dataclass(frozen=True)
class Answer:
    """Why `subject` is in the set or not.

    Attributes:
        stage: the first filter that removed it; for a drive that of the clip that came farthest. "chosen": it is in.
        clip_id: the clip that the sentence speaks of; empty where it speaks of the drive.
        clips: for a drive, stage -> number of its clips.
    """

    subject: str
    set: str
    inside: bool
    stage: str
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    clip_id: str = ""
    clips: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {key: dict(v) if isinstance(v, Mapping) else v for key, v in vars(self).items()}


def why_not(subject: str, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """One answer per spec of the funnel rows (FUNNEL); none where no row is about the clip or drive `subject`."""
    mine = [row for row in rows if subject in (row["clip_id"], row["drive"])]
    specs = dict.fromkeys(row["spec"] for row in mine)
    return [_answer(subject, spec, [row for row in mine if row["spec"] == spec]) for spec in specs]


def _answer(subject: str, spec: str, rows: Sequence[Mapping[str, Any]]) -> Answer:
    farthest = min(rows, key=lambda row: (-row["order"], row["clip_id"]))
    numbers = json.loads(farthest["numbers"])
    is_drive = any(row["clip_id"] != subject for row in rows)
    return Answer(
        subject,
        spec,
        bool(farthest["kept"]),
        farthest["stage"],
        sentence(farthest["stage"], numbers),
        numbers,
        farthest["clip_id"],
        counts(row["stage"] for row in rows) if is_drive else {},
    )


def sentence(stage: str, numbers: Mapping[str, Any]) -> str:
    """What the stage has to say about a clip that it removed, or chose."""
    if stage == CHOSEN:
        return f"chosen as number {numbers['rank']} with a gain of {numbers['gain']:.4g}"
    if stage.startswith("where."):
        return _where(stage.removeprefix("where."), numbers)
    return {"sequence": _search, "text": _search, "training": _training, "like": _like, "limit": _limit,
            "near_duplicate": _near, "semantic_duplicate": _same, "pool": _pool, "quota": _quota,
            "budget": _budget}[stage](stage, numbers)  # fmt: skip


def why_empty(stages: Sequence[Stage]) -> str:
    """Which filter left nothing over; empty where something is left."""
    if not stages or not stages[0].entered:
        return "the catalogue holds no clip"
    last = emptied_by(stages)
    if last is None:
        return ""
    before = stages[: list(stages).index(last)]
    path = ", ".join(f"{s.name} {s.entered} -> {s.entered - s.removed}" for s in before if s.removed)
    note = f" ({last.note})" if last.note else ""
    after = f" after {path}" if path else ""
    return f"{last.name} removed the last {last.removed} of {stages[0].entered} clips{note}{after}"


def _where(column: str, n: Mapping[str, Any]) -> str:
    found = n["found"]
    if found is None:
        reason = f": {n['reason']}" if n.get("reason") else ""
        said = f"it is not known{reason}"
    elif isinstance(found, list):
        said = f"it has {', '.join(found)}" if found else "it has none"
    else:
        said = f"it was {found:.6g}" if isinstance(found, float) else f"it was {found}"
    sun = f" (sun at {n['sun_elevation_deg']:.1f} deg)" if "sun_elevation_deg" in n else ""
    return f"where {column} is {n['asked']}: {said}{sun}"


def _search(stage: str, n: Mapping[str, Any]) -> str:
    if "reason" in n:
        return f"{stage} {n['asked']!r} could not be answered: {n['reason']}"
    return f"{stage} {n['asked']!r}: not among the {n['found']} clips that match"


def _training(_: str, n: Mapping[str, Any]) -> str:
    return f"training has its drive already: {n['held_by']}"


def _like(_: str, n: Mapping[str, Any]) -> str:
    if "reason" in n:
        return f"like {n['asked']}: {n['reason']}"
    return (
        f"like {n['asked']}: rank {n['rank']} with cosine {n['cosine']:.3f}, the nearest {n['nearest']} count"
    )


def _limit(_: str, n: Mapping[str, Any]) -> str:
    return f"too many candidates: rank {n['rank']}, the first {n['limit']} are compared"


def _near(_: str, n: Mapping[str, Any]) -> str:
    return f"near duplicate of {n['of']}: Hamming {n['hamming']} <= {n['limit']}"


def _same(_: str, n: Mapping[str, Any]) -> str:
    return f"shows the same as {n['of']}: cosine {n['cosine']:.4f} > {n['limit']:g}"


def _pool(_: str, n: Mapping[str, Any]) -> str:
    return f"score {n['score']:.4g} is rank {n['rank']}, the best {n['pool']} are chosen among"


def _quota(_: str, n: Mapping[str, Any]) -> str:
    return f"quota of slice {n['slice']} was full: {n['at_most']} clips"


def _budget(_: str, n: Mapping[str, Any]) -> str:
    return f"budget of {n['budget']} spent: gain {n['gain']:.4g} below the last chosen {n['last_gain']:.4g}"
