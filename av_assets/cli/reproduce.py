"""`av reproduce`, and `av diff` of two evaluations: is it the same again, and if not, why.

Belongs here: arguments and printing. Does not belong here: making things again, comparing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from av_assets.cli.lake import open_lake
from av_assets.cli.logs import json_option
from av_assets.cli.tables import print_table

if TYPE_CHECKING:
    from resources.lake import Lake

EVALS = "eval_reports/"
_DIGEST = 12
"""Digits of a digest that are shown; 64 are in --json."""


@click.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Keep what was made in this empty folder.")
@json_option
def reproduce(name: str, out: Path | None, as_json: bool) -> None:
    """Make checkpoints/RELEASE or eval_reports/RELEASE again from its manifest and compare every file.

    Nothing is published. Exit code 2: it is not bit-identical.
    """
    from av_assets.reproduction import reproduce as again
    from av_assets.reproduction import scratch

    lake = open_lake()
    with scratch(lake, out) as folder:
        found = again(lake, name, folder)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print_reproduced(found)
    if not found["identical"]:
        sys.exit(2)


COMMANDS = (reproduce,)


def is_evaluation(name: str) -> bool:
    return name.startswith(EVALS)


def diff_evaluations(lake: Lake, before: str, after: str, files: Sequence[Path], as_json: bool) -> None:
    """Print why the figures of two evaluations differ."""
    from av_assets.policies.evaluation import EvaluationPolicy
    from av_assets.reproduction import explain

    policies = {policy.digest: policy for policy in map(EvaluationPolicy.load, files)}
    with lake.workdir() as folder:
        found = explain(lake, before, after, folder, policies)
    if as_json:
        click.echo(json.dumps(found))
        return
    frames = found["frames"]
    click.echo(f"{before} -> {after}")
    click.echo(f"frames: {frames['both']} of both, {frames['before']} left, {frames['after']} came")
    _print_parts(found["slices"])
    _print_causes(found)


def _print_parts(slices: Mapping[str, Mapping[str, Any]]) -> None:
    told = [(name, metric, one) for name, metrics in slices.items() for metric, one in metrics.items()]
    parts = list(dict.fromkeys(part for *_, one in told for part in one.get("parts", {})))
    rows = [
        [name, metric, f"{one['before']:.4f}", f"{one['after']:.4f}", f"{one['change']:+.4f}"]
        + [f"{one['parts'][part]:+.4f}" if part in one["parts"] else "-" for part in parts]
        for name, metric, one in told
        if "parts" in one
    ]
    if rows:
        print_table(["slice", "figure", "before", "after", "change", *parts], rows)
    for name, metric, one in told:
        if "reason" in one:
            click.echo(f"{name} {metric}: {one['reason']}")


def _print_causes(found: Mapping[str, Any]) -> None:
    click.echo("behind the parts:")
    for part, causes in found["because"].items():
        named = f"  {part}: " if part != "model" else f"  model ({found['model_part']}): "
        click.echo(named + ("; ".join(map(_cause, causes)) or "nothing differs"))


def _print_reproduced(found: Mapping[str, Any]) -> None:
    states = [one["state"] for one in found["files"]]
    same, all_of = states.count("identical"), len(states) - states.count("extra")
    click.echo(
        f"{found['name']}: {'bit-identical' if found['identical'] else 'not the same'}, {same} of {all_of} files"
    )
    for one in found["files"]:
        if one["state"] in ("differs", "missing"):
            click.echo(f"  {one['path']} {one['state']}")
            for line in one["where"]:
                click.echo(f"    {line}")
    for said in (found["misnamed"], found["note"]):
        if said:
            click.echo(said)
    causes = found["ingredients"]
    if causes:
        click.echo("ingredients that are not the recorded ones:")
        for one in causes:
            click.echo(f"  {one['ingredient']}: {_cause(one)}")
    elif not found["identical"] and not found["note"]:
        click.echo("every recorded ingredient is the same: what differs is not recorded")


def _cause(one: Mapping[str, Any]) -> str:
    return f"{one['what']} {_short(one['before'])} -> {_short(one['after'])}"


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text[:_DIGEST] if len(text) == 64 else text
