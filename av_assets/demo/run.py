"""Land, ask, watch: everything happens through Dagster's sensors, automation and run queue.

Belongs here: landing drives, and asking for what people ask for (this week's golden dataset, today's candidates,
failures and drift report).
Does not belong here: progress (watch), the result (summary).
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dagster as dg

from av_assets.demo.summary import Outcome, indexed, sum_up
from av_assets.demo.watch import FROM_DATASET, GOLDEN_WEEK, LEARNING, Watch, today
from av_assets.demo.world import late_drives
from av_assets.platform import Platform, folders_to_land, request_run
from partitions.releases import release_id
from resources.environment import Environment, extra_drives
from resources.lake import Lake
from resources.landing import Landing
from resources.production_models import production_model

ENDED = ("complete", "quarantined", "failed")
REQUEST_WITHIN_S = 120.0
MINING = ("coverage_ledgers", "scenario_candidates")


def run_demo(
    here: Environment, platform: Platform, instance: dg.DagsterInstance, count: int | None
) -> Outcome:
    """Land, watch, ask, sum up. `count` limits the sample drives."""
    started = time.monotonic()
    lake = Lake(uri=here.lake, scratch=str(here.scratch), endpoint=here.s3_endpoint)
    watch = Watch(instance, lake, Landing(path=here.landing, endpoint=here.s3_endpoint), started)
    with watch.shown():
        expected = _land_all(here, watch, count)
        watch.until(lambda: all(s.state in ENDED for s in watch.drives(expected)), "drives")
        problems = [f"{s.id} {s.state}: {s.reason}" for s in watch.drives(expected) if s.state == "failed"]
        problems += _learn(platform, watch)
        problems += _drop_late(here, watch)
        problems += _mine(here, platform, watch)
        problems += _follow_the_dataset(platform, watch)
        problems += _find_failures(platform, watch)
        problems += _ask_for_drift(platform, watch)
    return sum_up(lake, platform, watch, problems, started)


def _land_all(here: Environment, watch: Watch, count: int | None) -> list[str]:
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


def _drop_late(here: Environment, watch: Watch) -> list[str]:
    """Land them and wait: how long one takes from the landing area to its embeddings is what people ask first."""
    scripts = [s for s in late_drives() if not (Path(here.landing) / s.drive / "COMPLETE").exists()]
    for script in scripts:
        _record(script, here.home / "rig", Path(here.landing), here.truth)
    names = [s.drive for s in late_drives()]
    watch.expected += names
    watch.until(lambda: all(s.state in ENDED for s in watch.drives(names)), "late drives")
    return [f"{s.id} {s.state}: {s.reason}" for s in watch.drives(names) if s.state == "failed"]


def _learn(platform: Platform, watch: Watch) -> list[str]:
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


def _mine(here: Environment, platform: Platform, watch: Watch) -> list[str]:
    """Judge the events by the script, and ask for today's coverage and candidates; the index follows by itself."""
    from resources.adjudications import adjudicate, scripted

    adjudicate(watch.lake, scripted(watch.lake, here.truth))
    seen = {d for d in watch.expected if (m := watch.lake.manifest("clip_embeddings", d)) and not m.note}
    watch.until(lambda: seen <= indexed(watch.lake), "similarity_index")
    run_id = request_run(platform.url, MINING, today())
    watch.until(lambda: watch.ended(run_id), "scenario_candidates")
    done = watch.instance.get_run_by_id(run_id)
    return [] if done and done.status == dg.DagsterRunStatus.SUCCESS else [f"mining failed: run {run_id}"]


def _follow_the_dataset(platform: Platform, watch: Watch) -> list[str]:
    """Wait for what automation makes of a frozen dataset beside the model."""
    if watch.lake.manifest("golden_slices", GOLDEN_WEEK) is None:
        return []
    earlier = {run.run_id for run in watch.failed_runs(GOLDEN_WEEK)}
    for asset in FROM_DATASET:
        if earlier and watch.lake.manifest(asset, GOLDEN_WEEK) is None:
            request_run(platform.url, [asset], GOLDEN_WEEK)  # automation leaves a failure to people

    def failed() -> list[str]:
        return [run.run_id for run in watch.failed_runs(GOLDEN_WEEK) if run.run_id not in earlier]

    def made() -> bool:
        return all(watch.lake.manifest(asset, GOLDEN_WEEK) for asset in FROM_DATASET)

    watch.until(lambda: made() or bool(failed()), "archives")
    return [f"run {run_id} of {GOLDEN_WEEK} failed" for run_id in failed()]


def _find_failures(platform: Platform, watch: Watch) -> list[str]:
    """The production model looks at every drive by itself; where it fails is asked for when it has."""
    model = production_model(watch.lake)
    if model is None:
        return []
    earlier = {run.run_id for run in watch.failed_runs(model.partition, "release")}
    for drive in sorted(watch.to_predict() - watch.predicted()) if earlier else ():
        request_run(platform.url, ["pool_predictions"], drive)  # the sensor leaves a failure to people

    def failed() -> list[str]:
        runs = watch.failed_runs(model.partition, "release")
        return [run.run_id for run in runs if run.run_id not in earlier]

    watch.until(lambda: watch.to_predict() <= watch.predicted() or bool(failed()), "pool_predictions")
    run_id = request_run(platform.url, ["failure_buckets"], today())
    watch.until(lambda: watch.ended(run_id), "failure_buckets")
    done = watch.instance.get_run_by_id(run_id)
    searched = done is not None and done.status == dg.DagsterRunStatus.SUCCESS
    problems = [] if searched else [f"failure_buckets failed: run {run_id}"]
    return [*(f"pool_predictions failed: run {run_id}" for run_id in failed()), *problems]


def _ask_for_drift(platform: Platform, watch: Watch) -> list[str]:
    if watch.lake.partitions("drift_baselines") == []:
        return []
    day = today()
    run_id = request_run(platform.url, ["drift_reports"], day)
    watch.until(lambda: watch.ended(run_id), "drift_reports")
    if watch.instance.get_run_by_id(run_id).status != dg.DagsterRunStatus.SUCCESS:  # type: ignore[union-attr]
        return [f"drift_reports failed: run {run_id}"]
    if watch.lake.json_of(watch.lake.manifest("drift_reports", day), "report.json")["state"] != "alarm":
        return []
    deadline = time.monotonic() + REQUEST_WITHIN_S

    def asked() -> bool:
        return watch.lake.manifest("retraining_requests", day) is not None

    watch.until(lambda: asked() or time.monotonic() > deadline, "retraining_requests")
    return [] if asked() else ["drift raised an alarm, and no retraining request followed"]
