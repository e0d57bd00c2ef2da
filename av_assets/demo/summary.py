"""What the demo came to, for people and for scripts.

Belongs here: reading it out of the lake, and printing. Does not belong here: making it happen (run).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from av_assets.demo.watch import GOLDEN_WEEK, Watch, today
from av_assets.drives import DriveState
from av_assets.platform import Platform
from av_assets.production import ALL
from resources.lake import Lake

SHOWN_BUCKETS = 3
SCORES = {"map50": "mAP50", "miou": "mIoU", "ece": "ECE", "map3d": "mAP3D", "nds": "NDS"}


@dataclass
class Outcome:
    """What the demo came to, for people and for scripts."""

    ok: bool
    url: str
    seconds: float
    drives: list[DriveState] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    drift: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "drives": [d.to_dict() for d in self.drives]}

    def render(self) -> str:
        lines = ["", "What became of the drives"]
        lines += [f"  {d.id:<34} {d.state:<12} {d.reason}".rstrip() for d in self.drives]
        lines += ["", "What came of it"]
        lines += [f"  {name:<22} {value}" for name, value in self.totals.items()]
        if self.report:
            heads = "".join(f"{head:>8}" for head in (*SCORES.values(), "drives", "frames"))
            lines += ["", f"  {'slice':<14}{heads}"]
            lines += [_slice_line(name, found) for name, found in sorted(self.report["slices"].items())]
            lines += [f"  verdict: {self.report['verdict']['state']}"]
        lines += [f"  drift: {self.drift}"] if self.drift else []
        lines += [f"  PROBLEM: {p}" for p in self.problems]
        lines += ["", f"  {self.seconds:.0f} s; look at {self.url} (Catalog, Lineage), or: av status"]
        return "\n".join(lines)


def sum_up(lake: Lake, platform: Platform, watch: Watch, problems: list[str], started: float) -> Outcome:
    states = watch.drives(watch.expected)
    report = (
        lake.json_of(lake.manifest("eval_reports", watch.release), "report.json") if watch.release else {}
    )
    drift = lake.json_of(lake.manifest("drift_reports", today()), "report.json")
    golden = lake.json_of(lake.manifest("golden_slices", GOLDEN_WEEK), "dataset.json")
    redactions = [
        stream
        for d in states
        for stream in lake.json_of(lake.manifest("redacted_clips", d.id), "redaction_report.json")
        .get("streams", {})
        .values()
    ]
    logs = [lake.json_of(lake.manifest("log_reports", d.id), "report.json") for d in states]
    labels = [lake.json_of(lake.manifest("verified_labels", d.id), "report.json") for d in states]
    events = lake.tables.read("events")
    totals = {
        "drives": f"{sum(d.state == 'complete' for d in states)} of {len(states)} complete",
        "messages": f"{sum(r.get('messages', 0) for r in logs):,}",
        "regions redacted": _regions(redactions),
        "sync residual p95": _worst_residual(lake, states),
        "events": "none" if events is None else _events(events.to_pylist()),
        **_mined(lake),
        "verified labels": f"{sum(r.get('labels', 0) for r in labels):,}",
        "golden dataset": f"{golden['version'][:12]} ({len(golden['members'])} drives)" if golden else "none",
        "predicted frames": _predicted(watch),
        "failures": _failures(lake),
    }
    return Outcome(
        ok=not problems and bool(report),
        url=platform.url,
        seconds=time.monotonic() - started,
        drives=states,
        problems=problems,
        totals=totals,
        report=report,
        drift=_drift(lake, drift),
    )


def indexed(lake: Lake) -> set[str]:
    """Drives whose clips the newest similarity index holds."""
    return set(lake.json_of(lake.manifest("similarity_index", ALL), "members.json"))


def _mined(lake: Lake) -> dict[str, str]:
    """Scenes, what is in the index, what was chosen for labelling, and how much of the domain was driven."""
    scenes, candidates = lake.tables.read("scenes"), lake.tables.read("candidates", [("day", "=", today())])
    index = lake.json_of(lake.manifest("similarity_index", ALL), "report.json")
    coverage = lake.json_of(lake.manifest("coverage_ledgers", today()), "coverage.json")
    return {
        "scenes": "none" if scenes is None else f"{scenes.num_rows} described",
        "similarity index": f"{len(indexed(lake))} drives, {index.get('rows', 0)} vectors",
        "mined for labelling": "none" if candidates is None else f"{candidates.num_rows} clips",
        "operational domain": _driven(coverage),
    }


def _predicted(watch: Watch) -> str:
    """Of the drives that the production model has seen; how fast, by the runs that really looked at them."""
    drives, frames, span_s, wall_s = sorted(watch.predicted()), 0, 0.0, 0.0
    for drive in drives:
        for figures in _looks(watch.instance, drive):
            frames += int(figures["predicted"])
            span_s += figures["span_s"]
            wall_s += figures["pace/wall_s"]
    pace = f", {span_s / wall_s:.1f} x realtime" if wall_s else ""
    return f"{frames:,} of {len(drives)} drives{pace}" if drives else "none"


def _looks(instance: dg.DagsterInstance, drive: str) -> list[dict[str, Any]]:
    """Figures of the newest materialization that was not a bundle found made already; none where nobody kept it."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey("pool_predictions"), asset_partitions=[drive])
    for record in instance.fetch_materializations(wanted, limit=10).records:
        event = record.asset_materialization
        figures = {name: value.value for name, value in event.metadata.items()} if event else {}
        if not figures.get("reused", True):
            return [figures]
    return []


def _failures(lake: Lake) -> str:
    """Clips of today's search that fail, and the largest buckets by name; clips like no other have no name."""
    from av_assets.domain.failures.buckets import LOOSE

    report = lake.json_of(lake.manifest("failure_buckets", today()), "report.json")
    if not report:
        return "not looked for"
    clips = {name: count for name, count in report["buckets"].items() if name != LOOSE}
    largest = sorted(clips, key=lambda name: (-clips[name], name))[:SHOWN_BUCKETS]
    named = f"; {len(clips)} named buckets, as {', '.join(largest)}" if largest else ""
    return f"{report['clips_failing']} of {report['clips']} clips{named}"


def _driven(coverage: dict[str, Any]) -> str:
    if not coverage:
        return "none"
    share, hours = coverage["pairwise"]["fleet"] or 0.0, coverage["policy"]["min_hours"]
    return f"{share:.0%} of the pairs of values driven for {hours} h, {len(coverage['gaps'])} gaps"


def _drift(lake: Lake, report: dict[str, Any]) -> str:
    if not report:
        return ""
    request = lake.json_of(lake.manifest("retraining_requests", today()), "request.json")
    asked = f", retraining requested for {', '.join(request['features'])}" if request else ""
    return f"{report['state']} over {len(report['current_drives'])} new drives{asked}"


def _worst_residual(lake: Lake, states: list[DriveState]) -> str:
    worst: dict[str, float] = {}
    for drive in states:
        for role, stream in (
            lake.json_of(lake.manifest("synced_shards", drive.id), "sync_report.json")
            .get("streams", {})
            .items()
        ):
            if stream["residual_ns"]["p95"] is not None:
                worst[role] = max(worst.get(role, 0.0), stream["residual_ns"]["p95"] / 1e6)
    return ", ".join(f"{role} {ms:.1f} ms" for role, ms in sorted(worst.items())) or "none"


def _regions(streams: list[dict[str, Any]]) -> str:
    regions = sum(sum(s[how].values()) for s in streams for how in ("found", "carried", "bands"))
    return f"{regions:,} in {sum(s['redacted'] for s in streams):,} of {sum(s['frames_in'] for s in streams):,} frames"


def _events(rows: list[dict[str, Any]]) -> str:
    kinds = sorted({r["kind"] for r in rows})
    return ", ".join(f"{sum(r['kind'] == k for r in rows)} {k}" for k in kinds) or "none"


def _slice_line(name: str, found: dict[str, Any]) -> str:
    numbers = "".join(f"{'-':>8}" if found[k] is None else f"{found[k]:8.3f}" for k in SCORES)
    return f"  {name:<14}{numbers}{found['drives']:>8}{found['frames']:>8}"
