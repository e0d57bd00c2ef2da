"""Embeddings as a few numbers that a reference fixed: distance to its centre, place along its main
directions.

Belongs here: the projection stored in a baseline and its use. Does not belong here: making embeddings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def fit_projection(vectors: Floats, axes: int) -> dict[str, Any]:
    """JSON-able {"mean": [D], "axes": [[D], ...]} of the vectors (N, D): their mean and principal directions.

    The sign of an axis is fixed by its largest entry, so that the same vectors in any order give the same
    axes. Numbers are rounded to 6 digits: that is what the baseline file holds, and so what both sides are
    measured with.
    """
    ordered = vectors[np.lexsort(vectors.T[::-1])]
    mean = ordered.mean(axis=0)
    _, _, rows = np.linalg.svd(ordered - mean, full_matrices=False)
    rows = rows[: min(axes, len(vectors) - 1)]
    signs = [np.sign(row[np.argmax(np.abs(row))]) or 1.0 for row in rows]
    fixed = [row * sign for row, sign in zip(rows, signs, strict=True)]
    return {"mean": np.round(mean, 6).tolist(), "axes": [np.round(row, 6).tolist() for row in fixed]}


def project(vectors: Floats, projection: dict[str, Any]) -> dict[str, Floats]:
    """Feature columns (N,) of vectors (N, D); rows of nan stay nan."""
    mean = np.asarray(projection["mean"])
    norm = np.linalg.norm(vectors, axis=1) * np.linalg.norm(mean)
    cosine = np.divide(vectors @ mean, norm, out=np.full(len(vectors), np.nan), where=norm > 0)
    columns: dict[str, Floats] = {"embedding_distance": 1.0 - cosine}
    for index, axis in enumerate(projection["axes"]):
        columns[f"embedding_axis_{index}"] = (vectors - mean) @ np.asarray(axis)
    return columns
