"""Small catalogues, policies and evidence for the tests of mining.

Belongs here: making cases. Does not belong here: expectations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from av_assets.domain.mining.columns import clip_rows
from av_assets.domain.mining.pipeline import Evidence, Mined, settle, sift
from av_assets.policies.mining import MiningPolicy, MiningSpec

NS = 10**9


def policy(**changes: Any) -> MiningPolicy:
    return MiningPolicy.model_validate(MiningPolicy.load().model_dump() | {"specs": []} | changes)


def spec(**keys: Any) -> MiningSpec:
    return MiningSpec.model_validate({"name": "asked", "budget": 3} | keys)


def catalogue(clips: list[dict[str, Any]], **tables: pa.Table) -> pa.Table:
    """Clip rows; each clip is `{"clip_id": "a/00000", ...}` with any columns of clips and clip_context."""
    rows = [
        {
            "drive": c["clip_id"].split("/")[0],
            "start_ns": n * 5 * NS,
            "end_ns": n * 5 * NS + 4_900_000_000,
            "frames": 50,
        }
        | {k: v for k, v in c.items() if k not in ("weather", "road_class", "weather_reason", "road_users")}
        for n, c in enumerate(clips)
    ]
    context = [{k: c.get(k) for k in ("clip_id", "weather", "road_class", "weather_reason")} for c in clips]
    users = {c["clip_id"]: c["road_users"] for c in clips if c.get("road_users") is not None}
    columns = dict.fromkeys(name for row in rows for name in row)
    rows = [dict.fromkeys(columns) | row for row in rows]
    given = {"clips": pa.Table.from_pylist(rows), "clip_context": pa.Table.from_pylist(context)}
    return clip_rows(given | tables, users)


def unit(*values: float) -> np.ndarray:
    vector = np.asarray(values, np.float32)
    return vector / np.linalg.norm(vector)


def mined(
    asked: MiningSpec,
    rows: pa.Table,
    vectors: dict[str, np.ndarray] | None = None,
    hashes: dict[str, list[int]] | None = None,
    training: dict[str, str] | None = None,
    numbers: MiningPolicy | None = None,
    **evidence: Any,
) -> Mined:
    """The whole pipeline without any search."""

    def nothing(_: str) -> list[str]:
        raise AssertionError("no search was asked for")

    sifted = sift(asked, rows, nothing, nothing, training or {})
    known = hashes or {}
    found = Evidence(vectors or {}, lambda clips: {c: known[c] for c in clips if c in known}, **evidence)
    return settle(sifted, found, numbers or policy())
