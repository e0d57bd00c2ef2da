"""Keeps sweeps going: launches as many trials as may run, counts those that vanished, asks for the report at the end.

Nothing is remembered here: what runs stands in the study, and whether it still does in the instance's runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from av_assets.domain.errors import AvError
from partitions.sweeps import sweep_trials, sweeps, trial_key
from resources.environment import environment
from resources.lake import Lake

if TYPE_CHECKING:
    import optuna

    from av_assets.training.studies import Sweep

TRIALS, REPORTS, SPECS = "sweep_trials", "sweep_reports", "sweep_specs"
ONCE = {"dagster/max_retries": "0"}
"""A trial that died is launched again as another trial, within the budget, and not by a retry of its run."""


@dg.sensor(
    asset_selection=dg.AssetSelection.assets(TRIALS, REPORTS)
    | dg.AssetSelection.checks_for_assets(dg.AssetKey(REPORTS)),
    minimum_interval_seconds=environment().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def sweeps_in_progress(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult | dg.SkipReason:
    """Starts sweep_trials within the budget of each sweep, and sweep_reports when nothing more may be launched."""
    requests: list[dg.RunRequest] = []
    for name in lake.partitions(SPECS):
        if lake.manifest(REPORTS, name) is not None:
            continue
        try:
            requests += _next(context, lake, name)
        except AvError as error:
            context.log.warning(f"sweep {name} waits: {error}")
    if not requests:
        return dg.SkipReason("no trial may be launched, and none is missing")
    added: dict[str, list[str]] = {TRIALS: [], REPORTS: []}
    for request in requests:
        [asset] = [key.to_user_string() for key in request.asset_selection or ()]
        added[asset].append(str(request.partition_key))
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[
            definition.build_add_request(sorted(new))
            for definition, asset in ((sweep_trials, TRIALS), (sweeps, REPORTS))
            if (
                new := set(added[asset]) - set(context.instance.get_dynamic_partitions(definition.name or ""))
            )
        ],
    )


def _next(context: dg.SensorEvaluationContext, lake: Lake, name: str) -> list[dg.RunRequest]:
    from av_assets.domain.sweeps.asking import ask, is_over, take_up
    from av_assets.training.studies import study_of, sweep_of

    sweep = sweep_of(lake, name)
    study = study_of(sweep.spec)
    requests = [_trial(name, number) for number in _without_a_run(context, sweep, study)]
    requests += [_trial(name, launch.number) for launch in take_up(study, sweep.spec)]
    requests += [_trial(name, launch.number) for launch in ask(study, sweep.spec)]
    if not requests and is_over(study, sweep.spec):
        count = len(study.get_trials(deepcopy=False))
        return [_request(REPORTS, name, f"sweep_report:{name}:{count}")]
    return requests


def _without_a_run(context: dg.SensorEvaluationContext, sweep: Sweep, study: optuna.Study) -> list[int]:
    """Launched trials whose run was never made; those whose run is over without a word are counted as failed."""
    from av_assets.domain.sweeps.asking import LAUNCHED, fail, running

    missing = []
    for trial in running(study):
        if LAUNCHED not in trial.user_attrs:
            continue
        runs = _runs(context, trial_key(sweep.spec.sweep, trial.number))
        if not runs:
            missing.append(trial.number)
        elif all(run.is_finished for run in runs):
            fail(study, trial.number, f"its run {runs[0].run_id} ended as {runs[0].status.value.lower()}")
            context.log.warning(f"trial {trial.number} of {sweep.spec.sweep} vanished")
    return missing


def _runs(context: dg.SensorEvaluationContext, key: str) -> list[Any]:
    return list(context.instance.get_runs(filters=dg.RunsFilter(tags={"dagster/partition": key})))


def _trial(sweep: str, number: int) -> dg.RunRequest:
    key = trial_key(sweep, number)
    return _request(TRIALS, key, f"sweep_trial:{key}")


def _request(asset: str, partition: str, run_key: str) -> dg.RunRequest:
    return dg.RunRequest(
        partition_key=partition, run_key=run_key, asset_selection=[dg.AssetKey(asset)], tags=dict(ONCE)
    )
