"""Exact similarities of clips to named clips, from their embeddings: what `similar to` asks for.

Belongs here: comparing vectors of the same model. Does not belong here: making them, or an index over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

SIMILARITIES = pa.schema([("reference", pa.string()), ("clip_id", pa.string()), ("similarity", pa.float64())])
_KEY = ("camera", "model_digest", "preproc_digest")


def likeness(tables: Sequence[pa.Table], clips: Sequence[str]) -> pa.Table:
    """Rows by SIMILARITIES: for each named clip that has an embedding, every clip and its cosine similarity.

    Vectors are compared where camera, model and preprocessing agree; of several cameras the most similar one counts.

    Args:
        tables: rows (clip_id, camera, model_digest, preproc_digest, embedding), the vectors of length 1.
    """
    wanted = [
        (row["clip_id"], tuple(row[k] for k in _KEY), np.asarray(row["embedding"], dtype=np.float64))
        for table in tables
        for row in table.filter(pa.compute.is_in(table["clip_id"], pa.array(clips, pa.string()))).to_pylist()
    ]
    best: dict[tuple[str, str], float] = {}
    for table in tables:
        for reference, key, vector in wanted:
            for clip_id, value in _compared(table, key, vector):
                best[reference, clip_id] = max(value, best.get((reference, clip_id), -1.0))
    rows = [{"reference": r, "clip_id": c, "similarity": s} for (r, c), s in sorted(best.items())]
    return pa.Table.from_pylist(rows, schema=SIMILARITIES)


def _compared(table: pa.Table, key: Sequence[Any], vector: np.ndarray) -> list[tuple[str, float]]:
    for name, value in zip(_KEY, key, strict=True):
        table = table.filter(pa.compute.equal(table[name], value))
    if not table.num_rows:
        return []
    flat = pa.concat_arrays([c.flatten() for c in table["embedding"].chunks]).to_numpy(zero_copy_only=False)
    values = flat.reshape(table.num_rows, -1).astype(np.float64) @ vector
    return list(zip(table["clip_id"].to_pylist(), values.tolist(), strict=True))
