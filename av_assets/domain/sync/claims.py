"""What synced shards claim of themselves before anybody reads them.

Belongs here: from clip files and report to claims. Does not belong here: making either.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from av_assets.domain.evidence.claims import Claim
from av_assets.domain.sync.frames_table import frames_table

if TYPE_CHECKING:
    from pathlib import Path


def shard_claims(folder: Path) -> list[Claim]:
    """Rows are all there and in order, and every stream keeps to its expected phase."""
    report = json.loads((folder / "sync_report.json").read_bytes())
    frames = frames_table(folder)
    ref_ns, index = (frames[name].to_numpy() for name in ("ref_ns", "frame_index"))
    promised = report["rows"]["written"]
    back = int((np.diff(ref_ns) <= 0).sum()) + int((np.diff(index) <= 0).sum())
    claims = [
        Claim(
            "rows_are_all_there",
            len(frames) == promised,
            f"{len(frames)} rows of {promised}",
            "",
            len(frames),
            promised,
        ),
        Claim("rows_are_in_order", not back, f"{back} rows do not follow the one before", "", back, 0),
    ]
    for role, stream in sorted(report["streams"].items()):
        p95, limit = stream["residual_ns"]["p95"], stream["tolerance_ns"]
        reason = (
            "no pair with the reference"
            if p95 is None
            else f"p95 {p95 / 1e6:.1f} ms, allowed {limit / 1e6:.1f}"
        )
        remedy = "see residuals.png; a sensor may drop frames or run on another clock"
        claims.append(
            Claim("residual_is_within_tolerance", stream["residual_ok"], reason, role, p95, limit, remedy)
        )
    return claims
