"""Does an index find what an exact search finds, and does it hold what it should?

Belongs here: those two judgements. Does not belong here: any index, or what follows from a judgement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from av_assets.domain.errors import EvidenceError
from av_assets.domain.search.embedding import vectors_of
from av_assets.domain.search.recall import SAME, recall_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa


class Searchable(Protocol):
    """Rows with `clip_id`, `camera` and `similarity`, best first; `exact` compares with every row."""

    def near(
        self, vector: np.ndarray, k: int, where: str | None = None, exact: bool | None = None
    ) -> list[dict[str, Any]]: ...


def judge(index: Searchable, sample: pa.Table, k: int) -> dict[str, Any]:
    """Ask for the k nearest others of each sampled row, by the index and exactly.

    Args:
        sample: rows of the index with `clip_id`, `camera` and `vector`.

    Returns:
        queries, recall (None where no row has another), and `found_themselves`: how many queries came back as an
        answer to themselves by the index. That is less than `queries` where the index has lost rows.
    """
    ours, truth, themselves = [], [], 0
    keys = zip(sample["clip_id"].to_pylist(), sample["camera"].to_pylist(), strict=True)
    for key, vector in zip(keys, vectors_of(sample["vector"]), strict=True):
        found, exact = (_ranked(index.near(vector, k + 1, exact=how)) for how in (False, True))
        me = "|".join(key)
        # As many exact copies as there are answers may leave no place for the row itself.
        copies = bool(found) and found[-1][1] > 1 - SAME
        themselves += copies or any(name == me for name, _ in found)
        ours.append([pair for pair in found if pair[0] != me][:k])
        truth.append([pair for pair in exact if pair[0] != me][:k])
    return {"queries": sample.num_rows, "recall": recall_at(ours, truth, k), "found_themselves": themselves}


def _ranked(rows: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(f"{row['clip_id']}|{row['camera']}", float(row["similarity"])) for row in rows]


def require_same_rows(held: Mapping[str, tuple[str, int]], wanted: Mapping[str, tuple[str, int]]) -> None:
    """Every drive with the content and number of rows that it should have, and no other.

    Raises:
        EvidenceError: `index_lost_rows`, naming the first drive that differs.
    """
    for drive in sorted(held.keys() | wanted.keys()):
        if held.get(drive) != wanted.get(drive):
            raise EvidenceError(
                f"the index holds {held.get(drive)}, it should hold {wanted.get(drive)}",
                code="index_lost_rows",
                drive=drive,
                remedy="materialize similarity_index again",
            )
