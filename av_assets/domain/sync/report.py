"""What synchronization says about itself: per stream and pair, how far off their expected time they were.

Belongs here: figures of sync_report.json. Does not belong here: matching, the picture (residual_plot).
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from av_assets.domain.sync.grid import Ns, period_of
from av_assets.domain.sync.match import Match, pair_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from av_assets.domain.logs.drive_spec import DriveSpec
    from av_assets.domain.sync.plan import MatchedStream, Plan
    from av_assets.domain.sync.resample import Resampler
    from av_assets.domain.sync.scan import Scan
    from av_assets.domain.sync.stamps import Stamps
    from av_assets.domain.sync.streams import Survey
    from av_assets.policies.sync import SyncPolicy

REPORT_SCHEMA = 2
PERCENTILES = (50, 95, 99)


def percentiles(values_ns: NDArray) -> dict[str, int | None]:
    """p50, p95, p99 as whole ns (None without values), by the nearest rank so that each is a value that
    occurred."""
    if not len(values_ns):
        return {f"p{p}": None for p in PERCENTILES}
    ranks = np.percentile(values_ns, PERCENTILES, method="inverted_cdf")
    return {f"p{p}": int(v) for p, v in zip(PERCENTILES, ranks, strict=True)}


def stream_report(
    ref_ns: Ns, stamps: Stamps, match: Match, phase_ns: int, tolerance_ns: int, bins: int
) -> dict[str, Any]:
    """Counts and residuals of one stream.

    `residual_ns` are distances to the expected phase over all frames that the slower side could have
    paired, before
    any tolerance: a dropped frame shows as a residual of a period, where matched pairs alone would
    always look good.
    `expected` is how many rows a stream of this rate can fill, `missing` how many of those stayed empty.
    """
    used = match.sample[match.sample >= 0]
    distinct = len(np.unique(used))
    offsets_ns = pair_offsets(ref_ns, stamps.used_ns, phase_ns)
    residual_ns = np.abs(offsets_ns)
    expected = _expected(ref_ns, stamps.used_ns)
    within = float((residual_ns <= tolerance_ns).mean()) if len(residual_ns) else 0.0
    summary = percentiles(residual_ns)
    return {
        "samples": len(stamps.used_ns),
        "matched": len(used),
        "expected": expected,
        "missing": max(0, expected - len(used)),
        "empty_rows": len(ref_ns) - len(used),
        "orphans": len(stamps.used_ns) - distinct,
        "duplicates": len(stamps.used_ns) - len(np.unique(stamps.used_ns)),
        "reused": len(used) - distinct,
        "period_ns": period_of(np.sort(stamps.used_ns)),
        "phase_ns": phase_ns,
        "tolerance_ns": tolerance_ns,
        "residual_ns": summary,
        "within_tolerance": round(within, 6),
        "residual_ok": summary["p95"] is not None and summary["p95"] <= tolerance_ns,
        "latency_ns": percentiles(stamps.log_ns - stamps.sensor_ns),
        "late": stamps.late,
        "time_source": stamps.clock.source,
        "histogram": _histogram(offsets_ns, tolerance_ns, bins),
    }


def _expected(ref_ns: Ns, stamps_ns: Ns) -> int:
    """Rows that a stream of this period fills over the whole grid."""
    period_ns, grid_ns = period_of(np.sort(stamps_ns)), period_of(ref_ns)
    if not period_ns or not grid_ns:
        return len(ref_ns)
    return round(len(ref_ns) * min(1.0, grid_ns / period_ns))


def _histogram(offsets_ns: Ns, tolerance_ns: int, bins: int) -> dict[str, list[int]]:
    """Signed residuals; the outermost bins also hold what lies beyond twice the tolerance."""
    edges = np.linspace(-2 * tolerance_ns, 2 * tolerance_ns, bins + 1)
    clipped = np.clip(offsets_ns, edges[0], edges[-1])
    counts, _ = np.histogram(clipped, edges)
    return {"edges_ns": np.rint(edges).astype(np.int64).tolist(), "counts": counts.tolist()}


def pair_reports(matched: Mapping[str, MatchedStream], bins: int) -> dict[str, dict[str, Any]]:
    """`<role>-<role>` -> residuals between two payload streams: their spacing less its expected phase.

    As in `stream_report`, every element of the slower stream counts, whether it stands in a row or not.
    """
    pairs = {}
    for (one, a), (other, b) in combinations(sorted(matched.items()), 2):
        phase_ns, tolerance_ns = b.phase_ns - a.phase_ns, max(a.tolerance_ns, b.tolerance_ns)
        offsets_ns = pair_offsets(np.unique(a.stamps.used_ns), b.stamps.used_ns, phase_ns)
        residual_ns = np.abs(offsets_ns)
        within = float((residual_ns <= tolerance_ns).mean()) if len(residual_ns) else 0.0
        summary = percentiles(residual_ns)
        pairs[f"{one}-{other}"] = {
            "pairs": len(offsets_ns),
            "phase_ns": phase_ns,
            "tolerance_ns": tolerance_ns,
            "residual_ns": summary,
            "within_tolerance": round(within, 6),
            "residual_ok": summary["p95"] is not None and summary["p95"] <= tolerance_ns,
            "histogram": _histogram(offsets_ns, tolerance_ns, bins),
        }
    return pairs


def drive_report(
    spec: DriveSpec, found: Survey, scan: Scan, plan: Plan | None, resampler: Resampler,
    accounts: Sequence[Mapping[str, Any]], policy: SyncPolicy,
) -> dict[str, Any]:  # fmt: skip
    """All of sync_report.json.

    Args:
        accounts: of every segment, as the clip maker writes them.
    """
    matched = {} if plan is None else plan.matched
    unreadable = _sums(accounts, lambda account: account["unreadable"].items())
    streams = {}
    for role, s in sorted(matched.items()):
        assert plan is not None
        streams[role] = {
            "topic": s.topic,
            "kind": s.kind,
            "unreadable": unreadable.get(role, 0),
            "azimuth_phase_ns": s.azimuth_ns,
            **stream_report(
                plan.grid.ref_ns, s.stamps, s.match, s.phase_ns, s.tolerance_ns, policy.histogram_bins
            ),
        }
    clocks = {s.topic: s.stamps.clock for s in matched.values()} | scan.clocks
    return {
        "schema": REPORT_SCHEMA,
        "drive": spec.drive,
        "policy": policy.digest,
        "reference": _reference(plan),
        "clips": 0 if plan is None else len(plan.clips),
        "segments": 0 if plan is None else len(plan.segments),
        "rows": {
            "written": sum(account["rows"] - account["dropped"] for account in accounts),
            "dropped": sum(account["dropped"] for account in accounts),
        },
        "streams": streams,
        "pairs": pair_reports(matched, policy.histogram_bins),
        "signals": _signals(scan, resampler, accounts),
        "clocks": {topic: clock.as_json() for topic, clock in sorted(clocks.items())},
        "out_of_order": {"policy": policy.out_of_order, "late": _late(scan, matched)},
        "deskew": _deskew(policy, accounts),
        "calibration": found.resolved.to_dict(),
        "can": scan.can,
        "unreadable_messages": scan.unreadable,
        "residual_ok": all(stream["residual_ok"] for stream in streams.values()),
        "notes": _notes(spec, found, scan, plan),
    }


def _reference(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        return {"kind": "none", "role": None, "period_ns": 0, "frames": 0, "start_ns": None, "end_ns": None}
    ref_ns = plan.grid.ref_ns
    return {
        "kind": plan.grid.kind,
        "role": plan.grid.role,
        "period_ns": plan.grid.period_ns,
        "frames": len(ref_ns),
        "start_ns": int(ref_ns[0]),
        "end_ns": int(ref_ns[-1]),
    }


def _sums(
    accounts: Sequence[Mapping[str, Any]], entries: Callable[[Mapping[str, Any]], Iterable[tuple[str, int]]]
) -> Counter[str]:
    total: Counter[str] = Counter()
    for account in accounts:
        for name, count in entries(account):
            total[name] += count
    return total


def _signals(
    scan: Scan, resampler: Resampler, accounts: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    counts = _sums(
        accounts,
        lambda account: (
            (f"{name} {what}", count)
            for name, told in account["signals"].items()
            for what, count in told.items()
        ),
    )
    rows = sum(account["rows"] for account in accounts)
    return {
        name: {
            "topic": scan.signals.source(name),
            "mode": mode,
            "samples": sum(group.samples for group in scan.signals.groups_of(name)),
            "late": sum(group.late for group in scan.signals.groups_of(name)),
            "valid": round(counts[f"{name} valid"] / rows, 6) if rows else 0.0,
            "boundary": counts[f"{name} boundary"],
            "held": counts[f"{name} held"],
        }
        for name, mode in resampler.modes.items()
    }


def _late(scan: Scan, matched: Mapping[str, MatchedStream]) -> dict[str, int]:
    """topic -> messages that came later than the watermark; topics without any are left out."""
    late = Counter({s.topic: s.stamps.late for s in matched.values()})
    for group in scan.signals.groups:
        late[group.topic] += group.late
    return {topic: count for topic, count in sorted(late.items()) if count}


def _deskew(policy: SyncPolicy, accounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    roles = sorted({role for account in accounts for role in account["deskew"]})
    told = {
        role: dict(sorted(_sums(accounts, lambda a, r=role: a["deskew"].get(r, {}).items()).items()))  # type: ignore[misc]
        for role in roles
    }
    return {"mode": policy.deskew, "clouds": told}


def _notes(spec: DriveSpec, found: Survey, scan: Scan, plan: Plan | None) -> list[str]:
    matched = {} if plan is None else plan.matched
    absent = [
        f"{role}: no redacted frames"
        for role, stream in found.streams.items()
        if stream.kind == "camera" and role not in matched
    ]
    declared = [f"{role}: not in the log" for role in sorted(spec.streams) if role not in found.streams]
    empty = ["no stream of a sensor has a sample: there are no clips"] if plan is None else []
    return [*scan.notes, *absent, *declared, *empty]
