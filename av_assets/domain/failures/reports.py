"""What the search for failures hands out: tables, plain reports, pictures of numbers.

Belongs here: their shape. Does not belong here: finding anything; publishing; pictures of the road.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from av_assets.domain.failures.cases import ALL_KINDS, Case
from av_assets.domain.failures.tide import KINDS

if TYPE_CHECKING:
    from av_assets.domain.failures.buckets import Bucket
    from av_assets.domain.failures.finding import Findings
    from av_assets.domain.failures.slices import SliceShare

CASES: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("day", "drive", "clip_id", "bucket")),
        ("frames", pa.int32()),
        ("worst_ns", pa.int64()),
        *((kind, pa.int32()) for kind in ALL_KINDS),
        ("tags", pa.list_(pa.string())),
        ("release", pa.string()),
    ]
)
"""One row per failing clip: how often it fails in each way, and the frame with the most failures."""
ERRORS: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("ref_ns", pa.int64()),
        *((name, pa.string()) for name in ("kind", "cls", "predicted_cls")),
        *((name, pa.float64()) for name in ("score", "x1", "y1", "x2", "y2", "distance_m")),
        ("hard", pa.bool_()),
    ]
)
"""One row per error against people's labels; a missed object has no score and no predicted class. `hard`: its
frame is one of the worst."""


def case_rows(
    cases: Mapping[str, Case],
    buckets: Sequence[Bucket],
    tags: Mapping[str, Collection[str]],
    day: str,
    release: str,
) -> list[dict[str, Any]]:
    """Rows of CASES, by clip."""
    bucket_of = {clip: one.name for one in buckets for clip in one.clips}
    return [
        {
            "day": day, "drive": case.drive, "clip_id": clip, "bucket": bucket_of[clip], "frames": case.frames,
            "worst_ns": case.worst_ns, **{kind: case.kinds[kind] for kind in ALL_KINDS},
            "tags": sorted({*case.own_tags(), *tags.get(clip, ())}), "release": release,
        }
        for clip, case in cases.items()
    ]  # fmt: skip


def failure_report(
    found: Findings, cases: Mapping[str, Case], buckets: Sequence[Bucket], slices: Sequence[SliceShare]
) -> dict[str, Any]:
    """Plain JSON; the buckets themselves have a file of their own."""
    return {
        "frames": sum(found.looked_at.values()),
        "frames_trained_on": found.trained,
        "frames_labelled": found.labelled,
        "units": len(found.units),
        "units_failing": sum(found.units.values()),
        "clips": len(found.looked_at),
        "clips_failing": len(cases),
        "map50": found.map50(),
        "kinds": found.kinds(),
        "doubts": found.bounds,
        "slices": [one.to_json() for one in slices],
        "buckets": {one.name: len(one.clips) for one in buckets},
    }


def kinds_png(report: Mapping[str, Any], title: str) -> bytes:
    """PNG: errors by kind, and what each kind costs in average precision."""
    from av_assets.domain.metrics.pictures import figure_of, png_of

    kinds = report["kinds"]
    figure = figure_of(9.0, 3.0)
    if not kinds:
        figure.suptitle(f"{title}: no labelled frame to compare with", fontsize=10)
        return png_of(figure)
    left, right = figure.subplots(1, 2)
    _bars(left, [kinds[kind]["sure"] for kind in KINDS], "errors of sure detections, and missed objects", "d")
    costs = [100 * (kinds[kind]["dap"] or 0.0) for kind in KINDS]
    _bars(right, costs, "average precision lost to each kind alone (dAP, points)", ".1f")
    right.set_yticklabels([])
    average = "unknown" if report["map50"] is None else f"{report['map50']:.3f}"
    figure.suptitle(f"{title}: mAP50 {average} on {report['frames_labelled']} labelled frames", fontsize=10)
    return png_of(figure)


def _bars(axes: Any, values: Sequence[float], says: str, form: str) -> None:
    axes.barh(list(KINDS), values, color="#0072b2")
    for place, value in enumerate(values):
        axes.text(max(value, 0), place, f" {value:{form}}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(says, fontsize=8)
