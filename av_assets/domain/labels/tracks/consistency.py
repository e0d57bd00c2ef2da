"""How far labels agree with themselves, without anybody's answer: over time, and between lidar and camera.

Belongs here: figures per track and per drive. Does not belong here: quality against people or truth (labeller_quality).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.labels.automatic.label_rows import Row, label_id, rounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av_assets.domain.labels.automatic.candidates import Corners
    from av_assets.domain.labels.automatic.label_rows import Offer
    from av_assets.domain.labels.tracks.odometry import Pose
    from av_assets.domain.labels.tracks.smoothing import Placed

Matches = dict[int, list[float]]


def track_rows(
    offers: Sequence[Offer],
    placed: Mapping[int, Sequence[Placed]],
    poses: Sequence[Pose],
    times_s: Sequence[float],
    reprojection: Mapping[int, Sequence[float]],
) -> list[Row]:
    """Rows of tracks.parquet: every track with a label.

    Args:
        offers: what was kept, of labelled frames.
        placed: track -> its candidates of all tracked frames, by frame.
        reprojection: track -> residuals in pixels (`residual_px`).

    `frames`, `observed` and `bridged` count tracked frames, labelled or not. speed_residual_mps: mean distance between
    the smoothed velocity and the observed displacement over one second, both over ground. size_spread: mean over
    length, width and height of standard deviation through mean of what single sweeps measured. Null: not known.
    """
    chosen: dict[int, list[Offer]] = defaultdict(list)
    for one in offers:
        chosen[one.candidate.track].append(one)
    rows = []
    for track in sorted(chosen):
        whole, own = placed[track], chosen[track]
        observed = sum(p.raw is not None for p in whole)
        box = whole[0].candidate.cuboid
        size = (None,) * 3 if box is None else (box.length_m, box.width_m, box.top_m - box.bottom_m)
        seen = reprojection.get(track, [])
        row = {
                "label_id": label_id(track), "cls": own[0].candidate.cls,
                "first_ns": whole[0].candidate.ref_ns, "last_ns": whole[-1].candidate.ref_ns,
                "frames": len(whole), "observed": observed, "bridged": len(whole) - observed,
                "mean_score": round(float(np.mean([o.candidate.score for o in own])), 4),
                **{n: rounded(v, 3) for n, v in zip(("length_m", "width_m", "height_m"), size, strict=True)},
                "speed_residual_mps": rounded(speed_residual_mps(whole, poses, times_s), 3),
                "size_spread": rounded(size_spread(whole), 4),
                "reprojection_px": rounded(float(np.mean(seen)), 3) if seen else None,
        }  # fmt: skip
        rows.append(row)
    return rows


def speed_residual_mps(
    placed: Sequence[Placed], poses: Sequence[Pose], times_s: Sequence[float]
) -> float | None:
    """Smoothed velocity against observed displacement, over stretches of about a second."""
    seen = [
        p for p in placed if p.raw is not None and p.raw.cuboid is not None and p.velocity_mps is not None
    ]
    residuals = []
    ahead = 0
    for one in seen:
        while ahead < len(seen) and times_s[seen[ahead].frame] - times_s[one.frame] < 1.0:
            ahead += 1
        if ahead == len(seen):
            break
        other = seen[ahead]
        step = times_s[other.frame] - times_s[one.frame]
        moved = (_still(other, poses) - _still(one, poses)) / step
        between = [p for p in placed if one.frame <= p.frame <= other.frame and p.velocity_mps is not None]
        speeds = np.array([poses[p.frame].turned(np.array([p.velocity_mps]))[0] for p in between])
        residuals.append(float(np.hypot(*(moved - speeds.mean(axis=0)))))
    return float(np.mean(residuals)) if residuals else None


def _still(one: Placed, poses: Sequence[Pose]) -> Any:
    assert one.raw is not None
    assert one.raw.cuboid is not None
    return poses[one.frame].still(np.array([[one.raw.cuboid.x_m, one.raw.cuboid.y_m]]))[0]


def size_spread(placed: Sequence[Placed]) -> float | None:
    """Coefficient of variation of the measured sizes; None with less than two."""
    boxes = [p.raw.cuboid for p in placed if p.raw is not None and p.raw.cuboid is not None]
    if len(boxes) < 2:
        return None
    sizes = np.array([[b.length_m, b.width_m, b.top_m - b.bottom_m] for b in boxes])
    return float((sizes.std(axis=0) / np.maximum(sizes.mean(axis=0), 1e-6)).mean())


def residual_px(projected: Corners, seen: Corners) -> float:
    """Mean distance of the four edges of a projected cuboid from those of what a camera's detector saw."""
    return float(np.mean(np.abs(np.subtract(projected, seen))))


def self_consistency(rows: Sequence[Row]) -> dict[str, float | None]:
    """Over the tracks of a drive, each weighing its observed frames; null where no track has the figure.

    continuity: share of the frames of tracks that were observed.
    """
    found: dict[str, float | None] = {
        name: _mean(rows, name) for name in ("speed_residual_mps", "size_spread", "reprojection_px")
    }
    frames = sum(r["frames"] for r in rows)
    found["continuity"] = round(sum(r["observed"] for r in rows) / frames, 4) if frames else None
    return found


def _mean(rows: Sequence[Row], name: str) -> float | None:
    known = [(r[name], r["observed"]) for r in rows if r[name] is not None]
    if not known:
        return None
    values, weights = zip(*known, strict=True)
    return round(float(np.average(values, weights=weights)), 4)
