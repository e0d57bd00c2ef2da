"""Text, likeness and filters in one ranking of clips, and why a ranking is empty.

Belongs here: what is asked of an index and how the answers become one. Does not belong here: any index.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from av_assets.domain.search.filters import Filter
from av_assets.domain.search.fusion import reciprocal_rank_fusion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np


class ClipIndex(Protocol):
    """What can be asked; rows are one per clip and camera, best first."""

    def near(self, vector: np.ndarray, k: int, where: str | None) -> list[dict[str, Any]]: ...
    def matching(self, words: str, k: int, where: str | None) -> list[dict[str, Any]]: ...
    def count(self, where: str | None) -> int: ...


@dataclass(frozen=True)
class Question:
    """What is wanted.

    Attributes:
        words: for the descriptions; "" asks none.
        vectors: what the pictures should look like: name of the list -> (D,) vector.
        filter: what every clip must satisfy.
        without: a clip that is not an answer: the one that was asked with.
    """

    words: str = ""
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    filter: Filter | None = None
    without: str | None = None


@dataclass(frozen=True)
class Answer:
    """Ranked clips.

    Attributes:
        results: rows of the index with `score` and `parts`: list -> (rank, bm25 or similarity).
        counts: step -> rows left after it, in order; tells an empty answer from a narrow one.
        emptied_by: the step that left nothing; None where something is left.
    """

    results: list[dict[str, Any]]
    counts: dict[str, int]
    emptied_by: str | None


def answer(index: ClipIndex, question: Question, limit: int, candidates: int, rrf_k: int) -> Answer:
    """Each list of the question is asked for `candidates` clips under the filter, and all are fused by rank."""
    where = question.filter.sql if question.filter else None
    lists: dict[str, list[dict[str, Any]]] = {}
    if question.words:
        lists["text"] = _one_per_clip(index.matching(question.words, candidates, where), question.without)
    for name, vector in question.vectors.items():
        lists[name] = _one_per_clip(index.near(vector, candidates, where), question.without)
    rows = {row["clip_id"]: row for found in lists.values() for row in found}
    ranks = {name: {row["clip_id"]: n for n, row in enumerate(found, 1)} for name, found in lists.items()}
    measures = {name: {row["clip_id"]: _measure(row) for row in found} for name, found in lists.items()}
    results = []
    for clip_id, score in reciprocal_rank_fusion([list(r) for r in ranks.values()], rrf_k)[:limit]:
        parts = {n: {"rank": r[clip_id], **measures[n][clip_id]} for n, r in ranks.items() if clip_id in r}
        facts = {k: v for k, v in rows[clip_id].items() if k not in ("bm25", "similarity")}
        results.append({**facts, "score": score, "parts": parts})
    counts = _counts(index, question, candidates)
    emptied = (
        None if results else next((step for step, left in counts.items() if not left), "the clip itself")
    )
    return Answer(results, counts, emptied)


def _one_per_clip(rows: Sequence[dict[str, Any]], without: str | None) -> list[dict[str, Any]]:
    """The best row of each clip: several cameras of one clip are one answer."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["clip_id"] != without:
            best.setdefault(row["clip_id"], row)
    return list(best.values())


def _measure(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[name]) for name in ("bm25", "similarity") if name in row}


def _counts(index: ClipIndex, question: Question, candidates: int) -> dict[str, int]:
    """Rows of the index, rows after each part of the filter, and up to `candidates` rows that the text matches."""
    counts = {"index": index.count(None)}
    parts = question.filter.parts if question.filter else ()
    for number, part in enumerate(parts, 1):
        counts[f"filter {part}"] = index.count(" AND ".join(parts[:number]))
    if question.words and not question.vectors:
        counts[f"text {question.words!r}"] = len(index.matching(question.words, candidates, None))
        if parts:
            where = " AND ".join(parts)
            counts["text and filter"] = len(index.matching(question.words, candidates, where))
    return counts
