"""How many objects are to be seen in a stretch of time, by the labels of a drive.

Belongs here: counting boxes and how much of them is hidden. Does not belong here: making labels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from av_assets.domain.sequences.intervals import Interval

Row = Mapping[str, Any]
Frame = tuple[str, int]


@dataclass(frozen=True)
class Objects:
    """The largest number in any one labelled frame of any camera; None where no frame was labelled.

    Attributes:
        occluded_pedestrians: None as well where there are pedestrians and of none is known how much is hidden.
        occlusion_from: `label` (the labels say it), `nearer_boxes` (share of a box that boxes of nearer objects in the
            same picture cover), None where it is not known.
    """

    vehicles: int | None = None
    pedestrians: int | None = None
    occluded_pedestrians: int | None = None
    occlusion_from: str | None = None


@dataclass(frozen=True)
class _FrameCount:
    ref_ns: int
    vehicles: int
    pedestrians: int
    hidden: tuple[tuple[float, str], ...]  # of the pedestrians of which it is known


def frame_counts(labels: Sequence[Row], frames: Iterable[Frame]) -> list[_FrameCount]:
    """What each labelled frame holds.

    Args:
        labels: rows of a label bundle (`domain/labels/schema`).
        frames: (camera, ref_ns) of frames that were labelled, whether or not something was found in them.
    """
    held: dict[Frame, list[Row]] = defaultdict(list)
    for row in labels:
        held[row["camera"], row["ref_ns"]].append(row)
    for frame in frames:
        held.setdefault(frame, [])
    return [_frame(frame[1], rows) for frame, rows in sorted(held.items())]


def objects_in(window: Interval, counts: Sequence[_FrameCount], occluded_share: float) -> Objects:
    """The counts of the frames inside the window."""
    inside = [c for c in counts if window.start_ns <= c.ref_ns <= window.end_ns]
    if not inside:
        return Objects()
    pedestrians = max(c.pedestrians for c in inside)
    known = [source for c in inside for _, source in c.hidden]
    occluded = max(sum(share >= occluded_share for share, _ in c.hidden) for c in inside)
    return Objects(
        vehicles=max(c.vehicles for c in inside),
        pedestrians=pedestrians,
        occluded_pedestrians=occluded if known or not pedestrians else None,
        occlusion_from="label" if "label" in known else next(iter(known), None),
    )


def _frame(ref_ns: int, rows: Sequence[Row]) -> _FrameCount:
    number = Counter(row["cls"] for row in rows)
    hidden = (_hidden(row, rows) for row in rows if row["cls"] == "pedestrian")
    return _FrameCount(ref_ns, number["vehicle"], number["pedestrian"], tuple(h for h in hidden if h))


def _hidden(row: Row, others: Sequence[Row]) -> tuple[float, str] | None:
    """Hidden share of a box, and how it is known."""
    if row["occlusion"] is not None:
        return float(row["occlusion"]), "label"
    if row["distance_m"] is None:
        return None
    nearer = [o for o in others if o["distance_m"] is not None and o["distance_m"] < row["distance_m"]]
    return covered_share(row, nearer), "nearer_boxes"


def covered_share(box: Row, others: Sequence[Row]) -> float:
    """Share of the area of a box (x1, y1, x2, y2) that the union of the others covers; exact, by the grid of edges."""
    clipped = [_clip(o, box) for o in others]
    clipped = [c for c in clipped if c[0] < c[2] and c[1] < c[3]]
    area = (box["x2"] - box["x1"]) * (box["y2"] - box["y1"])
    if not clipped or area <= 0:
        return 0.0
    xs = sorted({x for c in clipped for x in (c[0], c[2])})
    ys = sorted({y for c in clipped for y in (c[1], c[3])})
    covered = sum(
        (x2 - x1) * (y2 - y1)
        for x1, x2 in pairwise(xs)
        for y1, y2 in pairwise(ys)
        if any(c[0] <= x1 and x2 <= c[2] and c[1] <= y1 and y2 <= c[3] for c in clipped)
    )
    return float(min(covered / area, 1.0))


def _clip(box: Row, to: Row) -> tuple[float, float, float, float]:
    return (
        max(box["x1"], to["x1"]),
        max(box["y1"], to["y1"]),
        min(box["x2"], to["x2"]),
        min(box["y2"], to["y2"]),
    )
