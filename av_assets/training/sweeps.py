"""Workflow 14: many small trainings within a hard budget, and what they say about the numbers of the next one.

The sensor launches trials (sensors/sweeps.py); each is a run of its own, and its training a process of its own.
"""

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.evidence.digests import canonical_json
from av_assets.domain.evidence.manifest import Manifest
from av_assets.domain.evidence.signatures import sign
from av_assets.presentation import pictures, table
from av_assets.production import Work, bundle_metadata, code_version, lineage, produce
from av_assets.training.studies import (
    SPEC_FILE,
    SPECS,
    Sweep,
    state_folder,
    study_of,
    sweep_of,
)
from av_assets.training.trial_worker import ENDED_FILE
from partitions.sweeps import sweep_trials as trials
from partitions.sweeps import sweeps, trial_key, trial_of
from resources.compute import LIGHT, TRAIN_MULTISENSOR
from resources.lake import Lake
from resources.policy_versions import STEADY
from resources.signing import signing_key

if TYPE_CHECKING:
    import pyarrow as pa

    from av_assets.domain.sweeps.asking import Launch

WORKER = "av_assets.training.trial_worker"
BOARD, REPORT_FILE, POLICY_FILE, WANDB_FILE = (
    "sweep_leaderboards",
    "report.json",
    "training.yaml",
    "wandb.yaml",
)
KEPT = (ENDED_FILE, "config.json", "history.json", "curves.png")


@dg.asset(
    partitions_def=trials,
    deps=[dg.AssetDep("golden_slices", partition_mapping=dg.AllPartitionMapping())],
    op_tags=TRAIN_MULTISENSOR.tags,
    pool=TRAIN_MULTISENSOR.pool,
    code_version="1",
    kinds={"pytorch", "optuna"},
)
def sweep_trials(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 14 of 36: takes a trial's numbers and golden_slices, gives how well they teach a network."""
    from av_assets.domain.sweeps.asking import launch_of

    started = time.time_ns()
    name, number = trial_of(context.partition_key)
    sweep, study = sweep_of(lake, name), study_of(sweep_of(lake, name).spec)
    launch = launch_of(study, sweep.spec, number)
    state = state_folder(name, launch)

    def run(work: Work) -> str:
        if not _ended(state, number):
            extras = _extras(work, sweep, launch, state)
            _in_a_child(context, study, launch, extras)
        for file in (state / kept for kept in KEPT):
            if file.is_file():
                shutil.copyfile(file, work.out / file.name)
        return ""

    inputs = {"golden_slices": sweep.golden, SPECS: sweep.manifest}
    made_from = lineage(list(inputs.values()), code_version(context), [sweep.spec])
    made = produce(lake, "sweep_trials", context.partition_key, made_from, inputs, run)
    shutil.rmtree(state, ignore_errors=True)
    told = json.loads(lake.read_bytes(made.manifest, ENDED_FILE))
    shown = {"state": told["state"], "values": dg.MetadataValue.json(told["values"])}
    shown |= {f"metric/{metric}": value for metric, value in told["metrics"].items()}
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | shown | pictures(lake, made.manifest, "curves.png"),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset(
    partitions_def=sweeps,
    deps=[dg.AssetDep(sweep_trials, partition_mapping=dg.AllPartitionMapping())],
    op_tags=LIGHT.tags,
    pool=LIGHT.pool,
    code_version="1",
    kinds={"optuna", "json"},
)
def sweep_reports(context: dg.AssetExecutionContext, lake: Lake) -> dg.MaterializeResult:
    """Workflow 14 of 36: takes sweep_trials, gives a leaderboard, what mattered, and a training policy to propose."""
    started, sweep = time.time_ns(), sweep_of(lake, context.partition_key)
    study = study_of(sweep.spec)
    held = study.get_trials(deepcopy=False)
    rows = {"trials": [{"number": t.number, "state": t.state.name, "value": t.value} for t in held]}
    finished = [lake.manifest("sweep_trials", trial_key(sweep.spec.sweep, t.number)) for t in held]
    inputs = [sweep.manifest, *(m for m in finished if m is not None)]
    made_from = lineage(inputs, code_version(context), [sweep.spec], rows)
    made_from.policies["training"] = sweep.base

    def report(work: Work) -> str:
        return _write(work, sweep, study)

    made = produce(
        lake,
        "sweep_reports",
        sweep.spec.sweep,
        made_from,
        {SPECS: sweep.manifest},
        report,
        run_id=context.run.run_id,
    )
    if lake.signature(made.manifest) is None:  # activating what it chose rests on it
        lake.keep_signature(made.manifest, sign(signing_key(), made.manifest))
    return dg.MaterializeResult(
        metadata=bundle_metadata(made, started) | _describe(lake, made.manifest),
        data_version=dg.DataVersion(made.manifest.content),
    )


@dg.asset_check(asset=sweep_reports)
def sweep_reports_stay_within_their_budget(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """Neither trials nor hours nor money are above the sweep's limits."""
    spent = _report(lake, context.partition_key)["spent"]
    used = [spent[what] for what in ("trials", "compute_hours", "money")]
    passed = all(limit is None or took <= limit + 1e-9 for took, limit in used)
    return dg.AssetCheckResult(passed=passed, metadata={"spent": dg.MetadataValue.json(spent)})


@dg.asset_check(asset=sweep_reports)
def sweep_reports_name_a_stable_winner(
    context: dg.AssetCheckExecutionContext, lake: Lake
) -> dg.AssetCheckResult:
    """One trial keeps every constraint, and other seeds give the same order of the best."""
    report = _report(lake, context.partition_key)
    state = report["stability"]["state"]
    return dg.AssetCheckResult(
        passed=report["best"] is not None and state in STEADY,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"stability": dg.MetadataValue.json(report["stability"]), "reason": report["reason"]},
    )


def _ended(state: Path, number: int) -> bool:
    """Whether the trial's process had finished before the run that started it died."""
    path = state / ENDED_FILE
    return path.is_file() and json.loads(path.read_bytes())["number"] == number


def _extras(work: Work, sweep: Sweep, launch: "Launch", state: Path) -> dict[str, Any]:
    spec = work.checkout(SPECS, SPEC_FILE) / SPEC_FILE
    return {
        "spec": str(spec),
        "number": launch.number,
        "dataset": str(work.checkout("golden_slices")),
        "state": str(state),
        "baseline": sweep.baseline,
    }


def _in_a_child(
    context: dg.AssetExecutionContext,
    study: Any,
    launch: "Launch",
    extras: dict[str, Any],
) -> None:
    """Run the trial's process; one that ended without a word is counted as failed."""
    from av_assets.domain.sweeps.asking import fail

    try:
        # In the cluster the run's own pod has the hardware word: a trial is small, and its process a child of the run.
        dg.PipesSubprocessClient().run(command=[sys.executable, "-m", WORKER], context=context, extras=extras)
    except Exception as error:
        late = f"code {-signal.SIGALRM}" in str(error)  # the worker's alarm ends it at the limit of a trial
        fail(study, launch.number, "it took all of its time" if late else f"its process ended: {error}"[:500])
        raise dg.Failure(
            f"trial {context.partition_key} failed; the sweep launches it again where it may",
            allow_retries=False,
        ) from error


def _write(work: Work, sweep: Sweep, study: Any) -> str:
    from av_assets.domain.sweeps.pictures import sweep_pictures
    from av_assets.domain.sweeps.report import leaderboard, proposed_policy, sweep_report
    from av_assets.domain.sweeps.wandb_config import wandb_sweep

    report, board = sweep_report(study, sweep.spec), leaderboard(study, sweep.spec)
    (work.out / REPORT_FILE).write_bytes(canonical_json(report))
    work.write_table(BOARD, board, key="sweep")
    for name, png in sweep_pictures(_rows(board), report, sweep.spec).items():
        (work.out / name).write_bytes(png)
    (work.out / WANDB_FILE).write_text(wandb_sweep(sweep.spec, SPEC_FILE, "golden"), "utf-8")
    if policy := proposed_policy(study, sweep.spec):
        (work.out / POLICY_FILE).write_text(policy, "utf-8")
    return str(report["reason"])


def _rows(board: "pa.Table") -> list[dict[str, Any]]:
    return [
        row | {name: json.loads(row[name]) for name in ("values", "metrics", "constraints")}
        for row in board.to_pylist()
    ]


def _report(lake: Lake, sweep: str) -> dict[str, Any]:
    return dict(json.loads(lake.read_bytes(lake.require("sweep_reports", sweep), REPORT_FILE)))


def _describe(lake: Lake, manifest: Manifest) -> dict[str, Any]:
    import io

    import pyarrow.parquet as pq

    report = _report(lake, manifest.partition)
    board = pq.read_table(io.BytesIO(lake.read_bytes(manifest, f"{BOARD}.parquet")))
    drawn = pictures(lake, manifest, "history.png", "parallel.png", "importance.png", "pareto.png")
    return {
        "leaderboard": table(map(_shown, _rows(board))),
        "stability": report["stability"]["state"],
        "spent": table(_spent(report["spent"])),
        **drawn,
    }


def _shown(row: dict[str, Any]) -> dict[str, str]:
    """A trial for people; why it may not win, where it may not."""
    broken = [f"breaks {name}" for name, over in row["constraints"].items() if over > 0]
    return {
        "trial": str(row["number"]),
        "kind": row["kind"],
        "state": row["state"],
        **{name: _text(row[name]) for name in ("place", "value", "epochs", "seconds")},
        "values": ", ".join(f"{name} {_text(value)}" for name, value in row["values"].items()),
        "why not": "; ".join([*broken, *filter(None, [row["reason"]])]),
    }


def _spent(spent: dict[str, Any]) -> list[dict[str, str]]:
    units = {"trials": "trials", "compute_hours": f"{spent['unit']} hours", "money": spent["currency"]}
    used = {says: spent[what] for what, says in units.items()}
    return [{"of": says, "used": _text(took), "limit": _text(limit)} for says, (took, limit) in used.items()]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
