"""The whole loop in front of one's eyes: recorded drives go in at the landing area, an evaluated model comes out.

Everything happens through Dagster: sensor, automation, run queue. This module only lands drives, asks for what people
ask for (this week's golden dataset, today's drift report), watches, and sums up.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.drives import STAGES, DriveState, drive_states
from av_assets.platform import Platform, folders_to_land, request_run
from partitions.releases import release_id
from resources.environment import Environment, extra_drives
from resources.lake import Lake
from resources.landing import Landing

ENDED = ("complete", "quarantined", "failed")
LOOK_EVERY_S = 2.0
GOLDEN_WEEK = "2025-06-02"  # the week of the sample drives; those of later weeks are new to the model
LEARNING = ("golden_slices", "checkpoints", "model_bundles", "eval_reports")
LIMIT_S = 1800.0
LATE_SECONDS = 12.0
REQUEST_WITHIN_S = 120.0


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
            lines += ["", f"  {'slice':<14}{'mAP50':>8}{'mIoU':>8}{'ECE':>8}{'drives':>8}{'frames':>8}"]
            lines += [_slice_line(name, found) for name, found in sorted(self.report["slices"].items())]
            lines += [f"  verdict: {self.report['verdict']['state']}"]
        lines += [f"  drift: {self.drift}"] if self.drift else []
        lines += [f"  PROBLEM: {p}" for p in self.problems]
        lines += ["", f"  {self.seconds:.0f} s; look at {self.url} (Catalog, Lineage), or: av status"]
        return "\n".join(lines)


def run_demo(
    here: Environment, platform: Platform, instance: dg.DagsterInstance, count: int | None
) -> Outcome:
    """Land, watch, ask, sum up. `count` limits the sample drives."""
    started = time.monotonic()
    lake = Lake(uri=here.lake, scratch=str(here.scratch), endpoint=here.s3_endpoint)
    watch = _Watch(instance, lake, Landing(path=here.landing, endpoint=here.s3_endpoint), started)
    with watch.shown():
        expected = _land_all(here, watch, count)
        watch.until(lambda: all(s.state in ENDED for s in watch.drives(expected)), "drives")
        problems = [f"{s.id} {s.state}: {s.reason}" for s in watch.drives(expected) if s.state == "failed"]
        problems += _learn(platform, watch)
        problems += _drop_late(here, watch)
        problems += _ask_for_drift(platform, watch)
    return _sum_up(lake, platform, watch, problems, started)


def _land_all(here: Environment, watch: _Watch, count: int | None) -> list[str]:
    """Record the samples beside the running platform and land each as it is finished; then what the user brought."""
    from av_assets.domain.simulation.samples import sample_drives

    scripts = sample_drives()[:count]
    todo = [s for s in scripts if not (Path(here.landing) / s.drive / "COMPLETE").exists()]
    rig = here.home / "rig"
    # spawn: the recorder's libraries start threads that do not survive a fork
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for script in todo:
            pool.submit(_record, script, rig, Path(here.landing), here.truth)
        expected = [s.drive for s in scripts]
        landing = watch.landing
        for path in folders_to_land(extra) if (extra := extra_drives()) else ():
            expected.append(landing.land(path))
        watch.expected = expected
        watch.until(
            lambda: all((Path(here.landing) / d / "COMPLETE").exists() for d in expected), "recording"
        )
    return expected


def _record(script: Any, rig: Path, landing: Path, truth: Path) -> None:
    from av_assets.domain.simulation.recorder import record_drive

    os.nice(5)  # recording stands for a vehicle elsewhere: the platform comes first
    made = record_drive(script, rig, truth)
    landing.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(landing / script.drive, ignore_errors=True)
    made.rename(landing / script.drive)


def late_drives() -> list[Any]:
    """Two short drives of the week after: dropped while the platform runs, and new to the model that just learnt."""
    from dataclasses import replace

    from av_assets.domain.simulation.samples import sample_drives

    fog = next(s for s in sample_drives() if s.weather == "fog")
    ids = ("veh042-20250610t052000z", "veh042-20250610t061500z")
    return [
        replace(fog, drive=d, seconds=LATE_SECONDS, seed=fog.seed + 90 + n, events=())
        for n, d in enumerate(ids)
    ]


def _drop_late(here: Environment, watch: _Watch) -> list[str]:
    """Land them and wait: how long one takes from the landing area to its embeddings is what people ask first."""
    scripts = [s for s in late_drives() if not (Path(here.landing) / s.drive / "COMPLETE").exists()]
    for script in scripts:
        _record(script, here.home / "rig", Path(here.landing), here.truth)
    names = [s.drive for s in late_drives()]
    watch.expected += names
    watch.until(lambda: all(s.state in ENDED for s in watch.drives(names)), "late drives")
    return [f"{s.id} {s.state}: {s.reason}" for s in watch.drives(names) if s.state == "failed"]


def _learn(platform: Platform, watch: _Watch) -> list[str]:
    """Ask for the golden dataset; the release sensor and the automation do the rest."""
    run_id = request_run(platform.url, ["golden_slices"], GOLDEN_WEEK)
    watch.until(lambda: watch.ended(run_id), "golden_slices")
    if watch.instance.get_run_by_id(run_id).status != dg.DagsterRunStatus.SUCCESS:  # type: ignore[union-attr]
        return [f"golden_slices failed: run {run_id}"]
    release = release_id(GOLDEN_WEEK, watch.lake.require("golden_slices", GOLDEN_WEEK).content)
    watch.release = release
    earlier = {run.run_id for run in watch.failed_runs(release)}
    if earlier and watch.lake.manifest("eval_reports", release) is None:
        # automation leaves a failure to people, and here one asks
        request_run(platform.url, LEARNING[1:], release)

    def failed() -> list[str]:
        return [r.run_id for r in watch.failed_runs(release) if r.run_id not in earlier]

    watch.until(
        lambda: watch.lake.manifest("eval_reports", release) is not None or bool(failed()), "learning"
    )
    watch.until(lambda: not watch.going_on(release), "learning")
    return [f"run {run_id} of {release} failed" for run_id in failed()]


def _ask_for_drift(platform: Platform, watch: _Watch) -> list[str]:
    if watch.lake.partitions("golden_slices") == []:
        return []
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    run_id = request_run(platform.url, ["drift_reports"], today)
    watch.until(lambda: watch.ended(run_id), "drift_reports")
    if watch.instance.get_run_by_id(run_id).status != dg.DagsterRunStatus.SUCCESS:  # type: ignore[union-attr]
        return [f"drift_reports failed: run {run_id}"]
    if _json(watch.lake, "drift_reports", today, "report.json")["state"] != "alarm":
        return []
    deadline = time.monotonic() + REQUEST_WITHIN_S

    def asked() -> bool:
        return watch.lake.manifest("retraining_requests", today) is not None

    watch.until(lambda: asked() or time.monotonic() > deadline, "retraining_requests")
    return [] if asked() else ["drift raised an alarm, and no retraining request followed"]


class _Watch:
    """Looks at the platform every two seconds and shows how far it is."""

    def __init__(self, instance: dg.DagsterInstance, lake: Lake, landing: Landing, started: float) -> None:
        self.instance, self.lake, self.landing, self.started = instance, lake, landing, started
        self.expected: list[str] = []
        self.release = ""
        self._show: Callable[[str], None] = lambda _: None

    def drives(self, names: list[str]) -> list[DriveState]:
        found = {s.id: s for s in drive_states(self.instance, self.lake, self.landing)}
        return [found[n] if n in found else DriveState(n, "pending", "not landed yet") for n in names]

    def until(self, done: Callable[[], bool], what: str) -> None:
        while not done():
            if time.monotonic() - self.started > LIMIT_S:
                raise TimeoutError(f"the demo waited for {what} for too long")
            self._show(what)
            time.sleep(LOOK_EVERY_S)

    def ended(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    def failed_runs(self, partition: str) -> list[dg.DagsterRun]:
        runs = self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": partition}))
        return [
            r
            for r in runs
            if r.status == dg.DagsterRunStatus.FAILURE and r.tags.get("dagster/will_retry") != "true"
        ]

    def going_on(self, partition: str) -> bool:
        runs = self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": partition}))
        return any(not r.is_finished for r in runs)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Bars in a terminal; without one, a line whenever something changed."""
        if not sys.stderr.isatty():
            self._show = _Lines(self)
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, transient=True) as progress:
            tasks = {stage: progress.add_task(stage, total=1) for stage in (*STAGES, *LEARNING)}

            def show(what: str) -> None:
                for stage, (done, total) in self.counts().items():
                    progress.update(tasks[stage], completed=done, total=total)

            self._show = show
            yield

    def counts(self) -> dict[str, tuple[int, int]]:
        """stage -> (done, all)."""
        total = max(len(self.expected), 1)
        per_drive = {s: (len(set(self.lake.partitions(s)) & set(self.expected)), total) for s in STAGES}
        golden = (int(self.lake.manifest("golden_slices", GOLDEN_WEEK) is not None), 1)
        model = {
            a: (int(bool(self.release) and self.lake.manifest(a, self.release) is not None), 1)
            for a in LEARNING[1:]
        }
        return {**per_drive, "golden_slices": golden, **model}


class _Lines:
    def __init__(self, watch: _Watch) -> None:
        self._watch, self._last = watch, ""

    def __call__(self, what: str) -> None:
        line = " ".join(f"{s}={d}/{t}" for s, (d, t) in self._watch.counts().items() if d)
        if line and line != self._last:
            self._last = line
            print(f"[{time.monotonic() - self._watch.started:5.0f} s] {line}", file=sys.stderr, flush=True)


def _sum_up(lake: Lake, platform: Platform, watch: _Watch, problems: list[str], started: float) -> Outcome:
    states = watch.drives(watch.expected)
    report = _json(lake, "eval_reports", watch.release, "report.json") if watch.release else {}
    drift = _json(lake, "drift_reports", datetime.now(UTC).strftime("%Y-%m-%d"), "report.json")
    golden = _json(lake, "golden_slices", GOLDEN_WEEK, "dataset.json")
    redactions = [
        stream
        for d in states
        for stream in _json(lake, "redacted_clips", d.id, "redaction_report.json").get("streams", {}).values()
    ]
    logs = [_json(lake, "log_reports", d.id, "report.json") for d in states]
    labels = [_json(lake, "verified_labels", d.id, "report.json") for d in states]
    events = lake.tables.read("events")
    totals = {
        "drives": f"{sum(d.state == 'complete' for d in states)} of {len(states)} complete",
        "messages": f"{sum(r.get('messages', 0) for r in logs):,}",
        "regions redacted": _regions(redactions),
        "sync residual p95": _worst_residual(lake, states),
        "events": "none" if events is None else _events(events.to_pylist()),
        "verified labels": f"{sum(r.get('labels', 0) for r in labels):,}",
        "golden dataset": f"{golden['version'][:12]} ({len(golden['members'])} drives)" if golden else "none",
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


def _drift(lake: Lake, report: dict[str, Any]) -> str:
    if not report:
        return ""
    request = _json(lake, "retraining_requests", datetime.now(UTC).strftime("%Y-%m-%d"), "request.json")
    asked = f", retraining requested for {', '.join(request['features'])}" if request else ""
    return f"{report['state']} over {len(report['current_drives'])} new drives{asked}"


def _json(lake: Lake, asset: str, partition: str, path: str) -> dict[str, Any]:
    manifest = lake.manifest(asset, partition)
    if manifest is None or all(f.path != path for f in manifest.files):
        return {}
    return dict(json.loads(lake.read_bytes(manifest, path)))


def _worst_residual(lake: Lake, states: list[DriveState]) -> str:
    worst: dict[str, float] = {}
    for drive in states:
        for role, stream in (
            _json(lake, "synced_shards", drive.id, "sync_report.json").get("streams", {}).items()
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
    numbers = "".join(
        f"{found[k]:8.3f}" if found[k] is not None else f"{'-':>8}" for k in ("map50", "miou", "ece")
    )
    return f"  {name:<14}{numbers}{found['drives']:>8}{found['frames']:>8}"
