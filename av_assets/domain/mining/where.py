"""Structured predicates over clip rows: which clips pass, and which key stopped the others.

Belongs here: evaluating predicates. Does not belong here: what a predicate may say (policies/mining), its wording
(explain).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from av_assets.domain.mining.columns import COLUMNS, REASONS, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from av_assets.policies.mining import Predicate


def passes(rows: pa.Table, column: str, predicate: Predicate) -> NDArray[np.bool_]:
    """(N,) bool: which rows the predicate lets through. A null passes only where `unknown` is asked for."""
    values = rows[column].combine_chunks()
    kind = COLUMNS[column]
    if kind == "number":
        return _numbers(values, predicate)
    return _lists(values, predicate) if kind == "list" else _texts(values, predicate)


def stopped_by(rows: pa.Table, where: Mapping[str, Predicate]) -> list[str | None]:
    """Per row the first key of `where`, in its order, that it fails; None for rows that pass all."""
    first = np.full(rows.num_rows, -1, np.int32)
    for index, (column, predicate) in enumerate(where.items()):
        first[(first < 0) & ~passes(rows, column, predicate)] = index
    names = list(where)
    return [names[i] if i >= 0 else None for i in first.tolist()]


def numbers_of(row: Mapping[str, Any], column: str, predicate: Predicate) -> dict[str, Any]:
    """What explains the refusal of one row: the asked, the found, and the figure or reason behind it."""
    found = row.get(column)
    numbers: dict[str, Any] = {"key": f"where.{column}", "asked": predicate.words(), "found": found}
    reason = row.get(REASONS.get(column, ""))
    if found is None and reason:
        numbers["reason"] = reason
    if column == "light" and row.get("sun_elevation_deg") is not None:
        numbers["sun_elevation_deg"] = round(float(row["sun_elevation_deg"]), 1)
    return numbers


def _numbers(values: pa.Array, predicate: Predicate) -> NDArray[np.bool_]:
    found = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    known = ~np.isnan(found)
    good = known.copy()
    with np.errstate(invalid="ignore"):
        if predicate.min is not None:
            good &= found >= predicate.min
        if predicate.max is not None:
            good &= found <= predicate.max
        if predicate.below is not None:
            good &= found < predicate.below
    return ~known if predicate.known is False else good


def _texts(values: pa.Array, predicate: Predicate) -> NDArray[np.bool_]:
    filled = pc.fill_null(values.cast(pa.string()), UNKNOWN)
    good = np.ones(len(values), np.bool_)
    if predicate.any_of is not None:
        good &= _is_in(filled, predicate.any_of)
    if predicate.none_of is not None:
        good &= ~_is_in(filled, predicate.none_of)
    if predicate.known is not None:
        missing = _is_in(filled, (UNKNOWN,))
        good &= ~missing if predicate.known else missing
    elif UNKNOWN not in (predicate.any_of or ()):
        good &= ~_is_in(filled, (UNKNOWN,))
    return good


def _lists(values: pa.Array, predicate: Predicate) -> NDArray[np.bool_]:
    good = np.zeros(len(values), np.bool_)
    for index, held in enumerate(values.to_pylist()):
        if held is None or predicate.known is False:
            good[index] = held is None and predicate.known is False
            continue
        inside = set(held)
        good[index] = (predicate.any_of is None or not inside.isdisjoint(predicate.any_of)) and (
            predicate.none_of is None or inside.isdisjoint(predicate.none_of)
        )
    return good


def _is_in(values: pa.Array, wanted: tuple[str, ...]) -> NDArray[np.bool_]:
    found = pc.is_in(values, value_set=pa.array(wanted, pa.string()))
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)
