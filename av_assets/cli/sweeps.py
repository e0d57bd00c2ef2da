"""The part of `av` about sweeps: starting one, following it, and proposing what it chose.

Belongs here: arguments and printing. Does not belong here: anything that a sensor or a test would also want to call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_instance, open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table
from av_assets.domain.errors import AvError

if TYPE_CHECKING:
    from av_assets.domain.evidence.manifest import Manifest
    from av_assets.policies.training import TrainingPolicy
    from resources.lake import Lake

SHOWN = 10


@click.group()
def sweeps() -> None:
    """Search for better numbers of a training within a hard budget."""


COMMANDS = (sweeps,)


@sweeps.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def start(file: Path, as_json: bool) -> None:
    """Start the sweep of a specification; the sensor launches its trials (av up)."""
    from av_assets.training.studies import start as start_sweep
    from partitions.sweeps import sweeps as partition

    found = start_sweep(open_lake(), file)
    name, budget = found.spec.sweep, found.spec.budget
    open_instance().add_dynamic_partitions(partition.name or "", [name])
    if as_json:
        click.echo(
            json.dumps({"sweep": name, "specification": found.spec.digest, "week": found.golden.partition})
        )
        return
    limit = "" if budget.money is None else f", {budget.money:g} {budget.currency}"
    click.echo(f"{name}: started on golden_slices/{found.golden.partition}")
    click.echo(
        f"at most {budget.trials} trials, {budget.compute_hours:g} {budget.unit} hours{limit}; "
        f"{budget.affordable_trials} trials if each takes all of its {budget.trial_seconds:g} s"
    )
    click.echo(f"follow it with: av sweeps status {name}")


@sweeps.command()
@click.argument("sweep", required=False)
@json_option
def status(sweep: str | None, as_json: bool) -> None:
    """Every sweep, or the trials of one: what came out so far and what it has cost."""
    from av_assets.training.studies import SPECS

    lake = open_lake()
    found = [_standing(lake, name) for name in ([sweep] if sweep else lake.partitions(SPECS))]
    if as_json:
        click.echo(json.dumps({"sweeps": found}))
        return
    if not found:
        click.echo("no sweep was started")
        return
    heads = ("sweep", "state", "trials", "hours", "money", "best")
    print_table(list(heads), [_line(one) for one in found])
    if sweep:
        _print_trials(found[0]["board"])


@sweeps.command()
@click.argument("sweep")
@click.option("--propose", is_flag=True, help="Write the chosen training policy into AV_POLICIES.")
@click.option(
    "--unstable", is_flag=True, help="Write it although other seeds give another order; it is not activated."
)
@json_option
def report(sweep: str, propose: bool, unstable: bool, as_json: bool) -> None:
    """What a finished sweep says: the winner, the order under other seeds, what mattered."""
    from av_assets.training.sweeps import REPORT_FILE

    lake = open_lake()
    made = lake.require("sweep_reports", sweep)
    found = json.loads(lake.read_bytes(made, REPORT_FILE))
    path = _propose(lake, made, found, unstable) if propose else None
    if as_json:
        click.echo(json.dumps(found | {"proposed": str(path) if path else None}))
        return
    _print_report(found)
    if path:
        click.echo(f"wrote {path}; next: av policy propose {path}")


@sweeps.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dataset", default="golden", help="Folder of the golden dataset, where the agents run.")
def wandb(file: Path, dataset: str) -> None:
    """Print the sweep configuration of Weights & Biases for a specification."""
    from av_assets.domain.sweeps.wandb_config import wandb_sweep
    from av_assets.policies.sweeps import SweepPolicy

    click.echo(wandb_sweep(SweepPolicy.load(file), str(file), dataset), nl=False)


@sweeps.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("values")
@click.option("--dataset", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for its state [sweep-trials/<run>].")
def trial(file: Path, values: str, dataset: Path, out: Path | None) -> None:
    """Teach the network once with VALUES (a JSON object), as the agent of Weights & Biases asks for it.

    It reports to the run that the agent names; WANDB_MODE=offline keeps that run here.
    """
    from av_assets.domain.sweeps.agent import agent_trial
    from av_assets.policies.sweeps import SweepPolicy
    from resources.tracking import agents_run

    spec, chosen = SweepPolicy.load(file), _json_object(values)
    with agents_run(spec.sweep, chosen) as run:
        state = out or Path("sweep-trials", run.id)

        def track(told: Mapping[str, float], epoch: int) -> None:
            run.log({**told, "epoch": epoch})

        found = agent_trial(spec, chosen, dataset, state, track)
    for metric in spec.metrics:
        click.echo(f"{metric} {found[metric]:g}" if metric in found else f"{metric} is not known")


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}", param_hint="VALUES") from error
    if not isinstance(found, dict):
        raise click.BadParameter("no JSON object", param_hint="VALUES")
    return found


def _standing(lake: Lake, name: str) -> dict[str, Any]:
    from av_assets.domain.sweeps.report import leaderboard, sweep_report
    from av_assets.training.studies import study_of, sweep_of

    spec = sweep_of(lake, name).spec
    study = study_of(spec)
    over = lake.manifest("sweep_reports", name) is not None
    found = sweep_report(study, spec)
    board = [
        row | {part: json.loads(row[part]) for part in ("values", "metrics", "constraints")}
        for row in leaderboard(study, spec).to_pylist()
    ]
    return {"state": "finished" if over else "in progress", **found, "board": board}


def _line(one: dict[str, Any]) -> list[str]:
    spent, best = one["spent"], one["best"]
    used = [" of ".join(_number(v) for v in spent[what]) for what in ("trials", "compute_hours", "money")]
    return [
        one["sweep"],
        one["state"],
        *used,
        "-" if best is None else f"{best['number']}: {best['value']:.4f}",
    ]


def _print_trials(board: list[dict[str, Any]]) -> None:
    heads = ("trial", "of", "state", "place", "value", "epochs", "seconds", "values")
    rows = []
    for row in board[:SHOWN]:
        values = " ".join(f"{name}={_number(value)}" for name, value in row["values"].items())
        cells = [row[name] for name in ("number", "origin", "state", "place", "value", "epochs", "seconds")]
        rows.append([*map(_number, cells), values])
    if rows:
        print_table(list(heads), rows)
    if len(board) > SHOWN:
        click.echo(f"and {len(board) - SHOWN} more")


def _print_report(found: dict[str, Any]) -> None:
    best, steady = found["best"], found["stability"]
    counts = ", ".join(f"{number} {state}" for state, number in found["trials"].items())
    click.echo(f"{found['sweep']}: {counts}")
    if best is None:
        click.echo(found["reason"])
        return
    click.echo(f"best: trial {best['number']} with {best['value']:.4f}")
    for name, value in best["values"].items():
        click.echo(f"  {name}: {_number(value)}")
    click.echo(f"order under other seeds: {steady['state']}")
    if steady["values"]:
        seeds = list(next(iter(steady["values"].values())))
        rows = [[str(n), *(_number(held.get(s)) for s in seeds)] for n, held in steady["values"].items()]
        print_table(["trial", *(f"seed {s}" if s != "own" else "own seed" for s in seeds)], rows)
    weights = found["importance"]
    if "fanova" in weights:
        names = list(weights["fanova"])
        rows = [[n, *(f"{weights[kind].get(n, 0.0):.2f}" for kind in ("fanova", "ped_anova"))] for n in names]
        print_table(["importance", "fANOVA", "PED-ANOVA"], rows)
    else:
        click.echo(f"importance: {weights['reason']}")
    if found["front"]:
        click.echo(f"Pareto set: trials {', '.join(str(one['number']) for one in found['front'])}")


def _propose(lake: Lake, made: Manifest, found: dict[str, Any], unstable: bool) -> Path:
    import yaml

    from av_assets.policies.training import TrainingPolicy
    from av_assets.training.sweeps import POLICY_FILE
    from resources.environment import environment
    from resources.policies import active
    from resources.policy_versions import STEADY

    held = active(lake, TrainingPolicy)
    if found["best"] is None:
        raise AvError(found["reason"], code="nothing_to_propose", remedy="widen the space or the limits")
    if found["stability"]["state"] not in STEADY and not unstable:
        raise AvError(
            f"other seeds do not give the same order ({found['stability']['state']})",
            code="unstable_winner",
            remedy="confirm with more epochs or frames; --unstable writes it all the same",
        )
    if made.made_from.policies.get(held.name) != held.digest:
        raise AvError(
            "it started from other numbers than are active now",
            code="outdated_report",
            remedy="start another sweep",
        )
    folder = environment().policies
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / POLICY_FILE
    fields = yaml.safe_load(lake.read_bytes(made, POLICY_FILE)) | {"version": _next_version(lake, held)}
    path.write_text(yaml.safe_dump(fields, sort_keys=False), "utf-8")
    return path


def _next_version(lake: Lake, held: TrainingPolicy) -> str:
    """The next minor version after the active one and all that were proposed."""
    from av_assets.domain.triggers.versions import Version, split_key
    from resources.policy_versions import proposals

    known = [held.version, *(split_key(key)[1] for key in proposals(lake, held.name))]
    major, minor, _ = max(map(Version, known)).numbers
    return f"{major}.{minor + 1}.0"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
