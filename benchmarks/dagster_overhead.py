"""What orchestration costs per drive: a mass backfill of twenty drives whose assets have nothing to do.

As a backfill does it: one run per ten drives, each a process of its own (`dagster api execute_run`, what run
launchers start) on a SQLite instance on disk with the laptop's configuration. The time of the work itself,
which every materialization records, is taken off; starting the process, loading the definitions, the steps,
the checks, publishing and events stay in. Runs follow each other; a laptop does two at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import dagster as dg

from benchmarks.figures import Figure, Say, Settings, processor_s

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET_S = 1.5
REPEATS = 3
DRIVES = 20
PROJECT = Path(__file__).parent.parent
DAGSTER = (sys.executable, "-W", "ignore", "-m", "dagster")
TOYS = "benchmarks.toy_drives"


def run(settings: Settings, say: Say) -> list[Figure]:
    """`dagster`: seconds per drive over and above the work."""
    overheads, walls, cpu, starts = list[float](), list[float](), list[float](), list[float]()
    for number in range(settings.times(REPEATS)):
        home = settings.work / str(number)
        _prepare(home)
        with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
            before_s = processor_s()
            wall_s, work_s, runs = _backfill(instance, home, number, say)
        walls.append(wall_s / DRIVES)
        overheads.append((wall_s - work_s) / DRIVES)
        cpu.append((processor_s() - before_s) / DRIVES)
        starts.append(_start_s(home))
    from benchmarks.toy_drives import CHAIN, CHECKED

    note = (
        f"{DRIVES} drives, {len(CHAIN)} assets and {len(CHECKED)} checks, {runs} runs one after the other; "
        f"starting and loading take {median(starts) * runs / DRIVES:.2f} s of it"
    )
    measured, samples = "overhead per drive of a ranged backfill", {"wall": walls, "overhead": overheads}
    used = {"per drive": cpu}
    return [Figure("dagster", measured, median(overheads), "s", TARGET_S, samples, cpu=used, note=note)]


def _prepare(home: Path) -> None:
    """An installation of its own. This process and those it starts find it by the environment."""
    from resources.environment import prepare

    for variable in ("AV_LAKE", "AV_LANDING", "AV_TRUTH", "AWS_ENDPOINT_URL"):
        os.environ.pop(variable, None)
    os.environ["AV_HOME"], os.environ["DAGSTER_HOME"] = str(home), str(home / "dagster")
    prepare()


def _backfill(instance: dg.DagsterInstance, home: Path, number: int, say: Say) -> tuple[float, float, int]:
    """Seconds from the first launch to the last exit, seconds of work in them, and how many runs it took."""
    from partitions.drives import BATCH, drives

    names = [f"veh001-20250601t08{minute:02d}00z" for minute in range(DRIVES)]
    instance.add_dynamic_partitions(drives.name or "", names)
    size = BATCH.max_partitions_per_run or DRIVES
    batches = [names[start : start + size] for start in range(0, DRIVES, size)]
    commands = [_command(instance, batch) for batch in batches]
    started = time.perf_counter()
    for part, command in enumerate(commands, start=1):
        say(f"backfill {number + 1}, run {part} of {len(commands)}")
        with (home / f"run_{part}.log").open("wb") as log:
            subprocess.run(command, check=True, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT)
    return time.perf_counter() - started, _work_s(instance), len(commands)


def _command(instance: dg.DagsterInstance, batch: Sequence[str]) -> list[str]:
    """Create the run that a backfill would create for these drives; gives the command that executes it."""
    from dagster._core.definitions.reconstruct import ReconstructableRepository
    from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
    from dagster._grpc.types import ExecuteRunArgs
    from dagster._serdes import serialize_value

    location = ReconstructableRepository.for_module(TOYS, "defs", str(PROJECT))
    job = location.get_reconstructable_job("__ASSET_JOB")
    origin = job.get_python_origin()
    tags = {ASSET_PARTITION_RANGE_START_TAG: batch[0], ASSET_PARTITION_RANGE_END_TAG: batch[-1]}
    made = instance.create_run_for_job(job.get_definition(), tags=tags, job_code_origin=origin)
    run = ExecuteRunArgs(origin, made.run_id, instance.get_ref(), set_exit_code_on_failure=True)
    return [*DAGSTER, "api", "execute_run", serialize_value(run)]


def _work_s(instance: dg.DagsterInstance) -> float:
    """Sum of seconds/work over all materializations; every drive must have all of them."""
    from benchmarks.toy_drives import CHAIN, WORK

    total = 0.0
    for asset in CHAIN:
        found = instance.fetch_materializations(dg.AssetKey(asset), limit=2 * DRIVES).records
        assert len({record.partition_key for record in found}) == DRIVES, f"{asset}: {len(found)} of {DRIVES}"
        for record in found:
            assert record.asset_materialization is not None
            seconds = record.asset_materialization.metadata[f"seconds/{WORK}"]
            assert isinstance(seconds, dg.FloatMetadataValue)
            total += seconds.value or 0.0
    return total


def _start_s(home: Path) -> float:
    """Seconds of a process that loads the same definitions and ends."""
    started = time.perf_counter()
    code = f"import {TOYS} as toys; toys.defs.resolve_implicit_global_asset_job_def()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=PROJECT)
    return time.perf_counter() - started
