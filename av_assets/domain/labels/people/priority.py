"""What a frame is worth to people: uncertainty x rarity x mistakenness of what the machine found in it.

    uncertainty   the most uncertain candidate: binary entropy of its score, in bits
    rarity        the rarest thing in the frame: log(N / n) / log(N) of its class and slice, over the drive's frames
    mistakenness  (m exp(-H) + 1) / 2 with H the entropy of the score in nats, and m = +1 where the label contradicts
                  the candidate, else -1 (after FiftyOne's mistakenness of classifications)

All are 0..1; the worst candidate speaks for a frame.
Belongs here: those numbers. Does not belong here: who does what with them (tasks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING, Any

from av_assets.domain.labels.matching import iou_matrix

if TYPE_CHECKING:
    from av_assets.domain.labels.people.annotators import DrawnBox

NOTHING = ("", "")
SURE = 0.5  # a candidate that scores at least this says that something is there


@dataclass(frozen=True)
class FrameValue:
    """The three factors of one frame and their product."""

    uncertainty: float
    rarity: float
    mistakenness: float

    @property
    def priority(self) -> float:
        return self.uncertainty * self.rarity * self.mistakenness


def frame_values(
    candidates: Sequence[Sequence[Mapping[str, Any]]],
    labels: Sequence[Sequence[DrawnBox]],
    match_iou: float,
) -> list[FrameValue]:
    """The value of every frame.

    Args:
        candidates: per frame, rows with cls, x1, y1, x2, y2, score, slice, of things that would be labelled.
        labels: per frame, the boxes that the machine proposes.
    """
    rarity = _rarities([_kinds(rows) for rows in candidates])
    values = []
    for rows, boxes in zip(candidates, labels, strict=True):
        scores = [min(max(float(row["score"]), 0.0), 1.0) for row in rows]
        values.append(
            FrameValue(
                round(max((entropy_nats(s) / log(2) for s in scores), default=0.0), 6),
                round(max(rarity[kind] for kind in _kinds(rows)), 6),
                round(
                    max(
                        (
                            mistakenness(s, _contradicted(row, s, boxes, match_iou))
                            for row, s in zip(rows, scores, strict=True)
                        ),
                        default=0.0,
                    ),
                    6,
                ),
            )
        )
    return values


def entropy_nats(score: float) -> float:
    """Entropy of "it is there" with probability `score`."""
    return 0.0 - sum(p * log(p) for p in (score, 1.0 - score) if p > 0.0)


def mistakenness(score: float, contradicted: bool) -> float:
    """How likely the label is wrong: 1 where a sure candidate contradicts it, 0 where a sure one confirms it."""
    return ((1.0 if contradicted else -1.0) * exp(-entropy_nats(score)) + 1.0) / 2.0


def _contradicted(row: Mapping[str, Any], score: float, labels: Sequence[DrawnBox], match_iou: float) -> bool:
    """Whether labels and candidate say different things about its place: another class, or something and nothing."""
    corners = [row[k] for k in ("x1", "y1", "x2", "y2")]
    overlap = iou_matrix([corners], [box.xyxy for box in labels])[0] if labels else []
    there = {box.cls for box, iou in zip(labels, overlap, strict=True) if iou >= match_iou}
    return row["cls"] not in there if score >= SURE else row["cls"] in there


def _kinds(rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    return {(str(row["cls"]), str(row.get("slice") or "")) for row in rows} or {NOTHING}


def _rarities(frames: Sequence[set[tuple[str, str]]]) -> dict[tuple[str, str], float]:
    counts = Counter(kind for kinds in frames for kind in kinds)
    total = len(frames)
    return {kind: log(total / n) / log(total) if total > 1 else 1.0 for kind, n in counts.items()}
