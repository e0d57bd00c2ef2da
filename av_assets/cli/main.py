"""`av`: a thin face over the platform. Every command takes --json where a script would want it.

Belongs here: arguments and printing. Does not belong here: anything that a sensor or a test would also want to call.
"""

from __future__ import annotations

import fnmatch
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

import click

from av_assets.cli import (
    cache,
    catalog,
    datasets,
    erasure,
    exports,
    inference,
    labels,
    mining,
    models,
    policies,
    reproduce,
    review,
    search,
    sequences,
    sweeps,
    thresholds,
)
from av_assets.cli.lake import open_instance, open_lake
from av_assets.cli.logs import LOG_COMMANDS, json_option
from av_assets.cli.view import COMMANDS as VIEW_COMMANDS
from av_assets.domain.errors import AvError


class _Faces(click.Group):
    """Turns the platform's own errors into one line and exit code 1; a traceback is a bug."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except AvError as error:
            _fail(error, "--json" in sys.argv)


def _fail(error: AvError, as_json: bool) -> NoReturn:
    found = {
        "error": error.code,
        "reason": error.reason,
        "file": error.file,
        "drive": error.drive,
        "remedy": error.remedy,
    }
    click.echo(json.dumps(found) if as_json else f"error: {error}", err=not as_json)
    sys.exit(1)


@click.group(cls=_Faces, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Drive logs, labels, golden data, models and evidence as one asset graph."""
    # What Dagster says of backfill_policy= whenever an asset is imported is about this code, not about what was asked.
    warnings.filterwarnings("ignore", "Parameter `backfill_policy`")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "drive", help="Land under this drive id.")
@click.option(
    "--here", is_flag=True, help="Run the chain in this process instead of leaving it to the sensor."
)
@click.option("--wait", is_flag=True, help="Wait until the drive is complete, quarantined or failed.")
@json_option
def land(path: Path, drive: str | None, here: bool, wait: bool, as_json: bool) -> None:
    """Put a drive folder, a log folder or a single log into the landing area."""
    landing = _landing()
    name = landing.land(path, drive)
    if here:
        _run_here(name)
    state = _state_of(name, wait)
    if as_json:
        click.echo(json.dumps({"drive": name, **state}))
    else:
        click.echo(f"{name}: {state['state']} {state['reason']}".rstrip())
        if not here and not wait:
            click.echo("the landing sensor takes it from here (av up); follow it with: av status " + name)


@main.command()
@click.argument("drive", required=False)
@json_option
def status(drive: str | None, as_json: bool) -> None:
    """Where each drive stands, and why."""
    found = [s.to_dict() for s in _states(drive)]
    if as_json:
        click.echo(json.dumps({"drives": found}))
        return
    _print_states(found, with_stages=drive is not None)


@main.command()
@click.argument("patterns", nargs=-1, required=True)
@click.option("--assets", help="Comma-separated; default: the whole chain of a drive.")
@click.option("--here", is_flag=True, help="Run in this process, one drive after another, without a daemon.")
@click.option("--wait", is_flag=True, help="Wait until the backfill has ended.")
@json_option
def backfill(patterns: tuple[str, ...], assets: str | None, here: bool, wait: bool, as_json: bool) -> None:
    """Remake drives by id or pattern ('veh042-*'). Bundles whose inputs have not changed are kept, so it resumes.

    Archived drives that match become live again.
    """
    from av_assets.drives import STAGES
    from av_assets.platform import materialize_here, submit_backfill

    instance = open_instance()
    live = instance.get_dynamic_partitions("drive")
    known = [*live, *sorted(set(open_lake().partitions("raw_logs")) - set(live))]
    chosen = [d for d in known if any(fnmatch.fnmatchcase(d, p) for p in patterns)]
    if not chosen:
        raise AvError(f"no drive matches {', '.join(patterns)}", code="no_such_drive", remedy="see av status")
    picked = assets.split(",") if assets else list(STAGES)
    if unknown := sorted(set(picked) - set(STAGES)):
        raise AvError(
            f"not per-drive assets: {', '.join(unknown)}",
            code="no_such_asset",
            remedy=f"choose from {', '.join(STAGES)}",
        )
    instance.add_dynamic_partitions("drive", [d for d in chosen if d not in set(live)])
    result: dict[str, Any] = {"drives": chosen, "assets": picked}
    if here:
        result["ok"] = {d: materialize_here(instance, picked, d, _say(as_json)) for d in chosen}
    else:
        result["backfill"] = submit_backfill(instance, picked, chosen, f"av backfill {' '.join(patterns)}")
        if wait:
            result["status"] = _wait_for_backfill(instance, result["backfill"])
    _say(False)(
        json.dumps(result)
        if as_json
        else f"{len(chosen)} drives: {result.get('backfill') or result.get('ok')}"
    )
    if not all(result.get("ok", {}).values()) or result.get("status") in ("FAILED", "COMPLETED_FAILED"):
        sys.exit(1)


@main.command()
@click.argument("asset")
@click.argument("partition")
@click.option("--url", default="http://127.0.0.1:3000", show_default=True)
def request(asset: str, partition: str, url: str) -> None:
    """Ask the running platform for assets (comma-separated) at a partition, e.g. golden_slices 2025-06-02."""
    from av_assets.platform import request_run

    try:
        click.echo(request_run(url, asset.split(","), partition))
    except OSError as error:
        raise AvError(
            f"nothing answers at {url}: {error}", code="not_running", remedy="start it with: av up"
        ) from error


@main.command()
@click.argument("asset")
@click.argument("partition")
@click.argument("out", type=click.Path(path_type=Path))
def fetch(asset: str, partition: str, out: Path) -> None:
    """Copy the files of a bundle out of the lake, e.g. drift_reports 2026-11-21 ./drift."""
    import shutil

    lake = open_lake()
    with lake.workdir() as folder:
        lake.checkout(lake.require(asset, partition), folder)
        shutil.copytree(folder, out, dirs_exist_ok=True)
    click.echo(out)


@main.command()
@click.argument("drive")
@json_option
def verify(drive: str, as_json: bool) -> None:
    """Read everything the lake holds of a drive again: digests, lineage and signatures. Needs no network."""
    from av_assets.verification import verify_drive
    from resources.signing import trusted_keys

    lake = open_lake()
    links = verify_drive(lake, drive, trusted_keys())
    if as_json:
        click.echo(json.dumps({"drive": drive, "links": [link.to_dict() for link in links]}))
    else:
        _print_links(links)
    if any(link.state == "broken" for link in links):
        sys.exit(1)


@main.command()
@click.option("--port", default=3000, show_default=True)
def up(port: int) -> None:
    """Run the catalog, the daemon and the sensors until Ctrl-C."""
    from av_assets.platform import Platform
    from resources.environment import prepare

    with Platform(prepare(), port) as platform:
        click.echo(f"catalog: {platform.url}   log: {platform.log}")
        _sleep_until_interrupted()


@main.command()
@click.option("--port", default=3000, show_default=True)
@click.option("--drives", "count", type=int, help="Only so many of the sample drives.")
@json_option
def demo(port: int, count: int | None, as_json: bool) -> None:
    """Record sample drives, land them, and watch them become an evaluated model."""
    from av_assets.demo.run import run_demo
    from av_assets.demo.world import write_world
    from av_assets.platform import Platform
    from resources.environment import prepare

    here = prepare()
    write_world(here)
    with Platform(here, port) as platform:
        outcome = run_demo(here, platform, open_instance(), count)
        click.echo(json.dumps(outcome.to_dict()) if as_json else outcome.render())
        if sys.stdout.isatty() and not as_json:
            click.echo(f"The catalog stays at {platform.url} until Ctrl-C.")
            _sleep_until_interrupted()
    sys.exit(0 if outcome.ok else 1)


OF_SCENES = (catalog, search, sequences, mining, policies)
OF_DATASETS = (labels, datasets, erasure)
OF_LEARNING = (sweeps, models, inference, reproduce, cache)
PARTS = {labels.labels: (review, thresholds), datasets.datasets: (exports,)}
for command in (
    *LOG_COMMANDS,
    *VIEW_COMMANDS,
    *(c for module in (*OF_SCENES, *OF_DATASETS, *OF_LEARNING) for c in module.COMMANDS),
):
    main.add_command(command)
for group, modules in PARTS.items():
    for module in modules:
        for command in module.COMMANDS:
            group.add_command(command)


def _landing() -> Any:
    from resources.environment import prepare
    from resources.landing import Landing

    here = prepare()
    return Landing(path=here.landing, endpoint=here.s3_endpoint)


def _states(drive: str | None) -> list[Any]:
    from av_assets.drives import drive_states

    return drive_states(open_instance(), open_lake(), _landing(), drive)


def _state_of(drive: str, wait: bool) -> dict[str, Any]:
    while True:
        found = _states(drive)
        state = found[0].to_dict() if found else {"state": "pending", "reason": "", "stages": {}}
        if not wait or state["state"] in ("complete", "quarantined", "failed"):
            return {k: v for k, v in state.items() if k != "id"}
        time.sleep(1.0)


def _run_here(drive: str) -> None:
    from av_assets.drives import STAGES
    from av_assets.platform import materialize_here

    materialize_here(open_instance(), STAGES, drive, lambda _: None)


def _wait_for_backfill(instance: Any, backfill_id: str) -> str:
    while True:
        status = instance.get_backfill(backfill_id).status
        if status.value not in ("REQUESTED", "CANCELING", "FAILING"):
            return str(status.value)
        time.sleep(1.0)


def _print_states(found: list[dict[str, Any]], with_stages: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("drive", "state", "done", "reason")
    for drive in found:
        stages = drive["stages"]
        done = sum(s != "missing" for s in stages.values())
        table.add_row(drive["id"], drive["state"], f"{done}/{len(stages)}", drive["reason"])
    console = Console()
    console.print(table if found else "no drive has landed yet")
    if with_stages and found:
        for asset, state in found[0]["stages"].items():
            console.print(f"  {asset:<16} {state}")


def _print_links(links: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("asset", "state", "files", "bytes", "checks", "signed by", "reason")
    for link in links:
        table.add_row(
            link.asset,
            link.state,
            str(link.files),
            f"{link.bytes:,}",
            link.checks,
            link.key or "-",
            link.reason,
        )
    Console().print(table)


def _say(silent: bool) -> Any:
    return (lambda _: None) if silent else click.echo


def _sleep_until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        click.echo("stopping")
