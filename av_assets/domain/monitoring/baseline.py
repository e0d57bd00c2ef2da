"""The drift baseline: bins, counts per drive and the embedding projection, frozen with the dataset.

Belongs here: making and reading `reference.json`, and turning a feature table into binned columns. Does
not belong
here: comparing (drift.py), measuring features (features.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from av_assets.domain.errors import DatasetError
from av_assets.domain.monitoring.embeddings import Floats, fit_projection, project
from av_assets.domain.monitoring.psi import bin_counts, quantile_edges

if TYPE_CHECKING:
    from av_assets.policies.drift import DriftPolicy

SCHEMA = 1
KEYS = ("drive", "clip_id", "ref_ns")
EMBEDDING = "embedding"


def make_baseline(table: pa.Table, policy: DriftPolicy) -> dict[str, Any]:
    """JSON-able reference of a feature table: a `drive` column, numeric features, optionally `embedding`
    lists.

    Per feature it holds the quantile edges and the counts of every drive on them; rows may come in any order.

    Raises:
        DatasetError: no `drive` column or no row.
    """
    if "drive" not in table.column_names or table.num_rows == 0:
        raise DatasetError("a drift baseline needs rows with a drive", code="empty_baseline")
    projection = _projection(table, policy)
    columns = feature_columns(table, projection)
    drives = np.asarray(table["drive"].to_pylist())
    names = sorted(set(drives.tolist()))
    features = {}
    for name, values in sorted(columns.items()):
        edges = quantile_edges(values, policy.bins)
        counts = {drive: bin_counts(values[drives == drive], edges).tolist() for drive in names}
        features[name] = {"edges": edges, "counts": counts}
    return {
        "schema": SCHEMA,
        "policy": policy.digest,
        "rows": table.num_rows,
        "drives": names,
        "features": features,
        "embedding": projection,
    }


def feature_columns(table: pa.Table, projection: dict[str, Any] | None) -> dict[str, Floats]:
    """Every numeric feature of the table as float64 (N,), null as nan, embeddings as their projections."""
    columns = {
        field.name: _floats(table[field.name])
        for field in table.schema
        if field.name not in KEYS and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    }
    if projection is not None:
        columns |= project(_vectors(table, len(projection["mean"])), projection)
    return columns


def _floats(column: pa.ChunkedArray) -> Floats:
    values: Floats = np.asarray(pc.fill_null(pc.cast(column, pa.float64()), float("nan")).to_numpy())
    return values


def _projection(table: pa.Table, policy: DriftPolicy) -> dict[str, Any] | None:
    if EMBEDDING not in table.column_names or table[EMBEDDING].null_count == table.num_rows:
        return None
    vectors = [row for row in table[EMBEDDING].to_pylist() if row]
    return fit_projection(np.unique(np.asarray(vectors, dtype=np.float64), axis=0), policy.principal_axes)


def _vectors(table: pa.Table, width: int) -> npt.NDArray[np.float64]:
    rows = table[EMBEDDING].to_pylist() if EMBEDDING in table.column_names else [None] * table.num_rows
    blank = [float("nan")] * width
    return np.asarray(
        [row if row and len(row) == width else blank for row in rows], dtype=np.float64
    ).reshape(-1, width)
