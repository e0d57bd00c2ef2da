"""Looking at the running platform, and showing how far it is.

Belongs here: waiting and progress. Does not belong here: what is asked of the platform (run).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg

from av_assets.drives import STAGES, DriveState, drive_states
from av_assets.mining.failing import Pool
from resources.lake import Lake
from resources.landing import Landing
from resources.production_models import production_model

LOOK_EVERY_S = 2.0
GOLDEN_WEEK = "2025-06-02"  # the week of the sample drives; those of later weeks are new to the model
LEARNING = ("golden_slices", "checkpoints", "model_bundles", "eval_reports")
FROM_DATASET = ("drift_baselines", "dataset_archives")
FROM_MODEL = ("pool_predictions", "failure_buckets")
LIMIT_S = 3600.0


def today() -> str:
    """The partition of what is made once a day."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


class Watch:
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

    def failed_runs(self, partition: str, tag: str = "dagster/partition") -> list[dg.DagsterRun]:
        runs = self.instance.get_runs(dg.RunsFilter(tags={tag: partition}))
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
            tasks = {
                stage: progress.add_task(stage, total=1)
                for stage in (*STAGES, *LEARNING, *FROM_DATASET, *FROM_MODEL)
            }

            def show(what: str) -> None:
                for stage, (done, total) in self.counts().items():
                    progress.update(tasks[stage], completed=done, total=total)

            self._show = show
            yield

    def counts(self) -> dict[str, tuple[int, int]]:
        """stage -> (done, all)."""
        total = max(len(self.expected), 1)
        per_drive = {s: (len(set(self.lake.partitions(s)) & set(self.expected)), total) for s in STAGES}
        golden = {
            a: (int(self.lake.manifest(a, GOLDEN_WEEK) is not None), 1)
            for a in ("golden_slices", *FROM_DATASET)
        }
        model = {
            a: (int(bool(self.release) and self.lake.manifest(a, self.release) is not None), 1)
            for a in LEARNING[1:]
        }
        return {**per_drive, **golden, **model, **self._from_model()}

    def to_predict(self) -> set[str]:
        """Drives with shards: those in quarantine have none."""
        return set(self.lake.partitions("synced_shards")) & set(self.expected)

    def predicted(self) -> set[str]:
        """Drives that the production model has seen as they are now; none before there is one."""
        model = production_model(self.lake)
        return set(Pool.of(self.lake, model).predictions) if model else set()

    def _from_model(self) -> dict[str, tuple[int, int]]:
        to_predict = self.to_predict()
        found = self.lake.manifest("failure_buckets", today())
        return {
            "pool_predictions": (len(self.predicted() & to_predict), max(len(to_predict), 1)),
            "failure_buckets": (int(found is not None), 1),
        }


class _Lines:
    def __init__(self, watch: Watch) -> None:
        self._watch, self._last = watch, ""

    def __call__(self, what: str) -> None:
        line = " ".join(f"{s}={d}/{t}" for s, (d, t) in self._watch.counts().items() if d)
        if line and line != self._last:
            self._last = line
            print(f"[{time.monotonic() - self._watch.started:5.0f} s] {line}", file=sys.stderr, flush=True)
