"""How well objects are followed over time: CLEAR MOT and identity scores by motmetrics, HOTA computed here.

Belongs here: scores of tracks against true tracks. Does not belong here: tracking, scores of single frames (detection).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from av_assets.domain.errors import LabelError
from av_assets.domain.metrics.boxes import iou

if TYPE_CHECKING:
    import motmetrics

Corners = Sequence[float]
Frame = Sequence[tuple[Hashable, Corners]]
"""(id, (x1, y1, x2, y2)) of each object in one frame; an id at most once."""

ALPHAS: Final = np.arange(1, 20) / 20
"""IoU from which HOTA counts a match: 0.05, 0.10 ... 0.95."""
MAX_TRACKS: Final = 3000
"""Tracks on both sides together: memory grows with their square."""
_CLEAR: Final = ("idf1", "idp", "idr", "mota", "motp", "num_switches")
_EPS: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class _Pairs:
    """One frame: track numbers of truth (n,) and found (m,), and their overlaps (n, m)."""

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    overlap: NDArray[np.float64]


def track_scores(
    truth: Sequence[Frame], found: Sequence[Frame], least_iou: float = 0.5
) -> dict[str, float | int | None]:
    """Scores of `found` against `truth`, frame by frame at the same times.

    IDF1, IDP, IDR (Ristani et al. 2016), MOTA, MOTP and switches (Bernardin and Stiefelhagen 2008) count a match from
    `least_iou`; MOTP is the mean of 1 - IoU over matches, so less is better. HOTA, DetA, AssA (Luiten et al. 2021) are
    means over `ALPHAS`. A score whose denominator is empty is None, but HOTA, DetA and AssA are 0 where there is
    anything on either side. Neither the names of ids nor the order within a frame matter.

    Raises:
        LabelError: unequal_frames, both sides must have the same frames; repeated_track, an id stands twice in a frame;
            bad_track_box, a box that is not finite or is turned inside out; too_many_tracks, more than `MAX_TRACKS`.
    """
    if len(truth) != len(found):
        raise LabelError(
            f"{len(truth)} frames of truth, {len(found)} of tracks",
            code="unequal_frames",
            remedy="give an empty frame where nothing was found",
        )
    first, second = _numbered(truth, "truth"), _numbered(found, "tracks")
    counts = tuple(
        1 + max((int(ids.max()) for ids, _ in side if len(ids)), default=-1) for side in (first, second)
    )
    if sum(counts) > MAX_TRACKS:
        raise LabelError(
            f"{sum(counts)} tracks, at most {MAX_TRACKS} are scored at once",
            code="too_many_tracks",
            remedy="score parts of the drive",
        )
    frames = [_Pairs(a, b, iou(x, y)) for (a, x), (b, y) in zip(first, second, strict=True)]
    return _clear_scores(frames, least_iou) | _hota(frames, *counts)


def _numbered(frames: Sequence[Frame], side: str) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Per frame (ids, boxes): ids numbered in the order of first appearance, in one frame by x1, y1, x2, y2; so sorted.

    Of two objects that had the same track motmetrics serves the first: so it is the elder, whatever the names are.
    """
    numbers: dict[Hashable, int] = {}
    result = []
    for place, frame in enumerate(frames):
        boxes = np.array([corners for _, corners in frame], np.float64).reshape(-1, 4)
        if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
            raise LabelError(f"{side}: frame {place} has a box that is none", code="bad_track_box")
        order = np.lexsort(boxes.T[::-1])
        names = [frame[i][0] for i in order.tolist()]
        if len(set(names)) < len(names):
            raise LabelError(f"{side}: frame {place} has an id twice", code="repeated_track")
        ids = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
        by_age = np.argsort(ids)
        result.append((ids[by_age], boxes[order][by_age]))
    return result


def _clear_scores(frames: Sequence[_Pairs], least_iou: float) -> dict[str, float | int | None]:
    import motmetrics

    held = motmetrics.MOTAccumulator(auto_id=True)
    for frame in frames:
        distance = np.where(frame.overlap >= least_iou, 1.0 - frame.overlap, np.nan)
        held.update(frame.truth, frame.found, distance)
    objects, boxes = (sum(len(getattr(f, side)) for f in frames) for side in ("truth", "found"))
    computed = _computed(held) if objects and boxes else {"num_switches": 0.0}
    if objects and not boxes:
        computed |= {"idf1": 0.0, "idr": 0.0, "mota": 0.0}
    elif boxes and not objects:
        computed |= {"idf1": 0.0, "idp": 0.0}
    switches = int(computed.pop("num_switches"))
    values = {name: computed.get(name, np.nan) for name in _CLEAR[:-1]}
    known = {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
    return {**known, "switches": switches}


def _computed(held: motmetrics.MOTAccumulator) -> dict[str, float]:
    import motmetrics

    with np.errstate(invalid="ignore", divide="ignore"):  # no match: MOTP has no denominator
        row = motmetrics.metrics.create().compute(held, metrics=list(_CLEAR), return_dataframe=False)
    return {name: float(row[name]) for name in _CLEAR}


def _hota(frames: Sequence[_Pairs], truths: int, founds: int) -> dict[str, float | None]:
    """Luiten et al., HOTA: a higher order metric for evaluating multi-object tracking, IJCV 2021, section 5."""
    in_truth, in_found = np.zeros(truths), np.zeros(founds)
    for frame in frames:
        in_truth[frame.truth] += 1
        in_found[frame.found] += 1
    if not in_truth.sum() and not in_found.sum():
        return {"hota": None, "deta": None, "assa": None}
    one, other, overlap = _matches(frames, in_truth, in_found)
    deta, assa = np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
    for number, alpha in enumerate(ALPHAS):
        held = overlap >= alpha - _EPS
        hits = int(held.sum())
        pairs, times = np.unique(one[held] * founds + other[held], return_counts=True)
        union = in_truth[pairs // max(founds, 1)] + in_found[pairs % max(founds, 1)] - times
        deta[number] = hits / (in_truth.sum() + in_found.sum() - hits)
        assa[number] = float((times * times / union).sum()) / max(hits, 1)
    hota = np.sqrt(deta * assa)
    return {"hota": float(hota.mean()), "deta": float(deta.mean()), "assa": float(assa.mean())}


def _matches(
    frames: Sequence[_Pairs], in_truth: NDArray[np.float64], in_found: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Track numbers and overlaps of the pairs that go together best over the whole time; one assignment per frame."""
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((len(in_truth), len(in_found)))
    for frame in frames:
        whole = frame.overlap.sum(0)[None, :] + frame.overlap.sum(1)[:, None] - frame.overlap
        share = np.divide(frame.overlap, whole, out=np.zeros_like(frame.overlap), where=whole > _EPS)
        together[frame.truth[:, None], frame.found[None, :]] += share
    aligned = together / np.maximum(in_truth[:, None] + in_found[None, :] - together, 1.0)
    found = []
    for frame in frames:
        score = aligned[frame.truth[:, None], frame.found[None, :]] * frame.overlap
        rows, columns = linear_sum_assignment(-score)
        found.append((frame.truth[rows], frame.found[columns], frame.overlap[rows, columns]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    one, other, overlap = (np.concatenate(part) for part in zip(*found, strict=True))
    return one, other, overlap
