"""Rows of labelled frames for tests of plans and slices, without any lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_assets.domain.datasets.members import MemberInfo


def frames_of(members: Sequence[MemberInfo]) -> pa.Table:
    """One row per labelled frame; speeds rise with the frame, the first frame has all boxes."""
    rows = [
        {
            "drive": m.drive,
            "clip_id": f"{m.drive}/00000",
            "ref_ns": n,
            "boxes": sum(m.objects.values()) if n == 0 else 0,
            "mean_speed_mps": float(n) if n % 7 else None,
            "light": m.tags.get("light"),
            "tags": ["cut_in"] if n % 2 else [],
        }
        for m in members
        for n in range(m.frames)
    ]
    types = {"drive": pa.string(), "clip_id": pa.string(), "ref_ns": pa.int64(), "boxes": pa.int32(),
             "mean_speed_mps": pa.float64(), "light": pa.string(), "tags": pa.list_(pa.string())}  # fmt: skip
    return pa.Table.from_pylist(rows, pa.schema(types))
